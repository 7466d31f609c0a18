"""The three segments of a compact JWS, the two algorithms we know, and the keys they take.

The algorithm is fixed by the key's type: RSA means RS256, Ed25519 means EdDSA; what a header says must agree.
Source: RFC 7515 section 7.1, RFC 8037; MOSIP's table of approved cryptography (RSA >= 2048, curve 25519, "no other
ECC curves"). The mathematics are the cryptography library's.
"""

from enum import StrEnum
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.strict import MAX_ENVELOPE_BYTES, b64url, b64url_decode, read_object

type_public = (rsa.RSAPublicKey, ed25519.Ed25519PublicKey)
PublicKey = rsa.RSAPublicKey | ed25519.Ed25519PublicKey
PrivateKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
MIN_RSA_BITS = 2048
MAX_RSA_BITS = 4096
RSA_EXPONENT = 65537
MAX_HEADER_CHARS = 12 * 1024
_RS256 = (padding.PKCS1v15(), hashes.SHA256())


class Alg(StrEnum):
    """The two signature algorithms (JWA names)."""

    RS256 = "RS256"
    EDDSA = "EdDSA"


class Token(NamedTuple):
    """A compact JWS taken apart, nothing verified.

    header_segment: the exact base64url text of the protected header.
    payload: the decoded payload bytes. signed: the bytes under the signature.
    """

    header_segment: bytes
    payload: bytes
    signed: bytes
    signature: bytes

    @property
    def header(self) -> dict[str, Any]:
        """The protected header, strictly read.

        Raises:
            Refused: ``malformed``.
        """
        return read_object(b64url_decode(self.header_segment))


def alg_of(key: object) -> Alg:
    """Return the algorithm that ``key`` (public or private) signs with.

    Raises:
        Refused: ``bad-alg``: any other kind of key, RSA outside 2048..4096 bits or with another exponent than 65537.
    """
    if isinstance(key, (ed25519.Ed25519PublicKey, ed25519.Ed25519PrivateKey)):
        return Alg.EDDSA
    public = key.public_key() if isinstance(key, rsa.RSAPrivateKey) else key
    if not isinstance(public, rsa.RSAPublicKey):
        raise Refused(Code.BAD_ALG, f"{type(key).__name__}: only RSA and Ed25519 keys are approved")
    if not MIN_RSA_BITS <= public.key_size <= MAX_RSA_BITS:
        raise Refused(Code.BAD_ALG, f"RSA-{public.key_size}: needs {MIN_RSA_BITS}..{MAX_RSA_BITS} bits")
    if public.public_numbers().e != RSA_EXPONENT:
        raise Refused(Code.BAD_ALG, "RSA exponent is not 65537")
    return Alg.RS256


def alg_for(key: PublicKey) -> Alg:
    """Return the algorithm of a key that was approved before; the type alone decides."""
    return Alg.EDDSA if isinstance(key, ed25519.Ed25519PublicKey) else Alg.RS256


def approved(key: object) -> PublicKey:
    """Return ``key`` as a public key of an approved kind.

    Raises:
        Refused: ``bad-alg``.
    """
    alg_of(key)
    if not isinstance(key, type_public):
        raise LocalMistake("a private key stands where a public one belongs")
    return key


def sign(key: PrivateKey, data: bytes) -> bytes:
    """Sign with the one algorithm of this key; an HSM's key is a subclass and needs nothing else."""
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key.sign(data)
    return key.sign(data, *_RS256)


def verify(key: PublicKey, data: bytes, signature: bytes) -> None:
    """Check one signature.

    Raises:
        Refused: ``bad-signature``.
    """
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, *_RS256)
    except InvalidSignature:
        raise Refused(Code.BAD_SIGNATURE, "the signature does not fit") from None


def header_alg(header: dict[str, Any]) -> Alg:
    """Return the header's algorithm.

    Raises:
        Refused: ``bad-alg`` for ``none``, HS256, ES256, PS256 and every other name; ``malformed`` when it is no string.
    """
    name = header.get("alg")
    if not isinstance(name, str):
        raise Refused(Code.MALFORMED, "the header has no alg")
    try:
        return Alg(name)
    except ValueError:
        raise Refused(Code.BAD_ALG, "only RS256 and EdDSA are approved") from None


def split(raw: bytes) -> Token:
    """Take a compact JWS apart, strictly.

    Raises:
        Refused: ``too-large`` over 48 KiB, ``malformed`` otherwise.
    """
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise Refused(Code.TOO_LARGE, f"{len(raw)} bytes: at most {MAX_ENVELOPE_BYTES}")
    first, last = raw.find(b"."), raw.rfind(b".")
    if first < 1 or last - first < 2 or raw.find(b".", first + 1) != last:
        raise Refused(Code.MALFORMED, "a compact JWS has three segments")
    if first > MAX_HEADER_CHARS:
        raise Refused(Code.MALFORMED, f"header over {MAX_HEADER_CHARS} characters")
    return Token(raw[:first], b64url_decode(raw[first + 1 : last]), raw[:last], b64url_decode(raw[last + 1 :]))


def compact(header_segment: bytes, payload: bytes, key: PrivateKey) -> bytes:
    """Sign ``payload`` under an encoded header and return the compact JWS."""
    signed = header_segment + b"." + b64url(payload).encode()
    return signed + b"." + b64url(sign(key, signed)).encode()
