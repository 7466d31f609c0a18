"""Whether MOSIP approved our models and service's versions: since 1.2 a device is good there by these and its chain.

Partner management is asked for each; what it holds of other providers, or spelled otherwise, does not count.
Source: partner management 1.2 ``devicedetail/search``, ``securebiometricinterface/search`` (rows with
``approvalStatus`` and ``isActive``).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.moment import parse_loose
from fleetward_server.mosip.answers import errors_of
from fleetward_server.mosip.exchange import Answer, Asked, Unreachable
from fleetward_server.mosip.profiles import info_of, wrapped
from fleetward_server.mosip.tokens import NoToken, Tokens
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import Device, Model

COLUMNS = ("kind", "name", "state")
MODELS = "/v1/partnermanager/devicedetail/search"
SERVICES = "/v1/partnermanager/securebiometricinterface/search"
APPROVED, MISSING, INACTIVE, EXPIRED = "approved", "not-there", "inactive", "expired"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Approval:
    """What MOSIP says of one thing. kind: model or sbi. state: its own word, or one of those above."""

    kind: str
    name: str
    state: str

    @property
    def good(self) -> bool:
        """Whether MOSIP takes it."""
        return self.state == APPROVED


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to ask for. wanted: columns of the search; is_it: whether a row that was found is meant."""

    kind: str
    name: str
    path: str
    wanted: Mapping[str, str]
    is_it: Callable[[Row], bool]

    def asked(self, now: datetime) -> Asked:
        """Return the search."""
        filters = [
            {"columnName": name, "value": value, "type": "equals", "fromValue": "", "toValue": ""}
            for name, value in self.wanted.items()
        ]
        page = {"pageStart": 0, "pageFetch": 100}
        request = {"filters": filters, "sort": [], "pagination": page, "purpose": ""}
        return Asked("POST", self.path, wrapped("io.mosip.search", request, now))


def of_model(model: Model) -> Question:
    """Return the question for one make and model."""
    wanted = {"deviceProviderId": model.provider_id, "make": model.make, "model": model.model}
    kinds = (model.type.lower(), model.sub_type.lower())

    def is_it(row: Row) -> bool:
        # Searches there compare without case; a digital ID does not.
        found = (str(row.get("deviceTypeCode")).lower(), str(row.get("deviceSubTypeCode")).lower())
        return all(row.get(name) == value for name, value in wanted.items()) and found == kinds

    name = f"{model.make} {model.model} ({model.type}, {model.sub_type})"
    return Question("model", name, MODELS, wanted, is_it)


def of_version(provider_id: str, version: str) -> Question:
    """Return the question for one version of the service that devices run."""
    wanted = {"providerId": provider_id, "swVersion": version}
    return Question(
        "sbi", version, SERVICES, wanted, lambda row: all(row.get(name) == value for name, value in wanted.items())
    )


def versions(devices: Iterable[Device]) -> tuple[str, ...]:
    """Return the versions that devices say they run."""
    return tuple(sorted({info_of(one.device_info).serviceVersion for one in devices if one.device_info is not None}))


def told(answer: Answer, question: Question, now: datetime) -> Approval:
    """Read what a search found. One that finds nothing is answered without ``data``.

    Raises:
        Refused: ``malformed``.
    """
    response = answer.body.get("response")
    rows = response.get("data") if isinstance(response, dict) else None
    if not isinstance(response, dict) or not isinstance(rows, list | None):
        raise Refused(Code.MALFORMED, "an answer of a search has rows in response.data")
    states = [_state(row, now) for row in rows or () if isinstance(row, dict) and question.is_it(row)]
    best = APPROVED if APPROVED in states else states[0] if states else MISSING
    return Approval(question.kind, question.name, best)


def check(tokens: Tokens, questions: Iterable[Question], now: datetime) -> tuple[Approval, ...]:
    """Ask MOSIP for each.

    Raises:
        OperatorProblem: ``failed``: MOSIP cannot be reached, refuses, or answers nonsense.
    """
    found = []
    for one in questions:
        try:
            answer = tokens.ask(one.asked(now), now)
            faults = errors_of(answer)
            if faults:
                raise OperatorProblem(Kind.FAILED, f"{one.name}: {faults[0].code}: {faults[0].detail}")
            found.append(told(answer, one, now))
        except Unreachable as why:
            raise OperatorProblem(Kind.FAILED, f"{why.code}: {why.detail}") from None
        except NoToken as why:
            raise OperatorProblem(Kind.FAILED, f"{why.fault.code}: {why.fault.detail}") from None
        except Refused as refusal:
            raise OperatorProblem(Kind.FAILED, f"{one.name}: {refusal.detail}") from None
    return tuple(found)


def _state(row: Row, now: datetime) -> str:
    said = str(row.get("approvalStatus") or MISSING).lower()
    if said != APPROVED:
        return said
    end = row.get("swExpiryDateTime")
    if isinstance(end, str) and parse_loose(end) <= now:
        return EXPIRED
    return APPROVED if row.get("isActive") is True else INACTIVE
