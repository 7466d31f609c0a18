"""What MOSIP's codes mean for a task: done after all, again later, with fresher data, or not before somebody acts.

HTTP 200 says nothing; ``errors`` does, and two codes mean two things each, told apart by their text. Source: partner
management 1.1.5, masterdata 1.0.9 and 1.1.3, hotlist 1.2, keymanager and the authentication adapter, as published.
"""

from dataclasses import dataclass
from enum import StrEnum

from fleetward_server.mosip.exchange import Answer


class Meaning(StrEnum):
    """What is to be done. ``stale``: ask the device for fresh device info first. ``token``: log in anew first."""

    DONE = "done"
    AGAIN = "again"
    STALE = "stale"
    TOKEN = "token"  # noqa: S105 - a word, no secret
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Fault:
    """One error of an answer, or of the way to one. Our own codes are lower-case words, MOSIP's never are."""

    code: str
    detail: str


DONE_BY_CODE = {
    "PMS_AUT_015": "Serial no and Device detail already exist",
    "ADM-DPM-043": "Serial no and DpId already exist",
    "KER-DPR-001": "No register device found",
    "KER-DPR-002": "Device already de-registered",
    "KER-DPM-001": "No register device found",
    "KER-DPM-002": "Device already de-registered",
    "ADM-HTL-007": "Failed to hotlist as existing hotlist is still active",
}
DONE_BY_TEXT = {
    ("PMS_AUT_016", "Registered device not found"),
    ("PMS_AUT_024", "device already deregistered"),
}
STALE = {
    "PMS_AUT_012": "Time Stamp input is N min after the current timestamp",
    "PMS_AUT_013": "Time Stamp input is N min before the current timestamp",
    "MSD-RDS-001": "Time Stamp input is N min after, or before, the current timestamp",
}
AGAIN = {
    "PMS_AUT_017": "error occured while de registering device",
    "PMS_AUT_023": "error occured while fetching api resource",
    "PMS_AUT_032": "Error while signing the response",
    "ADM-DPM-035": "error occured while storing",
    "ADM-DPM-038": "Error occured while fetching or updating Device Register details",
    "ADM-HTL-005": "Error occured while performing DB operations",
    "ADM-HTL-008": "4XX - Client Error occured",
    "ADM-HTL-009": "5XX - Server Error occured",
    "ADM-HTL-010": "Connection timed out",
    "ADM-HTL-013": "Failed to either encrypt/decrypt message using Kernel Crypto Manager",
    "ADM-HTL-014": "Unknown error occurred",
    "KER-KMS-500": "the keymanager failed",
    "KER-MSD-500": "masterdata failed",
}
TOKEN = {
    "KER-ATH-401": "Authentication Failed",
    "KER-ATH-402": "the token expired",
    "ADM-HTL-011": "Authorization Failed",
    "ADM-HTL-012": "Authentication Failed",
}
REFUSED = {
    "PMS_AUT_008": "Error occured while validating Foundational",
    "PMS_AUT_009": "Error occured while validating the purpose",
    "PMS_AUT_010": "Error occured while validating Certification Level",
    "PMS_AUT_011": "Device data can't be null, or a field of it is wrong",
    "PMS_AUT_014": "Device Detail does not exist in the list of Registered Device Details",
    "PMS_AUT_016": "error occured while saving data: it could not be read",
    "PMS_AUT_018": "device detail not found: the make and model are not approved there",
    "PMS_AUT_019": "FTP not found: [mosip] trust_provider_id is not active there",
    "PMS_AUT_020": "serial number does not exist",
    "PMS_AUT_021": "error occured while doing signature validation",
    "PMS_AUT_022": "signature validation failed",
    "PMS_AUT_024": "invalid environment: [mosip] stage is not MOSIP's",
    "PMS_AUT_025": "device code greater than the accepted length",
    "PMS_AUT_030": "L1 needs foundationalTrustProviderId: set [mosip] trust_provider_id",
    "PMS_AUT_031": "Device info timestamp cannot be null",
    "ADM-DPM-003": "Error occured while deleted Device Register details",
    "ADM-DPM-026": "the device type does not exist there",
    "ADM-DPM-027": "the device sub-type does not exist there",
    "ADM-DPM-030": "foundational trust provider id",
    "ADM-DPM-032": "Device Provider ID/Name does not exist in the list of Registered Device Providers",
    "ADM-DPM-033": "purpose",
    "ADM-DPM-034": "certification level",
    "ADM-DPM-037": "Invalid status received",
    "ADM-DPM-042": "not a white-listed device: an administrator there creates it first",
    "KER-MSD-999": "Invalid request input",
    "KER-DPR-003": "device code greater than the accepted length",
    "KER-DPR-004": "Invalid environment: [mosip] stage is not MOSIP's",
    "KER-DPM-039": "Device already is in that status",
    "KER-KMS-002": "the application is not in the key policy",
    "KER-KMS-005": "no such certificate",
    "KER-KMS-012": "no key for this application and reference",
    "KER-KMS-013": "no unique key for this application and reference",
    "KER-ATH-003": "Invalid clientid or secretkey",
    "ADM-HTL-001": "Missing Input Parameter",
    "ADM-HTL-002": "Invalid Input Parameter",
    "ADM-HTL-003": "Invalid Request",
    "ADM-HTL-004": "Input Data Validation Failed",
    "ADM-HTL-006": "No Record(s) found",
}
SIGNATURE = frozenset({"PMS_AUT_021", "PMS_AUT_022"})
"""Codes that may mean a chain which MOSIP's caches do not know yet."""
BY_CODE: dict[str, Meaning] = {
    **dict.fromkeys(DONE_BY_CODE, Meaning.DONE),
    **dict.fromkeys(STALE, Meaning.STALE),
    **dict.fromkeys(AGAIN, Meaning.AGAIN),
    **dict.fromkeys(TOKEN, Meaning.TOKEN),
    **dict.fromkeys(REFUSED, Meaning.REFUSED),
}
# Of several errors, the one that takes most decides.
_WORST = (Meaning.REFUSED, Meaning.UNKNOWN, Meaning.TOKEN, Meaning.STALE, Meaning.AGAIN, Meaning.DONE)


def meaning(fault: Fault) -> Meaning:
    """Return what one error means."""
    if any(fault.code == code and fault.detail.strip().startswith(text) for code, text in DONE_BY_TEXT):
        return Meaning.DONE
    return BY_CODE.get(fault.code, Meaning.UNKNOWN)


def judged(faults: tuple[Fault, ...]) -> tuple[Meaning, Fault]:
    """Return what an answer with errors means, and the error that says so."""
    by_meaning = {meaning(fault): fault for fault in reversed(faults)}
    worst = next(one for one in _WORST if one in by_meaning)
    return worst, by_meaning[worst]


def faults(answer: Answer) -> tuple[Fault, ...]:
    """Return the errors of an answer: ``errors`` as the services spell it, ``error`` as the specification does."""
    said = answer.body.get("errors") or answer.body.get("error") or ()
    each = said if isinstance(said, (list, tuple)) else (said,)
    found = []
    for one in each:
        if isinstance(one, dict) and one.get("errorCode"):
            text = one.get("message") or one.get("errorMessage") or one.get("errorInfo") or ""
            found.append(Fault(str(one["errorCode"])[:64], str(text)[:300]))
    return tuple(found)


def errors_of(answer: Answer) -> tuple[Fault, ...]:
    """Return what is wrong: MOSIP's own words, or HTTP's where it has none."""
    if found := faults(answer):
        return found
    if answer.status == 401:
        return (Fault("KER-ATH-401", "HTTP 401"),)
    if answer.status >= 300:
        return (
            Fault(f"http-{answer.status}", str(answer.body.get("message") or answer.body.get("error") or "")[:200]),
        )
    return ()
