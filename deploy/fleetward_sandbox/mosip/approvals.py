"""What the sandbox's partner management 1.2 approved: models, versions of services, and which go together.

Its searches compare texts without case, all but ids; they know the columns of a table and no others, and answer a page
of nothing without ``data``. A hash comes back as base64 of the text that was told. Source: partner management 1.2
``SearchHelper``, ``SecureBiometricInterfaceServiceImpl``.
"""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fleetward_sandbox.mosip.words import SEARCH, Complaint
from fleetward_server.problem import Kind, OperatorProblem

Body = dict[str, Any]
MODEL = ("id", "deviceProviderId", "deviceTypeCode", "deviceSubTypeCode", "make", "model", "approvalStatus", "isActive")
SERVICE = ("id", "providerId", "swVersion", "swBinaryHash", "swExpiryDateTime", "approvalStatus", "isActive")
# Its two ids are one embedded key, in which a search does not look; deviceDetailId is sieved afterwards.
MAPPING = ("providerId",)


@dataclass
class Approvals:
    """models, services: rows as ``MODEL`` and ``SERVICE`` name them. mappings: (id of a model, id of a service)."""

    models: list[Body] = field(default_factory=list)
    services: list[Body] = field(default_factory=list)
    mappings: list[tuple[str, str]] = field(default_factory=list)

    def search_models(self, request: Body) -> Body:
        """POST /v1/partnermanager/devicedetail/search."""
        return _page(_found(self.models, request, MODEL), request)

    def search_services(self, request: Body) -> Body:
        """POST /v1/partnermanager/securebiometricinterface/search."""
        return _page([_hashed(row) for row in _found(self.services, request, SERVICE)], request)

    def search_mappings(self, request: Body) -> Body:
        """POST /v1/partnermanager/securebiometricinterface/devicedetails/map/search."""
        wanted = [str(one.get("value")) for one in _filters(request) if one.get("columnName") == "deviceDetailId"]
        others = [one for one in _filters(request) if one.get("columnName") != "deviceDetailId"]
        rows = _found(self._mapped(), request | {"filters": others}, MAPPING)
        return _page([row for row in rows if not wanted or row["deviceDetailId"] == wanted[0]], request)

    def _mapped(self) -> list[Body]:
        models = {str(row.get("id")): row for row in self.models}
        services = {str(row.get("id")): row for row in self.services}
        return [
            {name: models[one].get(name) for name in ("make", "model", "deviceTypeCode", "deviceSubTypeCode")}
            | {name: _hashed(services[other]).get(name) for name in ("providerId", "swVersion", "swBinaryHash")}
            | {"deviceDetailId": one, "sbiId": other}
            for one, other in self.mappings
        ]


def read_approvals(file: Path) -> Approvals:
    """Read them from a file: ``{"models": [...], "services": [...], "mappings": [[model id, service id]]}``.

    Raises:
        OperatorProblem: ``invalid``, naming the file and what was expected.
    """
    try:
        said = json.loads(file.read_bytes())
        pairs = [(str(one), str(other)) for one, other in said.get("mappings", ())]
        made = Approvals(list(said.get("models", ())), list(said.get("services", ())), pairs)
        made.search_mappings({})
    except (OSError, ValueError, TypeError, AttributeError, KeyError):
        expected = '{"models": [{"id": ...}], "services": [{"id": ...}], "mappings": [["model id", "service id"]]}'
        raise OperatorProblem(Kind.INVALID, f"--approvals {file}: expected JSON {expected}") from None
    return made


def _filters(request: Body) -> list[Body]:
    return [one for one in request.get("filters") or () if isinstance(one, dict)]


def _found(rows: Sequence[Body], request: Body, columns: Sequence[str]) -> list[Body]:
    wanted = {str(one.get("columnName")): str(one.get("value")).lower() for one in _filters(request)}
    for name in wanted:
        if name not in columns:
            code, text = SEARCH["column"]
            raise Complaint((code, text % name))
    return [row for row in rows if all(str(row.get(name)).lower() == value for name, value in wanted.items())]


def _hashed(row: Body) -> Body:
    return row | {"swBinaryHash": base64.b64encode(str(row.get("swBinaryHash") or "").encode()).decode()}


def _page(rows: list[Body], request: Body) -> Body:
    page = request.get("pagination") or {"pageStart": 0, "pageFetch": 10}
    start, most = int(page.get("pageStart", 0)), int(page.get("pageFetch", 10))
    if start < 0 or most < 1:
        code, text = SEARCH["page"]
        raise Complaint((code, text % (start, most)))
    some = rows[start * most : (start + 1) * most]
    first = start * most + 1 if some else 0
    return {"fromRecord": first, "toRecord": first + len(some) - 1, "totalRecord": len(rows), "data": some or None}
