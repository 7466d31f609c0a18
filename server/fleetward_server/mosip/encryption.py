"""MOSIP's encryption certificates: what biometrics are encrypted for, one for each environment and domain.

A certificate is kept only if MOSIP's anchors lead to it now, whoever gave it; one that is there is kept until a better
one is, and never longer than it is valid. It is fetched anew each day and as its end comes near. Source: E1, E2; MOSIP
0.9.5 "Retrieve Encryption Certificate"; a device that has none answers with error 108.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from fleetward_broker.line import backoff_s
from fleetward_schemas.certificates import read_certificate, read_pem_certificates
from fleetward_schemas.encryption import MosipAnchors, der, encrypts
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Environment
from fleetward_server.mosip.answers import Fault
from fleetward_server.mosip.signing import loose

DAILY = timedelta(days=1)
NEAR = timedelta(days=7)
"""How long before its end a certificate is looked for hourly."""
HOURLY = timedelta(hours=1)
AGAIN_FIRST_S, AGAIN_MOST_S = 60.0, 3600.0
PEM = "-----BEGIN CERTIFICATE-----"


@dataclass(frozen=True, slots=True)
class EncryptionCertificate:
    """What is kept for one environment and domain. der: None while none was ever had. source: who gave it.

    failures, code, detail: of the tries since, all sources together.
    """

    env: Environment
    domain_uri: str
    next_at: datetime
    source: str | None = None
    der: bytes | None = None
    not_after: datetime | None = None
    fetched_at: datetime | None = None
    failures: int = 0
    code: str | None = None
    detail: str | None = None

    @property
    def thumbprint(self) -> str | None:
        """SHA-256 in upper-case hexadecimal, as captures name the certificate they encrypted for."""
        return None if self.der is None else read_certificate(self.der).fingerprint(SHA256()).hex().upper()

    def usable(self, now: datetime) -> bool:
        """Say whether there is one that is valid."""
        return self.der is not None and self.not_after is not None and now < self.not_after


def taken(
    row: EncryptionCertificate, certificate: x509.Certificate, source: str, now: datetime
) -> EncryptionCertificate:
    """Return the row with a certificate that was verified."""
    end = certificate.not_valid_after_utc
    when = min(now + DAILY, max(end - NEAR, now + HOURLY))
    kept = replace(row, source=source, der=der(certificate), not_after=end, fetched_at=now)
    return replace(kept, next_at=when, failures=0, code=None, detail=None)


def missed(row: EncryptionCertificate, fault: Fault, now: datetime, chance: float) -> EncryptionCertificate:
    """Return the row after no source had one: what is there stays."""
    wait = backoff_s(row.failures, chance, first_s=AGAIN_FIRST_S, most_s=AGAIN_MOST_S)
    when = now + timedelta(seconds=wait)
    return replace(row, next_at=when, failures=row.failures + 1, code=fault.code, detail=fault.detail)


def read_any(text: str) -> x509.Certificate:
    """Read a certificate from PEM, or from base64 of DER in either alphabet.

    Raises:
        Refused: ``malformed``.
    """
    if PEM in text:
        return read_pem_certificates(text.encode("ascii", "replace"))[0]
    return read_certificate(loose("".join(text.split())))


def best(found: Sequence[x509.Certificate], anchors: MosipAnchors, now: datetime) -> x509.Certificate:
    """Return the newest of those that hold.

    Raises:
        Refused: what is wrong with the last one, when none does.
    """
    refusal = Refused(Code.MALFORMED, "no certificate in the answer")
    good = []
    for certificate in found:
        try:
            encrypts(certificate)
            anchors.verify_own(certificate, now)
        except Refused as why:
            refusal = why
        else:
            good.append(certificate)
    if not good:
        raise refusal
    return max(good, key=lambda one: one.not_valid_before_utc)
