"""MOSIP's certificates, as its keymanager makes them: ROOT, then PMS and IDA, then the rest; nothing but the needed.

Its authorities carry basicConstraints and a subject key identifier, no key usage and no authority key identifier, and
every serial number is below zero, as half of MOSIP's are: who believes them must be lenient. Source: facts of MOSIP's
published certificates.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fleetward_broker.durable import write_durably, write_private
from fleetward_broker.profiles import DAY, Issuer
from fleetward_broker.signers import key_pem, make_key, open_key
from fleetward_sandbox.mosip.flaws import negative
from fleetward_schemas.certificates import SERVER_AUTH, read_pem_certificates
from fleetward_schemas.jws import Alg, PrivateKey, PublicKey

ORGANISATION = "IIITB"
ROOT_DAYS, AUTHORITY_DAYS, LEAF_DAYS = 2920, 1460, 1095
NAMES = ("root", "pms", "ida", "sign", "encryption", "tls")
AUTHORITIES = {"root", "pms", "ida"}
LOCAL = ("localhost", "127.0.0.1")
USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True, slots=True)
class MosipPki:
    """Everything that MOSIP signs with. folder: where it is kept. issuers: by name, see ``NAMES``."""

    folder: Path
    issuers: dict[str, Issuer]

    def leaf(self, name: str) -> Issuer:
        """Return a certificate and its key."""
        return self.issuers[name]

    @property
    def anchors(self) -> bytes:
        """The certificates that a provider is given to believe, PEM."""
        return b"".join(pem(self.issuers[name].certificate) for name in ("root", "pms", "ida"))

    def adopt(self, provider: x509.Certificate, now: datetime) -> x509.Certificate:
        """Sign a provider's certificate anew, as partner management does at an upload."""
        usage = _usage("digital_signature", "key_cert_sign")
        key = provider.public_key()
        wish = Wish(provider.subject, key, (now, now + 365 * DAY), authority=True)  # type: ignore[arg-type]
        return build(wish, self.issuers["pms"], [usage])

    def partner(self, name: str, now: datetime) -> Issuer:
        """Return an authentication partner, as MOSIP signs such anew: an authority whose key may be encrypted for."""
        key = make_key(Alg.RS256)
        subject = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, name)])
        wish = Wish(subject, key.public_key(), (now, now + 365 * DAY), authority=True)
        usage = _usage("digital_signature", "key_cert_sign", "key_encipherment")
        return Issuer(build(wish, self.issuers["pms"], [usage]), key)

    def expired_leaf(self, name: str, now: datetime) -> Issuer:
        """Return a twin of a leaf whose time is over."""
        twin = self.issuers[name]
        wish = Wish(twin.certificate.subject, twin.key.public_key(), (now - 9 * DAY, now - DAY))
        return Issuer(build(wish, self.issuers["ida" if name == "encryption" else "root"]), twin.key)


@dataclass(frozen=True, slots=True)
class Wish:
    """A certificate to make."""

    subject: x509.Name
    key: PublicKey
    validity: tuple[datetime, datetime]
    authority: bool = False


def build(wish: Wish, issuer: Issuer, extensions: Sequence[x509.ExtensionType] = ()) -> x509.Certificate:
    """Make one certificate, with MOSIP's few extensions and those given, and a negative serial number."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(wish.subject)
        .issuer_name(issuer.certificate.subject)
        .public_key(wish.key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(wish.validity[0])
        .not_valid_after(wish.validity[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(wish.key), critical=False)
    )
    if wish.authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return negative(builder.sign(issuer.key, hashes.SHA256()), issuer.key)


def make_pki(folder: Path, now: datetime, tls_from: datetime) -> MosipPki:
    """Make all of it in ``folder``. now: when MOSIP's begin; tls_from: when TLS's, which the host's clock judges."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {name: make_key(Alg.RS256) for name in NAMES}
    root = _root(keys["root"], now)
    made = {"root": root}
    for name in ("pms", "ida", "sign"):
        authority = name in AUTHORITIES
        life = AUTHORITY_DAYS if authority else LEAF_DAYS
        wish = Wish(_name(name), keys[name].public_key(), (now, now + life * DAY), authority)
        made[name] = Issuer(build(wish, root), keys[name])
    wish = Wish(_name("encryption"), keys["encryption"].public_key(), (now, now + 365 * DAY))
    made["encryption"] = Issuer(build(wish, made["ida"], [_usage("key_encipherment")]), keys["encryption"])
    made["tls"] = _tls(keys["tls"], tls_from)
    for name, issuer in made.items():
        write_private(folder / f"{name}.key.pem", key_pem(issuer.key))
        write_durably(folder / f"{name}.pem", pem(issuer.certificate))
    pki = MosipPki(folder, made)
    # Last of all: its presence says that the rest is whole.
    write_durably(folder / "anchors.pem", pki.anchors)
    return pki


def open_pki(folder: Path, now: datetime, tls_from: datetime) -> MosipPki:
    """Open what is kept in ``folder``, making it at the first call."""
    if not (folder / "anchors.pem").exists():
        return make_pki(folder, now, tls_from)
    issuers = {}
    for name in NAMES:
        (certificate,) = read_pem_certificates((folder / f"{name}.pem").read_bytes())
        issuers[name] = Issuer(certificate, open_key(f"file:{name}.key.pem", folder))
    return MosipPki(folder, issuers)


def pem(certificate: x509.Certificate) -> bytes:
    """Return a certificate in PEM."""
    return certificate.public_bytes(Encoding.PEM)


def _name(unit: str) -> x509.Name:
    parts = {
        NameOID.COUNTRY_NAME: "IN",
        NameOID.ORGANIZATION_NAME: ORGANISATION,
        NameOID.ORGANIZATIONAL_UNIT_NAME: f"MOSIP-TECH-CENTER ({unit.upper()})",
        NameOID.COMMON_NAME: "www.mosip.io",
    }
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts.items()])


def _root(key: PrivateKey, now: datetime) -> Issuer:
    wish = Wish(_name("root"), key.public_key(), (now, now + ROOT_DAYS * DAY), authority=True)
    draft = x509.CertificateBuilder().subject_name(wish.subject).issuer_name(wish.subject).public_key(wish.key)
    draft = draft.serial_number(1).not_valid_before(wish.validity[0]).not_valid_after(wish.validity[1])
    # The builder reads an issuer's name from a certificate; this one is thrown away.
    return Issuer(build(wish, Issuer(draft.sign(key, hashes.SHA256()), key)), key)


def _tls(key: PrivateKey, start: datetime) -> Issuer:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sandbox MOSIP")])
    hosts = [x509.DNSName(LOCAL[0]), x509.IPAddress(ipaddress.ip_address(LOCAL[1]))]
    public = key.public_key()
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(public)
    builder = (
        builder.serial_number(x509.random_serial_number()).not_valid_before(start).not_valid_after(start + 90 * DAY)
    )
    identifier = x509.SubjectKeyIdentifier.from_public_key(public)
    for extension, critical in (
        (x509.BasicConstraints(ca=True, path_length=0), True),
        (_usage("digital_signature", "key_cert_sign"), True),
        (identifier, False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), False),
        (x509.SubjectAlternativeName(hosts), False),
        (x509.ExtendedKeyUsage([SERVER_AUTH]), False),
    ):
        builder = builder.add_extension(extension, critical=critical)
    return Issuer(builder.sign(key, hashes.SHA256()), key)


def _usage(*allowed: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in allowed for name in USAGES})
