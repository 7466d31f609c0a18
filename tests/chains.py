"""Chains with flaws made on purpose: what the library's builder refuses to make is edited and signed anew.

Keys are made once a process. Nothing here is ours: it is what FTM makers and strangers hand in.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from asn1crypto import algos
from asn1crypto import x509 as asn1
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleetward_schemas.certificates import read_certificate

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
AnyKey = rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
CERT_SIGN = frozenset({"key_cert_sign", "crl_sign"})
SIGNS = frozenset({"digital_signature"})
USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


@cache
def key(name: str) -> AnyKey:
    """Return the key of a name; its first word says which kind."""
    match name.split()[0]:
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "p256":
            return ec.generate_private_key(ec.SECP256R1())
        case kind:
            return rsa.generate_private_key(65537, int(kind.removeprefix("rsa")))


@dataclass(frozen=True)
class Recipe:
    """One certificate. usage None: no keyUsage; ca None: no basicConstraints; bare: it says nothing of itself.

    aki: ``key``, ``issuer`` (by name and serial alone), ``both``, ``wrong`` or None. more: further extensions.
    organisation: of its subject, and so of the issuer of what it certifies.
    """

    name: str
    key: str
    ca: bool | None = None
    critical: bool = True
    path_length: int | None = None
    usage: frozenset[str] | None = SIGNS
    ski: bool = True
    aki: str | None = "key"
    bare: bool = False
    version: str = "v3"
    serial: int = 77
    hash: str = "sha256"
    start: datetime = NOW - 10 * DAY
    end: datetime = NOW + 10 * DAY
    more: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    issuer_name: str | None = None
    organisation: str | None = None


LEAF = Recipe("Chip 1", "ed25519 chip")
MIDDLE = Recipe("Chip CA", "rsa2048 middle", ca=True, usage=CERT_SIGN, path_length=0)
ROOT = Recipe("Chip root", "rsa2048 root", ca=True, usage=CERT_SIGN, aki=None)


@dataclass(frozen=True)
class Made:
    """A certificate and the recipe it was made by."""

    recipe: Recipe
    der: bytes = field(repr=False)

    @property
    def certificate(self) -> x509.Certificate:
        return read_certificate(self.der)


def chain(*recipes: Recipe) -> tuple[Made, ...]:
    """Return certificates leaf first, each certified by the next, the last by itself."""
    above: Made | None = None
    made: list[Made] = []
    for recipe in reversed(recipes):
        above = make(recipe, above)
        made.insert(0, above)
    return tuple(made)


def make(recipe: Recipe, issuer: Made | None = None) -> Made:
    """Return one certificate, self-signed without an issuer."""
    by = issuer.recipe if issuer else recipe
    above = issuer.certificate.issuer if issuer else name(recipe.name, recipe.organisation)
    builder = x509.CertificateBuilder(
        name(recipe.issuer_name or by.name, by.organisation),
        name(recipe.name, recipe.organisation),
        key(recipe.key).public_key(),
        abs(recipe.serial) or 1,
        recipe.start.replace(tzinfo=None),
        recipe.end.replace(tzinfo=None),
    )
    for extension, critical in () if recipe.bare else extensions(recipe, by, above):
        builder = builder.add_extension(extension, critical)
    signing = key(by.key)
    algorithm = None if isinstance(signing, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    der = builder.sign(signing, algorithm).public_bytes(Encoding.DER)
    edited = recipe.serial <= 0 or recipe.version != "v3" or recipe.hash != "sha256"
    return Made(recipe, sealed_anew(der, recipe, signing) if edited else der)


def name(text: str, organisation: str | None = None) -> x509.Name:
    parts = {NameOID.ORGANIZATION_NAME: organisation, NameOID.COMMON_NAME: text}
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts.items() if value is not None])


def extensions(recipe: Recipe, by: Recipe, above: x509.Name) -> list[tuple[x509.ExtensionType, bool]]:
    """Return what the certificate says of itself, with what is critical. above: who issued the issuer."""
    said: list[tuple[x509.ExtensionType, bool]] = list(recipe.more)
    if recipe.ca is not None:
        said.append((x509.BasicConstraints(recipe.ca, recipe.path_length if recipe.ca else None), recipe.critical))
    if recipe.usage is not None:
        said.append((x509.KeyUsage(**{one: one in recipe.usage for one in USAGES}), True))
    if recipe.ski:
        said.append((x509.SubjectKeyIdentifier.from_public_key(key(recipe.key).public_key()), False))
    if recipe.aki is not None:
        said.append((authority(recipe.aki, by, above), False))
    return said


def authority(form: str, by: Recipe, above: x509.Name) -> x509.AuthorityKeyIdentifier:
    """Return an authority key identifier in one of its forms."""
    own = x509.AuthorityKeyIdentifier.from_issuer_public_key(key(by.key).public_key()).key_identifier
    named = {"key": own, "both": own, "wrong": bytes(20), "issuer": None}[form]
    if form in {"key", "wrong"}:
        return x509.AuthorityKeyIdentifier(named, None, None)
    return x509.AuthorityKeyIdentifier(named, [x509.DirectoryName(above)], abs(by.serial))


def sealed_anew(der: bytes, recipe: Recipe, signing: AnyKey) -> bytes:
    """Return the certificate with what the builder would not write, signed again."""
    whole: Any = asn1.Certificate.load(der)
    body = whole["tbs_certificate"]
    body["serial_number"] = recipe.serial
    if recipe.version == "v1":
        body["version"] = "v1"
        body["extensions"] = None
    algorithm = algos.SignedDigestAlgorithm({"algorithm": f"{recipe.hash}_rsa"})
    body["signature"] = algorithm
    assert isinstance(signing, rsa.RSAPrivateKey)
    digest = {"sha1": hashes.SHA1(), "sha256": hashes.SHA256(), "md5": hashes.MD5()}[recipe.hash]
    raw = signing.sign(body.dump(force=True), padding.PKCS1v15(), digest)
    made = asn1.Certificate({"tbs_certificate": body, "signature_algorithm": algorithm, "signature_value": raw})
    return bytes(made.dump(force=True))
