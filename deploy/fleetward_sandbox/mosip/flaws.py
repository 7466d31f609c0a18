"""Certificates spelled as published ones are and as no builder will: their DER is edited, and signed anew.

MOSIP's keymanager draws a signed 64-bit serial number, so half of them are below zero; recordings of a mock device hold
keys whose modulus has a zero too many, which is no DER. Source: keymanager ``CertificateUtility``; MockMDS.
"""

from typing import Any

from asn1crypto import core
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.jws import PrivateKey


def negative(certificate: x509.Certificate, by: PrivateKey) -> x509.Certificate:
    """Return the certificate with its serial number below zero. by: the issuer's RSA key."""
    whole = _opened(certificate)
    body = whole["tbs_certificate"]
    body["serial_number"] = -(body["serial_number"].native >> 96)
    return read_certificate(_sealed(whole, by))


def not_minimal(certificate: x509.Certificate, by: PrivateKey) -> bytes:
    """Return its DER with a zero too many before the modulus of its RSA key; all else holds, the signature too."""
    whole = _opened(certificate)
    body = whole["tbs_certificate"]
    told = body["subject_public_key_info"]
    key = told["public_key"].parsed
    modulus = core.Integer(contents=b"\x00" + key["modulus"].contents)
    numbers = _sequence(modulus.dump(), key["public_exponent"].dump())
    spelled = {"subject_public_key_info": _sequence(told["algorithm"].dump(), core.OctetBitString(numbers).dump())}
    signed = _sequence(*(spelled.get(name) or body[name].dump() for name in body.native))
    signature = core.OctetBitString(_signature(signed, by))
    return _sequence(signed, whole["signature_algorithm"].dump(), signature.dump())


def _opened(certificate: x509.Certificate) -> Any:
    return asn1.Certificate.load(certificate.public_bytes(Encoding.DER))


def _sealed(whole: Any, by: PrivateKey) -> bytes:
    whole["signature_value"] = _signature(whole["tbs_certificate"].dump(force=True), by)
    return bytes(whole.dump(force=True))


def _signature(signed: bytes, by: PrivateKey) -> bytes:
    if not isinstance(by, rsa.RSAPrivateKey):
        raise TypeError("MOSIP signs with RSA")
    return by.sign(signed, padding.PKCS1v15(), SHA256())


def _sequence(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return b"\x30\x82" + len(body).to_bytes(2, "big") + body
