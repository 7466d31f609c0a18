"""Telling the broker, in a thread beside the worker's, what it must refuse from now on; again until it has heard.

What is to be told stands in the store from the commit on, so that neither a crash nor a broker that is down loses it.
Source: protocol section 5 "Retirement", section 2 (CRL honoured); revocation.py.
"""

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.mosquitto_admin import NotTold
from fleetward_server import revocation
from fleetward_server.authority import AuthorityProblem, FormerKeyAway
from fleetward_server.changes import Cut
from fleetward_server.config import Config
from fleetward_server.store import Store, StoreProblem

log = logging.getLogger("fleetward.server")

AGAIN, AGAIN_FORMER = timedelta(seconds=15), timedelta(minutes=10)
TROUBLES = (AuthorityProblem, KeyUnavailable, NotTold, StoreProblem, OSError)


class Cutter:
    """Cuts what the store says is to be cut."""

    def __init__(self, config: Config, store: Store) -> None:
        """Work for one provider's folder."""
        self._config = config
        self._store = store
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cutter")
        self._running: tuple[tuple[Cut, ...], Future[None]] | None = None
        self._failed: tuple[Cut, ...] = ()
        self._again_at: datetime | None = None
        self._closed = threading.Event()

    def look(self, now: datetime) -> None:
        """Forget what was told, and begin to tell what waits.

        Raises:
            StoreProblem: the store cannot be read.
        """
        if self._running is not None:
            cuts, told = self._running
            if not told.done():
                return
            self._running = None
            self._finish(cuts, told, now)
        cuts = self._store.cuts()
        # What failed waits a while, since each attempt has the broker read its files; what is new does not.
        at = self._again_at
        waits = cuts == self._failed and at is not None and at - AGAIN_FORMER <= now < at
        if cuts and not waits:
            self._running = cuts, self._pool.submit(enforce, self._config, self._store, cuts, now, self._closed.is_set)

    def _finish(self, cuts: tuple[Cut, ...], told: "Future[None]", now: datetime) -> None:
        try:
            told.result()
        except TROUBLES as problem:
            # Where only a predecessor's list is old, all else is told; its key may be away for good.
            again = AGAIN_FORMER if isinstance(problem, FormerKeyAway) else AGAIN
            self._failed, self._again_at = cuts, now + again
            log.error("the broker does not know yet", extra={"devices": len(cuts), "detail": str(problem)})  # noqa: TRY400
            return
        self._store.forget_cuts(cuts)
        log.info("the broker knows", extra={"devices": len(cuts), "kicked": sum(one.kick for one in cuts)})

    def close(self) -> None:
        """Begin nothing more, and wait for no broker: what is to be told stands in the store."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)


def enforce(
    config: Config, store: Store, cuts: Sequence[Cut], now: datetime, given_up: Callable[[], bool] = lambda: False
) -> None:
    """Write the lists anew, have the broker read them, and end the connections that are to end.

    Raises:
        AuthorityProblem, KeyUnavailable: a list cannot be signed. NotTold: the broker does not do as it is told.
    """
    try:
        revocation.publish(config, store, now)
    finally:
        # A list that could not be written is no reason to leave a live connection, or the other lists unread.
        revocation.reload_and_kick(config, [one.device_id for one in cuts if one.kick], given_up)
