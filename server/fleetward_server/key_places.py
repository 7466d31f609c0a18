"""Where the keys of the configuration live, and when the certificates over them end.

No key is asked for unless told to: a list must not need a token. Source: S6.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from pathlib import Path

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import SCHEME, is_software, read_uri
from fleetward_broker.signers import file_of, open_key
from fleetward_server.config import Config
from fleetward_server.generations import ROOT, Generation, all_generations, roots
from fleetward_server.standing import LINES, certificates_of_others, read_line

FILE_SCHEME = "file:"
RELEASES = "releases"


@dataclass(frozen=True, slots=True)
class KeyTold:
    """One key of the configuration. name: table and key. place: where it lives. state: ``there``, or what is wrong.

    certificate: the name of the certificate over it, and when that ends; empty and None where there is none.
    """

    name: str
    uri: str
    place: str
    state: str
    certificate: str = ""
    not_after: datetime | None = None


def keys(config: Config, *, ask: bool) -> tuple[KeyTold, ...]:
    """Return every key that the configuration names, and those of the line. ask: open each, to see that it is there.

    Raises:
        AuthorityProblem: a certificate cannot be read.
    """
    ends = {_named(one): (one.stem, one.certificate.not_valid_after_utc) for one in all_generations(config)}
    if config.mosip.on and config.mosip.certificate:
        first = certificates_of_others(config, ())[0]
        ends["mosip.key"] = (first.name, first.not_after)
    ends[f"keys.{ROOT}"] = (ROOT, roots(config)[-1].not_valid_after_utc)
    named = ((name, uri) for name, uri in _uris("", config) if _in_use(config, name))
    told = [_told(config, name, uri, ends.get(name), ask=ask) for name, uri in named]
    lines = ((name, read_line(config, name)[0].not_valid_after_utc) for name in LINES)
    told += [_told(config, f"line.{name}", f"file:pki/{name}.key.pem", (name, end), ask=ask) for name, end in lines]
    return tuple(told)


def _in_use(config: Config, name: str) -> bool:
    """Say whether a key is missed when it is away: those of releases are made with the repository."""
    return not name.startswith("releases.") or (config.folder / RELEASES).is_dir()


def _named(one: Generation) -> str:
    return f"keys.former.{one.stem}" if one.former else f"keys.{one.office.replace('-', '_')}"


def _uris(name: str, value: object) -> Iterator[tuple[str, str]]:
    """Find every URI of a key in a configuration, whichever table it stands in."""
    if isinstance(value, str) and value.startswith((FILE_SCHEME, SCHEME)):
        yield name, value
    elif isinstance(value, Mapping):
        for key, member in value.items():
            yield from _uris(f"{name}.{key}".lstrip("."), member)
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _uris(f"{name}.{field.name}".lstrip("."), getattr(value, field.name))


def _told(config: Config, name: str, uri: str, end: tuple[str, datetime] | None, *, ask: bool) -> KeyTold:
    certificate, not_after = end or ("", None)
    return KeyTold(name, uri, _place(uri, config.folder), _state(uri, config.folder, ask=ask), certificate, not_after)


def _place(uri: str, folder: Path) -> str:
    if not uri.startswith(SCHEME):
        return f"file {file_of(uri, folder)}"
    token = read_uri(uri, folder)
    software = " (SoftHSM: files of this host)" if is_software(token) else ""
    return f"token {token.token_name}, key {token.key_name}{software}"


def _state(uri: str, folder: Path, *, ask: bool) -> str:
    if ask:
        try:
            open_key(uri, folder)
        except KeyUnavailable as problem:
            return str(problem)
        return "there"
    if uri.startswith(SCHEME):
        return "not asked"
    return "there" if file_of(uri, folder).exists() else "not there"
