"""What the factory put into a device, and the two digital IDs made from it. Nothing here changes in a device's life.

At L1 the FTM key signs the digital ID, at L0 the device key, before its first certificate the factory key.
Source: protocol sections 1 and 3 (``digitalId``); C2 iv, S1.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from fleetward_schemas.certificates import Anchors, thumbprint
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.envelope import Seal
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.identity import Certification, DigitalId, Environment, Purpose, device_id, sign_identity
from fleetward_schemas.jws import PrivateKey
from fleetward_schemas.topics import DeviceId


@dataclass(frozen=True, slots=True)
class Credential:
    """A private key and its certificates in DER, leaf first, root left out."""

    key: PrivateKey
    chain: tuple[bytes, ...]

    def by_chain(self) -> Seal:
        """Return the seal that brings the whole chain."""
        return Seal.by_chain(self.key, self.chain)

    def by_thumbprint(self) -> Seal:
        """Return the seal that names the leaf."""
        return Seal.by_thumbprint(self.key, thumbprint(self.chain[0]))


@dataclass(frozen=True, slots=True)
class Origin:
    """The factory's work. ftm: at L1 alone. roots: the provider's, the only anchors of what speaks to the device.

    mosip: those of encryption certificates, if it was given any.
    """

    digital_id: DigitalId
    certification: Certification
    purpose: Purpose
    env: Environment
    roots: tuple[x509.Certificate, ...]
    factory: Credential
    ftm: Credential | None = None
    mosip: MosipAnchors | None = None

    def __post_init__(self) -> None:
        if (self.ftm is not None) != (self.certification is Certification.L1):
            raise LocalMistake("an L1 device has an FTM credential, an L0 device has none")

    @property
    def device_id(self) -> DeviceId:
        """The device's name on the wire."""
        return device_id(self.digital_id)

    @property
    def anchors(self) -> Anchors:
        """The check of a path to the provider's root."""
        return Anchors(self.roots)

    @property
    def proof(self) -> Credential:
        """What speaks for the device before it has a certificate: its FTM, or at L0 its factory key."""
        return self.ftm or self.factory

    def first_identity(self, now: datetime) -> str:
        """Sign the digital ID of an enrolment that begins ``now``."""
        return sign_identity(self.digital_id.at(now), self.proof.key, self.proof.chain[0])

    def lasting_identity(self, first: str, device: Credential, now: datetime) -> str:
        """Return the digital ID for the life of a new device certificate: the FTM's, or at L0 one by the device key."""
        if self.ftm is not None:
            return first
        return sign_identity(self.digital_id.at(now), device.key, device.chain[0])
