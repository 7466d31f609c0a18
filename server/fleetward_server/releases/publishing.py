"""Taking in what the offline keys signed: verified as a device would, the bytes first, and ``timestamp`` last of all.

A break anywhere leaves the set that was in force; done again, it is done whole. Source: S7, C7, C8; TUF 1.0 section 5
and 6.2.
"""

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.metadata import TargetFile

from fleetward_broker.durable import write_durably
from fleetward_server.amend import with_releases, write
from fleetward_server.config import Config
from fleetward_server.lines import alone
from fleetward_server.locks import CHANGE_S
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases import online
from fleetward_server.releases.files import (
    METADATA,
    TARGETS,
    Offline,
    Unverified,
    Whole,
    in_folder,
    newest,
    open_offline,
    open_roots,
    open_set,
    targets_of,
)
from fleetward_server.releases.keys import keep, open_online
from fleetward_server.releases.places import ELSEWHERE, home, read_elsewhere, stored_as
from fleetward_server.releases.request import EXCHANGE, Exchange, copied, measured
from fleetward_server.releases.rules import may_release
from fleetward_server.releases.shelf import custom_of, open_repository

LONGEST = timedelta(days=367)


@dataclass(frozen=True, slots=True)
class Published:
    """What came into force. root: its version if it is another one, 0 if not."""

    released: tuple[TargetFile, ...]
    withdrawn: tuple[TargetFile, ...]
    root: int
    files: int


def publish(config: Config, exchange: Exchange, now: datetime) -> Published:
    """Take in what was signed.

    Raises:
        OperatorProblem: ``unverified``, ``held``, ``not-found``; ``conflict``: nothing there is new. KeyUnavailable,
            OSError: what was in force is.
    """
    with online.alone(config.folder):
        before = open_repository(config.folder)
        after, files = _carried(before, exchange)
        if not files:
            raise OperatorProblem(Kind.CONFLICT, f"{exchange.signed}: nothing there that is new; was it signed?")
        _in_time(after, files, now)
        released, withdrawn = _compared(before.offline, after)
        config = _with_new_keys(config, exchange, after)
        made = files | online.both(after, online.numbers(before), open_online(config), now)
        # All of it once more as a device reads it, before anything is changed.
        whole = open_set({**before.files, **made}.get, before.files["1.root"])
        _take_bytes(config, exchange, released)
        keep(home(config.folder) / METADATA, made)
        _tidy(config, (name for name in before.files if name not in whole.files), withdrawn)
        exists = {one.path for one in targets_of(whole.offline)}
        # What was carried, and what it was copied from.
        for one in {exchange.folder.resolve(), (home(config.folder) / EXCHANGE).resolve()}:
            Exchange(one).settle(whole.files, exists)
    root = after.root.version
    return Published(released, withdrawn, 0 if root == before.offline.root.version else root, len(files))


def _carried(before: Whole, exchange: Exchange) -> tuple[Offline, dict[str, bytes]]:
    """Return what the offline keys say with what was carried, and the files that are new. C8: no version goes back."""
    signed = in_folder(exchange.signed)

    def read(name: str) -> bytes | None:
        return before.files.get(name) or signed(name)

    roots = open_roots(read, before.files["1.root"])
    versions = {role: max(number, newest(exchange.signed, role)) for role, number in before.offline.versions().items()}
    after = open_offline(read, roots, versions)
    names = [f"{one.signed.version}.root" for one in roots]
    names += [f"{number}.{role}" for role, number in after.versions().items()]
    return after, {name: raw for name in names if name not in before.files and (raw := signed(name)) is not None}


def _in_time(after: Offline, new: Collection[str], now: datetime) -> None:
    """What has ended no device takes; what was signed by a clock that is ahead would be good for too long."""
    roles = {"root": after.root, "targets": after.targets.signed} | {
        role: one.signed for role, one in after.bins.items()
    }
    for role, one in roles.items():
        if one.is_expired(now):
            raise Unverified(f"{one.version}.{role}: ended at {one.expires:%Y-%m-%d %H:%M}Z; have it signed anew")
        if f"{one.version}.{role}" in new and one.expires > now + LONGEST:
            told = f"good until {one.expires:%Y-%m-%d}, over a year: is the clock beside the offline keys ahead?"
            raise Unverified(f"{one.version}.{role}: {told}")


def _compared(before: Offline, after: Offline) -> tuple[tuple[TargetFile, ...], tuple[TargetFile, ...]]:
    old, new = ({one.path: one for one in targets_of(each)} for each in (before, after))
    released = {path: one for path, one in new.items() if path not in old}
    changed = [path for path, one in new.items() if path in old and one != old[path]]
    if changed:
        raise OperatorProblem(Kind.HELD, f"{changed[0]}: signed with other bytes than were released under that path")
    # In the order in which they could have been asked for, which nothing here tells.
    customs = sorted(((path, custom_of(one)) for path, one in released.items()), key=lambda one: one[1].counter)
    may_release(dict(customs), {path: custom_of(one) for path, one in old.items()})
    withdrawn = tuple(one for path, one in old.items() if path not in new)
    return tuple(released.values()), withdrawn


def _with_new_keys(config: Config, exchange: Exchange, after: Offline) -> Config:
    """Take the online keys that the root names now; written down first, for without them nothing can be said anew."""
    changed = {
        f"{role}_key": one.uri
        for role, one in exchange.request.online.items()
        if one.keyid in after.root.roles[role].keyids and getattr(config.releases, f"{role}_key") != one.uri
    }
    if changed:
        with alone(config, CHANGE_S):
            config, raw = with_releases(config, changed)
            write(config.folder, raw)
    return config


def _take_bytes(config: Config, exchange: Exchange, released: Iterable[TargetFile]) -> None:
    """Put the bytes of each into the store, or note who else serves them."""
    of, elsewhere = home(config.folder), read_elsewhere(home(config.folder))
    urls = {one.path: one.url for one in exchange.request.add if one.url is not None}
    for one in released:
        if one.path in urls:
            elsewhere[one.path] = urls[one.path]
            continue
        source, place = exchange.bytes_of(one.hashes["sha256"]), _stored(config, one)
        if not place.exists():
            _proven(source, one)
            copied(source, place)
    write_durably(of / ELSEWHERE, json.dumps(elsewhere, indent=1, sort_keys=True).encode() + b"\n")


def _proven(source: Path, target: TargetFile) -> None:
    if not source.exists():
        raise OperatorProblem(Kind.NOT_FOUND, f"{target.path}: {source}: its bytes are not there")
    if measured(source) != (target.hashes["sha256"], target.length):
        raise Unverified(f"{target.path}: {source}: other bytes than were signed")


def _stored(config: Config, target: TargetFile) -> Path:
    return home(config.folder) / TARGETS / stored_as(target.path, target.hashes["sha256"])


def _tidy(config: Config, old: Iterable[str], withdrawn: Iterable[TargetFile]) -> None:
    """Remove what nothing names any more. What a break leaves of it does no harm."""
    for name in old:
        (home(config.folder) / METADATA / f"{name}.json").unlink(missing_ok=True)
    for one in withdrawn:
        _stored(config, one).unlink(missing_ok=True)
