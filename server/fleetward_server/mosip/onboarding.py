"""How MOSIP comes to know the provider: a request for the device CA's key, and the chain that MOSIP signed over it.

Leniency ends here: of MOSIP's own chain serial numbers may be negative and authorities loosely made, of nothing else.
MOSIP keeps chains for up to 24 h and trust stores for two more, so what was shown before goes on to be shown beside its
successor for longer than that. Source: facts of partner management (certificates uploaded, signed anew, cached).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_durably
from fleetward_schemas.certificates import key_thumbprint, public_key, read_pem_certificates
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.foreign import Leniency, Place, lacks
from fleetward_schemas.jws import Alg, alg_of
from fleetward_schemas.moment import show_seconds
from fleetward_server import amend
from fleetward_server.config import Config
from fleetward_server.encryption import anchors_of
from fleetward_server.generations import Generation, in_office, open_issuer
from fleetward_server.lines import changing
from fleetward_server.mosip.chips import Chip
from fleetward_server.problem import Kind, OperatorProblem

OVERLAP = timedelta(hours=48)
"""How long the former chain is shown beside the new one; MOSIP's caches last 24 h, and 2 h behind them."""


class Domain(StrEnum):
    """MOSIP's word for what a certificate is trusted for."""

    DEVICE = "DEVICE"
    FTM = "FTM"


@dataclass(frozen=True, slots=True)
class Hand:
    """What is handed over. path: the certificate, then each above it, the last one signed by itself.

    chip: the make and model of a maker's that it is for; None: the partner's own. for_devices: whether its authorities
    are to be trusted for devices too: MOSIP's registration processor looks there for an L1's digital ID.
    """

    domain: Domain
    partner_id: str
    path: tuple[x509.Certificate, ...]
    chip: Chip | None = None
    for_devices: bool = False


@dataclass(frozen=True, slots=True)
class Imported:
    """A chain that is shown to MOSIP from now on. file: relative to the folder; until: of the former one's showing."""

    subject: str
    issuer: str
    not_after: datetime
    file: str
    leniencies: tuple[str, ...]
    former: str
    until: datetime


def request(config: Config) -> bytes:
    """Return a certification request for the device CA in office, PEM, signed by its key wherever that lives.

    Raises:
        KeyUnavailable, AuthorityProblem: the key cannot be opened. OperatorProblem: MOSIP reads no such key.
    """
    issuer = open_issuer(config, "device-ca")
    if alg_of(issuer.key) is not Alg.RS256:
        raise OperatorProblem(Kind.INVALID, "device-ca: MOSIP's services read RS256, so its key must be RSA")
    return profiles.authority_request(issuer).public_bytes(Encoding.PEM)


def install(config: Config, pem: bytes, now: datetime) -> Imported:
    """Show a chain of MOSIP's to MOSIP from now on, and beside it for ``OVERLAP`` what was shown before.

    A crash leaves either of the two in ``fleetward.toml``, whole.

    Raises:
        OperatorProblem: ``unverified``: no anchor of MOSIP's leads to it, or it is another key's. ``conflict``: it is
            shown already. ``invalid``: no [mosip], or no anchors. KeyUnavailable, AuthorityProblem, ConfigProblem,
            OSError: key or files. Busy: another process changes keys.
    """
    anchors = anchors_of(config, "anchors") if config.mosip.on else None
    if anchors is None:
        raise OperatorProblem(Kind.INVALID, f"{config.folder}: [mosip] anchors is missing: expected MOSIP's own, PEM")
    _, holder = in_office(config, "device-ca")
    try:
        path, leniencies = verified(pem, holder.certificate, anchors, now)
    except Refused as refusal:
        raise OperatorProblem(Kind.UNVERIFIED, f"{refusal.code}: {refusal.detail}") from None
    with changing(config):
        return _installed(config, (path, leniencies), holder, now)


def _installed(
    config: Config, shown: tuple[tuple[x509.Certificate, ...], tuple[Leniency, ...]], holder: Generation, now: datetime
) -> Imported:
    path, leniencies = shown
    file = f"pki/mosip-provider-{path[0].fingerprint(SHA256()).hex()[:16]}.pem"
    if config.mosip.certificate == file:
        raise OperatorProblem(Kind.CONFLICT, f"{file}: this very chain is shown already")
    changed = _changed(config, holder, file, now + OVERLAP)
    _, raw = amend.with_keys(config, {}, config.keys.former, changed)
    text = b"".join(one.public_bytes(Encoding.PEM) for one in path if one.issuer != one.subject)
    write_durably(config.folder / file, text)
    amend.write(config.folder, raw)
    names = path[0].subject.rfc4514_string(), path[0].issuer.rfc4514_string()
    former = changed["former_certificate"]
    return Imported(*names, path[0].not_valid_after_utc, file, leniencies, former, now + OVERLAP)


def verified(
    pem: bytes, own: x509.Certificate, anchors: MosipAnchors, now: datetime
) -> tuple[tuple[x509.Certificate, ...], tuple[Leniency, ...]]:
    """Return the path from the certificate over our own key up to an anchor, and what it needed excused.

    pem: in any order, with or without the anchors. own: our own certificate over the key.

    Raises:
        Refused: ``unknown-signer``, ``malformed`` or ``bad-alg``.
    """
    handed = read_pem_certificates(pem)
    leaf = _over(own, handed)
    path = anchors.verify(leaf, now, [one for one in handed if one != leaf])
    places = [Place.BETWEEN, *[Place.ANCHOR] * (len(path) - 1)]
    needed = frozenset[Leniency]().union(*(lacks(one, at, now) for one, at in zip(path, places, strict=True)))
    return path, tuple(sorted(needed))


def _over(own: x509.Certificate, handed: Sequence[x509.Certificate]) -> x509.Certificate:
    """Return the certificate over our own key, as somebody else signed it."""
    thumbprint = key_thumbprint(public_key(own))
    found = [one for one in handed if one != own and key_thumbprint(public_key(one)) == thumbprint]
    if not found:
        raise Refused(
            Code.UNKNOWN_SIGNER, "none of the certificates is over the device CA's key: MOSIP was sent another request"
        )
    if found[0].subject != own.subject:
        # Devices' certificates name their issuer: under another name no path leads from them to MOSIP's root.
        raise Refused(
            Code.UNKNOWN_SIGNER,
            f"its subject is {found[0].subject.rfc4514_string()}: expected {own.subject.rfc4514_string()}",
        )
    return found[0]


def _changed(config: Config, holder: Generation, file: str, until: datetime) -> dict[str, str]:
    table = config.mosip
    return {
        "key": holder.uri,
        "certificate": file,
        "former_key": table.key or holder.uri,
        "former_certificate": table.certificate or f"pki/{holder.stem}.pem",
        "former_until": show_seconds(until),
    }
