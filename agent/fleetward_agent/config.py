"""``agent.toml``, or a provisioned folder without one: read strictly; an unknown key is an error naming the nearest.

Relative paths start from the folder of the file. Source: protocol section 1 (what the factory puts into a device).
"""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fleetward_agent.key_places import TPM, TRANSPORT_PLACES
from fleetward_agent.local_table import LocalTable, check_local
from fleetward_agent.reading import ConfigProblem, json_of, require_known, table_of, text_of
from fleetward_agent.software import FILE as SOFTWARE_FILE
from fleetward_agent.software import Software, UpgradeTable, check_upgrade, read_software
from fleetward_agent.tables import (
    BudgetTable,
    ClockTable,
    IdentityTable,
    KeysTable,
    LimitsTable,
    LogTable,
    ServerTable,
    StateTable,
)
from fleetward_schemas.drift import MOST_PPM
from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Certification, DigitalId, Purpose
from fleetward_schemas.jws import Alg
from fleetward_schemas.shapes import read_own

if TYPE_CHECKING:
    from fleetward_agent.drivers import Driver, Facts

__all__ = ["Config", "ConfigProblem", "Site", "for_scanner", "from_folder", "load", "load_site", "site_of_folder"]

FILE = "agent.toml"
PLACES = " or ".join(TRANSPORT_PLACES)
LEAST_NEED_MS, MOST_NEED_MS = 5, 10_000
"""MOSIP's authentication bears 30 s; beyond half of 20 s a device falls silent."""
NO_DATE = "1970-01-01T00:00:00Z"
"""Stands for ``dateTime`` until the identity is signed, which gives it its moment."""


@dataclass(frozen=True, slots=True)
class Papers:
    """The content of ``identity.json``."""

    digital_id: DigitalId
    certification: Certification
    purpose: Purpose


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """What a file says of every device it speaks for. folder: where relative paths start."""

    folder: Path
    server: ServerTable = field(default_factory=ServerTable)
    files: IdentityTable = field(default_factory=IdentityTable)
    keys: KeysTable = field(default_factory=KeysTable)
    state: StateTable = field(default_factory=StateTable)
    limits: LimitsTable = field(default_factory=LimitsTable)
    clock: ClockTable = field(default_factory=ClockTable)
    budget: BudgetTable = field(default_factory=BudgetTable)
    local: LocalTable = field(default_factory=LocalTable)
    log: LogTable = field(default_factory=LogTable)
    upgrade: UpgradeTable = field(default_factory=UpgradeTable)
    software: tuple[Software, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Tables):
    """One device: its tables, and its papers' own file read already."""

    identity: Papers

    @property
    def state_dir(self) -> Path:
        """The folder of everything the agent writes."""
        return self.folder / self.state.dir

    @property
    def provider_root(self) -> Path:
        """PEM of the provider's root."""
        return self.folder / self.files.provider_root


@dataclass(frozen=True, slots=True, kw_only=True)
class Site(Tables):
    """One host: the device its papers declare, or with drivers every scanner that is plugged in."""

    drivers: "tuple[Driver, ...]" = ()

    def device(self, identity: Papers, **instead: Any) -> Config:
        """Return the configuration of one device here. instead: tables that take the place of the host's."""
        return Config(
            **{one.name: getattr(self, one.name) for one in fields(Tables)} | {"identity": identity} | instead
        )


_TABLES: dict[str, type] = {
    "server": ServerTable,
    "identity": IdentityTable,
    "keys": KeysTable,
    "state": StateTable,
    "limits": LimitsTable,
    "clock": ClockTable,
    "budget": BudgetTable,
    "local": LocalTable,
    "log": LogTable,
    "upgrade": UpgradeTable,
}


def load_site(path: Path) -> Site:
    """Read a configuration file.

    Raises:
        ConfigProblem: missing, broken, or holding what nobody knows.
    """
    document, text = _toml(path, (*_TABLES, "driver", "software"))
    found = {name: table_of(kind, document.get(name, {}), (path, text, name)) for name, kind in _TABLES.items()}
    drivers: tuple[Driver, ...] = ()
    if "driver" in document:
        from fleetward_agent.drivers import read_drivers

        drivers = read_drivers(document["driver"], path, text)
    software = read_software(document.get("software", []), path, text, found["upgrade"])
    site = Site(folder=path.parent, files=found.pop("identity"), drivers=drivers, software=software, **found)
    _check(site, path)
    return site


def _toml(path: Path, known: tuple[str, ...]) -> tuple[dict[str, Any], str]:
    """Return what a file says, and its text."""
    # Only here: a provisioned folder needs no TOML.
    import tomllib

    text = text_of(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblem(f"{path}: {error}") from None
    for name in document:
        require_known(name, known, path, text)
    return document, text


def _check(site: Site, path: Path) -> None:
    if site.keys.transport not in TRANSPORT_PLACES:
        raise ConfigProblem(f"{path}: [keys] transport = {site.keys.transport!r}: expected {PLACES}")
    if site.keys.transport == TPM and site.keys.transport_alg is not Alg.RS256:
        raise ConfigProblem(f"{path}: [keys] transport = {TPM!r}: needs transport_alg = 'RS256': a TPM has RSA alone")
    if not site.drivers and not site.server.host:
        raise ConfigProblem(f"{path}: [server] needs host")
    for name, value, least, most in (
        ("need_ms", site.clock.need_ms, LEAST_NEED_MS, MOST_NEED_MS),
        ("drift_ppm", site.clock.drift_ppm, 1, MOST_PPM),
    ):
        if not least <= value <= most:
            raise ConfigProblem(f"{path}: [clock] {name} = {value}: expected {least}..{most}")
    check_local(site.local, path)
    check_upgrade(site.upgrade, path)
    if site.drivers and any(one.installer == "agent" for one in site.software):
        raise ConfigProblem(f"{path}: [[software]] installer = 'agent': with drivers none may replace the agent")
    state = Path(site.state.dir)
    if site.drivers and (state.is_absolute() or ".." in state.parts):
        raise ConfigProblem(f"{path}: [state] dir = {str(state)!r}: with drivers, a path inside each scanner's folder")


def site_of_folder(folder: Path) -> Site:
    """Read a provisioned folder; an ``agent.toml`` in it wins over ``connection.json``.

    Raises:
        ConfigProblem: what a provisioned folder needs is missing or broken.
    """
    path = folder / FILE
    if path.exists():
        return load_site(path)
    upgrade, software = _software(folder / SOFTWARE_FILE)
    return Site(folder=folder, server=_connection(folder), upgrade=upgrade, software=software)


def _software(path: Path) -> tuple[UpgradeTable, tuple[Software, ...]]:
    """Read what a provisioned folder says of its software; it need not say anything."""
    if not path.exists():
        return UpgradeTable(), ()
    document, text = _toml(path, ("upgrade", "software"))
    upgrade = table_of(UpgradeTable, document.get("upgrade", {}), (path, text, "upgrade"))
    check_upgrade(upgrade, path)
    return upgrade, read_software(document.get("software", []), path, text, upgrade)


def _connection(folder: Path) -> ServerTable:
    path = folder / "connection.json"
    document = json_of(path)
    names = {"host": "host", "port": "port", "serverName": "name", "env": "env"}
    for name in document:
        require_known(name, names, path, text_of(path))
    found = {names[name]: value for name, value in document.items()}
    if "host" not in found:
        raise ConfigProblem(f"{path}: needs host")
    table: ServerTable = table_of(ServerTable, found, (path, "", "server"))
    return table


def load(path: Path) -> Config:
    """Read the configuration of the one device that a file's papers declare.

    Raises:
        ConfigProblem: see ``load_site``; or the file has drivers, so that there is no such device.
    """
    return declared(load_site(path))


def from_folder(folder: Path) -> Config:
    """Read the one device of a provisioned folder. Raises what ``site_of_folder`` and ``declared`` raise."""
    return declared(site_of_folder(folder))


def declared(site: Site) -> Config:
    """Return the one device that the papers declare.

    Raises:
        ConfigProblem: the papers are missing or unlawful, or the scanners are those that are plugged in.
    """
    if site.drivers:
        raise ConfigProblem(f"{site.folder / FILE}: has drivers; name one scanner's own folder by --device")
    path = site.folder / site.files.file
    return site.device(papers(json_of(path), path))


def for_scanner(site: Site, driver: "Driver", facts: "Facts") -> Config:
    """Return the configuration of one plugged scanner: relative paths start from its own folder.

    Raises:
        ConfigProblem: its folder is missing, or holds the papers of another. Unnamed: see ``Driver.folder_of``.
    """
    from fleetward_agent.drivers import PAPERS

    folder = site.folder / driver.folder_of(facts)
    if not folder.is_dir():
        raise ConfigProblem(f"{folder}: not there: this scanner was not provisioned here")
    path = folder / site.files.file
    written = json_of(path) if path.exists() else {}
    told = {name: facts[name] for name in PAPERS if name in facts}
    for name in told.keys() & written.keys():
        # C3: the papers of one scanner never speak for another.
        if told[name] != written[name]:
            raise ConfigProblem(f"{path}: {name} is {written[name]!r}: the scanner says {told[name]!r}")
    server = site.server if site.server.host else _connection(folder)
    keys: dict[str, Any] = {**driver.keys_of(facts)}
    return site.device(papers(told | written, path), folder=folder, server=server, keys=replace(site.keys, **keys))


def papers(document: dict[str, Any], path: Path) -> Papers:
    """Read the content of ``identity.json``.

    Raises:
        ConfigProblem: it does not hold a lawful identity.
    """
    document = dict(document)
    try:
        certification = Certification(document.pop("certification", None))
        purpose = Purpose(document.pop("purpose", None))
        return Papers(read_own(DigitalId, {"dateTime": NO_DATE} | document), certification, purpose)
    except Refused as refusal:
        raise ConfigProblem(f"{path}: {refusal.detail}") from None
    except ValueError:
        levels, purposes = ", ".join(Certification), ", ".join(Purpose)
        raise ConfigProblem(f"{path}: needs certification ({levels}) and purpose ({purposes})") from None
