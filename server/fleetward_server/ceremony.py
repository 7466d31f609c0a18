"""``fleetward hsm ceremony``: keys and certificates of one reviewed plan, made in a token, checked, and sworn to.

All or nothing: what goes wrong on the way destroys the keys that were made, and looks that they are gone. Nothing in a
token is ever replaced. Every output is checked as anyone will check it later. Source: S6;
deploy/decisions/0016 (one reviewed file, no interactive steps, outputs that verify themselves).
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from shutil import rmtree
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_durably
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import SCHEME, TokenUri, read_uri, show_uri
from fleetward_broker.profiles import Issuer
from fleetward_broker.signers import file_of, needing_hsm, open_key
from fleetward_schemas.certificates import key_thumbprint, public_key, spki
from fleetward_schemas.jws import Alg, PrivateKey, alg_of
from fleetward_schemas.moment import show
from fleetward_schemas.strict import show_der
from fleetward_server.ceremony_plan import Plan, PlanProblem, read_plan
from fleetward_server.ceremony_protocol import (
    Given,
    MadeKey,
    Named,
    Report,
    authority_flaws,
    flaws,
    open_protocol,
    seal,
)

PLAN, PROTOCOL = "plan.yaml", "protocol.json"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ceremony:
    """A plan that can be carried out: the token was looked at, and every authority opened. uris: of their keys."""

    plan: Plan
    text: str
    token: TokenUri
    token_says: dict[str, str]
    authorities: dict[str, Issuer]
    uris: dict[str, str]

    def uri(self, name: str) -> str:
        """Return the URI of a key of it."""
        return show_uri(replace(self.token, label=name))

    def key_of(self, certificate: str) -> str:
        """Return the name of the key that a certificate of it is for."""
        return self.plan.certificates[certificate].key


def prepare(path: Path) -> Ceremony:
    """Read a plan and look whether it can be carried out; nothing is made.

    Raises:
        PlanProblem: it cannot. KeyUnavailable: the token or an authority's key is away, or names are taken.
    """
    raw = path.read_bytes()
    plan = read_plan(raw, path)
    token = plan.place(path.parent.absolute())
    with needing_hsm():
        from fleetward_broker.token_facts import look_at_token
        from fleetward_broker.token_keys import has_token_key

        facts = look_at_token(show_uri(token))
    for name, wish in plan.keys.items():
        if not (facts.makes[wish.alg] and facts.signs[wish.alg]):
            raise PlanProblem(f"{path}: keys.{name}: token {token.token_name} makes or signs no {wish.alg}")
    taken = [name for name in plan.keys if has_token_key(show_uri(replace(token, label=name)))]
    if taken:
        raise KeyUnavailable(f"token {token.token_name}: holds {', '.join(taken)} already; nothing in it is replaced")
    says = {name: getattr(facts, name) for name in ("label", "serial", "manufacturer", "model", "firmware")}
    uris = {name: _whole(one.key, path.parent.absolute()) for name, one in plan.authorities.items()}
    return Ceremony(plan, raw.decode(), token, says, _authorities(plan, path), uris)


def _whole(uri: str, base: Path) -> str:
    """Return a key's URI with no path in it that starts from ``base``."""
    if uri.startswith(SCHEME):
        return show_uri(read_uri(uri, base))
    return f"file:{quote(str(file_of(uri, base)))}"


def _authorities(plan: Plan, path: Path) -> dict[str, Issuer]:
    found = {}
    for name, one in plan.authorities.items():
        file = path.parent / one.certificate
        try:
            certificate = x509.load_pem_x509_certificate(file.read_bytes())
        except ValueError:
            raise PlanProblem(f"{path}: authorities.{name}: {file}: no readable certificate") from None
        key = open_key(one.key, path.parent)
        if key_thumbprint(public_key(certificate)) != key_thumbprint(key.public_key()):
            raise PlanProblem(f"{path}: authorities.{name}: {file} is for another key than {one.key}")
        found[name] = Issuer(certificate, key)
    for name, wish in plan.certificates.items():
        for flaw in authority_flaws(found[wish.issuer].certificate, wish) if wish.issuer in found else ():
            raise PlanProblem(f"{path}: certificates.{name}: {wish.issuer}: {flaw}")
    return found


@dataclass(frozen=True, slots=True)
class Yield:
    """What a ceremony made. keys, certificates: by name, in the plan's order."""

    keys: dict[str, PrivateKey]
    certificates: dict[str, x509.Certificate]


def perform(ceremony: Ceremony, out: Path, actor: str, *, now: Callable[[], datetime], say: Say) -> Report:
    """Carry a plan out and write everything to a new folder. now: read when it begins and when it ends.

    Raises:
        PlanProblem: what was made is not what was wanted. KeyUnavailable. OSError: the folder is there already, or
            cannot be written. In each case the keys that were made are destroyed and no folder is left.
    """
    began = now()
    out.mkdir(parents=True)
    with ExitStack() as undo:
        undo.callback(rmtree, out)
        keys = _make_keys(ceremony, undo, say)
        made = Yield(keys, _issue(ceremony, keys, say))
        report = _report(ceremony, made, actor, (began, now()))
        for flaw in flaws(report):
            raise PlanProblem(f"what was made is not what was wanted: {flaw}")
        say("signing the protocol with every key")
        _write(out, ceremony, made, seal(report, keys))
        proven = open_protocol((out / PROTOCOL).read_bytes())
        undo.pop_all()
    return proven


def _make_keys(ceremony: Ceremony, undo: ExitStack, say: Say) -> dict[str, PrivateKey]:
    from fleetward_broker.token_keys import make_token_key

    keys = {}
    for name, wish in ceremony.plan.keys.items():
        say(f"making key {name}")
        # Before it is made: a token that fails half-way may have half a pair.
        undo.callback(_unmake, ceremony, name, say)
        keys[name] = make_token_key(ceremony.uri(name), Alg(wish.alg), wish.bits)
    return keys


def _unmake(ceremony: Ceremony, name: str, say: Say) -> None:
    from fleetward_broker.pkcs11 import module_at

    say(f"destroying key {name}: the ceremony failed")
    module_at(ceremony.token.module).token(ceremony.token).destroy(replace(ceremony.token, label=name))


def _issue(ceremony: Ceremony, keys: dict[str, PrivateKey], say: Say) -> dict[str, x509.Certificate]:
    made: dict[str, x509.Certificate] = {}
    for name, wish in ceremony.plan.certificates.items():
        say(f"issuing certificate {name}")
        key, (start, end) = keys[wish.key], wish.validity
        if wish.profile == "root":
            made[name] = profiles.self_signed(wish.subject, key, start, end)
            continue
        issuer = ceremony.authorities.get(wish.issuer) or Issuer(made[wish.issuer], keys[ceremony.key_of(wish.issuer)])
        made[name] = profiles.issue(profiles.ISSUING, wish.subject, key.public_key(), issuer, start=start, end=end)
    return made


def _report(ceremony: Ceremony, made: Yield, actor: str, when: tuple[datetime, datetime]) -> Report:
    return Report(
        ceremony=ceremony.plan.ceremony,
        plan=ceremony.text,
        software=f"fleetward {version('fleetward')}",
        actor=actor,
        began=show(when[0]),
        ended=show(when[1]),
        token=ceremony.token_says,
        keys=[_key(ceremony, name, key) for name, key in made.keys.items()],
        certificates=[_certificate(*one) for one in made.certificates.items()],
        authorities=[
            Given(**_certificate(name, one.certificate).document(), uri=ceremony.uris[name])
            for name, one in ceremony.authorities.items()
        ],
    )


def _key(ceremony: Ceremony, name: str, key: PrivateKey) -> MadeKey:
    from fleetward_broker.token_facts import every_attribute_of

    uri = ceremony.uri(name)
    return MadeKey(
        name=name, uri=uri, alg=alg_of(key), spki=show_der(spki(key.public_key())), attributes=every_attribute_of(uri)
    )


def _certificate(name: str, certificate: x509.Certificate) -> Named:
    return Named(name=name, der=show_der(certificate.public_bytes(Encoding.DER)))


def _write(out: Path, ceremony: Ceremony, made: Yield, protocol: bytes) -> None:
    for name, certificate in made.certificates.items():
        write_durably(out / f"{name}.pem", certificate.public_bytes(Encoding.PEM))
    write_durably(out / PLAN, ceremony.text.encode())
    write_durably(out / PROTOCOL, protocol)
