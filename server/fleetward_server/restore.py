"""A restore: a backup becomes a provider's folder again, whole or not at all, from which ``up`` works at once.

Nothing is used twice afterwards: our sequence numbers are moments under a key of each start, serials and nonces are
random, ids hold a moment; open challenges are dropped, so that none is answered twice. What was learnt after the backup
is lost, and said so; what devices hold since then comes from the journal (adoption.py), or they enrol anew.
Source: protocol sections 3 and 5; backup.py.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fleetward_broker.durable import sync_folder, write_private
from fleetward_schemas.enrol import CHALLENGE_LIFE_S
from fleetward_server.adoption import Adopted, adopt
from fleetward_server.archive import Opened
from fleetward_server.backup import DATABASE, look_into, unlocked
from fleetward_server.changes import AddAudit
from fleetward_server.config import Config, load
from fleetward_server.generations import own_anchors
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import AuditEntry
from fleetward_server.store import Store, open_store

_FOLDER_MODE = 0o700


@dataclass(frozen=True, slots=True)
class Wish:
    """What to restore, and who does it. journals: every ``issued.log`` at hand. secret: the passphrase, if any."""

    archive: Path
    folder: Path
    secret: bytes | None
    journals: tuple[Path, ...]
    actor: str


@dataclass(frozen=True, slots=True)
class Restored:
    """What became of it. created: moment of the backup; all that was learnt after it is lost but what was adopted."""

    created: datetime
    opened: Opened
    adopted: Adopted
    keys: int
    keys_missing: tuple[str, ...]


def restore(wish: Wish, now: datetime) -> Restored:
    """Make ``wish.folder``.

    Raises:
        OperatorProblem: ``conflict``: the folder holds something. ``unverified``: the backup does not hold.
            ``invalid``: a newer Fleetward's, a passphrase is missing. ConfigProblem, StoreProblem, OSError. Whatever
            is raised, the folder is as it was.
    """
    if wish.folder.exists() and (not wish.folder.is_dir() or any(wish.folder.iterdir())):
        raise OperatorProblem(Kind.CONFLICT, f"{wish.folder}: not empty; a backup is restored into a new folder")
    raw = [line for path in wish.journals for line in path.read_bytes().splitlines()]
    wish.folder.parent.mkdir(parents=True, exist_ok=True)
    with _beside(wish.folder) as work:
        opened = _unpacked(wish, work)
        keys = _unlock(work, opened, wish.secret)
        config = load(work)
        with open_store(work / DATABASE, create=True) as store:
            adopted = _bring_up(store, config, raw, wish.actor, opened, now)
        _sync(work)
        work.rename(wish.folder)
    sync_folder(wish.folder.parent)
    created = datetime.fromisoformat(str(opened.manifest["created"]))
    return Restored(created, opened, adopted, keys, _missing(opened))


@contextmanager
def _beside(folder: Path) -> Iterator[Path]:
    """Give a folder that will be renamed; whatever happens before that leaves nothing."""
    work = folder.with_name(f".{folder.name}.restoring-{os.getpid()}")
    work.mkdir(_FOLDER_MODE)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _unpacked(wish: Wish, work: Path) -> Opened:
    verdict = look_into(wish.archive, work, wish.secret)
    if verdict.opened is None or verdict.flaws:
        raise OperatorProblem(Kind.UNVERIFIED, f"{wish.archive}: {'; '.join(verdict.flaws)}")
    if verdict.look.newer:
        raise OperatorProblem(
            Kind.INVALID,
            f"{wish.archive}: made by Fleetward {verdict.opened.manifest.get('fleetward')}, whose schema "
            f"{verdict.look.revision} is newer than ours; install the newer Fleetward",
        )
    return verdict.opened


def _unlock(work: Path, opened: Opened, secret: bytes | None) -> int:
    locked = [member.name for member in opened.members if member.what == "key"]
    if locked and secret is None:
        raise OperatorProblem(Kind.INVALID, f"it holds {len(locked)} keys: give --passphrase-file")
    for name in locked:
        write_private(work / name, unlocked(work / name, secret or b""))
    return len(locked)


def _bring_up(store: Store, config: Config, raw: Sequence[bytes], actor: str, opened: Opened, now: datetime) -> Adopted:
    # Single use: an answer that the lost server took must not be taken again.
    while store.forget_challenges(now + timedelta(seconds=2 * CHALLENGE_LIFE_S)):
        pass
    adopted = adopt(store, raw, own_anchors(config), actor, now)
    detail = f"backup {opened.manifest['created']} {opened.manifest_hash}"
    with store.unit() as unit:
        unit.apply([AddAudit(AuditEntry(now, actor, "restored", "server", "", detail))])
    return adopted


def _missing(opened: Opened) -> tuple[str, ...]:
    """Return the keys of the configuration that must be brought before ``up``."""
    found = opened.manifest.get("keys", [])
    return tuple(f"{one['key']} ({one['uri']})" for one in found if one["where"] != "here")


def _sync(work: Path) -> None:
    """Have all of it on the disk before it gets its name."""
    for path in sorted(work.rglob("*"), reverse=True):
        if path.is_dir():
            path.chmod(_FOLDER_MODE)
            sync_folder(path)
        elif path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
    sync_folder(work)
