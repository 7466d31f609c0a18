"""What ceremonies made, taken into use: which certificate holds which office, and where its key is.

Believed is what a protocol proves, and nothing beside it: not the certificates that lie in its folder. Source: S6.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.strict import b64_der
from fleetward_server.ceremony import PROTOCOL
from fleetward_server.ceremony_plan import read_plan
from fleetward_server.ceremony_protocol import HERE, Report, Unproven, open_protocol
from fleetward_server.config import ConfigProblem
from fleetward_server.generations import AUTHORITIES, ROOT

OFFICES = (ROOT, *AUTHORITIES)
NOTE = "# Made in a ceremony; its protocol tells of each. The PIN is where pin-source says; it stands in no URI.\n"


@dataclass(frozen=True, slots=True)
class Held:
    """Who holds an office. uri: of the key."""

    certificate: x509.Certificate
    uri: str


def offices(folders: Iterable[Path], organisation: str) -> dict[str, Held]:
    """Return who holds root and issuing CAs after these ceremonies; each folder has a ``protocol.json``.

    Raises:
        ConfigProblem: a protocol proves nothing, an office is held twice or by nobody, or what was made is another's.
    """
    found: dict[str, Held] = {}
    for folder in folders:
        for office, held in _held(_proven(folder / PROTOCOL)):
            if found.setdefault(office, held).certificate != held.certificate:
                raise ConfigProblem(f"{folder}: a second {office}; a provider begins with one")
    missing = [office for office in OFFICES if office not in found]
    if missing:
        raise ConfigProblem(f"no ceremony made {', '.join(missing)}; name each folder with --ceremony")
    for office in OFFICES:
        _check(office, found, organisation)
    return {office: found[office] for office in OFFICES}


def successor(folder: Path, office: str, organisation: str) -> Held:
    """Return who is to hold an office after the one who holds it now.

    Raises:
        ConfigProblem: the protocol proves nothing, tells of no such office or of two, or of another organisation's.
    """
    found = [held for name, held in _held(_proven(folder / PROTOCOL)) if name == office]
    if len(found) != 1:
        raise ConfigProblem(f"{folder}: made {len(found)} of {office}: expected one")
    _own(office, found[0].certificate, organisation)
    return found[0]


def table(held: dict[str, Held]) -> str:
    """Return the lines below ``[keys]``."""
    return NOTE + "".join(f'{office.replace("-", "_")} = "{one.uri}"\n' for office, one in held.items())


def _proven(path: Path) -> Report:
    try:
        return open_protocol(path.read_bytes())
    except OSError as error:
        raise ConfigProblem(f"{path}: {error.strerror}") from None
    except Unproven as flaw:
        raise ConfigProblem(f"{path}: {flaw}") from None


def _held(report: Report) -> Iterable[tuple[str, Held]]:
    """Yield the offices of one ceremony; an authority above what was made holds the root's."""
    plan = read_plan(report.plan.encode(), HERE)
    keys = {one.name: one.uri for one in report.keys}
    for made in report.certificates:
        wish = plan.certificates[made.name]
        office = ROOT if wish.unit is None else f"{wish.unit}-ca"
        yield office, Held(read_certificate(b64_der(made.der)), keys[wish.key])
    for given in report.authorities:
        yield ROOT, Held(read_certificate(b64_der(given.der)), given.uri)


def _check(office: str, found: dict[str, Held], organisation: str) -> None:
    certificate, root = found[office].certificate, found[ROOT].certificate
    _own(office, certificate, organisation)
    try:
        certificate.verify_directly_issued_by(root)
    except (ValueError, TypeError, InvalidSignature):
        raise ConfigProblem(f"{office} was not issued by the root {root.subject.rfc4514_string()}") from None


def _own(office: str, certificate: x509.Certificate, organisation: str) -> None:
    names = [one.value for one in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if names != [organisation]:
        raise ConfigProblem(f"{office} is for {certificate.subject.rfc4514_string()}: expected O={organisation}")
