"""What a provider at work does for its own certificates and lists, at each start and each day. Source: S6; lines.py."""

import logging
from datetime import datetime

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_server.authority import FormerKeyAway
from fleetward_server.changes import AddAudit
from fleetward_server.config import Config
from fleetward_server.generations import AuthorityProblem
from fleetward_server.lines import alone, due_lines, finish_lines, renew_line
from fleetward_server.locks import SERVING_S
from fleetward_server.revocation import publish
from fleetward_server.state import AuditEntry
from fleetward_server.store import StoreProblem, open_store
from fleetward_server.succession import ROTATED

log = logging.getLogger("fleetward.up")

TROUBLES = (StoreProblem, AuthorityProblem, KeyUnavailable, OSError)
"""What keeps keys, certificates and lists as they were, and is told."""


def renew_lines(config: Config, now: datetime) -> None:
    """Give the line's two ends other certificates long before theirs end; what keeps them is told."""
    try:
        finish_lines(config)
        for name in due_lines(config, now):
            with alone(config):
                made = renew_line(config, name, now)
            log.info("certificate renewed", extra={"part": name, "until": made.not_valid_after_utc.isoformat()})
            with open_store(config.store_path, migrate=True) as store, store.unit() as unit:
                unit.apply([AddAudit(AuditEntry(now, "server", ROTATED, name, "its end was near", name))])
    except TROUBLES as problem:
        log.error("certificates not renewed", extra={"detail": str(problem)})  # noqa: TRY400


def publish_lists(config: Config, now: datetime, within_s: float = SERVING_S) -> None:
    """Write the CRLs anew; a predecessor's that cannot be signed is told.

    within_s: how long others who write them are waited for.

    Raises:
        StoreProblem, AuthorityProblem, KeyUnavailable, OSError: they are as they were. Busy: others are writing them.
    """
    try:
        with open_store(config.store_path, migrate=True) as store:
            publish(config, store, now, within_s)
    except FormerKeyAway as problem:
        # What it issued is judged by its last list, which is good for a year; everybody else has a new one.
        log.error("a revocation list is not renewed", extra={"detail": str(problem)})  # noqa: TRY400
