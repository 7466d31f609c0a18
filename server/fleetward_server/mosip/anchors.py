"""MOSIP's own certificates: whose signature on an answer, and which encryption certificate, is believed.

MOSIP's authorities are as its keymanager makes them: serials may be negative, key usage and key identifiers missing.
That is tolerated here and nowhere else; signatures, names, every validity and being an authority are not negotiable.
An operator's file of anchors may hold the root, those below it, or both. Source: E1; facts of published certificates.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_schemas.certificates import public_key, read_pem_certificates
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.foreign import Place, certified, lacks

MOST_PATH = 5


class MosipAnchors:
    """What an operator was given to believe."""

    def __init__(self, certificates: Sequence[x509.Certificate]) -> None:
        """Believe ``certificates`` and, below those that are authorities, what they certified."""
        self._held = tuple(certificates)

    @classmethod
    def of_pem(cls, pem: bytes) -> "MosipAnchors":
        """Read them.

        Raises:
            Refused: ``malformed``.
        """
        return cls(read_pem_certificates(pem))

    def verify(self, leaf: x509.Certificate, now: datetime) -> tuple[x509.Certificate, ...]:
        """Return the path from ``leaf`` up, all of it good at ``now``.

        Raises:
            Refused: ``bad-alg``, ``malformed``, or ``unknown-signer``.
        """
        public_key(leaf)
        _valid(leaf, now)
        path = [leaf]
        while len(path) <= MOST_PATH:
            above = self._above(path[-1], now)
            if above is None:
                break
            path.append(above)
        if path[-1] not in self._held:
            raise Refused(Code.UNKNOWN_SIGNER, "no anchor of [mosip] anchors has certified it")
        return tuple(path)

    def named(self, fingerprint: bytes) -> x509.Certificate:
        """Return the held certificate of this SHA-256.

        Raises:
            Refused: ``unknown-signer``.
        """
        for one in self._held:
            if one.fingerprint(SHA256()) == fingerprint:
                return one
        raise Refused(Code.UNKNOWN_SIGNER, "it names a certificate that [mosip] anchors does not hold")

    def _above(self, below: x509.Certificate, now: datetime) -> x509.Certificate | None:
        if below.issuer == below.subject and below in self._held:
            return None
        refusal: Refused | None = None
        judged = False
        for one in self._candidates(below):
            try:
                certified(below, one)
                judged = True
                lacks(one, Place.ANCHOR, now)
            except Refused as found:
                refusal = found
            else:
                return one
        # Its issuer is held: then that one judges it too, even if it is held itself.
        if refusal is not None and (judged or below not in self._held):
            raise refusal
        return None

    def _candidates(self, below: x509.Certificate) -> Iterator[x509.Certificate]:
        return (one for one in self._held if one.subject == below.issuer and one != below)


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate in DER."""
    return certificate.public_bytes(Encoding.DER)


def _valid(leaf: x509.Certificate, now: datetime) -> None:
    first, last = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if not first <= now <= last:
        raise Refused(Code.UNKNOWN_SIGNER, f"valid {first:%Y-%m-%d} to {last:%Y-%m-%d}, not at {now:%Y-%m-%d}")
