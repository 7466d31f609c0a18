"""An FTM maker's chip at MOSIP: a make and a model of its maker's, and the certificate that certifies such chips.

Partner management keeps chips beside partners: a row by maker, make and model, a certificate handed to that row, and an
administrator's approval, which a certificate handed again has to wait for again. Pure. Source: partner management 1.2
``FTPChipDetailServiceImpl`` and its requests, whose member ``ftpChipDeatilId`` is spelled so.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Purpose
from fleetward_server.mosip.exchange import Answer, Asked
from fleetward_server.mosip.profiles import wrapped

CHIPS = "/v1/partnermanager/ftpchipdetail"
KNOWN = frozenset({"PMP_AUT_032", "PMP_AUT_037"})
"""There is such a row: it is looked for."""
MOST_CHARS = 36
PAGE = {"pageStart": 0, "pageFetch": 100}


@dataclass(frozen=True, slots=True)
class Chip:
    """Which chip. provider_id: its maker's there. purpose: of the devices it goes into; until 1.1 in two tables."""

    provider_id: str
    make: str
    model: str
    purpose: Purpose = Purpose.REGISTRATION

    @property
    def lawful(self) -> bool:
        """Whether partner management has room for it."""
        return all(one.strip() and len(one) <= MOST_CHARS for one in (self.make, self.model))

    @property
    def name(self) -> str:
        """What it is called in rows."""
        return f"{self.make} {self.model}"

    def made(self, now: datetime) -> Asked:
        """Return what makes its row."""
        request = {"make": self.make, "model": self.model} | self._whose()
        return Asked("POST", CHIPS, wrapped("io.mosip.ftpchipdetail.create", request, now))

    def searched(self, now: datetime) -> Asked:
        """Return what finds its row."""
        wanted = {"ftpProviderId": self.provider_id, "make": self.make, "model": self.model}
        filters = [
            {"columnName": name, "value": value, "type": "equals", "fromValue": "", "toValue": ""}
            for name, value in wanted.items()
        ]
        request = {"filters": filters, "sort": [], "pagination": PAGE, "purpose": self.purpose.upper()}
        return Asked("POST", f"{CHIPS}/search", wrapped("io.mosip.search", request, now))

    def handed(self, row: str, pem: str, organisation: str, now: datetime) -> Asked:
        """Return what hands a certificate to its row."""
        request = self._whose() | {
            "ftpChipDeatilId": row,
            "certificateData": pem,
            "organizationName": organisation,
            "partnerDomain": "FTM",
        }
        return Asked("POST", f"{CHIPS}/uploadcertificate", wrapped("io.mosip.ftpchipdetail.upload", request, now))

    def row_made(self, answer: Answer) -> str:
        """Return the id of the row that was made.

        Raises:
            Refused: ``malformed``.
        """
        response = answer.body.get("response")
        return _id(response.get("id") if isinstance(response, Mapping) else None)

    def row_found(self, answer: Answer) -> str:
        """Return the id of the one row that is this chip's; searches there compare without case.

        Raises:
            Refused: ``malformed``: none or several.
        """
        response = answer.body.get("response")
        data = response.get("data") if isinstance(response, Mapping) else None
        rows = [row for row in (data if isinstance(data, list) else ()) if isinstance(row, dict) and self._is_it(row)]
        if len(rows) != 1:
            raise Refused(Code.MALFORMED, f"{len(rows)} rows there are of {self.name}: expected one")
        return _id(rows[0].get("ftpChipDetailId"))

    def _is_it(self, row: Mapping[str, Any]) -> bool:
        said = (row.get("ftpProviderId"), _words(row.get("make")), _words(row.get("model")))
        return said == (self.provider_id, _words(self.make), _words(self.model))

    def _whose(self) -> dict[str, object]:
        return {"ftpProviderId": self.provider_id, "isItForRegistrationDevice": self.purpose is Purpose.REGISTRATION}


def _words(text: object) -> str:
    """Partner management holds two names for one that differ in case or in white space alone."""
    return " ".join(str(text).split()).lower()


def _id(said: object) -> str:
    if not isinstance(said, str) or not 1 <= len(said) <= MOST_CHARS or not said.isprintable():
        raise Refused(Code.MALFORMED, f"an answer without the id of a chip, 1..{MOST_CHARS} characters")
    return said
