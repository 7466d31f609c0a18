"""Whether MOSIP approved the models that we let in: since 1.2 a device is good there by model and certificate alone.

Partner management is asked for each, make and model as printed; what it holds of other providers does not count.
Source: partner management 1.2 ``devicedetail/search`` (rows with ``approvalStatus`` and ``isActive``).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetward_schemas.errors import Code, Refused
from fleetward_server.mosip.answers import errors_of
from fleetward_server.mosip.exchange import Answer, Asked, Unreachable
from fleetward_server.mosip.profiles import wrapped
from fleetward_server.mosip.tokens import NoToken, Tokens
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import Model

COLUMNS = ("make", "model", "type", "sub_type", "state")
PATH = "/v1/partnermanager/devicedetail/search"
APPROVED, MISSING, INACTIVE = "approved", "not-there", "inactive"


@dataclass(frozen=True, slots=True)
class ModelTold:
    """What MOSIP says of a model. state: its own word for the approval, or ``not-there``, ``inactive``."""

    make: str
    model: str
    type: str
    sub_type: str
    state: str

    @property
    def good(self) -> bool:
        """Whether its devices are good to MOSIP."""
        return self.state == APPROVED


def search(model: Model, now: datetime) -> Asked:
    """Return what finds a model at partner management, by provider, make and model."""
    wanted = {"deviceProviderId": model.provider_id, "make": model.make, "model": model.model}
    filters = [
        {"columnName": name, "value": value, "type": "equals", "fromValue": "", "toValue": ""}
        for name, value in wanted.items()
    ]
    page = {"pageStart": 0, "pageFetch": 100}
    request = {"filters": filters, "sort": [], "pagination": page, "purpose": ""}
    return Asked("POST", PATH, wrapped("io.mosip.devicedetail.search", request, now))


def told(answer: Answer, model: Model) -> ModelTold:
    """Read what came of ``search``. A search that finds nothing is answered without ``data``.

    Raises:
        Refused: ``malformed``.
    """
    response = answer.body.get("response")
    rows = response.get("data") if isinstance(response, dict) else None
    if not isinstance(response, dict) or not isinstance(rows, list | None):
        raise Refused(Code.MALFORMED, "an answer of devicedetail/search has rows in response.data")
    states = [_state(row) for row in rows or () if _is_this(row, model)]
    best = APPROVED if APPROVED in states else states[0] if states else MISSING
    return ModelTold(model.make, model.model, model.type, model.sub_type, best)


def check(tokens: Tokens, models: Iterable[Model], now: datetime) -> tuple[ModelTold, ...]:
    """Ask MOSIP for each approved model.

    Raises:
        OperatorProblem: ``failed``: MOSIP cannot be reached, refuses, or answers nonsense.
    """
    found = []
    for model in models:
        try:
            answer = tokens.ask(search(model, now), now)
            faults = errors_of(answer)
            if faults:
                raise OperatorProblem(Kind.FAILED, f"{model.make} {model.model}: {faults[0].code}: {faults[0].detail}")
            found.append(told(answer, model))
        except Unreachable as why:
            raise OperatorProblem(Kind.FAILED, f"{why.code}: {why.detail}") from None
        except NoToken as why:
            raise OperatorProblem(Kind.FAILED, f"{why.fault.code}: {why.fault.detail}") from None
        except Refused as refusal:
            raise OperatorProblem(Kind.FAILED, f"{model.make} {model.model}: {refusal.detail}") from None
    return tuple(found)


def _is_this(row: Any, model: Model) -> bool:
    """Filters of partner management compare without case; a digital ID does not."""
    if not isinstance(row, dict):
        return False
    exact = row.get("make") == model.make and row.get("model") == model.model
    kinds = (str(row.get("deviceTypeCode")).lower(), str(row.get("deviceSubTypeCode")).lower())
    same = kinds == (model.type.lower(), model.sub_type.lower())
    return exact and same and row.get("deviceProviderId") == model.provider_id


def _state(row: dict[str, Any]) -> str:
    said = str(row.get("approvalStatus") or MISSING).lower()
    return INACTIVE if said == APPROVED and row.get("isActive") is not True else said
