"""The sandbox's FTM chips: rows by maker, make and model, a certificate for each, and where its approval stands.

A certificate goes to the keymanager as a partner's does; what comes back is a whole chain (p7b, base64url), and as
``certificateId`` the leaf in PEM. Source: partner management 1.2 ``FTPChipDetailServiceImpl``, its order and its codes.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from fleetward_sandbox.mosip.partners import ChipRow, Partners
from fleetward_sandbox.mosip.words import CHIPS, PARTNERS, Complaint

Body = dict[str, Any]
PATH = "/v1/partnermanager/ftpchipdetail"
PENDING_UPLOAD, PENDING_APPROVAL, APPROVED = "pending_cert_upload", "pending_approval", "approved"
SIZED = ("ftpProviderId", "make", "model")


def acts(partners: Callable[[], Partners]) -> dict[str, Callable[[Body, datetime], object]]:
    """Return what is done at each path."""
    return {
        PATH: lambda body, _: create(partners(), body),
        f"{PATH}/search": lambda body, _: search(partners(), body),
        f"{PATH}/uploadcertificate": lambda body, now: upload(partners(), body, now),
    }


def create(partners: Partners, request: Body) -> Body:
    """POST /v1/partnermanager/ftpchipdetail.

    Raises:
        Complaint: with partner management's codes.
    """
    if any(not 1 <= len(str(request.get(name) or "").strip()) <= 36 for name in SIZED):
        raise Complaint(CHIPS["field"])
    provider, make, model = (str(request[name]) for name in SIZED)
    _known(partners, provider)
    held = {(row.provider, _words(row.make), _words(row.model)) for row in partners.chips.values()}
    if (provider, _words(make), _words(model)) in held:
        raise Complaint(CHIPS["exists"])
    row = ChipRow(f"chip-{len(partners.chips) + 1}", provider, make, model, PENDING_UPLOAD)
    partners.chips[row.id] = row
    return {"id": row.id}


def search(partners: Partners, request: Body) -> Body:
    """POST /v1/partnermanager/ftpchipdetail/search: texts are compared without case."""
    wanted = {str(one.get("columnName")): str(one.get("value")).lower() for one in request.get("filters") or ()}
    rows = [
        {"ftpChipDetailId": row.id, "ftpProviderId": row.provider, "make": row.make, "model": row.model}
        | {"certificateAlias": None, "active": row.active}
        for row in partners.chips.values()
    ]
    data = [row for row in rows if all(str(row.get(name)).lower() == value for name, value in wanted.items())]
    return {"fromRecord": 0, "toRecord": len(data), "totalRecord": len(data), "data": data}


def upload(partners: Partners, request: Body, now: datetime) -> Body:
    """POST /v1/partnermanager/ftpchipdetail/uploadcertificate.

    Raises:
        Complaint: with partner management's codes, then the keymanager's.
    """
    provider = str(request.get("ftpProviderId") or "")
    _known(partners, provider)
    row = partners.chips.get(str(request.get("ftpChipDeatilId") or ""))
    if row is None:
        raise Complaint(CHIPS["no chip"])
    if row.provider != provider:
        raise Complaint(CHIPS["another's"])
    if row.status not in {APPROVED, PENDING_UPLOAD}:
        raise Complaint(CHIPS["status"])
    if row.status == APPROVED and not row.active:
        raise Complaint(CHIPS["deactivated"])
    if request.get("organizationName") != partners.organisations[provider]:
        raise Complaint(PARTNERS["organisation"])
    answer, _ = partners.upload_certificate(request | {"partnerId": provider}, now, as_p7b=True)
    text = str(request["certificateData"])
    partners.chips[row.id] = replace(row, status=PENDING_APPROVAL, active=False, certificate=text)
    return answer | {"certificateId": text}


def approve(partners: Partners, row: str) -> None:
    """Do what an administrator does there."""
    partners.chips[row] = replace(partners.chips[row], status=APPROVED, active=True)


def _known(partners: Partners, provider: str) -> None:
    if provider not in partners.organisations:
        raise Complaint(CHIPS["no maker"])


def _words(text: str) -> str:
    return " ".join(text.split()).lower()
