"""The people of the test vectors: keys and certificates that are published, and so trusted by nobody.

What is in the folder is used, what is missing is made: so a second run writes the same bytes, since RS256 and Ed25519
signatures have no randomness. Source: protocol section 1 (who is issued what by whom).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Issuer, Profile, Subject
from fleetward_broker.signers import key_pem
from fleetward_schemas.certificates import Unit
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.identity import DigitalId, device_id, sign_identity
from fleetward_schemas.jws import RSA_EXPONENT, PrivateKey, PublicKey
from fleetward_schemas.topics import DeviceId

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BORN = NOW - timedelta(days=1)
PREFIX = "test-only-"
PROVIDER = "Example Scanners Ltd"
AnyKey = PrivateKey | ec.EllipticCurvePrivateKey

IDENTITY_A = DigitalId(
    serialNo="SN-0001",
    make="Example",
    model="Slap 5",
    type="Finger",
    deviceSubType="Slap",
    deviceProvider=PROVIDER,
    deviceProviderId="EXAMPLE",
    dateTime="2026-03-01T00:00:00Z",
)
IDENTITY_B = IDENTITY_A.changed(serialNo="SN-0002", model="Iris 2", type="Iris", deviceSubType="Double")


class Keyring:
    """A folder of test keys and certificates."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, making it where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder

    def ed25519(self, name: str) -> ed25519.Ed25519PrivateKey:
        """Return the Ed25519 key of ``name``."""
        key = self._key(name, ed25519.Ed25519PrivateKey.generate)
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise LocalMistake(f"{name} is stored as another kind of key")
        return key

    def rsa(self, name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
        """Return the RSA key of ``name``."""
        key = self._key(name, lambda: rsa.generate_private_key(RSA_EXPONENT, bits))
        if not isinstance(key, rsa.RSAPrivateKey):
            raise LocalMistake(f"{name} is stored as another kind of key")
        return key

    def p256(self, name: str) -> ec.EllipticCurvePrivateKey:
        """Return the P-256 key of ``name``, which nothing of ours takes."""
        key = self._key(name, lambda: ec.generate_private_key(ec.SECP256R1()))
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise LocalMistake(f"{name} is stored as another kind of key")
        return key

    def certificate(self, name: str, make: Callable[[], x509.Certificate]) -> x509.Certificate:
        """Return the certificate of ``name``, made once: its serial number is random."""
        path = self._folder / f"{PREFIX}{name}.pem"
        if not path.exists():
            path.write_bytes(make().public_bytes(Encoding.PEM))
        return x509.load_pem_x509_certificate(path.read_bytes())

    def _key(self, name: str, make: Callable[[], AnyKey]) -> object:
        path = self._folder / f"{PREFIX}{name}.key.pem"
        if not path.exists():
            path.write_bytes(_pem(make()))
        return serialization.load_pem_private_key(path.read_bytes(), password=None)


def _pem(key: AnyKey) -> bytes:
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.private_bytes(Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return key_pem(key)


@dataclass(frozen=True, slots=True)
class Party:
    """Somebody who signs. chain: DER, leaf first, root left out."""

    key: PrivateKey
    chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Pki:
    """One provider's authorities."""

    root: Issuer
    device: Issuer
    factory: Issuer
    service: Issuer


@dataclass(frozen=True, slots=True, repr=False)
class Cast:
    """Who appears in the vectors.

    device_a: L1, RSA, its digital ID signed by ftm_a. device_b: L0, Ed25519, its own digital ID's signer; factory_b is
    its ``f-`` certificate. anchor: the FTM provider's root.
    """

    ring: Keyring
    pki: Pki
    anchor: Issuer
    server: Party
    device_a: Party
    device_b: Party
    factory_a: Party
    factory_b: Party
    ftm_a: Party
    id_a: DeviceId
    id_b: DeviceId
    digital_id_a: str
    digital_id_b: str
    factory_digital_id_b: str


def der(certificate: x509.Certificate) -> bytes:
    """Return a certificate's DER."""
    return certificate.public_bytes(Encoding.DER)


def authorities(ring: Keyring, prefix: str = "") -> Pki:
    """Return a provider's root and its three issuing CAs. prefix: another provider's file names, the same subjects."""
    root_key = ring.rsa(f"{prefix}provider-root")
    subject = Subject("Example root", PROVIDER)
    made = ring.certificate(f"{prefix}provider-root", lambda: profiles.self_signed(subject, root_key, BORN))
    root = Issuer(made, root_key)
    return Pki(root, *(_authority(ring, f"{prefix}{unit}-ca", unit, root) for unit in Unit))


def _authority(ring: Keyring, name: str, unit: Unit, root: Issuer) -> Issuer:
    key = ring.rsa(name)
    subject = Subject(f"Example {unit} CA", PROVIDER, unit)
    made = ring.certificate(name, lambda: profiles.issue(profiles.ISSUING, subject, key.public_key(), root, start=BORN))
    return Issuer(made, key)


def leaf(
    ring: Keyring, name: str, common_name: str, profile: Profile, issuer: Issuer, *, ends: datetime | None = None
) -> Party:
    """Return an Ed25519 party certified by ``issuer``; ends: when, if before the profile's life is over."""
    key = ring.ed25519(name)
    start = BORN if ends is None else min(BORN, ends - timedelta(hours=1))
    return Party(key, certified(ring, name, key.public_key(), (common_name, profile), issuer, start=start, ends=ends))


def certified(
    ring: Keyring,
    name: str,
    public: PublicKey,
    what: tuple[str, Profile],
    issuer: Issuer,
    *,
    start: datetime = BORN,
    ends: datetime | None = None,
) -> tuple[bytes, ...]:
    """Return the chain of ``public`` under ``issuer``. what: common name and profile."""
    subject = Subject(what[0], PROVIDER)
    made = ring.certificate(name, lambda: profiles.issue(what[1], subject, public, issuer, start=start, end=ends))
    return der(made), der(issuer.certificate)


def assemble(folder: Path) -> Cast:
    """Return the cast whose keys lie in ``folder``."""
    ring = Keyring(folder)
    pki = authorities(ring)
    id_a, id_b = device_id(IDENTITY_A), device_id(IDENTITY_B)
    anchor = _ftm_anchor(ring)
    ftm_a = Party(ring.ed25519("ftm-a"), _ftm_chain(ring, anchor))
    key_a = ring.rsa("device-a")
    device_a = Party(
        key_a, certified(ring, "device-a", key_a.public_key(), (f"sign-{id_a}", profiles.DEVICE), pki.device)
    )
    device_b = leaf(ring, "device-b", f"sign-{id_b}", profiles.DEVICE, pki.device)
    factory_b = leaf(ring, "factory-b", f"f-{id_b}", profiles.FACTORY, pki.factory)
    return Cast(
        ring=ring,
        pki=pki,
        anchor=anchor,
        server=leaf(ring, "sign-server", "sign-server", profiles.SERVER_SIGNER, pki.service),
        device_a=device_a,
        device_b=device_b,
        factory_a=leaf(ring, "factory-a", f"f-{id_a}", profiles.FACTORY, pki.factory),
        factory_b=factory_b,
        ftm_a=ftm_a,
        id_a=id_a,
        id_b=id_b,
        digital_id_a=sign_identity(IDENTITY_A, ftm_a.key, ftm_a.chain[0]),
        digital_id_b=sign_identity(IDENTITY_B, device_b.key, device_b.chain[0]),
        factory_digital_id_b=sign_identity(IDENTITY_B, factory_b.key, factory_b.chain[0]),
    )


def _ftm_anchor(ring: Keyring) -> Issuer:
    key = ring.rsa("ftm-anchor")
    made = ring.certificate(
        "ftm-anchor", lambda: profiles.self_signed(Subject("Example FTM root", "Example Chips Ltd"), key, BORN)
    )
    return Issuer(made, key)


def _ftm_chain(ring: Keyring, anchor: Issuer) -> tuple[bytes, ...]:
    key = ring.ed25519("ftm-a")
    chip = Profile("FTM chip", 3650 * profiles.DAY)
    subject = Subject("Chip 0001", "Example Chips Ltd")
    made = ring.certificate("ftm-a", lambda: profiles.issue(chip, subject, key.public_key(), anchor, start=BORN))
    return (der(made),)
