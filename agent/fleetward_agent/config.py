"""``agent.toml``, or a provisioned folder without one: read strictly; an unknown key is an error naming the nearest.

Relative paths start from the folder of the file. Source: protocol section 1 (what the factory puts into a device).
"""

import difflib
import re
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import ValidationError

from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Certification, DigitalId, Environment, Purpose
from fleetward_schemas.jws import Alg
from fleetward_schemas.strict import read_object

FILE = "agent.toml"
NO_DATE = "1970-01-01T00:00:00Z"
"""Stands for ``dateTime`` until the identity is signed, which gives it its moment."""


class ConfigProblem(Exception):  # noqa: N818 - says what is wrong with the file
    """The configuration cannot be used; the message names file, line, key, and what was expected."""


@dataclass(frozen=True, slots=True)
class ServerTable:
    """Where to connect. name: what the broker's certificate must say; empty: the host."""

    host: str = ""
    port: int = 8883
    name: str = ""
    env: Environment = Environment.DEVELOPER
    keep_alive_s: int = 20


@dataclass(frozen=True, slots=True)
class IdentityTable:
    """Who the device is, and whom it trusts."""

    file: str = "identity.json"
    provider_root: str = "provider-root.pem"


@dataclass(frozen=True, slots=True)
class KeysTable:
    """Keys by URI, chains as PEM (leaf first, root left out); ``ftm`` counts at L1 alone."""

    ftm: str = "file:ftm.key.pem"
    ftm_chain: str = "ftm.chain.pem"
    factory: str = "file:factory.key.pem"
    factory_chain: str = "factory.chain.pem"
    device_alg: Alg = Alg.RS256
    transport_alg: Alg = Alg.EDDSA


@dataclass(frozen=True, slots=True)
class StateTable:
    """Where the agent writes."""

    dir: str = "state"


@dataclass(frozen=True, slots=True)
class LimitsTable:
    """How much the outbox may hold."""

    outbox_rows: int = 50_000
    outbox_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class LogTable:
    """How the log is written, to stderr."""

    level: str = "info"
    format: str = "text"


@dataclass(frozen=True, slots=True)
class Papers:
    """The content of ``identity.json``."""

    digital_id: DigitalId
    certification: Certification
    purpose: Purpose


@dataclass(frozen=True, slots=True)
class Config:
    """The whole of it. folder: where relative paths start; papers' own file is read already."""

    folder: Path
    identity: Papers
    server: ServerTable
    files: IdentityTable = field(default_factory=IdentityTable)
    keys: KeysTable = field(default_factory=KeysTable)
    state: StateTable = field(default_factory=StateTable)
    limits: LimitsTable = field(default_factory=LimitsTable)
    log: LogTable = field(default_factory=LogTable)

    @property
    def state_dir(self) -> Path:
        """The folder of everything the agent writes."""
        return self.folder / self.state.dir

    @property
    def provider_root(self) -> Path:
        """PEM of the provider's root."""
        return self.folder / self.files.provider_root


_TABLES: dict[str, type] = {
    "server": ServerTable,
    "identity": IdentityTable,
    "keys": KeysTable,
    "state": StateTable,
    "limits": LimitsTable,
    "log": LogTable,
}
_BOUNDS = {"port": (1, 65535), "keep_alive_s": (5, 60), "outbox_rows": (100, 10**7), "outbox_bytes": (2**16, 2**40)}
_WORDS = {"level": ("debug", "info", "warning", "error"), "format": ("text", "json")}


def load(path: Path) -> Config:
    """Read a configuration file.

    Raises:
        ConfigProblem: missing, broken, or holding what nobody knows.
    """
    text = _text(path)
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigProblem(f"{path}: {error}") from None
    for name in document:
        _known(name, list(_TABLES), path, text)
    tables = {name: _table(kind, document.get(name, {}), (path, text, name)) for name, kind in _TABLES.items()}
    if not tables["server"].host:
        raise ConfigProblem(f"{path}: [server] needs host")
    return _whole(path.parent, tables)


def from_folder(folder: Path) -> Config:
    """Read a provisioned folder; an ``agent.toml`` in it wins over ``connection.json``.

    Raises:
        ConfigProblem: what a provisioned folder needs is missing or broken.
    """
    if (folder / FILE).exists():
        return load(folder / FILE)
    path = folder / "connection.json"
    document = _json(path)
    names = {"host": "host", "port": "port", "serverName": "name", "env": "env"}
    for name in document:
        _known(name, list(names), path, _text(path))
    found = {names[name]: value for name, value in document.items()}
    if "host" not in found:
        raise ConfigProblem(f"{path}: needs host")
    return _whole(folder, {"server": _table(ServerTable, found, (path, "", "server"))})


def _whole(folder: Path, tables: dict[str, Any]) -> Config:
    files = tables.pop("identity", IdentityTable())
    return Config(folder=folder, identity=papers(folder / files.file), files=files, **tables)


def papers(path: Path) -> Papers:
    """Read ``identity.json``.

    Raises:
        ConfigProblem: it does not hold a lawful identity.
    """
    document = _json(path)
    try:
        certification = Certification(document.pop("certification", None))
        purpose = Purpose(document.pop("purpose", None))
        return Papers(DigitalId.model_validate({"dateTime": NO_DATE} | document), certification, purpose)
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        raise ConfigProblem(f"{path}: {'.'.join(map(str, first['loc'])) or 'identity'}: {first['msg']}") from None
    except ValueError:
        levels, purposes = ", ".join(Certification), ", ".join(Purpose)
        raise ConfigProblem(f"{path}: needs certification ({levels}) and purpose ({purposes})") from None


def _table(kind: type, value: Any, where: tuple[Path, str, str]) -> Any:
    path, text, name = where
    if not isinstance(value, dict):
        raise ConfigProblem(f"{path}: [{name}] must be a table")
    hints = get_type_hints(kind)
    for key in value:
        _known(key, [f.name for f in fields(kind)], path, text)
    return kind(**{key: _value(hints[key], entry, key, f"{path}: [{name}] {key}") for key, entry in value.items()})


def _value(kind: Any, value: Any, key: str, where: str) -> Any:
    if kind in {Environment, Alg}:
        return kind(_one_of(value, tuple(kind), where))
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ConfigProblem(f"{where} = {value!r}: expected {kind.__name__}")
    if key in _WORDS:
        return _one_of(value, _WORDS[key], where)
    low, high = _BOUNDS.get(key, (None, None))
    if low is not None and high is not None and not low <= value <= high:
        raise ConfigProblem(f"{where} = {value}: expected {low}..{high}")
    return value


def _one_of(value: Any, words: tuple[str, ...], where: str) -> Any:
    if value not in words:
        raise ConfigProblem(f"{where} = {value!r}: expected one of {', '.join(words)}{_near(value, words)}")
    return value


def _known(key: str, names: list[str], path: Path, text: str) -> None:
    if key not in names:
        hint = _near(key, names) or f"; known: {', '.join(names)}"
        raise ConfigProblem(f"{path}{_line(text, key)}: unknown key {key!r}{hint}")


def _near(word: object, words: Any) -> str:
    near = difflib.get_close_matches(str(word), list(words), 1)
    return f"; did you mean {near[0]!r}?" if near else ""


def _line(text: str, key: str) -> str:
    """Return ``:<line>`` of the first line that names ``key``, or nothing."""
    pattern = re.compile(rf'\s*\[?\s*"?{re.escape(key)}"?\s*[=\]:.]')
    found = next((number for number, line in enumerate(text.splitlines(), 1) if pattern.match(line)), None)
    return "" if found is None else f":{found}"


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode()
    except FileNotFoundError:
        raise ConfigProblem(f"{path}: not there") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigProblem(f"{path}: cannot be read: {error}") from None


def _json(path: Path) -> dict[str, Any]:
    try:
        return read_object(_text(path).encode())
    except Refused as refusal:
        raise ConfigProblem(f"{path}: {refusal.detail}") from None
