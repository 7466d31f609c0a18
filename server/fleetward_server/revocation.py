"""Revocation: what the register says of certificates goes into the CRLs, and the broker that serves is told.

A CRL holds every unexpired certificate that is revoked, so that writing it again loses nothing; a lock keeps two who
write at once from losing each other's. Source: protocol section 2 "CRL honoured"; RFC 5280 section 5.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from fleetward_broker.mosquitto_admin import NotTold
from fleetward_broker.tls import CredentialsUnusable, read_crls
from fleetward_server.authority import publish_revocations
from fleetward_server.brokers import RUNNERS
from fleetward_server.config import Config
from fleetward_server.locks import CHANGE_S, held
from fleetward_server.running import is_part, running
from fleetward_server.store import Store

LOCK = ".lock"
PATIENCE_S = 20.0
LOOK_S = 0.1


def publish(config: Config, store: Store, now: datetime, within_s: float = CHANGE_S) -> None:
    """Write the CRLs anew from the register, each certificate into the list of the very authority that issued it.

    Factory certificates are in none, so that a device can be told that it is out.

    Raises:
        AuthorityProblem, KeyUnavailable: an authority cannot sign; see ``publish_revocations``. Busy.
    """
    folder = config.pki / "crl"
    folder.mkdir(exist_ok=True)
    with held(folder / LOCK, within_s, "is writing revocation lists"):
        known = _dates(folder)
        revoked: dict[bytes, dict[int, datetime]] = defaultdict(dict)
        for one in store.revoked_certificates(now):
            revoked[one.authority][one.serial] = known.get(one.serial, now)
        publish_revocations(config, revoked, now)


def reload_and_kick(config: Config, principals: Sequence[str], given_up: Callable[[], bool] = lambda: False) -> bool:
    """Make the broker that serves read the CRLs again and end these principals' connections; False if none serves.

    A broker that is just being started again is waited for: it may have read the lists before they were written. One
    that falls as it is told has a successor that begins with them, and with no connection: that one needs no word. Who
    is to end itself gives up: what starts the broker may be waiting for that end.

    Raises:
        NotTold: it does not do as it is told.
    """
    deadline, heard = time.monotonic() + PATIENCE_S, 0
    while (found := running(config.folder)) is not None:
        broker = int(found.get("broker", 0))
        if heard and broker and broker != heard:
            return True
        try:
            if broker and is_part(broker, int(found["pid"])):
                RUNNERS[found["broker_kind"]].enforce(config, broker, principals)
                return True
        except ProcessLookupError:
            pass  # It ended, and what says so is not written yet.
        except NotTold:
            # It was there for the signal; Mosquitto 2.0.11 may fall over it (SIGSEGV) before it hears more.
            heard = broker
            if time.monotonic() > deadline:
                raise
        if time.monotonic() > deadline or given_up():
            raise NotTold(f"{config.folder}: its broker does not come up")
        time.sleep(LOOK_S)
    return False


def _dates(folder: Path) -> dict[int, datetime]:
    """Return when each serial of the present lists was revoked; a list that cannot be read is written anew."""
    dates: dict[int, datetime] = {}
    for path in folder.glob("*.pem"):
        # Nobody can read it: what it said is in the register, but for the dates.
        with suppress(CredentialsUnusable):
            dates |= {entry.serial_number: entry.revocation_date_utc for one in read_crls(path) for entry in one}
    return dates
