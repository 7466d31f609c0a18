"""What is done beside the offline keys: a request is checked, shown, and signed. Nothing that was carried is believed.

The base is the keys' own copy of the repository; what the carried set has that is newer counts only if our keys signed
it (another holder of them did), and one version with two contents is refused. So no file goes back, whatever the stick
says, and what was signed and got lost goes along again. Source: S7, C8; TUF 1.0 section 5; decision on the repository.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tuf.api.metadata import TargetFile

from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases import making
from fleetward_server.releases.files import (
    MOST_BYTES,
    Offline,
    Read,
    Unverified,
    in_folder,
    newest,
    open_offline,
    open_roots,
    open_set,
    targets_of,
)
from fleetward_server.releases.keys import OfflineKeys, Signed
from fleetward_server.releases.request import SIGNED, Exchange, Wanted
from fleetward_server.releases.rules import HALF, end, may_release, target_file
from fleetward_server.releases.shelf import custom_of


@dataclass(frozen=True, slots=True)
class Base:
    """What stands before anything is signed. files: of the offline roles, by name. carried: names that came along."""

    offline: Offline
    files: Mapping[str, bytes]
    carried: frozenset[str]


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be signed. new: checked, not there yet; withdrawn: paths; bins: whole contents of those that change.

    again: roles that are signed anew since half their life is over.
    """

    base: Base
    new: tuple[Wanted, ...]
    withdrawn: tuple[str, ...]
    bins: Mapping[str, Mapping[str, TargetFile]]
    again: tuple[str, ...]
    life: timedelta

    @property
    def empty(self) -> bool:
        """Whether there is nothing to sign."""
        return not (self.bins or self.again)


def prepare(keys: OfflineKeys, exchange: Exchange, now: datetime) -> Plan:
    """Check what was carried here, and say what would be signed.

    Raises:
        OperatorProblem: ``unverified``, ``conflict``, ``held``, ``not-found``, ``invalid``: it is not signed. OSError.
    """
    base, request = open_base(keys, exchange), exchange.request
    released = {one.path: one for one in targets_of(base.offline)}
    new = tuple(one for one in request.add if not _is_there(one, released))
    for one in new:
        exchange.check(one)
    customs = {path: custom_of(one) for path, one in released.items()}
    ever = [one.custom for one in keys.history if one.path not in released]
    may_release({one.path: one.custom for one in new}, customs, ever)
    withdrawn = tuple(path for path in request.withdraw if path in released)
    life = timedelta(days=request.targets_days)
    return Plan(base, new, withdrawn, _bins(base, new, withdrawn), _again(base.offline, now, life), life)


def _is_there(wanted: Wanted, released: Mapping[str, TargetFile]) -> bool:
    """Say whether this very target was signed before: its files go along again."""
    found = released.get(wanted.path)
    said = (wanted.length, wanted.sha256, wanted.custom)
    return found is not None and (found.length, found.hashes.get("sha256"), custom_of(found)) == said


def open_base(keys: OfflineKeys, exchange: Exchange) -> Base:
    """Bring our own copy and what was carried together.

    Raises:
        Unverified: what was carried is not ours, or has two contents for one version. OSError.
    """
    own = in_folder(keys.copy)
    anchor = own("1.root")
    if anchor is None:
        raise OperatorProblem(Kind.NOT_FOUND, f"{keys.copy}: no repository; run: fleetward release init")
    theirs = open_set(exchange.published, anchor)
    carried = dict(theirs.files)
    for name, raw in carried.items():
        if (ours := own(name)) is not None and ours != raw:
            raise Unverified(
                f"{name}: two files of one version, one signed here and one carried here, both by our keys"
            )

    def read(name: str) -> bytes | None:
        return own(name) or carried.get(name)

    roots = open_roots(read, anchor)
    versions = {role: max(number, newest(keys.copy, role)) for role, number in theirs.offline.versions().items()}
    offline = open_offline(read, roots, versions)
    return Base(offline, _files_of(offline, read), frozenset(carried))


def _files_of(offline: Offline, read: Read) -> dict[str, bytes]:
    names = [f"{one.signed.version}.root" for one in offline.roots]
    names += [f"{number}.{role}" for role, number in offline.versions().items()]
    return {name: raw for name in names if (raw := read(name)) is not None}


def _bins(base: Base, new: Sequence[Wanted], withdrawn: Sequence[str]) -> dict[str, dict[str, TargetFile]]:
    touched = {base.offline.bin_of(path) for path in (*(one.path for one in new), *withdrawn)}
    bins = {role: dict(base.offline.bins[role].signed.targets) for role in sorted(touched)}
    for path in withdrawn:
        del bins[base.offline.bin_of(path)][path]
    for one in new:
        bins[base.offline.bin_of(one.path)][one.path] = target_file(one.path, one.length, one.sha256, one.custom)
    return bins


def _again(offline: Offline, now: datetime, life: timedelta) -> tuple[str, ...]:
    roles = {"targets": offline.targets.signed} | {role: one.signed for role, one in offline.bins.items()}
    return tuple(role for role, one in roles.items() if one.expires - now < life / HALF)


def told(plan: Plan) -> list[str]:
    """Return what a person must look at before signing, one line each."""
    lines = [f"release   {one.path}: {_said(one)}" for one in plan.new]
    lines += [f"withdraw  {path}" for path in plan.withdrawn]
    if plan.again:
        lines.append(f"sign anew {len(plan.again)} roles that end soon, good for {plan.life.days} days")
    old = sorted(set(plan.base.files) - plan.base.carried)
    if old:
        lines.append(f"carry     {len(old)} files that were signed here before and never came into force")
    return lines


def _said(one: Wanted) -> str:
    models = ", ".join(one.custom.models) if one.custom.models is not None else "every model"
    counter = f"{one.custom.name} {one.custom.version}, counter {one.custom.counter}, for {models}"
    return f"{counter}; sha256 {one.sha256}, {one.length} bytes"


def perform(keys: OfflineKeys, exchange: Exchange, plan: Plan, now: datetime) -> tuple[str, ...]:
    """Sign, and lay what the provider's host lacks into the exchange; return the names of those files.

    Raises:
        OperatorProblem: ``invalid``: no release key here, or a bin grows too long. KeyUnavailable, OSError.
    """
    new = made(keys, plan, now)
    if new:
        # First here: should the way back fail, the same files go along the next time.
        keys.keep(new)
        entries = [Signed(path=one.path, sha256=one.sha256, custom=one.custom) for one in plan.new]
        keys.remember([*keys.history, *entries])
    files = newest_of({**plan.base.files, **new})
    out = {name: raw for name, raw in files.items() if name not in plan.base.carried}
    exchange.lay(SIGNED, out)
    return tuple(out)


def made(keys: OfflineKeys, plan: Plan, now: datetime) -> dict[str, bytes]:
    """Return the files that a plan asks for, signed. Raises: as ``perform``."""
    offline, ends = plan.base.offline, end(now, plan.life)
    if plan.empty:
        return {}
    if keys.release is None:
        raise OperatorProblem(Kind.INVALID, f"{keys.folder}: holds no release key")
    files = {}
    for role in sorted({*plan.bins, *plan.again}):
        version = offline.versions()[role] + 1
        if role == "targets":
            what = making.targets(version, making.public_of(keys.release.public_key()), ends)
        else:
            held = plan.bins.get(role, offline.bins[role].signed.targets if role in offline.bins else {})
            what = making.one_bin(version, held, ends)
        files[f"{version}.{role}"] = _fitting(making.signed(what, [keys.release]), role)
    return files


def _fitting(raw: bytes, role: str) -> bytes:
    if len(raw) > MOST_BYTES:
        raise OperatorProblem(
            Kind.INVALID, f"{role}: would have {len(raw)} bytes, at most {MOST_BYTES}: withdraw what nobody needs"
        )
    return raw


def newest_of(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Leave out what a newer version replaces; roots all stay."""
    split = {name: name.partition(".") for name in files}
    best: dict[str, int] = {}
    for number, _, role in split.values():
        best[role] = max(best.get(role, 0), int(number))
    return {
        name: raw
        for name, raw in files.items()
        if name.endswith(".root") or int(split[name][0]) == best[split[name][2]]
    }
