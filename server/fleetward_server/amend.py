"""``fleetward.toml`` changed by ourselves: one rewrite that keeps every comment and is read before it is written."""

import tomllib
from collections.abc import Mapping
from pathlib import Path

import tomlkit
from tomlkit.exceptions import ParseError
from tomlkit.items import Table

from fleetward_broker.durable import write_durably
from fleetward_server.config import FILE, Config, ConfigProblem, check, read


def with_keys(
    config: Config, changed: Mapping[str, str], former: Mapping[str, str], mosip: Mapping[str, str] | None = None
) -> tuple[Config, bytes]:
    """Return the configuration with other keys, and the file's text to write.

    changed: key of ``[keys]`` -> URI. mosip: what to write into a ``[mosip]`` that is there.

    Raises:
        ConfigProblem: the file cannot be read, or what comes of it would be refused.
    """
    path = config.folder / FILE
    try:
        document = tomlkit.parse(path.read_bytes().decode())
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise ConfigProblem(f"{path}: cannot be read: {error}") from None
    for name, value in (mosip or {}).items():
        document["mosip"][name] = value
    keys = document.get("keys")
    if keys is None:
        keys = document["keys"] = tomlkit.table()
    if not isinstance(keys, Table):
        raise ConfigProblem(f"{path}: [keys] must be a table of its own")
    for name, uri in changed.items():
        keys[name] = uri
    keys.pop("former", None)
    if former:
        table = keys["former"] = tomlkit.table()
        table.comment("followed by others; they sign revocation lists until their certificates end, and nothing else")
        table.update(former)
    raw = tomlkit.dumps(document).encode()
    return check(read(tomllib.loads(raw.decode()), path, config.folder), path), raw


def with_releases(config: Config, changed: Mapping[str, str]) -> tuple[Config, bytes]:
    """Return the configuration with these keys of ``[releases]``, and the file's text to write. Raises: as above."""
    path = config.folder / FILE
    try:
        document = tomlkit.parse(path.read_bytes().decode())
    except (OSError, UnicodeDecodeError, ParseError) as error:
        raise ConfigProblem(f"{path}: cannot be read: {error}") from None
    if "releases" not in document:
        document["releases"] = tomlkit.table()
    for name, value in changed.items():
        document["releases"][name] = value
    raw = tomlkit.dumps(document).encode()
    return check(read(tomllib.loads(raw.decode()), path, config.folder), path), raw


def write(folder: Path, raw: bytes) -> None:
    """Put a text in the place of the folder's configuration, whole or not at all. Raises: OSError."""
    path = folder / FILE
    write_durably(path, raw, path.stat().st_mode & 0o777)
