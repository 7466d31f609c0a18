"""Whether MOSIP approved what devices are and run: since 1.2 a device is good there by these and its chain.

Four things are asked of partner management: each model, each version of the service that devices run (an SBI), the hash
it was told of that version's binary, and that model and version were mapped to each other. What it holds of other
providers, or spelled otherwise, does not count. Source: partner management 1.2 ``devicedetail/search``,
``securebiometricinterface/search`` (``swBinaryHash``: base64 of the text it was told, 36 characters at most) and
``securebiometricinterface/devicedetails/map/search`` (which knows ``deviceDetailId``, and no ``sbiId`` to search by).
"""

import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.moment import parse_loose
from fleetward_server.mosip.answers import errors_of, printable
from fleetward_server.mosip.exchange import Answer, Asked, Unreachable
from fleetward_server.mosip.profiles import info_of, wrapped
from fleetward_server.mosip.settings import MosipTable
from fleetward_server.mosip.signing import loose
from fleetward_server.mosip.tokens import NoToken, Tokens
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.selection import parse as selected
from fleetward_server.state import Device, Model
from fleetward_server.store import Store

COLUMNS = ("kind", "name", "state")
MODELS = "/v1/partnermanager/devicedetail/search"
SERVICES = "/v1/partnermanager/securebiometricinterface/search"
MAPPINGS = "/v1/partnermanager/securebiometricinterface/devicedetails/map/search"
APPROVED, MISSING, INACTIVE, EXPIRED = "approved", "not-there", "inactive", "expired"
NO_EXPIRY = "expiry-unreadable"
MAPPED, NOT_MAPPED = "mapped", "not-mapped"
AGREES, DIFFERS, NOT_DECLARED = "agrees", "differs", "not-declared"
GOOD = frozenset({APPROVED, MAPPED, AGREES, NOT_DECLARED})
HEXADECIMAL = re.compile("[0-9a-fA-F]{32,}")
"""The least that MOSIP must have been told of a SHA-256: its field holds 36 characters, not all 64."""
MOST_ROWS = 1000
MOST_STATE = 36
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Approval:
    """What MOSIP says of one thing. kind: model, sbi, hash or mapping. state: its own word, or one of those above."""

    kind: str
    name: str
    state: str

    @property
    def good(self) -> bool:
        """Whether MOSIP takes it."""
        return self.state in GOOD


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be asked for. runs: (model, version) pairs that devices say. hashes: by version, as declared."""

    models: tuple[Model, ...]
    runs: tuple[tuple[Model, str], ...]
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Question:
    """One search. wanted: its columns; is_it: whether a row that was found is meant."""

    path: str
    wanted: Mapping[str, str]
    is_it: Callable[[Row], bool]

    def asked(self, now: datetime) -> Asked:
        """Return the search."""
        filters = [
            {"columnName": name, "value": value, "type": "equals", "fromValue": "", "toValue": ""}
            for name, value in self.wanted.items()
        ]
        page = {"pageStart": 0, "pageFetch": MOST_ROWS}
        request = {"filters": filters, "sort": [], "pagination": page, "purpose": ""}
        return Asked("POST", self.path, wrapped("io.mosip.search", request, now))

    def rows(self, answer: Answer) -> tuple[Row, ...]:
        """Return the rows that are meant. A search that finds nothing is answered without ``data``.

        Raises:
            Refused: ``malformed``.
        """
        response = answer.body.get("response")
        rows = response.get("data") if isinstance(response, dict) else None
        if not isinstance(response, dict) or not isinstance(rows, list | None):
            raise Refused(Code.MALFORMED, "an answer of a search has rows in response.data")
        return tuple(row for row in rows or () if isinstance(row, dict) and self.is_it(row))


def of_model(model: Model) -> Question:
    """Return the question for one make and model."""
    wanted = {"deviceProviderId": model.provider_id, "make": model.make, "model": model.model}
    kinds = (model.type.lower(), model.sub_type.lower())

    def is_it(row: Row) -> bool:
        # Searches there compare without case; a digital ID does not.
        found = (str(row.get("deviceTypeCode")).lower(), str(row.get("deviceSubTypeCode")).lower())
        return all(row.get(name) == value for name, value in wanted.items()) and found == kinds

    return Question(MODELS, wanted, is_it)


def of_version(provider_id: str, version: str) -> Question:
    """Return the question for one version of the service that devices run."""
    wanted = {"providerId": provider_id, "swVersion": version}
    return Question(SERVICES, wanted, lambda row: all(row.get(name) == value for name, value in wanted.items()))


def of_mapping(provider_id: str, model: Row, service: Row) -> Question:
    """Return the question whether a model and a version that were found go together."""
    wanted = {"providerId": provider_id, "deviceDetailId": str(model.get("id"))}
    ids = (wanted["deviceDetailId"], str(service.get("id")))
    return Question(MAPPINGS, wanted, lambda row: (row.get("deviceDetailId"), row.get("sbiId")) == ids)


def name_of(model: Model) -> str:
    """Return what a model is called in rows."""
    return f"{model.make} {model.model} ({model.type}, {model.sub_type})"


def wanted(store: Store, table: MosipTable, now: datetime) -> Wanted:
    """Return what our register makes us ask: the models we approved, and what registered devices say they run."""
    told = ((one, one.device_info) for one in _registered(store, now))
    runs = {(_model_of(one), info_of(info).serviceVersion) for one, info in told if info is not None}
    models = tuple(one for one in store.models() if one.approved)
    return Wanted(models, tuple(sorted(runs, key=lambda run: (name_of(run[0]), run[1]))), table.sbi_hashes)


def check(tokens: Tokens, asked_for: Wanted, provider_id: str, now: datetime) -> tuple[Approval, ...]:
    """Ask MOSIP for each.

    Raises:
        OperatorProblem: ``failed``: MOSIP cannot be reached, refuses, or answers nonsense.
    """
    asking = _Asking(tokens, provider_id, now)
    return tuple(asking.all(asked_for))


@dataclass(slots=True)
class _Asking:
    tokens: Tokens
    provider_id: str
    now: datetime

    def all(self, of: Wanted) -> Iterator[Approval]:
        models, services = {}, {}
        for model in sorted({*of.models, *(model for model, _ in of.runs)}, key=name_of):
            models[model] = self._best(name_of(model), of_model(model))
            yield Approval("model", name_of(model), _state(models[model], self.now))
        for version in sorted({version for _, version in of.runs}):
            services[version] = row = self._best(version, of_version(self.provider_id, version))
            yield Approval("sbi", version, _state(row, self.now))
            if row is not None:
                yield Approval("hash", version, _hash_state(of.hashes.get(version), row))
        for model, version in of.runs:
            one, other, name = models[model], services[version], f"{name_of(model)} with {version}"
            if one is not None and other is not None:
                found = self._rows(name, of_mapping(self.provider_id, one, other))
                yield Approval("mapping", name, MAPPED if found else NOT_MAPPED)

    def _best(self, name: str, question: Question) -> Row | None:
        rows = self._rows(name, question)
        good = [row for row in rows if _state(row, self.now) == APPROVED]
        return next(iter((*good, *rows)), None)

    def _rows(self, name: str, question: Question) -> tuple[Row, ...]:
        try:
            answer = self.tokens.ask(question.asked(self.now), self.now)
            if found := errors_of(answer):
                raise OperatorProblem(Kind.FAILED, f"{name}: {found[0].code}: {found[0].detail}")
            return question.rows(answer)
        except Unreachable as why:
            raise OperatorProblem(Kind.FAILED, f"{why.code}: {why.detail}") from None
        except NoToken as why:
            raise OperatorProblem(Kind.FAILED, f"{why.fault.code}: {why.fault.detail}") from None
        except Refused as refusal:
            raise OperatorProblem(Kind.FAILED, f"{name}: {refusal.detail}") from None


def _registered(store: Store, now: datetime) -> Iterator[Device]:
    """Yield registered devices, a page at a time."""
    which, last = selected("state:registered", now), ""
    while page := store.devices(which, after=last):
        yield from page
        last = page[-1].id


def _model_of(device: Device) -> Model:
    of = device.identity
    return Model(of.deviceProviderId, of.make, of.model, of.type, of.deviceSubType, approved=True)


def _state(row: Row | None, now: datetime) -> str:
    if row is None:
        return MISSING
    said = printable(row.get("approvalStatus") or MISSING, MOST_STATE).lower()
    if said != APPROVED:
        return said
    end = row.get("swExpiryDateTime")
    try:
        if end is not None and parse_loose(str(end)) <= now:
            return EXPIRED
    except Refused:
        return NO_EXPIRY
    return APPROVED if row.get("isActive") is True else INACTIVE


def _hash_state(declared: str | None, row: Row) -> str:
    if declared is None:
        return NOT_DECLARED
    return AGREES if any(_same_hash(declared, one) for one in _spelled(row)) else DIFFERS


def _same_hash(declared: str, held: str) -> bool:
    beginning = HEXADECIMAL.fullmatch(held) is not None and declared.lower().startswith(held.lower())
    return held == declared or beginning


def _spelled(row: Row) -> Iterable[str]:
    """Return what the field may say: base64 of the text MOSIP was told, or that text itself."""
    held = row.get("swBinaryHash")
    if not isinstance(held, str):
        return ()
    try:
        return (held, loose(held).decode("ascii"))
    except (Refused, UnicodeDecodeError, binascii.Error):
        return (held,)
