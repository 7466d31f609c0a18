"""The sandbox's partners: which authorities are trusted for what, and whose certificate is signed anew.

Each check gives the code it has in the real services, in their order; a path is looked for among what was uploaded for
the same domain. An FTM maker's certificate is kept as it is. Source: partner management ``PartnerServiceImpl``,
keymanager ``PartnerCertificateManagerServiceImpl``, with the numbers of its configuration.
"""

import base64
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID

from fleetward_broker.profiles import DAY
from fleetward_sandbox.mosip.pki import MosipPki, pem
from fleetward_sandbox.mosip.words import PARTNERS, Complaint
from fleetward_schemas.certificates import read_pem_certificates
from fleetward_schemas.errors import Refused
from fleetward_schemas.moment import show

Body = dict[str, Any]
DOMAINS = ("AUTH", "DEVICE", "FTM", "MISP")
SUCCESS = "Upload Success."


@dataclass(frozen=True, slots=True)
class ChipRow:
    """One chip of an FTM maker's. certificate: what was handed to it, PEM. See ``chips.py``."""

    id: str
    provider: str
    make: str
    model: str
    status: str
    active: bool = False
    certificate: str = ""


@dataclass
class Partners:
    """organisations: name by partner id. trusted: authorities by domain. signed: what partners were given, by id.

    chips: of FTM makers, by their rows' ids.
    """

    pki: MosipPki
    organisations: dict[str, str] = field(default_factory=dict)
    trusted: dict[str, list[x509.Certificate]] = field(default_factory=dict)
    signed: dict[str, x509.Certificate] = field(default_factory=dict)
    chips: dict[str, ChipRow] = field(default_factory=dict)

    def upload_authority(self, request: Body, now: datetime) -> Body:
        """POST /v1/partnermanager/partners/certificate/ca/upload: one certificate.

        Raises:
            Complaint: with the keymanager's codes.
        """
        one, domain = _read(request.get("certificateData")), _domain(request)
        held = self.trusted.setdefault(domain, [])
        if one in held:
            raise Complaint(PARTNERS["exists"])
        _dated(one, now)
        if one.not_valid_after_utc < now + 365 * DAY:
            raise Complaint(PARTNERS["authority short"])
        if one.version is not x509.Version.v3:
            raise Complaint(PARTNERS["version"])
        if one.issuer != one.subject and not _led_to(one, held):
            raise Complaint(PARTNERS["no root"])
        held.append(one)
        return {"status": SUCCESS, "timestamp": show(now)}

    def upload_certificate(self, request: Body, now: datetime, *, as_p7b: bool) -> tuple[Body, x509.Certificate]:
        """POST /v1/partnermanager/partners/certificate/upload; returns the answer, and what was uploaded.

        as_p7b: the whole chain, base64url, as the keymanager gives it, instead of the certificate alone.

        Raises:
            Complaint: with partner management's codes, then the keymanager's.
        """
        partner = str(request.get("partnerId") or "")
        if partner not in self.organisations:
            raise Complaint(PARTNERS["no partner"])
        one, domain = _read(request.get("certificateData")), _domain(request)
        _dated(one, now)
        if one.not_valid_after_utc < now + 335 * DAY:
            raise Complaint(PARTNERS["short"])
        if one.issuer == one.subject:
            raise Complaint(PARTNERS["self-signed"])
        if not _led_to(one, self.trusted.get(domain, [])):
            raise Complaint(PARTNERS["no path"])
        _formed(one, self.organisations[partner])
        signed = one if domain == "FTM" else self.pki.adopt(one, now)
        self.signed[partner] = signed
        data = pem(signed).decode()
        if as_p7b:
            above = [self.pki.leaf("pms").certificate, self.pki.leaf("root").certificate]
            bundle = pkcs7.serialize_certificates([signed, *above], Encoding.DER)
            data = base64.urlsafe_b64encode(bundle).decode()
        return {
            "certificateId": f"certificate-of-{partner}",
            "signedCertificateData": data,
            "timestamp": show(now),
        }, one


def _read(text: object) -> x509.Certificate:
    try:
        (one,) = read_pem_certificates(str(text).encode("ascii", "replace"))
    except (Refused, ValueError):
        raise Complaint(PARTNERS["invalid"]) from None
    return one


def _domain(request: Body) -> str:
    word = str(request.get("partnerDomain") or "").upper()
    if word not in DOMAINS:
        raise Complaint(PARTNERS["domain"])
    return word


def _dated(one: x509.Certificate, now: datetime) -> None:
    if one.not_valid_before_utc > now:
        raise Complaint(PARTNERS["future"])
    if one.not_valid_after_utc < now:
        raise Complaint(PARTNERS["dates"])


def _led_to(one: x509.Certificate, held: list[x509.Certificate]) -> bool:
    for above in held:
        try:
            one.verify_directly_issued_by(above)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
            continue
        return True
    return False


def _formed(one: x509.Certificate, organisation: str) -> None:
    if one.version is not x509.Version.v3:
        raise Complaint(PARTNERS["version"])
    named = [str(part.value) for part in one.subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if named[:1] != [organisation]:
        raise Complaint(PARTNERS["organisation"])
    key = one.public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < 2048:
        raise Complaint(PARTNERS["key size"])
    used = one.signature_hash_algorithm
    if used is None or used.name not in {"sha224", "sha256", "sha384", "sha512"}:
        raise Complaint(PARTNERS["algorithm"])
