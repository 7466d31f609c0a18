"""The connector's process: ``python -m fleetward_server.mosip.run --dir D``. The one place here that waits.

It is a process of its own, beside the server's worker: a MOSIP that hangs or a key that is slow costs devices nothing.
What it knows is in the store, so it may end at any time. ``mosip.json`` says whether MOSIP can be reached now.
Source: deploy/decisions/0001 "Slow work"; deploy/decisions/0012.
"""

import argparse
import json
import logging
import ssl
import sys
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleetward_broker.durable import write_durably
from fleetward_broker.halt import SignalEvent
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.encryption import MosipAnchors
from fleetward_server.config import Config, ConfigProblem, load
from fleetward_server.encryption import anchors_of
from fleetward_server.generations import AuthorityProblem
from fleetward_server.mosip.connector import Connector, Pause
from fleetward_server.mosip.fetching import Fetching
from fleetward_server.mosip.operating import FILE
from fleetward_server.mosip.profiles import Voice
from fleetward_server.mosip.signing import open_seal
from fleetward_server.mosip.tokens import Tokens
from fleetward_server.mosip.watching import Watching
from fleetward_server.mosip.wire import Wire, place_of
from fleetward_server.starting import told, told_to_end
from fleetward_server.store import Store, StoreProblem, open_store

log = logging.getLogger("fleetward.mosip")

IDLE_S = 0.5
PLAN_S = 2.0
TROUBLE_S = 5.0
EXIT_CONFIG = 2


def opened_wire(config: Config) -> Wire:
    """Make the way to MOSIP.

    Raises:
        ConfigProblem: ``[mosip] ca`` cannot be used.
    """
    try:
        return Wire(place_of(config.mosip, config.folder))
    except (OSError, ssl.SSLError) as problem:
        raise ConfigProblem(f"{config.folder / config.mosip.ca}: [mosip] ca cannot be read: {problem}") from None


@dataclass(frozen=True, slots=True)
class Works:
    """What is done all the time."""

    connector: Connector
    fetching: Fetching
    watching: Watching


def connected(config: Config, store: Store, wire: Wire) -> Works:
    """Make all of it.

    Raises:
        ConfigProblem, KeyUnavailable, AuthorityProblem: see ``open_seal`` and ``anchors_of``.
    """
    table, anchors = config.mosip, anchors_of(config, "anchors") or MosipAnchors(())
    voice = Voice(table, open_seal(config), anchors, table.stage or config.provider.environment)
    tokens = Tokens(table, config.folder, wire)
    fetching = Fetching(store, voice, tokens, config.folder, anchors=anchors_of(config, "encryption_anchors"))
    return Works(Connector(store, voice, tokens), fetching, Watching(config, store, tokens))


@dataclass
class Telling:
    """Writes ``mosip.json`` when what it says changes: each writing is two fsyncs."""

    config: Config
    _told: dict[str, object] = field(default_factory=dict)

    def tell(self, pause: Pause, now: datetime) -> None:
        """Say whether MOSIP can be reached."""
        why = pause.why
        found: dict[str, object] = {
            "profile": self.config.mosip.profile,
            "url": self.config.mosip.url,
            "reached": why is None,
            "code": None if why is None else why.code,
            "detail": None if why is None else why.detail,
        }
        if found != self._told:
            self._told = found
            since = found | {"since": now.isoformat(timespec="seconds")}
            write_durably(self.config.folder / FILE, json.dumps(since, indent=2).encode() + b"\n")


def serve(config: Config, works: Works, stopping: threading.Event | SignalEvent) -> None:
    """Tell MOSIP what it is to be told, until told to stop."""
    telling, looked, connector = Telling(config), datetime.min.replace(tzinfo=UTC), works.connector
    while not stopping.is_set():
        now, busy = datetime.now(UTC), False
        try:
            if (now - looked).total_seconds() >= PLAN_S:
                looked, _ = now, connector.plan(now)
            busy = connector.step(now) | works.fetching.step(config.provider.environment, now)
            busy |= works.watching.step(now)
            telling.tell(connector.pause, now)
        except StoreProblem as problem:
            log.error("the store cannot be used", extra={"detail": str(problem)})  # noqa: TRY400
            stopping.wait(TROUBLE_S)
        except Exception:
            log.exception("a task is set aside: a mistake of ours")
            connector.set_aside(now)
        if not busy:
            stopping.wait(IDLE_S)


def waiting_for_key(config: Config, store: Store, wire: Wire, stopping: threading.Event | SignalEvent) -> Works | None:
    """Make all of it; while the provider's key is away, wait for it.

    Raises:
        ConfigProblem, AuthorityProblem: waiting would not help.
    """
    while not stopping.is_set():
        try:
            return connected(config, store, wire)
        except KeyUnavailable as problem:
            log.error("the provider's key is away", extra={"detail": str(problem)})  # noqa: TRY400
            stopping.wait(TROUBLE_S)
    return None


def main(argv: list[str] | None = None) -> int:
    """Run the connector of one provider."""
    parser = argparse.ArgumentParser(prog="fleetward-mosip", description="one provider's connector to MOSIP")
    wanted, stopping = told(parser, argv), told_to_end()
    try:
        config = load(wanted.dir)
        with open_store(config.store_path, migrate=True) as store, opened_wire(config) as wire:
            works = waiting_for_key(config, store, wire, stopping)
            if works is not None:
                serve(config, works, stopping)
    except (ConfigProblem, StoreProblem, AuthorityProblem) as problem:
        log.error("cannot start", extra={"detail": str(problem)})  # noqa: TRY400
        return EXIT_CONFIG
    return 0


if __name__ == "__main__":
    sys.exit(main())
