"""What a chain from elsewhere is to us, told before anybody trusts it: verdict, and what each certificate lacks.

The verdict is the one that intake would give; a root that is in the file and not trusted is judged as if it were, and
then said to be untrusted. Source: schemas/README.md "Chains from elsewhere".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from fleetward_schemas.certificates import read_certificate, read_pem_certificates
from fleetward_schemas.errors import Refused
from fleetward_schemas.foreign import Anchor, Leniency, Place, lacks, listed, verify_under
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import FtmRoot

ALL = frozenset(Leniency)


@dataclass(frozen=True, slots=True)
class Judged:
    """One certificate by itself. needs: what it lacks; problem: what nothing excuses, or empty."""

    place: Place
    subject: str
    not_before: datetime
    not_after: datetime
    needs: tuple[Leniency, ...] = ()
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """On one chain. root: the operator's word for its trusted root, None for none; said: why it is not accepted."""

    accepted: bool
    said: str
    root: str | None
    needs: tuple[Leniency, ...]
    certificates: tuple[Judged, ...]


def examine(pem: bytes, roots: Iterable[FtmRoot], at: datetime) -> Verdict:
    """Judge a chain, leaf first, by the trusted ones of ``roots``, at a moment.

    Raises:
        OperatorProblem: ``invalid``: no certificates in PEM.
    """
    try:
        chain = read_pem_certificates(pem)
    except Refused:
        raise OperatorProblem(Kind.INVALID, "expected certificates in PEM, the chip's first") from None
    found = [_under(chain, root, at) for root in roots if root.trusted and _leads_to(chain, read_certificate(root.der))]
    return next((one for one in found if one.accepted), None) or next(iter(found), None) or _untrusted(chain, at)


def _leads_to(chain: Sequence[x509.Certificate], root: x509.Certificate) -> bool:
    return any(one == root or one.issuer == root.subject for one in chain)


def _under(chain: Sequence[x509.Certificate], root: FtmRoot, at: datetime) -> Verdict:
    anchor = read_certificate(root.der)
    needs, problem = _needs(chain, anchor, at)
    missing = set(needs) - set(root.leniencies)
    if missing and not problem:
        problem = f"its root {root.name!r} does not allow {listed(missing)}"
    return Verdict(not problem, problem, root.name, needs, _each(chain, anchor, at))


def _untrusted(chain: Sequence[x509.Certificate], at: datetime) -> Verdict:
    last = chain[-1]
    if last.issuer != last.subject:
        said = f"no trusted root is {last.issuer.rfc4514_string()!r}; put the root at the end of the file"
        return Verdict(accepted=False, said=said, root=None, needs=(), certificates=_each(chain, None, at))
    needs, problem = _needs(chain, last, at)
    allow = f" --allow {listed(needs)}" if needs else ""
    said = problem or f"its root is not trusted; with: fleetward ftm-root add ROOT{allow}"
    return Verdict(accepted=False, said=said, root=None, needs=needs, certificates=_each(chain, last, at))


def _needs(
    chain: Sequence[x509.Certificate], anchor: x509.Certificate, at: datetime
) -> tuple[tuple[Leniency, ...], str]:
    try:
        return tuple(map(Leniency, verify_under(Anchor(anchor, ALL), chain, at).leniencies)), ""
    except Refused as refusal:
        return (), str(refusal)


def _each(chain: Sequence[x509.Certificate], anchor: x509.Certificate | None, at: datetime) -> tuple[Judged, ...]:
    if anchor is None:
        return _below(chain, at)
    return (*_below([one for one in chain if one != anchor], at), _judged(anchor, Place.ANCHOR, at))


def _below(chain: Sequence[x509.Certificate], at: datetime) -> tuple[Judged, ...]:
    return tuple(_judged(one, Place.BETWEEN if number else Place.LEAF, at) for number, one in enumerate(chain))


def _judged(certificate: x509.Certificate, place: Place, at: datetime) -> Judged:
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    subject = certificate.subject.rfc4514_string()
    try:
        return Judged(place, subject, first, last, tuple(sorted(lacks(certificate, place, at))))
    except Refused as refusal:
        return Judged(place, subject, first, last, problem=str(refusal))
