"""Codes and texts of MOSIP's services, exactly, their misspellings included; and an error that carries some.

Source: partner management 1.1.5 ``RegisteredDeviceErrorCode``, masterdata 1.1.3, hotlist, keymanager.
"""

from collections.abc import Iterable
from typing import Any

PMS = {
    "null": ("PMS_AUT_011", "Device data can't be null"),
    "after": ("PMS_AUT_012", "Time Stamp input is 5 min after the current timestamp"),
    "known": ("PMS_AUT_015", "Serial no and Device detail already exist"),
    "saving": ("PMS_AUT_016", "error occured while saving data"),
    "not found": ("PMS_AUT_016", "Registered device not found"),
    "model": ("PMS_AUT_018", "device detail not found"),
    "ftp": ("PMS_AUT_019", "FTP not found"),
    "signature": ("PMS_AUT_022", " signature validation failed -"),
    "already": ("PMS_AUT_024", "device already deregistered"),
    "environment": ("PMS_AUT_024", "invalid environment"),
    "length": ("PMS_AUT_025", "device code greater than the accepted length"),
    "foundational": (
        "PMS_AUT_030",
        "If certification level received is L1 then foundationalTrustProviderId should not be null or empty",
    ),
    "no moment": ("PMS_AUT_031", "Device info timestamp cannot be null."),
    "signing": ("PMS_AUT_032", "Error while signing the response"),
}
MASTERDATA = {
    "provider": (
        "ADM-DPM-032",
        "Device Provider ID/Name does not exist in the list of Registered Device Providers",
    ),
    "not listed": ("ADM-DPM-042", "%s Cannot register device as it is not a white-listed device"),
    "known": ("ADM-DPM-043", "Serial no and DpId already exist"),
    "after": ("MSD-RDS-001", "Time Stamp input is 5 min after the current timestamp"),
    "not found": ("KER-DPR-001", "No register device found"),
    "already": ("KER-DPR-002", "Device already de-registered"),
    "length": ("KER-DPR-003", "device code greater than the accepted length"),
    "environment": ("KER-DPR-004", "Invalid environment"),
    "field": ("KER-MSD-999", "Invalid request input"),
}
HOTLIST = {
    "input": ("ADM-HTL-002", "Invalid Input Parameter - %s"),
    "missing": ("ADM-HTL-001", "Missing Input Parameter - %s"),
    "type": ("ADM-HTL-003", "Input IdType not allowed to hotlist"),
    "request": ("ADM-HTL-004", "Invalid Request"),
}
SEARCH = {
    "column": ("PMS-MSD-310", "Invalid column received : %s"),
    "page": ("PMS-MSD-313", "Invalid pagination value received pagestart:%d and pagefetch:%d"),
}
PARTNERS = {
    "no partner": ("PMS_PRT_005", "Partner does not exist"),
    "invalid": ("KER-PCM-001", "Invalid Certificate uploaded."),
    "exists": ("KER-PCM-003", "Certificate already exists in store."),
    "dates": ("KER-PCM-004", "Certificate Dates are not valid."),
    "no root": ("KER-PCM-005", "Root CA Certificate not found."),
    "no path": ("KER-PCM-006", "Root CA/Intermediate CA Certificates not found."),
    "version": ("KER-PCM-007", "Certificate version not supported."),
    "organisation": ("KER-PCM-008", "Partner Organization Name not Matched."),
    "domain": ("KER-PCM-011", "Invalid Partner Domain."),
    "key size": ("KER-PCM-013", "Partner Certificate Key Size is less than allowed size."),
    "algorithm": ("KER-PCM-014", "Partner Certificate Signature algorithm not supported."),
    "self-signed": ("KER-PCM-015", "Self Signed Certificate not allowed as partner."),
    "authority short": ("KER-PCM-017", "The CA Certificate validity is less than required minimum validity."),
    "future": ("KER-PMS-020", "Future Dated Certificate not allowed to upload."),
    "short": ("KER-KMS-021", "The PARTNER Certificate validity is less than required minimum validity"),
}
CHIPS = {
    "field": ("PMS_PRT_500", "value is empty or null"),
    "no maker": ("PMP_AUT_030", "The FTP provider is either inactive or does not exist."),
    "no chip": ("PMP_AUT_031", "ftp chip id not exists."),
    "exists": ("PMP_AUT_032", "FTM Chip details already exists for the same make and model"),
    "another's": ("PMP_AUT_034", "Ftp chip detail id and ftp provider id not mappped. "),
    "status": (
        "PMP_AUT_038",
        (
            "The certificate can only be uploaded for FTM that is either pending certificate upload or has an approved "
            "status."
        ),
    ),
    "deactivated": ("PMP_AUT_039", "FTM chip is deactivated."),
}
AUTH = ("KER-ATH-401", "Authentication Failed")
LOGIN = ("KER-ATH-003", "Invalid clientid or secretkey")
KEYMANAGER = {"unknown": ("KER-KMS-002", "ApplicationId not found in Key Policy. Key/CSR generation not allowed.")}
UNHEARD_OF = ("XXX-999", "Something nobody documented")


class Complaint(Exception):  # noqa: N818 - what a service says
    """What a service answers instead of a result. errors: (code, text) pairs."""

    def __init__(self, *errors: tuple[str, str]) -> None:
        super().__init__(errors[0][0])
        self.errors = errors


def shown(errors: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return errors as they stand in an answer."""
    return [{"errorCode": code, "message": text} for code, text in errors]
