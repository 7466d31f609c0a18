"""A key ceremony's plan: one YAML file that people review and sign off, and everything that is made follows from it.

Read strictly: an unknown word, a word that stands twice, an anchor or a tag is refused, and so is whatever our PKI does
not have. Nothing in it is secret: the PIN is where the token's URI says. Source: S6; protocol section 1.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Literal

from msgspec import Meta, field
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent

from fleetward_broker import profiles
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import TokenUri, token_alone
from fleetward_broker.profiles import Profile, Subject
from fleetward_schemas.certificates import Unit
from fleetward_schemas.errors import Refused
from fleetward_schemas.jws import MAX_RSA_BITS, MIN_RSA_BITS
from fleetward_schemas.shapes import UpBody, read_as, read_own
from fleetward_server.config import ConfigProblem

MOST_BYTES = 64 * 1024
PROFILES: Mapping[str, Profile] = {"root": profiles.ROOT, "issuing": profiles.ISSUING}
Name = Annotated[str, Meta(pattern=r"\A[a-z0-9][a-z0-9-]{0,62}\Z")]
Text = Annotated[str, Meta(min_length=1, max_length=200)]


NATIVE = (date,)
"""What YAML has and JSON has not."""


class PlanProblem(ConfigProblem):
    """The plan cannot be carried out; the message names file, entry and what was expected."""


class KeyWish(UpBody, frozen=True):
    """A key to make, under its name as label. bits: of RSA."""

    alg: Literal["RS256", "EdDSA"] = "RS256"
    bits: Annotated[int, Meta(ge=MIN_RSA_BITS, le=MAX_RSA_BITS)] = MIN_RSA_BITS


class CertificateWish(UpBody, frozen=True, kw_only=True):
    """A certificate to issue. issuer: its own name (a root), one that stands above it, or an authority's."""

    profile: Literal["root", "issuing"]
    key: Name
    issuer: Name
    common_name: Text
    organisation: Text
    unit: Literal["device", "factory", "service"] | None = None
    not_before: date
    not_after: date

    @property
    def subject(self) -> Subject:
        """Who it is about."""
        return Subject(self.common_name, self.organisation, None if self.unit is None else Unit(self.unit))

    @property
    def validity(self) -> tuple[datetime, datetime]:
        """From midnight to midnight, UTC."""
        return _midnight(self.not_before), _midnight(self.not_after)


class Authority(UpBody, frozen=True):
    """One that is there already and issues. key: its URI; certificate: PEM file, relative to the plan."""

    key: Text
    certificate: Text


class Plan(UpBody, frozen=True):
    """The whole of it. token: ``pkcs11:`` URI that names no key; keys: made in it, each under its name as label."""

    ceremony: Name
    purpose: Text
    witnesses: Annotated[list[Text], Meta(min_length=1)]
    token: Text
    keys: Annotated[dict[Name, KeyWish], Meta(min_length=1)]
    certificates: dict[Name, CertificateWish]
    authorities: dict[Name, Authority] = field(default_factory=dict)

    def place(self, base: Path) -> TokenUri:
        """Return the token. base: folder that a relative ``pin-source`` starts from. Raises KeyUnavailable."""
        return token_alone(self.token, base)


_TABLES: Mapping[str, type[KeyWish] | type[CertificateWish] | type[Authority]] = {
    "keys": KeyWish,
    "certificates": CertificateWish,
    "authorities": Authority,
}


def read_plan(raw: bytes, path: Path) -> Plan:
    """Read a plan. path: for messages.

    Raises:
        PlanProblem: broken, unknown words, or asking for what we do not issue.
    """
    plan = _plan(_document(raw, path), path)
    try:
        plan.place(path.parent)
    except KeyUnavailable as problem:
        raise PlanProblem(f"{path}: token: {problem}") from None
    for flaw in _flaws(plan):
        raise PlanProblem(f"{path}: {flaw}")
    return plan


def _plan(document: object, path: Path) -> Plan:
    place = ""
    try:
        # Each entry by itself first, so that a fault is told with its name.
        for table, shape in _TABLES.items():
            entries = document.get(table) if isinstance(document, dict) else None
            for name, entry in entries.items() if isinstance(entries, dict) else ():
                place = f"{table}.{name}."
                read_as(Name, name)
                read_own(shape, entry, native=NATIVE)
        place = ""
        return read_own(Plan, document, native=NATIVE)
    except Refused as refusal:
        said = f"{place}{refusal.detail}".replace(".as a whole:", ":")
        raise PlanProblem(f"{path}: {said}") from None


def _document(raw: bytes, path: Path) -> object:
    if len(raw) > MOST_BYTES:
        raise PlanProblem(f"{path}: {len(raw)} bytes: a plan has {MOST_BYTES} at most")
    try:
        text = raw.decode()
        if any(isinstance(event, AliasEvent) or getattr(event, "anchor", None) for event in _yaml().parse(text)):
            raise PlanProblem(f"{path}: anchors and aliases are refused: write it out, so that it can be reviewed")
        return _yaml().load(text)
    except UnicodeDecodeError:
        raise PlanProblem(f"{path}: not UTF-8") from None
    except YAMLError as error:
        said = " ".join(str(error).split())
        raise PlanProblem(f"{path}: not the YAML that was expected: {said[:300]}") from None


def _yaml() -> YAML:
    return YAML(typ="safe", pure=True)


def _flaws(plan: Plan) -> Iterator[str]:
    taken = plan.authorities.keys() & (plan.keys.keys() | plan.certificates.keys())
    if taken:
        yield f"authorities.{min(taken)}: a key or certificate of this ceremony has that name"
    above: list[str] = []
    for name, wish in plan.certificates.items():
        for flaw in _certificate(plan, name, wish, above):
            yield f"certificates.{name}: {flaw}"
        above.append(name)
    certified = {wish.key for wish in plan.certificates.values()}
    for name in sorted(plan.keys.keys() - certified):
        yield f"keys.{name}: no certificate is for it"


def _certificate(plan: Plan, name: str, wish: CertificateWish, above: list[str]) -> Iterator[str]:
    profile, (begin, end) = PROFILES[wish.profile], wish.validity
    if wish.key not in plan.keys:
        yield f"key: {wish.key!r} is not made here"
    if not begin < end <= begin + profile.life:
        yield f"not_after: must be later than not_before, by {profile.life.days} days at most"
    if wish.profile == "root":
        if wish.issuer != name or wish.unit is not None:
            yield "a root is its own issuer and has no unit"
        return
    if wish.unit is None:
        yield "unit: missing; an issuing CA is told by it: device, factory or service"
    if wish.issuer in above:
        yield from _below(plan.certificates[wish.issuer], begin, end)
    elif wish.issuer not in plan.authorities:
        yield f"issuer: {wish.issuer!r} is no certificate above it and no authority"


def _below(issuer: CertificateWish, begin: datetime, end: datetime) -> Iterator[str]:
    if issuer.profile != "root":
        yield "issuer: an issuing CA certifies no authority"
    if begin < issuer.validity[0] or end > issuer.validity[1]:
        yield "not_before, not_after: not inside its issuer's validity"


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)
