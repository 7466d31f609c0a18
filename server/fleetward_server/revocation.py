"""Revocation: what the register says of certificates goes into the CRLs, and the broker that serves is told.

A CRL holds every unexpired certificate that is revoked, so that writing it again loses nothing; a lock keeps two who
write at once from losing each other's. Source: protocol section 2 "CRL honoured"; RFC 5280 section 5.
"""

import fcntl
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from cryptography import x509

from fleetward_broker.mosquitto_admin import NotTold
from fleetward_server.authority import publish_revocations
from fleetward_server.brokers import RUNNERS
from fleetward_server.config import Config
from fleetward_server.running import running
from fleetward_server.store import Store

ISSUER = "device-ca"
"""Who issued what the register holds; factory certificates stay, so that a device can be told that it is out."""
LOCK = ".lock"
PATIENCE_S = 20.0
LOOK_S = 0.1


def publish(config: Config, store: Store, now: datetime) -> None:
    """Write the CRLs anew from the register.

    Raises:
        AuthorityProblem, KeyUnavailable: an authority cannot sign.
    """
    with _alone(config.pki / "crl"):
        known = _dates(config.pki / "crl" / f"{ISSUER}.pem")
        serials = [one.serial for one in store.revoked_certificates(now)]
        publish_revocations(config, {ISSUER: {serial: known.get(serial, now) for serial in serials}}, now)


def reload_and_kick(config: Config, principals: Sequence[str]) -> bool:
    """Make the broker that serves read the CRLs again and end these principals' connections; False if none serves.

    A broker that is just being started again is waited for: it may have read the lists before they were written.

    Raises:
        NotTold: it does not do as it is told.
    """
    deadline = time.monotonic() + PATIENCE_S
    while (found := running(config.folder)) is not None:
        try:
            if "broker" in found:
                RUNNERS[found["broker_kind"]].enforce(config, int(found["broker"]), principals)
                return True
        except (ProcessLookupError, NotTold):
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline:
            raise NotTold(f"{config.folder}: its broker does not come up")
        time.sleep(LOOK_S)
    return False


def _dates(path: Path) -> dict[int, datetime]:
    """Return when each serial of the present list was revoked; a list that cannot be read is written anew."""
    try:
        listed = x509.load_pem_x509_crl(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return {entry.serial_number: entry.revocation_date_utc for entry in listed}


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
