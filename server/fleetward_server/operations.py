"""What an operator may do, as seams by noun. Who does it on this host is in operator.py; over a network it is another.

Every act is done whole or raises ``OperatorProblem`` and has changed nothing. Source: S5.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from fleetward_schemas.foreign import Leniency
from fleetward_schemas.identity import DigitalId
from fleetward_schemas.topics import DeviceId
from fleetward_server.admission import Diff
from fleetward_server.assigning import Plan, UpgradeWish, Window
from fleetward_server.audit import Link, Verdict
from fleetward_server.clocks import ClockView
from fleetward_server.key_places import KeyTold
from fleetward_server.listing import Fields
from fleetward_server.mass_state import MassAct, MassWish, Outcome, Tally, Target
from fleetward_server.mosip.onboarding import Hand, Imported
from fleetward_server.selection import Selection
from fleetward_server.standing import ChainTold, Standing
from fleetward_server.state import Certificate, Command, Device, FtmRoot, Model, Report, Use
from fleetward_server.store import AuditFilter, Counts, RefusalCount, ReportFilter
from fleetward_server.succession import BESIDE, Making, Successor
from fleetward_server.upgrade_state import Assignment
from fleetward_server.upgrade_status import Line, Step


@dataclass(frozen=True, slots=True)
class Papers:
    """All there is about one device. history: latest audit rows, oldest first. clock: None while it told nothing.

    software: what it runs and shall run.
    """

    device: Device
    certificates: tuple[Certificate, ...]
    commands: tuple[Command, ...]
    refusals: tuple[RefusalCount, ...]
    history: tuple[Link, ...]
    clock: ClockView | None = None
    software: tuple[Line, ...] = ()


class Devices(Protocol):
    """The register, read."""

    def device(self, text: str) -> Device:
        """Return the device that an id, the beginning of one, or a serial number means."""
        ...

    def selection(self, text: str) -> Selection:
        """Read a filter, its durations counted from now."""
        ...

    def devices(self, wanted: Selection, after: str = "", limit: int = 500) -> tuple[Device, ...]:
        """Return devices by id, those after the cursor."""
        ...

    def papers(self, text: str) -> Papers:
        """Return all there is about one device."""
        ...

    def counts(self) -> Counts:
        """Return the fleet in numbers."""
        ...

    def clocks(self, wanted: Selection) -> Sequence[ClockView]:
        """Return the clocks of the devices that a filter means, the widest first."""
        ...

    def own_clock(self) -> Mapping[str, object]:
        """Return what bounds our own clock's error now, and what the server that runs says of it."""
        ...


class Register(Protocol):
    """The register, decided."""

    def import_list(self, rows: Sequence[Fields], *, dry_run: bool, places: Sequence[str] = ()) -> Diff:
        """Bring the provider's list in, whole or not at all."""
        ...

    def approve(self, device_id: DeviceId, reason: str, key: str | None = None) -> Device:
        """Approve a device with the key that asked."""
        ...

    def refuse(self, device_id: DeviceId, reason: str) -> Device:
        """Refuse a device that waits."""
        ...

    def revoke(self, device_id: DeviceId, reason: str) -> Device:
        """Put a device out for good, and make the broker cut it."""
        ...

    def quarantine(self, device_id: DeviceId, reason: str) -> Device:
        """Let a device report and do nothing else."""
        ...

    def release(self, device_id: DeviceId, reason: str) -> Device:
        """End a quarantine."""
        ...

    def reinstate(self, device_id: DeviceId, reason: str) -> Device:
        """Let a revoked or retired device ask anew."""
        ...

    def tag(self, device_id: DeviceId, add: Sequence[str], remove: Sequence[str], reason: str = "") -> Device:
        """Put tags on a device and take tags off it."""
        ...


class Commands(Protocol):
    """Orders to devices."""

    def send_command(
        self, device_id: DeviceId, verb: str, params: Mapping[str, object], expires_in_s: int, reason: str
    ) -> Command:
        """Queue an order."""
        ...

    def command(self, command_id: str) -> Command:
        """Return an order as it stands."""
        ...

    def commands(
        self, device_id: DeviceId | None, *, open_only: bool, limit: int, after: str = ""
    ) -> tuple[Command, ...]:
        """Return orders, oldest first, those after an id."""
        ...


class Masses(Protocol):
    """Acts on many devices: whom they mean is fixed when they begin; they go on after any break."""

    def device_ids(self, wanted: Selection) -> tuple[DeviceId, ...]:
        """Return whom a filter means now."""
        ...

    def begin_mass(self, wish: MassWish, devices: Sequence[DeviceId]) -> MassAct:
        """Keep an act on these devices; nothing is done to them yet."""
        ...

    def continue_mass(self, act_id: str, told: Callable[[Tally], None]) -> Tally:
        """Do what is left of an act. told: hears the numbers as it goes on."""
        ...

    def mass_act(self, act_id: str) -> MassAct:
        """Return an act as it stands."""
        ...

    def mass_acts(self, limit: int) -> tuple[MassAct, ...]:
        """Return the latest acts, oldest first."""
        ...

    def mass_tally(self, act_id: str) -> Tally:
        """Return an act in numbers."""
        ...

    def mass_targets(self, act_id: str, outcomes: Sequence[Outcome]) -> tuple[Target, ...]:
        """Return its devices that ended so."""
        ...


class Upgrades(Protocol):
    """What devices shall run, and what came of it."""

    def wish(self, target: str, name: str, devices: Sequence[DeviceId], window: Window | None) -> UpgradeWish:
        """Return what is wished: this target, or the newest of a name for each model of these devices."""
        ...

    def assign(self, device_id: DeviceId, wish: UpgradeWish, reason: str) -> Assignment | None:
        """Have one device run something; None where that is so already."""
        ...

    def cancel_upgrades(self, device_id: DeviceId, reason: str) -> Assignment | None:
        """Have one device change nothing; None where nothing is assigned to it."""
        ...

    def plan_upgrades(self, devices: Sequence[DeviceId], wish: UpgradeWish) -> Sequence[Plan]:
        """Return what ``assign`` would do to each, and why not."""
        ...

    def upgrades(self, wanted: Selection, name: str = "", after: str = "", limit: int = 500) -> Sequence[Line]:
        """Return each piece of software of the devices that a filter means, by device and name."""
        ...

    def upgrade_history(self, device_id: DeviceId, limit: int = 500) -> Sequence[Step]:
        """Return what a device said of its upgrades, oldest first."""
        ...


class Trust(Protocol):
    """Which models may be registered."""

    def add_model(self, of: DigitalId, reason: str) -> Model:
        """Approve the make and model of a digital ID."""
        ...

    def revoke_model(self, of: DigitalId, reason: str) -> Model:
        """Take the approval back; what is registered stays so."""
        ...

    def models(self) -> tuple[Model, ...]:
        """Return every model that was ever judged."""
        ...


class FtmRoots(Protocol):
    """Whose chips are believed."""

    def add_ftm_root(self, pem: bytes, name: str, reason: str, allowed: tuple[Leniency, ...] = ()) -> FtmRoot:
        """Trust an FTM provider's root. allowed: what it and its chains may lack; said again, it is replaced."""
        ...

    def revoke_ftm_root(self, text: str, reason: str) -> FtmRoot:
        """Trust it no more. text: its name, its thumbprint or the beginning of that."""
        ...

    def ftm_roots(self) -> tuple[FtmRoot, ...]:
        """Return every root, trusted or no more."""
        ...


class Certificates(Protocol):
    """What stands on what, until when, and where the keys are."""

    def own_certificates(self) -> tuple[Standing, ...]:
        """Return what the provider itself stands on."""
        ...

    def device_certificates(
        self, wanted: Selection, uses: Sequence[Use], *, before: datetime | None = None, limit: int = 500
    ) -> tuple[Standing, ...]:
        """Return issued and current certificates of devices, the first to end first."""
        ...

    def certificate_chain(self, name: str) -> ChainTold:
        """Return the chain of one of our own certificates by its name, or of a device's by the device's."""
        ...

    def keys(self, *, ask: bool) -> tuple[KeyTold, ...]:
        """Return every key of the configuration. ask: open each, to see that it is there."""
        ...


class Offices(Protocol):
    """The provider's own keys."""

    def rotate_authority(
        self, office: str, reason: str, making: Making = BESIDE, *, root_delivered: bool = False
    ) -> Successor:
        """Give an office another key, and have what serves take it up."""
        ...

    def forget_root(self, reason: str, *, leave_behind: bool = False) -> tuple[str, ...]:
        """Believe no root but the one in office; returns the names of those forgotten."""
        ...

    def mosip_request(self) -> bytes:
        """Return the request for MOSIP to certify the device CA's key, PEM."""
        ...

    def take_from_mosip(self, hand: Hand, signed: bytes, reason: str) -> Imported | None:
        """Keep what MOSIP signed at an upload, and show it the provider's own."""
        ...

    def import_mosip_chain(self, pem: bytes, reason: str) -> Imported:
        """Show MOSIP the chain that it signed, and have what serves do so."""
        ...


class Records(Protocol):
    """What was said and done."""

    def reports(self, wanted: ReportFilter, limit: int, after: str = "") -> tuple[Report, ...]:
        """Return reports by id, those after one."""
        ...

    def stream_reports(self, wanted: ReportFilter) -> Iterator[Report]:
        """Yield reports in order of arrival, any number of them."""
        ...

    def audit_links(self, wanted: AuditFilter, after: int, limit: int) -> list[Link]:
        """Return audit rows."""
        ...

    def verify_audit(self) -> Verdict:
        """Go along the whole audit chain."""
        ...


class Operator(
    Devices, Register, Commands, Upgrades, Masses, Trust, FtmRoots, Certificates, Offices, Records, Protocol
):
    """All of it."""
