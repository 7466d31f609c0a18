"""Warnings long before a certificate ends: at 30, 14, 7 and 1 days.

Each for what the provider stands on; of devices, whose certificates live 30 days, numbers. What ends unseen locks
everybody out. Source: standing.py for what counts.
"""

import logging
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from fleetward_server.config import Config
from fleetward_server.generations import AuthorityProblem
from fleetward_server.problem import OperatorProblem
from fleetward_server.releases.proving import has_repository, standings
from fleetward_server.standing import Standing, own_certificates
from fleetward_server.store import LEVELS_DAYS, DeviceEndings, Store

log = logging.getLogger("fleetward.server")


def level(not_after: datetime, now: datetime) -> int | None:
    """Return the nearest of ``LEVELS_DAYS`` that ``not_after`` lies within, 0 when it is over, None when it is far."""
    if not_after <= now:
        return 0
    return min((days for days in LEVELS_DAYS if not_after - now <= timedelta(days=days)), default=None)


def told(not_after: datetime, now: datetime) -> str:
    """Say until when, and how near that is."""
    until = f"until {not_after:%Y-%m-%d}"
    match level(not_after, now):
        case None:
            return until
        case 0:
            return f"{until}: ended"
        case days:
            return f"{until}: within {days} {'day' if days == 1 else 'days'}"


def warnings(own: Sequence[Standing], devices: DeviceEndings, now: datetime) -> tuple[str, ...]:
    """Return one line for each that ends soon, in the order of ``own``."""
    return tuple(_lines(own, devices, now))


def _lines(own: Sequence[Standing], devices: DeviceEndings, now: datetime) -> Iterator[str]:
    for one in own:
        if level(one.not_after, now) is not None:
            yield f"certificate of {one.role} {one.name}: {told(one.not_after, now)}"
    if devices.there:
        yield f"{devices.there} devices are heard, and their last certificate ends within {min(LEVELS_DAYS)} day"


class EndWatch:
    """What a server at work says of ends: each line once, when it first holds. warnings: those that hold now."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self.warnings: tuple[str, ...] = ()

    def look(self, config: Config, store: Store, now: datetime) -> bool:
        """Look again; log what is new, and say whether anything changed.

        Raises:
            StoreProblem.
        """
        before, self.warnings = self.warnings, standing_warnings(config, store, now)
        for line in self.warnings:
            if line not in before:
                log.warning("ends soon", extra={"detail": line})
        return before != self.warnings


def standing_warnings(config: Config, store: Store, now: datetime) -> tuple[str, ...]:
    """Return what is to be warned of now; what cannot be read is such a thing too. Releases: see ``release_warnings``.

    Raises:
        StoreProblem.
    """
    releases = release_warnings(config, now)
    try:
        own = own_certificates(config, store.ftm_roots())
    except AuthorityProblem as problem:
        return (str(problem), *releases)
    return (*warnings(own, store.device_endings(now), now), *releases)


def release_warnings(config: Config, now: datetime) -> tuple[str, ...]:
    """Return what of the release repository ends soon and somebody has to sign, or why it cannot be read."""
    if not has_repository(config.folder):
        return ()
    try:
        return tuple(f"releases: {one}" for one in standings(config.folder, now) if one.soon)
    except (OperatorProblem, OSError) as problem:
        return (f"releases: {problem}",)
