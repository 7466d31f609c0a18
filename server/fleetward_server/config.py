"""``fleetward.toml``: one commented file per provider, read strictly; an unknown key is an error with the nearest.

Source: S3 (time source), S6 (where keys live).
"""

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import SCHEME, is_software, read_uri
from fleetward_broker.profiles import DEVICE
from fleetward_broker.signers import file_of
from fleetward_schemas.identity import Environment
from fleetward_server.mosip import settings as mosip
from fleetward_server.mosip.settings import OFF, MosipTable
from fleetward_server.releases import settings as releases
from fleetward_server.releases.settings import ReleasesTable
from fleetward_server.settings import (
    AUTHORITY_KEYS,
    BrokerTable,
    DevicesTable,
    EnrolTable,
    KeysTable,
    LimitsTable,
    ProviderTable,
    RetentionTable,
    RotationTable,
    StorageTable,
    TimeTable,
)

FILE = "fleetward.toml"
LISTINGS = ("listed", "open")
SOURCES = ("chrony", "assumed")
PROFILES = ("demo", "production")
DEVICE_DAYS = DEVICE.life.days


class ConfigProblem(Exception):  # noqa: N818 - says what is wrong with the file
    """The file cannot be used; the message names file, table, key, and what was expected."""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file, and the folder it stands in."""

    folder: Path
    provider: ProviderTable
    broker: BrokerTable = field(default_factory=BrokerTable)
    time: TimeTable = field(default_factory=TimeTable)
    enrol: EnrolTable = field(default_factory=EnrolTable)
    devices: DevicesTable = field(default_factory=DevicesTable)
    keys: KeysTable = field(default_factory=KeysTable)
    rotation: RotationTable = field(default_factory=RotationTable)
    retention: RetentionTable = field(default_factory=RetentionTable)
    storage: StorageTable = field(default_factory=StorageTable)
    limits: LimitsTable = field(default_factory=LimitsTable)
    mosip: MosipTable = OFF
    releases: ReleasesTable = field(default_factory=ReleasesTable)

    @property
    def requires_hsm(self) -> bool:
        """Whether keys that are files are refused."""
        chosen = self.keys.require_hsm
        return self.provider.profile == "production" if chosen is None else chosen

    @property
    def store_path(self) -> Path:
        """The server's database."""
        return self.folder / "server.db"

    @property
    def pki(self) -> Path:
        """Where certificates (and, without an HSM, keys) lie."""
        return self.folder / "pki"


def load(folder: Path) -> Config:
    """Read ``folder/fleetward.toml``.

    Raises:
        ConfigProblem: missing, broken, or holding what nobody knows.
    """
    path = folder / FILE
    try:
        raw = path.read_bytes().decode()
    except FileNotFoundError:
        raise ConfigProblem(f"{path}: not there; run: fleetward init --dir {folder}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigProblem(f"{path}: cannot be read: {error}") from None
    try:
        document = tomllib.loads(raw)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblem(f"{path}: {error}") from None
    return check(read(document, path, folder), path)


def read(document: dict[str, Any], path: Path, folder: Path) -> Config:
    """Turn a parsed document into a Config; every key must be known and of its type."""
    hints = get_type_hints(Config)
    names = [f.name for f in fields(Config) if f.name != "folder"]
    _known(document, names, f"{path}")
    if "provider" not in document:
        raise ConfigProblem(f"{path}: needs a [provider] table with name, id and environment")
    tables = {name: _table(hints[name], document[name], f"{path}: [{name}]") for name in names if name in document}
    return Config(folder=folder, **tables)


def _table(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise ConfigProblem(f"{where} must be a table")
    hints = get_type_hints(kind)
    _known(value, [f.name for f in fields(kind)], where)
    missing = [f.name for f in fields(kind) if f.name not in value and f.default is f.default_factory is MISSING]
    if missing:
        raise ConfigProblem(f"{where} needs {', '.join(missing)}")
    return kind(**{name: _value(hints[name], entry, f"{where} {name}") for name, entry in value.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    if kind is Environment:
        if value not in list(Environment):
            raise ConfigProblem(f"{where} = {value!r}: expected one of {', '.join(Environment)}")
        return Environment(value)
    if get_origin(kind) is Mapping:
        if not isinstance(value, dict) or not all(isinstance(uri, str) for uri in value.values()):
            raise ConfigProblem(f"{where} = {value!r}: expected a table of texts")
        return dict(value)
    if get_origin(kind) is tuple:
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigProblem(f"{where} = {value!r}: expected a list of texts")
        return tuple(value)
    plain = get_args(kind)[0] if get_origin(kind) is not None else kind
    if not isinstance(value, plain) or isinstance(value, bool) != (plain is bool):
        raise ConfigProblem(f"{where} = {value!r}: expected {plain.__name__}")
    return value


def _known(document: dict[str, Any], names: list[str], where: str) -> None:
    for key in document:
        if key not in names:
            near = difflib.get_close_matches(key, names, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
            raise ConfigProblem(f"{where}: unknown key {key!r}{hint}")


def check(config: Config, path: Path) -> Config:
    """Refuse what is well-formed and unlawful."""
    _one_of(path, "[enrol] policy", config.enrol.policy, LISTINGS)
    _one_of(path, "[time] source", config.time.source, SOURCES)
    _one_of(path, "[provider] profile", config.provider.profile, PROFILES)
    _between(path, "[broker] port", config.broker.port, 0, 65535)
    _between(path, "[broker] connects_per_s", config.broker.connects_per_s, 1, 100_000)
    _between(path, "[time] radius_ms", config.time.radius_ms, 1, 10_000)
    if config.time.require_nts and config.time.source != "chrony":
        raise ConfigProblem(f"{path}: [time] require_nts = true: needs source = 'chrony'")
    _between(path, "[time] beacon_s", config.time.beacon_s, 1, 3600)
    _between(path, "[enrol] retry_after_s", config.enrol.retry_after_s, 1, 604_800)
    _between(path, "[devices] telemetry_s", config.devices.telemetry_s, 1, 86_400)
    _between(path, "[devices] time_s", config.devices.time_s, 10, 86_400)
    _between(path, "[retention] telemetry_days", config.retention.telemetry_days, 1, 36_500)
    _between(path, "[retention] reports_days", config.retention.reports_days, 1, 36_500)
    _between(path, "[storage] min_free_mb", config.storage.min_free_mb, 1, 1_000_000)
    for name, most in (("reports_per_s", 10_000), ("reports_burst", 10**6), ("reports_per_day", 10**7)):
        _between(path, f"[limits] {name}", getattr(config.limits, name), 1, most)
    _between(path, "[limits] mib_per_day", config.limits.mib_per_day, 1, 10**6)
    _between(path, "[rotation] after_days", config.rotation.after_days, 0, 28)
    _between(path, "[rotation] jitter_days", config.rotation.jitter_days, 0, 28)
    if config.rotation.after_days + config.rotation.jitter_days > DEVICE_DAYS - 2:
        latest = f"after_days + jitter_days is at most {DEVICE_DAYS - 2}: a certificate lives {DEVICE_DAYS} days"
        raise ConfigProblem(f"{path}: [rotation] {latest}")
    _keys(config, path)
    for problem in mosip.problems(config.mosip):
        raise ConfigProblem(f"{path}: [mosip] {problem}")
    for problem in releases.problems(config.releases, config.folder):
        raise ConfigProblem(f"{path}: [releases] {problem}")
    if config.provider.profile == "production":
        _production(config, path)
    if config.requires_hsm:
        _in_tokens(config, path)
    return config


def _keys(config: Config, path: Path) -> None:
    former = {f"former {stem}": uri for stem, uri in config.keys.former.items()}
    for name, uri in (config.keys.by_name() | former).items():
        try:
            if uri.startswith(SCHEME):
                read_uri(uri, config.folder)
        except KeyUnavailable as problem:
            raise ConfigProblem(f"{path}: [keys] {name.replace('-', '_')}: {problem}") from None


def _production(config: Config, path: Path) -> None:
    """S3: its own clock is measured. S6: the authorities' keys are in a token, and not one of software."""
    where = "is refused by profile 'production'"
    if config.time.source == "assumed":
        raise ConfigProblem(f"{path}: [time] source = 'assumed' {where}: use 'chrony'")
    if config.keys.require_hsm is False:
        raise ConfigProblem(f"{path}: [keys] require_hsm = false {where}: leave it out")
    for name in AUTHORITY_KEYS:
        uri = getattr(config.keys, name)
        if uri.startswith(SCHEME) and is_software(read_uri(uri, config.folder)):
            raise ConfigProblem(f"{path}: [keys] {name}: SoftHSM keeps files, and a file {where}: use an HSM's token")


def _in_tokens(config: Config, path: Path) -> None:
    """S6: no authority's key is a file; the root's may be away, but may not lie here."""
    why = "by require_hsm" if config.keys.require_hsm else "by profile 'production'"
    for name in AUTHORITY_KEYS:
        if not getattr(config.keys, name).startswith(SCHEME):
            raise ConfigProblem(f"{path}: [keys] {name}: a file is refused {why}: name a key in a token, pkcs11:...")
    root = config.keys.root
    if not root.startswith(SCHEME) and file_of(root, config.folder).exists():
        raise ConfigProblem(f"{path}: [keys] root: a file is refused {why}: move it to an offline token or medium")


def _one_of(path: Path, what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        near = difflib.get_close_matches(value, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigProblem(f"{path}: {what} = {value!r}: expected one of {', '.join(known)}{hint}")


def _between(path: Path, what: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ConfigProblem(f"{path}: {what} = {value}: expected {low}..{high}")
