"""The FTM provider's factory: chips with a key of their own and a certificate that lasts, under a root of its own.

It stands in for the maker of the trust module: a self-signed root, one issuing CA, and chip certificates of at most
20 years. Source: MOSIP 0.9.5 "FTM Identity", "Keys"; C3.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_durably, write_private
from fleetward_broker.profiles import DAY, Issuer, Profile, Subject
from fleetward_broker.signers import key_pem, make_key, open_key
from fleetward_schemas.certificates import DEVICE_SIGNING
from fleetward_schemas.jws import Alg, PrivateKey, PublicKey

MAKER = "Sandbox Trust Modules Ltd"
CHIP = Profile("FTM chip", 7300 * DAY, (DEVICE_SIGNING,))


@dataclass(frozen=True, slots=True)
class FtmFactory:
    """An FTM provider: its root, and the CA that certifies chips."""

    root: x509.Certificate
    issuer: Issuer

    def certify(self, serial: str, key: PublicKey, now: datetime) -> tuple[bytes, bytes]:
        """Return a chip's chain in DER: the chip, then the issuing CA; the root is left out."""
        chip = profiles.issue(CHIP, Subject(f"FTM {serial}", MAKER), key, self.issuer, start=now)
        return chip.public_bytes(Encoding.DER), self.issuer.certificate.public_bytes(Encoding.DER)


def open_factory(folder: Path, now: datetime) -> FtmFactory:
    """Open the factory kept in ``folder``, making it at the first call."""
    if not (folder / "ftm-ca.pem").exists():
        _make(folder, now)
    root = x509.load_pem_x509_certificate((folder / "ftm-root.pem").read_bytes())
    certificate = x509.load_pem_x509_certificate((folder / "ftm-ca.pem").read_bytes())
    return FtmFactory(root, Issuer(certificate, open_key("file:ftm-ca.key.pem", folder)))


def _make(folder: Path, now: datetime) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    root_key, key = make_key(Alg.RS256), make_key(Alg.RS256)
    root = profiles.self_signed(Subject(f"{MAKER} root", MAKER), root_key, now)
    subject = Subject(f"{MAKER} issuing CA", MAKER)
    authority = profiles.issue(profiles.ISSUING, subject, key.public_key(), Issuer(root, root_key), start=now)
    write_private(folder / "ftm-ca.key.pem", key_pem(key))
    write_durably(folder / "ftm-root.pem", root.public_bytes(Encoding.PEM))
    # Last of all: its presence says that the factory is whole. The root's key is thrown away, as an offline one is.
    write_durably(folder / "ftm-ca.pem", authority.public_bytes(Encoding.PEM))


def chip_key(alg: Alg = Alg.RS256) -> PrivateKey:
    """Make the key of a chip at its first boot."""
    return make_key(alg)
