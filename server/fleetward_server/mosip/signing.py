"""What goes to MOSIP is signed by the provider's key, wherever it lives; what comes back is read as it is spelled.

Out: compact JWS, RS256, ``typ`` JWT, ``x5c`` with the provider's certificate as MOSIP signed it. In: the keymanager's
JWS (``x5c`` or ``x5t#S256``, no ``typ``), and masterdata's three padded segments, which are no JWS and prove nothing.
Source: MOSIP 0.9.5 "Device registration", "Signature"; vectors of real answers.
"""

import base64
import binascii
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography import x509

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.signers import open_key
from fleetward_schemas.certificates import key_thumbprint, public_key, read_certificate, read_pem_certificates
from fleetward_schemas.encryption import MosipAnchors, der
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.jws import Alg, PrivateKey, alg_of, compact, header_alg, split, verify
from fleetward_schemas.moment import parse_loose
from fleetward_schemas.strict import b64_der, b64url, b64url_decode, show_der
from fleetward_server.config import Config, ConfigProblem
from fleetward_server.generations import open_issuer

log = logging.getLogger("fleetward.mosip")

MOST_CHARS = 256 * 1024


class ProviderSeal:
    """The provider's key and its certificate, and for a time what MOSIP was shown before."""

    def __init__(self, key: PrivateKey, certificate: x509.Certificate, former: "Former | None" = None) -> None:
        """Take both."""
        self._key = key
        self._former = former
        self.certificate = certificate

    def shown(self, now: datetime) -> "tuple[ProviderSeal, ...]":
        """Return all that is shown to MOSIP now: this one, and the former while their time overlaps."""
        return (self,) if self._former is None or now >= self._former.until else (self, self._former.seal)

    def sign(self, payload: Mapping[str, object], **header: str) -> str:
        """Sign a JSON object. header: more members of the protected header.

        Raises:
            KeyUnavailable: the token is away.
        """
        whole = {"alg": Alg.RS256, "typ": "JWT", "x5c": [show_der(der(self.certificate))]} | header
        segment = b64url(json.dumps(whole, separators=(",", ":")).encode()).encode()
        return compact(segment, json.dumps(payload, separators=(",", ":")).encode(), self._key).decode()


@dataclass(frozen=True, slots=True)
class Former:
    """What MOSIP was shown before, and may know alone until its caches are renewed."""

    seal: ProviderSeal
    until: datetime


def open_seal(config: Config) -> ProviderSeal:
    """Open the provider's key: ``[mosip] key`` and ``certificate``, or else the device CA in office.

    What was shown before is opened as well; a former key that is away is not waited for.

    Raises:
        KeyUnavailable: the key cannot be opened. AuthorityProblem: nor the device CA.
        ConfigProblem: no readable certificate, one for another key, or a key MOSIP cannot read.
    """
    table = config.mosip
    if table.key:
        key, certificate = open_key(table.key, config.folder), None
    else:
        issuer = open_issuer(config, "device-ca")
        key, certificate = issuer.key, issuer.certificate
    if table.certificate:
        certificate = _certificate(config, table.certificate)
    if certificate is None:
        raise ConfigProblem(f"{config.folder}: [mosip] certificate is missing: expected PEM over [mosip] key")
    _fits(config, key, certificate)
    return ProviderSeal(key, certificate, _former(config))


def _former(config: Config) -> Former | None:
    table = config.mosip
    if not table.former_certificate:
        return None
    try:
        key, certificate = open_key(table.former_key, config.folder), _certificate(config, table.former_certificate)
        _fits(config, key, certificate)
    except (KeyUnavailable, ConfigProblem) as problem:
        log.warning("the former chain is not shown", extra={"detail": str(problem)})
        return None
    return Former(ProviderSeal(key, certificate), parse_loose(table.former_until))


def _fits(config: Config, key: PrivateKey, certificate: x509.Certificate) -> None:
    if key_thumbprint(public_key(certificate)) != key_thumbprint(key.public_key()):
        raise ConfigProblem(f"{config.folder}: [mosip] certificate is for another key than the provider's")
    if alg_of(key) is not Alg.RS256:
        raise ConfigProblem(f"{config.folder}: [mosip] key: MOSIP's services read RS256, so it must be RSA")


def _certificate(config: Config, file: str) -> x509.Certificate:
    path = config.folder / file
    try:
        return read_pem_certificates(path.read_bytes())[0]
    except (OSError, Refused) as problem:
        raise ConfigProblem(f"{path}: [mosip] certificate cannot be read: {problem}") from None


def read_answer(text: str, anchors: MosipAnchors, now: datetime) -> Any:
    """Read a JWS of MOSIP's keymanager, signed by one of its own whom an anchor certified.

    Raises:
        Refused: for whatever is wrong with it.
    """
    token = split(text.encode("ascii", "replace"))
    header = token.header
    if "crit" in header:
        # RFC 7515 section 4.1.11: what must be understood, and is not, makes the whole invalid.
        raise Refused(Code.MALFORMED, "its header says that more must be understood than we do")
    signer = _signer(header, anchors)
    key = public_key(signer)
    if header_alg(header) is not alg_of(key):
        raise Refused(Code.BAD_ALG, "it names another algorithm than its key's")
    anchors.verify_own(signer, now)
    verify(key, token.signed, token.signature)
    return read_json(token.payload)


def _signer(header: dict[str, Any], anchors: MosipAnchors) -> x509.Certificate:
    x5c, named = header.get("x5c"), header.get("x5t#S256")
    if isinstance(x5c, list) and x5c and isinstance(x5c[0], str):
        return read_certificate(b64_der(x5c[0]))
    if isinstance(named, str):
        return anchors.named(b64url_decode(named.encode("ascii", "replace")))
    raise Refused(Code.MALFORMED, "it names no certificate")


def read_unsigned_answer(text: str) -> Any:
    """Read what masterdata answers: the middle one of three padded segments; TLS alone says whose it is.

    Raises:
        Refused: ``malformed``.
    """
    segments = text.split(".")
    if len(segments) != 3 or len(text) > MOST_CHARS:
        raise Refused(Code.MALFORMED, f"{len(segments)} segments: an answer of masterdata has three")
    return read_json(loose(segments[1]))


def loose(text: str) -> bytes:
    """Decode base64 of either alphabet, padded or not.

    Raises:
        Refused: ``malformed``.
    """
    plain = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(Code.MALFORMED, "not base64") from None


def read_json(raw: bytes) -> Any:
    """Read JSON of any shape.

    Raises:
        Refused: ``malformed``.
    """
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        raise Refused(Code.MALFORMED, "not JSON") from None
