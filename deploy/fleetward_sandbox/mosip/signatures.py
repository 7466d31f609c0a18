"""How MOSIP reads and makes signed texts: leniently spelled, checked against the certificate they bring.

Partner management looks at the signature alone. Ours also asks whose certificate it is, since a provider's mistake
there would only be seen at the first authentication. Source: partner management 1.1.5 ``getPayLoad``; MOSIP 0.9.5
"Device registration" (deviceData by the provider, deviceInfo by the device, digitalId by the FTM, at L0 the device).
"""

import base64
import binascii
import json
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker.profiles import Issuer
from fleetward_sandbox.mosip.words import Complaint
from fleetward_schemas.certificates import key_thumbprint, public_key, read_certificate
from fleetward_schemas.errors import Refused
from fleetward_schemas.jws import Alg, PublicKey, alg_of, compact, header_alg, split, verify
from fleetward_schemas.strict import b64_der, b64url, show_der


@dataclass(frozen=True, slots=True)
class Signed:
    """A text and who signed it; signer None: nobody did."""

    payload: dict[str, Any]
    signer: x509.Certificate | None

    @property
    def key(self) -> PublicKey:
        """The signer's key."""
        if self.signer is None:
            raise ValueError("nobody signed it")
        return public_key(self.signer)


def loose(text: str) -> bytes:
    """Decode base64 of either alphabet, padded or not, as the services do."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)


def read_json(text: str, wrong: tuple[str, str]) -> dict[str, Any]:
    """Read base64 of a JSON object.

    Raises:
        Complaint: ``wrong``.
    """
    try:
        value = json.loads(loose(text))
    except (binascii.Error, ValueError):
        raise Complaint(wrong) from None
    if not isinstance(value, dict):
        raise Complaint(wrong)
    return value


def read_signed(text: str, wrong: tuple[str, str], malformed: tuple[str, str]) -> Signed:
    """Read a compact JWS, RS256, verified by its own ``x5c``; a text without three segments is taken as unsigned.

    Raises:
        Complaint: ``wrong`` for the signature, ``malformed`` for the payload.
    """
    if text.count(".") != 2:
        return Signed(read_json(text, malformed), None)
    try:
        token = split(text.encode("ascii"))
        signer = read_certificate(b64_der(token.header["x5c"][0]))
        key = public_key(signer)
        if header_alg(token.header) is not Alg.RS256 or alg_of(key) is not Alg.RS256:
            raise Complaint(wrong)
        verify(key, token.signed, token.signature)
    except (Refused, KeyError, IndexError, TypeError, UnicodeEncodeError, AttributeError):
        raise Complaint(wrong) from None
    return Signed(read_json(text.split(".")[1], malformed), signer)


def issued_by(below: Signed, above: Signed) -> bool:
    """Say whether the certificate of ``below`` was issued by the key of ``above``."""
    if below.signer is None or above.signer is None:
        return False
    try:
        # By key alone: MOSIP signs a provider's certificate anew, under the same name and key.
        below.signer.verify_directly_issued_by(above.signer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def same_key(one: Signed, other: Signed) -> bool:
    """Say whether one key signed both."""
    return key_thumbprint(one.key) == key_thumbprint(other.key)


def sign(payload: object, by: Issuer, *, thumbprint_only: bool = False) -> str:
    """Sign as the keymanager's ``jwtSign`` does: header ``x5c`` and ``alg``, no ``typ``."""
    der = by.certificate.public_bytes(Encoding.DER)
    named = {"x5t#S256": b64url(by.certificate.fingerprint(SHA256()))} if thumbprint_only else {"x5c": [show_der(der)]}
    header = b64url(json.dumps(named | {"alg": "RS256"}, separators=(",", ":")).encode())
    return compact(header.encode(), json.dumps(payload).encode(), by.key).decode()


def sign_as_masterdata(payload: object, by: Issuer) -> str:
    """Sign as masterdata does, which is no JWS: padded base64, and a detached JWS in base64 for a signature."""
    body = json.dumps(payload).encode()
    head = b64url(b'{"alg":"RS256"}').encode()
    whole = compact(head, base64.b64encode(body), by.key).split(b".")
    parts = (b'{"alg":"RS256","type":"JWS"}', body, whole[0] + b".." + whole[2])
    return ".".join(base64.b64encode(part).decode() for part in parts)
