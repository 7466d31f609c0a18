"""Certificate profiles: every certificate we issue, as one table of what it may be used for and how long it lives.

All carry AKI, SKI, a positive random serial and one SAN URI ``urn:fleetward:<CN>`` (authorities none). Keys may be in
an HSM: the builders take any cryptography key. Source: protocol section 1; RFC 5280 section 4; S6.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID, ObjectIdentifier

from fleetward_schemas.certificates import CLIENT_AUTH, DEVICE_SIGNING, SERVER_AUTH, SERVER_SIGNING, Unit
from fleetward_schemas.jws import PrivateKey, PublicKey

URN = "urn:fleetward:"
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Profile:
    """What a certificate may be used for. path_length: None for leaves. purposes: extended key usage."""

    name: str
    life: timedelta
    purposes: tuple[ObjectIdentifier, ...] = ()
    path_length: int | None = None


ROOT = Profile("root", 7300 * DAY, path_length=1)
ISSUING = Profile("issuing CA", 3650 * DAY, path_length=0)
SERVER_TLS = Profile("server TLS", 365 * DAY, (SERVER_AUTH,))
SERVICE_CLIENT = Profile("service client", 365 * DAY, (CLIENT_AUTH,))
SERVER_SIGNER = Profile("server signing", 7 * DAY, (SERVER_SIGNING,))
DEVICE = Profile("device", 30 * DAY, (DEVICE_SIGNING,))
TRANSPORT = Profile("transport", 30 * DAY, (CLIENT_AUTH,))
FACTORY = Profile("factory transport", 7300 * DAY, (CLIENT_AUTH,))
PROFILES = (ROOT, ISSUING, SERVER_TLS, SERVICE_CLIENT, SERVER_SIGNER, DEVICE, TRANSPORT, FACTORY)


@dataclass(frozen=True, slots=True)
class Subject:
    """Who a certificate is about. unit: OU, for issuing CAs. hosts: DNS names and addresses of a TLS server."""

    common_name: str
    organisation: str
    unit: Unit | None = None
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Issuer:
    """An authority: its certificate and its key, wherever that key lives."""

    certificate: x509.Certificate
    key: PrivateKey


def self_signed(subject: Subject, key: PrivateKey, now: datetime, end: datetime | None = None) -> x509.Certificate:
    """Make a provider root. end: an earlier end than the profile's."""
    validity = (now, end or now + ROOT.life)
    return _build(ROOT, subject, key.public_key(), (name_of(subject), key.public_key()), validity).sign(key, _hash(key))


def issue(
    profile: Profile,
    subject: Subject,
    public: PublicKey,
    issuer: Issuer,
    *,
    start: datetime,
    end: datetime | None = None,
) -> x509.Certificate:
    """Issue one certificate, valid from ``start`` for the profile's life, never beyond the issuer's own end.

    end: an earlier end than the profile's.
    """
    authority = issuer.certificate
    last = min(end or start + profile.life, authority.not_valid_after_utc)
    builder = _build(profile, subject, public, (authority.subject, issuer.key.public_key()), (start, last))
    return builder.sign(issuer.key, _hash(issuer.key))


def _build(
    profile: Profile,
    subject: Subject,
    public: PublicKey,
    issuer: tuple[x509.Name, PublicKey],
    validity: tuple[datetime, datetime],
) -> x509.CertificateBuilder:
    issuer_name, issuer_key = issuer
    authority = profile.path_length is not None
    builder = (
        x509.CertificateBuilder()
        .subject_name(name_of(subject))
        .issuer_name(issuer_name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.BasicConstraints(ca=authority, path_length=profile.path_length), critical=True)
        .add_extension(usage_of(authority=authority), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )
    if profile.purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(profile.purposes), critical=False)
    return builder if authority else builder.add_extension(_names(subject), critical=False)


def usage_of(*, authority: bool) -> x509.KeyUsage:
    """Return what an authority's key may do, or a leaf's."""
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(subject: Subject) -> x509.SubjectAlternativeName:
    if not subject.hosts:
        return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(URN + subject.common_name)])
    return x509.SubjectAlternativeName([_host(host) for host in subject.hosts])


def _host(host: str) -> x509.GeneralName:
    import ipaddress

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def name_of(subject: Subject) -> x509.Name:
    """Return a subject as certificates have it."""
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, subject.organisation)]
    if subject.unit is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, subject.unit))
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, subject.common_name)])


def _hash(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def request(common_name: str, key: PrivateKey) -> x509.CertificateSigningRequest:
    """Make a certification request; the receiver takes nothing from it but the key it proves."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    return x509.CertificateSigningRequestBuilder().subject_name(name).sign(key, _hash(key))


def authority_request(issuer: Issuer) -> x509.CertificateSigningRequest:
    """Make a certification request for an authority: its own name and key, to be certified by somebody else too."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(issuer.certificate.subject)
    for kind in (x509.BasicConstraints, x509.KeyUsage):
        held = issuer.certificate.extensions.get_extension_for_class(kind)
        builder = builder.add_extension(held.value, critical=held.critical)
    return builder.sign(issuer.key, _hash(issuer.key))


def revocation_list(
    issuer: Issuer, revoked: dict[int, datetime], *, number: int, now: datetime, life: timedelta = 365 * DAY
) -> x509.CertificateRevocationList:
    """Make a CRL. revoked: serial -> when; number: must rise with each list."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(now)
        .next_update(now + life)
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for serial, when in revoked.items():
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(when).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, _hash(issuer.key))
