"""The broker's configuration: one small TOML file, read once, paths relative to it.

Rule: a mistake is told as one line that names the file, the key and what was expected, before anything is opened.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from fleetward_broker.logs import FORMATS, LEVELS
from fleetward_schemas.topics import Role

MIB = 1024 * 1024
MOST = {"port": 65535, "window": 32767, "keep_alive_s": 43690}


class BadConfig(Exception):  # noqa: N818 - says what is wrong with the input
    """The configuration cannot be used; the message names file, key and what was expected."""


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen. port: 0 for any free one."""

    host: str = "127.0.0.1"
    port: int = 0


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. roots: provider root, and issuing CAs if clients leave them out. crls: one per issuing CA."""

    certificate: Path
    key: Path
    roots: Path
    crls: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class RoleLimits:
    """What one principal of a role may use. window: messages in flight; sessions: kept or connected at a time.

    packets_per_s: publishes and all others, each member of a SUBSCRIBE for itself; 0 for no cap. Over it the connection
    is read more slowly, nothing is lost.
    """

    window: int = 20
    sessions: int = 2
    subscriptions: int = 16
    queue_messages: int = 1000
    queue_bytes: int = 4 * MIB
    packets_per_s: int = 200
    burst: int = 1000


SERVER_LIMITS = RoleLimits(
    window=2000,
    sessions=64,
    subscriptions=256,
    queue_messages=200_000,
    queue_bytes=256 * MIB,
    packets_per_s=0,
)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the whole broker, and of each role.

    connects_per_s: new connections in any second; one too many is sent away before TLS and comes again. connect_s:
    from TCP accept to CONNECT. keep_alive_s: the longest silence a client may ask for. session_days: how long a kept
    session waits for its owner.
    """

    connections: int = 10_000
    connects_per_s: int = 1000
    connect_s: int = 10
    keep_alive_s: int = 600
    session_days: int = 30
    device: RoleLimits = field(default_factory=RoleLimits)
    factory: RoleLimits = field(default_factory=RoleLimits)
    view: RoleLimits = field(default_factory=lambda: RoleLimits(sessions=8))
    server: RoleLimits = SERVER_LIMITS

    def of(self, role: Role) -> RoleLimits:
        """Return what a principal of ``role`` may use."""
        return {Role.DEVICE: self.device, Role.FACTORY: self.factory, Role.VIEW: self.view, Role.SERVER: self.server}[
            role
        ]


@dataclass(frozen=True, slots=True)
class Log:
    """How to log."""

    level: str = "info"
    format: str = "text"


@dataclass(frozen=True, slots=True)
class Config:
    """The whole file."""

    listen: Listen
    tls: Tls
    store: Path
    limits: Limits = field(default_factory=Limits)
    log: Log = field(default_factory=Log)


def load(path: Path) -> Config:
    """Read and check the file.

    Raises:
        BadConfig: one line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'not UTF-8'}") from None
    try:
        return _Reader(path).config(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise BadConfig(f"{path}: not TOML: {error}") from None


@dataclass(frozen=True, slots=True)
class _Reader:
    """One reading of one file: every complaint starts with its name."""

    path: Path

    def config(self, found: dict[str, Any]) -> Config:
        self._known("", found, {"listen", "tls", "store", "limits", "log"})
        listen = self._table(found, "listen", {"host", "port"})
        tls = self._table(found, "tls", {"certificate", "key", "roots", "crls"})
        store = self._table(found, "store", {"path"})
        return Config(
            listen=Listen(self._text(listen, "listen.host"), self._number(listen, "listen.port", 0)),
            tls=self._tls(tls),
            store=self._file(store, "store.path"),
            limits=self._limits(found.get("limits", {})),
            log=self._log(found.get("log", {})),
        )

    def _tls(self, found: Mapping[str, Any]) -> Tls:
        crls = found.get("crls")
        if not isinstance(crls, list) or not all(isinstance(crl, str) and crl for crl in crls):
            raise self._bad("tls.crls", "a list of PEM files, one per issuing CA", crls)
        return Tls(
            certificate=self._file(found, "tls.certificate"),
            key=self._file(found, "tls.key"),
            roots=self._file(found, "tls.roots"),
            crls=tuple(self.path.parent / crl for crl in crls),
        )

    def _limits(self, found: Any) -> Limits:
        table = self._table({"limits": found}, "limits", {f.name for f in fields(Limits)})
        limits = Limits()
        for name in table:
            default = getattr(limits, name)
            is_role = isinstance(default, RoleLimits)
            value: Any = self._role(table, name, default) if is_role else self._number(table, f"limits.{name}")
            limits = replace(limits, **{name: value})
        return limits

    def _role(self, limits: Mapping[str, Any], name: str, default: RoleLimits) -> RoleLimits:
        found = self._table(limits, f"limits.{name}", {f.name for f in fields(RoleLimits)})
        least = {"packets_per_s": 0}
        given = {key: self._number(found, f"limits.{name}.{key}", least.get(key, 1)) for key in found}
        return replace(default, **given)

    def _log(self, found: Any) -> Log:
        table = self._table({"log": found}, "log", {"level", "format"})
        log = Log(table.get("level", "info"), table.get("format", "text"))
        if log.level not in LEVELS:
            raise self._bad("log.level", " | ".join(LEVELS), log.level)
        if log.format not in FORMATS:
            raise self._bad("log.format", " | ".join(FORMATS), log.format)
        return log

    def _table(self, found: Mapping[str, Any], name: str, keys: set[str]) -> dict[str, Any]:
        table = found.get(name.rpartition(".")[2])
        if not isinstance(table, dict):
            raise self._bad(name, "a table", table)
        self._known(f"{name}.", table, keys)
        return table

    def _known(self, prefix: str, found: Mapping[str, Any], keys: set[str]) -> None:
        for key in found:
            if key not in keys:
                raise BadConfig(f"{self.path}: {prefix}{key}: unknown, expected one of {', '.join(sorted(keys))}")

    def _text(self, found: Mapping[str, Any], name: str) -> str:
        value = found.get(name.rpartition(".")[2])
        if not isinstance(value, str) or not value:
            raise self._bad(name, "a text", value)
        return value

    def _file(self, found: Mapping[str, Any], name: str) -> Path:
        return self.path.parent / self._text(found, name)

    def _number(self, found: Mapping[str, Any], name: str, least: int = 1) -> int:
        key = name.rpartition(".")[2]
        value, most = found.get(key), MOST.get(key, 2**40)
        if type(value) is not int or not least <= value <= most:
            raise self._bad(name, f"an integer {least}..{most}", value)
        return value

    def _bad(self, name: str, expected: str, found: object) -> BadConfig:
        return BadConfig(
            f"{self.path}: {name}: expected {expected}, found {'nothing' if found is None else repr(found)}"
        )
