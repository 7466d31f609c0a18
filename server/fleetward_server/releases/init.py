"""``fleetward release init``: offline keys in their folder, online keys here, and a repository in which nothing is.

Source: S7; TUF 1.0 section 6; wire, section "Upgrades" 1.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tuf.api.metadata import Root

from fleetward_schemas.upgrade import BIN_BITS, BIN_PREFIX
from fleetward_server.amend import with_releases, write
from fleetward_server.config import Config
from fleetward_server.lines import alone
from fleetward_server.locks import CHANGE_S
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases import making, online
from fleetward_server.releases.files import METADATA, Offline, open_offline, open_roots
from fleetward_server.releases.keys import OfflineKeys, keep, make_offline, make_online, open_online
from fleetward_server.releases.making import RoleKeys, public_of
from fleetward_server.releases.places import home
from fleetward_server.releases.rules import ROOT_LIFE, end


@dataclass(frozen=True, slots=True)
class Wish:
    """keys: the offline folder, new. hsm: a token's URI for the keys in it; empty: files under ``secret``."""

    keys: Path
    secret: bytes = b""
    root_keys: int = 3
    threshold: int = 2
    hsm: str = ""


def make_repository(config: Config, wish: Wish, now: datetime) -> Root:
    """Make keys and repository; return its first root.

    Raises:
        OperatorProblem: ``conflict``: there is a repository, or keys. KeyUnavailable, ConfigProblem, OSError.
    """
    metadata = home(config.folder) / METADATA
    if (metadata / "1.root.json").exists():
        raise OperatorProblem(Kind.CONFLICT, f"{metadata}: there is a repository already; nothing was changed")
    offline_keys = make_offline(wish.keys, wish.root_keys, wish.threshold, wish.secret, wish.hsm)
    changed = {name: uri for name, uri in make_online(config).items() if getattr(config.releases, name) != uri}
    if changed:
        with alone(config, CHANGE_S):
            config, raw = with_releases(config, changed)
            write(config.folder, raw)
    first = _first(config, offline_keys, wish.threshold, now)
    offline_keys.keep(first)
    offline = _read(first)
    made = online.both(offline, online.Numbers(), open_online(config), now)
    # The first root comes last: without it there is no repository.
    root = {"1.root": first.pop("1.root")}
    keep(metadata, first | made | root)
    return offline.root


def _first(config: Config, keys: OfflineKeys, threshold: int, now: datetime) -> dict[str, bytes]:
    if keys.release is None:
        raise OperatorProblem(Kind.INVALID, f"{keys.folder}: holds no release key")
    release = public_of(keys.release.public_key())
    online_keys = {role: [public_of(key.public_key())] for role, key in open_online(config).items()}
    roots = [public_of(key.public_key()) for key in keys.root]
    roles = RoleKeys({"root": roots, "targets": [release], **online_keys}, threshold)
    ends = end(now, timedelta(days=config.releases.targets_days))
    files = {"1.root": making.signed(making.root(1, roles, end(now, ROOT_LIFE)), keys.root)}
    files["1.targets"] = making.signed(making.targets(1, release, ends), [keys.release])
    for number in range(2**BIN_BITS):
        files[f"1.{BIN_PREFIX}-{number:02x}"] = making.signed(making.one_bin(1, {}, ends), [keys.release])
    return files


def _read(files: dict[str, bytes]) -> Offline:
    roots = open_roots(files.get, files["1.root"])
    versions = {name.partition(".")[2]: 1 for name in files}
    return open_offline(files.get, roots, versions)
