"""The authority: certificates for devices and for ourselves, from keys that may live in an HSM.

A new certificate never begins before the one it replaces (MOSIP's rotation rule), and never ends after its CA.
Source: S6; protocol section 1.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_durably
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.profiles import Issuer, Profile, Subject
from fleetward_broker.signers import make_key, require
from fleetward_schemas.certificates import key_thumbprint, thumbprint
from fleetward_schemas.envelope import Seal
from fleetward_schemas.identity import ServerId, sign_identity
from fleetward_schemas.jws import Alg, PrivateKey, PublicKey
from fleetward_schemas.moment import show_seconds
from fleetward_schemas.topics import DeviceId
from fleetward_server.config import Config
from fleetward_server.generations import (
    AUTHORITIES,
    Generation,
    former,
    in_office,
    open_former,
    open_issuer,
)
from fleetward_server.generations import AuthorityProblem as AuthorityProblem
from fleetward_server.state import Certificate, CertificateState, Use
from fleetward_server.turn import IssuePair

BACKDATE = timedelta(seconds=60)
"""How far before now a certificate begins, for receivers whose clock is a little behind."""
RENEW_BEFORE = timedelta(days=2)
ALL_REVOKED = "all.pem"
"""All lists in one file, which is what brokers read."""


class FormerKeyAway(KeyUnavailable):
    """The key of a predecessor cannot be opened; the message names it."""


@dataclass(frozen=True, slots=True)
class OwnSeal:
    """The server's signing key of this start: how to seal, who we say we are, when it begins and when it ends."""

    seal: Seal
    identity: str
    thumbprint: str
    not_before: datetime
    not_after: datetime

    def due(self, now: datetime) -> bool:
        """Say whether it is time to make the next one; so it is when our clock was ahead as this one was made."""
        return not self.not_before <= now <= self.not_after - RENEW_BEFORE


class Authority:
    """The device CA and the service CA at work."""

    def __init__(self, config: Config) -> None:
        """Open both; see ``open_issuer`` for what can go wrong."""
        self._config = config
        self._device = open_issuer(config, "device-ca")
        self._service = open_issuer(config, "service-ca")
        self._der = {issuer: issuer.certificate.public_bytes(Encoding.DER) for issuer in (self._device, self._service)}

    def trouble(self) -> str:
        """Ask for both keys; say what is wrong with them, nothing when they are there."""
        for issuer in (self._device, self._service):
            try:
                require(issuer.key)
            except KeyUnavailable as problem:
                return str(problem)
        return ""

    def issue_pair(self, wanted: IssuePair, now: datetime) -> tuple[Certificate, Certificate]:
        """Certify a device key and a transport key.

        Raises:
            KeyUnavailable: the CA's key is away. AuthorityProblem: the CA has expired.
        """
        return (
            self._issue(wanted, Use.DEVICE, wanted.device_key, now),
            self._issue(wanted, Use.TRANSPORT, wanted.transport_key, now),
        )

    def _issue(self, wanted: IssuePair, use: Use, key: PublicKey, now: datetime) -> Certificate:
        self._alive(self._device, now)
        profile, name = _PROFILES[use]
        subject = Subject(name.format(wanted.device_id), self._config.provider.name)
        start = max(
            now - BACKDATE, wanted.not_before_floor or now - BACKDATE, self._device.certificate.not_valid_before_utc
        )
        made = profiles.issue(profile, subject, key, self._device, start=start)
        der = made.public_bytes(Encoding.DER)
        return Certificate(
            thumbprint=thumbprint(der),
            device_id=wanted.device_id,
            use=use,
            state=CertificateState.ISSUED,
            serial=made.serial_number,
            key_thumbprint=key_thumbprint(key),
            pair=wanted.pair,
            not_before=made.not_valid_before_utc,
            not_after=made.not_valid_after_utc,
            der=der,
            authority=self._der[self._device],
        )

    def own_seal(self, now: datetime) -> OwnSeal:
        """Make and certify a fresh server signing key: it lives in memory, for this start only.

        Raises: as ``issue_pair``.
        """
        self._alive(self._service, now)
        key = make_key(Alg.EDDSA)
        start = max(now - BACKDATE, self._service.certificate.not_valid_before_utc)
        subject = Subject("sign-server", self._config.provider.name)
        made = profiles.issue(profiles.SERVER_SIGNER, subject, key.public_key(), self._service, start=start)
        leaf = made.public_bytes(Encoding.DER)
        seal = Seal.by_chain(key, (leaf, self._der[self._service]))
        life = made.not_valid_before_utc, made.not_valid_after_utc
        return OwnSeal(seal, self._identity(key, leaf, now), thumbprint(leaf), *life)

    def _identity(self, key: PrivateKey, leaf: bytes, now: datetime) -> str:
        provider = self._config.provider
        identity = ServerId(
            deviceProvider=provider.name,
            deviceProviderId=provider.id,
            env=provider.environment,
            dateTime=show_seconds(now),
        )
        return sign_identity(identity, key, leaf)

    def _alive(self, issuer: Issuer, now: datetime) -> None:
        end = issuer.certificate.not_valid_after_utc
        if now >= end:
            name = issuer.certificate.subject.rfc4514_string()
            raise AuthorityProblem(f"{name}: the CA expired at {end:%Y-%m-%d %H:%M}Z; run: fleetward authority rotate")


_PROFILES: dict[Use, tuple[Profile, str]] = {
    Use.DEVICE: (profiles.DEVICE, "sign-{}"),
    Use.TRANSPORT: (profiles.TRANSPORT, "{}"),
}


def subject_of(use: Use, device_id: DeviceId) -> str:
    """Return the common name of a device's certificate for ``use``."""
    return _PROFILES[use][1].format(device_id)


def publish_revocations(
    config: Config, revoked: Mapping[bytes, Mapping[int, datetime]], now: datetime
) -> tuple[Path, ...]:
    """Write the CRL of each authority that has issued anew, and all in one file. Returns the files written.

    revoked: authority in DER -> serial -> when; what no authority of ours issued goes to the device CA's. A predecessor
    whose key is away keeps its last list, and keeps nobody else from a new one.

    Raises:
        AuthorityProblem, KeyUnavailable: an authority in office cannot sign; nothing was written. FormerKeyAway:
            everything else was written.
    """
    folder = config.pki / "crl"
    folder.mkdir(exist_ok=True)
    held = [in_office(config, office) for office in AUTHORITIES]
    lasting = [one for one in former(config) if not one.has_ended(now)]
    issuers = {one.stem: issuer for issuer, one in held}
    troubles = _open_lasting(config, lasting, issuers)
    known = [one for _, one in held] + lasting
    stems = {one.certificate.public_bytes(Encoding.DER): one.stem for one in known}
    entries: dict[str, dict[int, datetime]] = {one.stem: {} for one in known}
    for authority, serials in revoked.items():
        entries[stems.get(authority, known[0].stem)].update(serials)
    for stem, issuer in issuers.items():
        number = int(now.timestamp() * 1000)
        made = profiles.revocation_list(issuer, entries[stem], number=number, now=now - BACKDATE)
        write_durably(folder / f"{stem}.pem", made.public_bytes(Encoding.PEM))
    paths = tuple(path for one in known if (path := folder / f"{one.stem}.pem").exists())
    write_durably(folder / ALL_REVOKED, b"".join(path.read_bytes() for path in paths))
    if troubles:
        raise FormerKeyAway("; ".join(troubles))
    return paths


def _open_lasting(config: Config, lasting: Sequence[Generation], issuers: dict[str, Issuer]) -> list[str]:
    """Add the predecessors that can sign to ``issuers``; return what is wrong with the others."""
    troubles = []
    for one in lasting:
        try:
            issuers[one.stem] = open_former(config, one)
        except KeyUnavailable as problem:
            troubles.append(f"{one.stem}: its list is not renewed: {problem}")
    return troubles
