"""What MOSIP's codes mean for a task: done after all, again later, with fresher data, or not before somebody acts.

HTTP 200 says nothing; ``errors`` does, and two codes mean two things each, told apart by their text. What MOSIP says is
cut and made printable before it is kept or shown. Source: partner
management 1.1.5 and 1.2.2, masterdata 1.0.9 and 1.1.3, hotlist 1.2, keymanager and the authentication adapter, as
published; tests/server/test_mosip_codes.py holds the lists.
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
    "ADM-HTL-008": "Failed to hotlist as existing hotlist is still active",
    "KER-PCM-003": "Certificate already exists in store",
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
    "ADM-HTL-006": "Error occured while performing DB operations",
    "ADM-HTL-009": "4XX - Client Error occured",
    "ADM-HTL-010": "5XX - Server Error occured",
    "ADM-HTL-011": "Connection timed out",
    "ADM-HTL-014": "Failed to either encrypt/decrypt message using Kernel Crypto Manager",
    "ADM-HTL-015": "Unknown error occurred",
    "ADM-DPM-009": "Error occurred while checking a Device Details",
    "KER-PCM-002": "Error in generating Certificate Thumbprint",
    "KER-JWS-104": "Unable to sign the data",
    "PMS_KKS_001": "Error while accessing the API",
    "PMS_PRT_045": "Error occured while parsing P7B certificate data",
    "PMS_PRT_046": "Error occured while extracting the leaf cert",
    "PMS_PRT_107": "Responese from the api is null",
    "PMS_PRT_500": "Unable to process the request",
    "KER-KMS-500": "the keymanager failed",
    "KER-MSD-500": "masterdata failed",
    "KER-ATH-001": "Error occur while parsing error from response: its login service could not be read",
    "KER-ATH-002": "Fail to connect to auth service",
    "KER-ATH-021": "Error Occured while getting access token from keycloak",
    "KER-ATH-025": "Exception occured while consuming service",
    "KER-ATH-500": "Server error occured: its login service failed",
}
TOKEN = {
    "KER-ATH-006": "Cookies are empty",
    "KER-ATH-007": "Token is not present in cookies",
    "KER-ATH-008": "Token is not present in datastore",
    "KER-ATH-401": "Authentication Failed",
    "KER-ATH-402": "the token expired",
    "KER-ATH-403": "Forbidden: the role that this takes is not given to [mosip] client_id there",
    "PMS-ATH-401": "Authentication Failed",
    "ADM-HTL-012": "Authorization Failed",
    "ADM-HTL-013": "Authentication Failed",
}
REFUSED = {
    "PMS_AUT_001": "Reg Device Sub Type Code not found in the list of Reg Device Sub Types",
    "PMS_AUT_002": "Device provider id not found from the partners list, or inactivated there",
    "PMS_AUT_003": "Device Details already exists",
    "PMS_AUT_004": "Duplicate request received",
    "PMS_AUT_005": "Device detail for that id does not exist",
    "PMS_AUT_006": "Invalid device detail",
    "PMS_AUT_007": "Secure Biometric Interface not found for that id",
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
    "PMS_AUT_026": "ApprovalStatus should be Activate / De-activate",
    "PMS_AUT_027": "Device details for that id are not yet approved",
    "PMS_AUT_028": "Device details for that id are rejected",
    "PMS_AUT_030": "L1 needs foundationalTrustProviderId: set [mosip] trust_provider_id",
    "PMS_AUT_031": "Device info timestamp cannot be null",
    "PMS_AUT_506": "Provide device details of same provider",
    "PMS_AUT_507": "ExpiryDate should be greaterthan createdDate",
    "PMS_AUT_508": "ExpiryDate should be greaterthan/equal Today",
    "PMS_AUT_509": "Device Details and SBI do not belongs to same provider",
    "PMS_AUT_510": "Mapping not exists for given data",
    "PMS_AUT_511": "SBI for which device is being mapped is not approved",
    "PMS_AUT_512": "SBI details exists for given SBI Version",
    "PMS_AUT_513": "SBI for which device is being mapped is expired",
    "PMS_AUT_514": "The created date should be less than or equal to the current date",
    "PMS_AUT_515": "Expiry date should not be greater than N years from today",
    "PMS_AUT_516": "Created date should not be less than N years from today",
    "PMS_AUT_517": "The selected SBI has been already approved",
    "PMS_AUT_518": "The selected SBI has been already rejected",
    "PMP_AUT_030": "The FTP provider is either inactive or does not exist",
    "PMP_AUT_031": "ftp chip id not exists",
    "PMP_AUT_032": "FTM Chip details already exists for the same make and model",
    "PMP_AUT_033": "Certificate is not uploaded",
    "PMP_AUT_034": "Ftp chip detail id and ftp provider id not mappped",
    "PMP_AUT_037": "Given ftp chip details already registered",
    "PMP_AUT_038": "FTM that is neither pending certificate upload nor approved",
    "PMP_AUT_039": "FTM chip is deactivated",
    "PMS_PRT_005": "Partner does not exist: [provider] id, or --partner-id, is not known there",
    "PMS_PRT_054": "Policy group not mapped for given partner",
    "PMS_PRT_055": "User not authorized: [mosip] client_id is another partner's login",
    "PMS_PRT_108": "Certficate is not uploaded for the selected partner",
    "PMS_PMP_016": "Partner is not active",
    "PMS-MSD-310": "Invalid column received",
    "PMS-MSD-313": "Invalid pagination value received",
    "ADM-DPM-001": "Device is marked Inactive or not found",
    "ADM-DPM-002": "Device is revoked/retired",
    "ADM-DPM-003": "Device Provider does not exist, or device details could not be deleted",
    "ADM-DPM-004": "Device Provider is marked Inactive or not found",
    "ADM-DPM-005": "deviceServiceVersion not found",
    "ADM-DPM-006": "MDS in inactive state",
    "ADM-DPM-007": "Software version does not match against the Device Details",
    "ADM-DPM-008": "Device code does not match",
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
    "KER-ATH-004": "Error while validating the request",
    "KER-ATH-005": "Incorrect Password: [mosip] secret_file",
    "KER-ATH-022": "User not found: [mosip] client_id",
    "KER-ATH-023": "Invalid Credentials: [mosip] client_id or secret_file",
    "KER-ATH-026": "Realm not found: [mosip] realm or app_id",
    "KER-ATH-501": "Client error occured at its login service",
    "ADM-HTL-001": "Missing Input Parameter",
    "ADM-HTL-002": "Invalid Input Parameter",
    "ADM-HTL-003": "Input IdType not allowed to hotlist",
    "ADM-HTL-004": "Invalid Request",
    "ADM-HTL-005": "Input Data Validation Failed",
    "ADM-HTL-007": "No Record(s) found",
    "KER-PCM-001": "Invalid Certificate uploaded",
    "KER-PCM-004": "Certificate Dates are not valid",
    "KER-PCM-005": "Root CA Certificate not found: upload the root first",
    "KER-PCM-006": "Root CA/Intermediate CA Certificates not found: upload those above it first",
    "KER-PCM-007": "Certificate version not supported: it must be 3",
    "KER-PCM-008": "Partner Organization Name not Matched: O is not, letter for letter, the partner's name there",
    "KER-PCM-009": "No Unique Alias found",
    "KER-PCM-010": "Invalid Partner Certificate ID",
    "KER-PCM-011": "Invalid Partner Domain: AUTH, DEVICE, FTM, MISP",
    "KER-PCM-012": "Partner Certificate not found for the given ID",
    "KER-PCM-013": "Partner Certificate Key Size is less than allowed size: RSA needs 2048 bits",
    "KER-PCM-014": "Partner Certificate Signature algorithm not supported: it must be SHA-2",
    "KER-PCM-015": "Self Signed Certificate not allowed as partner",
    "KER-PCM-016": "Sign Certificate not allowed for the authenticated token",
    "KER-PCM-017": "The CA Certificate validity is less than required minimum validity",
    "KER-PCM-018": "Invalid Certificate Type",
    "KER-PMS-019": "CA Certificate not found for the given ID",
    "KER-PMS-020": "Future Dated Certificate not allowed to upload",
    "KER-KMS-021": "The PARTNER Certificate validity is less than required minimum validity",
    "KER-JWS-102": "Data to sign is not valid",
    "KER-JWS-103": "Data to sign is not valid JSON",
    "KER-JWS-105": "Unable to verify the data",
    "KER-JWS-106": "Signature data to verify not valid",
    "KER-JWS-107": "Signature verification certificate not valid",
    "KER-JWS-108": "Signing data not allowed for the authenticated token",
}
UNREADABLE = "unreadable-error"
OWN = {
    "bad-answer": "an answer that cannot be read, is not signed by whom [mosip] anchors lead to, or is about another",
    "bad-certificate": "what was given is no encryption certificate of MOSIP's own that holds now",
    "bad-token": "what came at the login cannot be sent in a header",
    "key-away": "the provider's key cannot be used now: its token is away",
    "no-device-code": "MOSIP's code for the device is not known: fleetward mosip retry NUMBER --device-code CODE",
    "no-device-info": "the device was asked for device info and sent none that is fresh",
    "no-file": "[mosip] encryption_file cannot be read",
    "no-secret": "[mosip] secret_file cannot be read, or others may read it",
    "no-source": "[mosip] encryption names no source",
    "no-trust-provider": "an L1 device needs [mosip] trust_provider_id",
    "own-mistake": "our own code stumbled over it: see the log",
    UNREADABLE: "there were errors in the answer, and none that names its code",
}
"""Our own words, for what no service has a code."""
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
    said, spelled = answer.body.get("errors"), answer.body.get("error")
    # An ``error`` that is a mere word is a gateway's or Keycloak's, beside its status.
    said = said or (spelled if isinstance(spelled, dict | list) else ()) or ()
    return tuple(map(_fault, said if isinstance(said, list | tuple) else (said,)))


def _fault(one: object) -> Fault:
    """Read one error. Whoever says that something is wrong, and not what, has not said that all is well."""
    if not isinstance(one, dict) or not one.get("errorCode"):
        return Fault(UNREADABLE, printable(one, 300))
    text = one.get("message") or one.get("errorMessage") or one.get("errorInfo") or ""
    return Fault(printable(one["errorCode"], 64), printable(text, 300))


def errors_of(answer: Answer) -> tuple[Fault, ...]:
    """Return what is wrong: MOSIP's own words, or HTTP's where it has none."""
    if found := faults(answer):
        return found
    if answer.status in {401, 403}:
        return (Fault(f"KER-ATH-{answer.status}", f"HTTP {answer.status}"),)
    if answer.status >= 300:
        said = answer.body.get("message") or answer.body.get("error") or ""
        return (Fault(f"http-{answer.status}", printable(said, 200)),)
    return ()


def printable(said: object, most: int) -> str:
    """Return what somebody else said in at most ``most`` characters, none of which moves a cursor or breaks a store."""
    return "".join(one if one.isprintable() else "?" for one in str(said)[:most])
