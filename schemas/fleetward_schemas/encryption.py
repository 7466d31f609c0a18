"""MOSIP's encryption certificates: handed from the server to devices, believed under MOSIP's anchors and nobody's word.

The server's signature brings one, and does not make it true: a stolen signing key must not say whom biometrics are
encrypted for. MOSIP's authorities are as its keymanager makes them: serials may be negative, key usage and key
identifiers missing. That is tolerated here and nowhere else; signatures, names, every validity and being an authority
are not negotiable. Anchors may be MOSIP's root, those below it, or both. MOSIP signs its partners' certificates too,
and their keys may be encrypted for: what is believed bears MOSIP's own organisation all the way up. Source: E1, E2;
published certificates; keymanager ``CertificateUtility`` (base keys take their signer's name, partners keep their own).
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from msgspec import Meta

from fleetward_schemas.certificates import extensions_of, public_key, read_certificate, read_pem_certificates
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.foreign import Place, certified, lacks
from fleetward_schemas.identity import Environment
from fleetward_schemas.shapes import ChainOfDer, DownBody
from fleetward_schemas.strict import b64_der

MAX_DOMAINS = 16
DOMAIN = re.compile(r"[\x21-\x7e]{1,256}")
DomainUri = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"\A[\x21-\x7e]+\Z")]


class Encryption(DownBody, frozen=True):
    """What biometrics for one domain are encrypted for. certificates: leaf first, MOSIP's root left out."""

    env: Environment
    domainUri: DomainUri  # noqa: N815
    certificates: ChainOfDer


MOST_PATH = 5


class MosipAnchors:
    """What an operator was given to believe."""

    def __init__(self, certificates: Sequence[x509.Certificate]) -> None:
        """Believe ``certificates`` and, below those that are authorities, what they certified."""
        self._held = tuple(certificates)

    @property
    def held(self) -> tuple[x509.Certificate, ...]:
        """All of them."""
        return self._held

    @classmethod
    def of_pem(cls, pem: bytes) -> "MosipAnchors":
        """Read them.

        Raises:
            Refused: ``malformed``.
        """
        return cls(read_pem_certificates(pem))

    def verify(
        self, leaf: x509.Certificate, now: datetime, between: Sequence[x509.Certificate] = ()
    ) -> tuple[x509.Certificate, ...]:
        """Return the path from ``leaf`` up, all of it good at ``now``. between: handed along, and not believed by that.

        Raises:
            Refused: ``bad-alg``, ``malformed``, or ``unknown-signer``.
        """
        public_key(leaf)
        _valid(leaf, now)
        path = [leaf]
        while len(path) <= MOST_PATH:
            above = self._above(path[-1], now, between)
            if above is None:
                break
            path.append(above)
        if path[-1] not in self._held:
            raise Refused(Code.UNKNOWN_SIGNER, "none of MOSIP's anchors has certified it")
        return tuple(path)

    def verify_own(
        self, leaf: x509.Certificate, now: datetime, between: Sequence[x509.Certificate] = ()
    ) -> tuple[x509.Certificate, ...]:
        """Return the path as ``verify`` does, once it is MOSIP's own: no partner that MOSIP certified stands in it.

        Raises:
            Refused: ``bad-alg``, ``malformed``, or ``unknown-signer``.
        """
        path = self.verify(leaf, now, between)
        for below, above in pairwise(path):
            # E1: whoever is held was chosen by an operator; all below it must be of its house.
            if below in self._held:
                break
            if _organisation(below) != _organisation(above):
                said, wanted = _organisation(below), _organisation(above)
                raise Refused(Code.UNKNOWN_SIGNER, f"a partner's, of {said}: MOSIP's own are of {wanted}")
        return path

    def named(self, fingerprint: bytes) -> x509.Certificate:
        """Return the held certificate of this SHA-256.

        Raises:
            Refused: ``unknown-signer``.
        """
        for one in self._held:
            if one.fingerprint(SHA256()) == fingerprint:
                return one
        raise Refused(Code.UNKNOWN_SIGNER, "it names a certificate that is none of MOSIP's anchors")

    def _above(
        self, below: x509.Certificate, now: datetime, between: Sequence[x509.Certificate]
    ) -> x509.Certificate | None:
        if below.issuer == below.subject and below in self._held:
            return None
        refusal: Refused | None = None
        judged = False
        for one in self._candidates(below, between):
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

    def _candidates(self, below: x509.Certificate, between: Sequence[x509.Certificate]) -> Iterator[x509.Certificate]:
        return (one for one in (*self._held, *between) if one.subject == below.issuer and one != below)


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate in DER."""
    return certificate.public_bytes(Encoding.DER)


def _organisation(certificate: x509.Certificate) -> str:
    return "+".join(str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME))


def _valid(leaf: x509.Certificate, now: datetime) -> None:
    first, last = leaf.not_valid_before_utc, leaf.not_valid_after_utc
    if not first <= now <= last:
        raise Refused(Code.UNKNOWN_SIGNER, f"valid {first:%Y-%m-%d} to {last:%Y-%m-%d}, not at {now:%Y-%m-%d}")


def believed(body: Encryption, anchors: MosipAnchors, now: datetime) -> x509.Certificate:
    """Return the certificate of a message, once MOSIP's anchors lead to it and it is MOSIP's own.

    Raises:
        Refused: ``malformed``, ``bad-alg`` or ``unknown-signer``.
    """
    leaf, *between = (read_certificate(b64_der(one)) for one in body.certificates)
    encrypts(leaf)
    anchors.verify_own(leaf, now, between)
    return leaf


def encrypts(certificate: x509.Certificate) -> None:
    """Check that its key may be encrypted for.

    Raises:
        Refused: ``bad-alg``: RSA under 2048 bits or none; ``unknown-signer``: made for something else.
    """
    if not isinstance(public_key(certificate), rsa.RSAPublicKey):
        raise Refused(Code.BAD_ALG, "RSA-OAEP needs an RSA key")
    try:
        usage = extensions_of(certificate).get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not (usage.key_encipherment or usage.data_encipherment):
        raise Refused(Code.UNKNOWN_SIGNER, "a certificate whose key is not for encryption")
