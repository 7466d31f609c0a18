"""What an operator on the provider's own host may look at: reads of the store of the provider's folder.

Source: S5; operations.py for the seams.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Self
from weakref import finalize

from fleetward_schemas.topics import DeviceId
from fleetward_server import audit, key_places, standing
from fleetward_server.audit import Link, Verdict
from fleetward_server.clock import sureness
from fleetward_server.clocks import ClockView, view_of, views_of
from fleetward_server.config import Config, ConfigProblem, load
from fleetward_server.health import read_health
from fleetward_server.key_places import KeyTold
from fleetward_server.mass_state import MassAct, Outcome, Tally, Target
from fleetward_server.operations import Papers
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.selection import Selection, parse
from fleetward_server.standing import ChainTold, Standing
from fleetward_server.state import Command, Device, FtmRoot, Model, Report, Use
from fleetward_server.store import (
    AuditFilter,
    Counts,
    ReportFilter,
    Store,
    StoreHeld,
    StoreProblem,
    open_store,
)
from fleetward_server.upgrade_status import lines_of

PREFIX_CHARS = 4
HISTORY_ROWS = 50


def utc_now() -> datetime:
    """Read the host's clock: an operator's act happens when the operator's host says."""
    return datetime.now(UTC)


class LocalReader:
    """A provider's folder, its store opened at the first look."""

    def __init__(self, folder: Path, now: Callable[[], datetime] = utc_now) -> None:
        """Look into ``folder``; nothing is opened yet."""
        self.folder = folder
        self._now = now
        self._store: Store | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the store; the next act opens it again."""
        if self._store is not None:
            self._store.close()
            self._store = None

    @property
    def config(self) -> Config:
        """The folder's configuration.

        Raises:
            OperatorProblem: ``invalid``, naming file, table and key.
        """
        try:
            return load(self.folder)
        except ConfigProblem as problem:
            raise OperatorProblem(Kind.INVALID, str(problem)) from None

    def device(self, text: str) -> Device:
        """Return the device that an id, the beginning of one, or a serial number means."""
        with self.opened() as store:
            found = store.named(text)
        exact = [one for one in found if one.id == text]
        begun = [one for one in found if one.identity.serialNo == text or len(text) >= PREFIX_CHARS]
        match exact or begun:
            case [device]:
                return device
            case []:
                hint = "" if len(text) >= PREFIX_CHARS else f" (an id is named by {PREFIX_CHARS} characters or more)"
                raise OperatorProblem(Kind.NOT_FOUND, f"no device {text!r}{hint}")
            case several:
                names = ", ".join(f"{one.id} ({one.identity.serialNo})" for one in several)
                raise OperatorProblem(Kind.INVALID, f"{text!r} names more than one device: {names}")

    def selection(self, text: str) -> Selection:
        """Read a filter, its durations counted from now.

        Raises:
            OperatorProblem: ``invalid``, naming the column.
        """
        return parse(text, self._now())

    def devices(self, wanted: Selection, after: str = "", limit: int = 500) -> tuple[Device, ...]:
        """Return devices by id, those after the cursor."""
        with self.opened() as store:
            return store.devices(wanted, after=after, limit=limit)

    def device_ids(self, wanted: Selection) -> tuple[DeviceId, ...]:
        """Return whom a filter means now."""
        with self.opened() as store:
            return store.device_ids(wanted)

    def mass_act(self, act_id: str) -> MassAct:
        """Return an act on many as it stands."""
        with self.opened() as store:
            found = store.mass_act(act_id)
        if found is None:
            raise OperatorProblem(Kind.NOT_FOUND, f"no mass act {act_id!r}")
        return found

    def mass_acts(self, limit: int) -> tuple[MassAct, ...]:
        """Return the latest acts on many, oldest first."""
        with self.opened() as store:
            return store.mass_acts(limit)

    def mass_tally(self, act_id: str) -> Tally:
        """Return an act on many in numbers."""
        with self.opened() as store:
            return store.mass_tally(act_id)

    def mass_targets(self, act_id: str, outcomes: Sequence[Outcome]) -> tuple[Target, ...]:
        """Return the devices of an act on many that ended so."""
        with self.opened() as store:
            return store.mass_targets(act_id, outcomes)

    def papers(self, text: str) -> Papers:
        """Return all there is about one device."""
        device = self.device(text)
        with self.opened() as store:
            assigned, got = store.assignments_of([device.id]), store.upgrades_of([device.id])
            refusals = (*store.refusals(device.id), *store.refusals(f"f-{device.id}"))
            return Papers(
                device=device,
                certificates=store.certificates(device.id),
                commands=store.commands(device.id),
                refusals=refusals,
                history=store.history(device.id, HISTORY_ROWS),
                clock=None if (told := store.latest_report(device.id, "telemetry")) is None else view_of(told),
                software=tuple(lines_of(device, assigned.get(device.id), {one.name: one for one in got})),
            )

    def clocks(self, wanted: Selection) -> list[ClockView]:
        """Return the clocks of the devices that a filter means, the widest first."""
        with self.opened() as store:
            return views_of(store.latest_reports("telemetry", wanted))

    def own_clock(self) -> dict[str, object]:
        """Return what bounds our own clock's error now, and what the server that runs says of it."""
        sure, told = sureness(self.config.time), read_health(self.folder)
        return {"source": sure.source, "radius_ms": sure.radius_ms, "detail": sure.detail, "running": told or "ready"}

    def counts(self) -> Counts:
        """Return the fleet in numbers."""
        with self.opened() as store:
            return store.counts()

    def command(self, command_id: str) -> Command:
        """Return an order as it stands."""
        with self.opened() as store:
            found = store.command(command_id)
        if found is None:
            raise OperatorProblem(Kind.NOT_FOUND, f"no command {command_id!r}")
        return found

    def commands(
        self, device_id: DeviceId | None, *, open_only: bool, limit: int, after: str = ""
    ) -> tuple[Command, ...]:
        """Return orders, oldest first, those after an id."""
        with self.opened() as store:
            return store.commands(device_id, open_only=open_only, after=after, limit=limit)

    def models(self) -> tuple[Model, ...]:
        """Return every model that was ever judged."""
        with self.opened() as store:
            return store.models()

    def ftm_roots(self) -> tuple[FtmRoot, ...]:
        """Return every root, trusted or no more."""
        with self.opened() as store:
            return store.ftm_roots()

    def own_certificates(self) -> tuple[Standing, ...]:
        """Return what the provider itself stands on; see ``standing.own_certificates``."""
        return standing.own_certificates(self.config, self.ftm_roots())

    def device_certificates(
        self, wanted: Selection, uses: Sequence[Use], *, before: datetime | None = None, limit: int = 500
    ) -> tuple[Standing, ...]:
        """Return issued and current certificates of devices, the first to end first. before: those that end earlier."""
        with self.opened() as store:
            found = store.live_certificates(wanted, uses, before=before, limit=limit)
        return tuple(map(standing.device_certificate, found))

    def certificate_chain(self, name: str) -> ChainTold:
        """Return the chain of one of our own certificates by its name, or of a device's by the device's."""
        own = standing.own_chain(self.config, name, self._now())
        if own is not None:
            return own
        device = self.device(name)
        with self.opened() as store:
            found = store.live_certificates(parse(f"id:{device.id}", self._now()), (Use.DEVICE,))
        if not found:
            raise OperatorProblem(Kind.NOT_FOUND, f"{device.id} is {device.state}: it has no certificate that counts")
        return standing.device_chain(self.config, found[-1], self._now())

    def keys(self, *, ask: bool) -> tuple[KeyTold, ...]:
        """Return every key of the configuration. ask: open each, to see that it is there."""
        return key_places.keys(self.config, ask=ask)

    def reports(self, wanted: ReportFilter, limit: int, after: str = "") -> tuple[Report, ...]:
        """Return reports by id, those after one."""
        with self.opened() as store:
            return store.reports(wanted, after=after, limit=limit)

    def stream_reports(self, wanted: ReportFilter) -> Iterator[Report]:
        """Yield reports in order of arrival, any number of them."""
        with self.opened() as store:
            yield from store.stream_reports(wanted)

    def audit_links(self, wanted: AuditFilter, after: int, limit: int) -> list[Link]:
        """Return audit rows."""
        with self.opened() as store:
            return store.audit_links(after, limit, wanted)

    def verify_audit(self) -> Verdict:
        """Go along the whole audit chain."""
        with self.opened() as store:
            return audit.walk(store)

    @contextmanager
    def opened(self) -> Iterator[Store]:
        """Open the store once, and turn its troubles into the operator's."""
        try:
            if self._store is None:
                self._store = open_store(self.config.store_path)
                finalize(self, self._store.close)
            yield self._store
        except StoreProblem as problem:
            kind = Kind.CONFLICT if isinstance(problem, StoreHeld) else Kind.INVALID
            raise OperatorProblem(kind, str(problem)) from None
