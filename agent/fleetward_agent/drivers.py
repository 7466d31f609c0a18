"""The driver table, ``[[driver]]`` in agent.toml: which plugs are scanners, who each is, where its papers lie. Pure.

A scanner's word about itself (vendor, product, serial number) proves nothing: anybody can build a plug that says the
same. It only finds the papers; its keys prove the rest. Source: C4; C3 (identity: MOSIP's eight strings).
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from fleetward_agent.plug import Plugged
from fleetward_agent.reading import ConfigProblem, require_known, table_of
from fleetward_schemas.identity import DigitalId

PAPERS = (*(name for name in DigitalId.__struct_fields__ if name != "dateTime"), "certification", "purpose")
FACTS = (*PAPERS, "firmware")
"""What a driver may tell. firmware: of the scanner, for device information."""
MOST_FACT_CHARS = 128
USB, USB_DEVICE = "usb", "usb_device"
_IDS = {"vendor": "ID_VENDOR_ID", "product": "ID_MODEL_ID"}
_HEX4 = re.compile(r"[0-9a-fA-F]{4}")
_PLACE = re.compile(r"\{([A-Za-z0-9_]+)\}")
# What a plug says becomes part of a path and of key URIs: nothing may lead out of either.
_NAMES_A_FOLDER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

Facts = Mapping[str, str]


class Unnamed(Exception):  # noqa: N818 - says what is missing
    """A driver cannot say who a scanner is; the message names what is missing or wrong."""


@dataclass(frozen=True, slots=True)
class ScannerKeys:
    """Where a scanner's keys are, if not where a provisioned folder has them. ``{serialNo}``: that fact."""

    ftm: str = ""
    ftm_chain: str = ""
    factory: str = ""
    factory_chain: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class Driver:
    """One entry. properties: of udev, exact or glob. fields: facts, ``{ID_...}`` standing for a property."""

    name: str = ""
    vendor: str = ""
    product: str = ""
    subsystem: str = USB
    properties: dict[str, str] = field(default_factory=dict)
    fields: dict[str, str] = field(default_factory=dict)
    program: list[str] = field(default_factory=list)
    folder: str = ""
    keys: ScannerKeys = field(default_factory=ScannerKeys)

    def is_for(self, plugged: Plugged) -> bool:
        """Say whether this driver knows what is plugged in."""
        wanted = {"SUBSYSTEM": self.subsystem} | ({"DEVTYPE": USB_DEVICE} if self.subsystem == USB else {})
        wanted |= {_IDS[name]: value for name in _IDS if (value := getattr(self, name).lower())}
        wanted |= self.properties
        found = dict(plugged.properties)
        return all(name in found and fnmatchcase(found[name], pattern) for name, pattern in wanted.items())

    @property
    def named_properties(self) -> set[str]:
        """Properties of udev that this driver speaks of."""
        return {*self.properties, *(name for text in self.fields.values() for name in _PLACE.findall(text))}

    def facts_of(self, plugged: Plugged, told: Facts) -> dict[str, str]:
        """Return what is known of a scanner. told: by the driver's own program.

        Raises:
            Unnamed: a property is missing, or table and program contradict each other.
        """
        facts = {name: _filled(text, dict(plugged.properties), name) for name, text in self.fields.items()}
        for name in facts.keys() & told.keys():
            if facts[name] != told[name]:
                raise Unnamed(f"{name}: the table says {facts[name]!r}, the program {told[name]!r}")
        return {**facts, **told}

    def folder_of(self, facts: Facts) -> str:
        """Return the folder of a scanner's papers.

        Raises:
            Unnamed: a fact is missing, or cannot be part of a path.
        """
        return _filled(self.folder, _safe(facts, self.folder), "folder")

    def keys_of(self, facts: Facts) -> dict[str, str]:
        """Return the keys' places that this driver names.

        Raises:
            Unnamed: as ``folder_of``.
        """
        named = asdict(self.keys).items()
        return {name: _filled(text, _safe(facts, text), f"keys.{name}") for name, text in named if text}


def driver_for(drivers: Iterable[Driver], plugged: Plugged) -> Driver | None:
    """Return the first driver that knows what is plugged in."""
    return next((driver for driver in drivers if driver.is_for(plugged)), None)


def _filled(text: str, values: Mapping[str, str], what: str) -> str:
    missing = [name for name in _PLACE.findall(text) if not values.get(name)]
    if missing:
        raise Unnamed(f"{what}: the scanner does not say {', '.join(missing)}")
    return _PLACE.sub(lambda found: values[found[1]], text)


def _safe(facts: Facts, text: str) -> Facts:
    for name in _PLACE.findall(text):
        value = facts.get(name)
        if value is not None and not _NAMES_A_FOLDER.fullmatch(value):
            raise Unnamed(f"{name} = {value[:MOST_FACT_CHARS]!r}: cannot be part of a path; letters, digits, . _ - can")
    return facts


def read_drivers(value: Any, path: Path, text: str) -> tuple[Driver, ...]:
    """Read the table. value: what stands at ``driver`` in the file.

    Raises:
        ConfigProblem: an entry cannot be used; the message names it.
    """
    if not isinstance(value, list):
        raise ConfigProblem(f"{path}: driver must be a list of tables: [[driver]]")
    drivers = tuple(_driver(entry, path, text, number) for number, entry in enumerate(value, 1))
    names = [driver.name for driver in drivers]
    for name in names:
        if names.count(name) > 1:
            raise ConfigProblem(f"{path}: [[driver]] {name!r} stands twice")
    return drivers


def _driver(entry: Any, path: Path, text: str, number: int) -> Driver:
    if not isinstance(entry, dict):
        raise ConfigProblem(f"{path}: driver must be a list of tables: [[driver]]")
    where = f"driver {entry.get('name') or number}"
    keys = table_of(ScannerKeys, entry.get("keys", {}), (path, text, f"{where} keys"))
    driver: Driver = table_of(Driver, entry | {"keys": keys}, (path, text, where))
    _check(driver, path, text, f"{path}: [{where}]")
    return driver


def _check(driver: Driver, path: Path, text: str, where: str) -> None:
    if not driver.name:
        raise ConfigProblem(f"{where} needs name")
    if not (driver.vendor or driver.product or driver.properties):
        raise ConfigProblem(f"{where} needs vendor, product or properties, or it would take every plug")
    for name in _IDS:
        if (value := getattr(driver, name)) and not _HEX4.fullmatch(value):
            raise ConfigProblem(f"{where} {name} = {value!r}: expected four hexadecimal digits")
    for name in driver.fields:
        require_known(name, FACTS, path, text)
    _strings(driver.fields | driver.properties, where)
    _check_places(driver, where)


def _check_places(driver: Driver, where: str) -> None:
    if "{serialNo}" not in driver.folder:
        raise ConfigProblem(f"{where} folder = {driver.folder!r}: must name {{serialNo}}: each scanner has its own")
    if not driver.program and "serialNo" not in driver.fields:
        raise ConfigProblem(f"{where} needs fields.serialNo, or a program that tells it")
    if driver.program and (not all(isinstance(word, str) for word in driver.program) or driver.program[0][:1] != "/"):
        raise ConfigProblem(f"{where} program: expected words, the first an absolute path; no shell is involved")
    for text in (driver.folder, *asdict(driver.keys).values()):
        for name in _PLACE.findall(text):
            if name not in FACTS:
                raise ConfigProblem(f"{where} {text!r}: {{{name}}} is no fact; known: {', '.join(FACTS)}")


def _strings(values: Mapping[str, Any], where: str) -> None:
    for name, value in values.items():
        if not isinstance(value, str) or not value:
            raise ConfigProblem(f"{where} {name} = {value!r}: expected text")
