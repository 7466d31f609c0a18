"""A new root: signed by enough keys of the one before and enough of its own, so that whoever knew any root follows.

By it keys are replaced, those that ended up in wrong hands too: nobody who has read the new root believes them again. A
release key that is replaced has everything signed anew by its successor at once. Source: TUF 1.0 sections 6.1 and 5.3.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Key, Metadata, Root

from fleetward_schemas.jws import PrivateKey
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases import making, signing
from fleetward_server.releases.keys import OfflineKeys, Successors, succeed
from fleetward_server.releases.making import RoleKeys, public_of
from fleetward_server.releases.request import SIGNED, Exchange
from fleetward_server.releases.rules import ROOT_LIFE, end
from fleetward_server.releases.signing import Base

KEYID_CHARS = 8


@dataclass(frozen=True, slots=True)
class Wish:
    """wallets: folders of offline keys; what is made goes into the first. away: names or key ids of keys to replace."""

    wallets: tuple[OfflineKeys, ...]
    away: tuple[str, ...] = ()
    secret: bytes = b""


@dataclass(frozen=True, slots=True)
class Rotated:
    """The new root. gone, come: ids of keys that count no more, and of those that do now."""

    version: int
    gone: tuple[str, ...]
    come: tuple[str, ...]
    files: tuple[str, ...]


def rotate(wish: Wish, exchange: Exchange, now: datetime) -> Rotated:
    """Make the next root, and lay it into the exchange with whatever it asks for.

    Raises:
        OperatorProblem: ``invalid``: no such key, or too few keys are here to sign; nothing was made. ``unverified``:
            what was carried does not hold. KeyUnavailable, OSError.
    """
    first = wish.wallets[0]
    base, request = signing.open_base(first, exchange), exchange.request
    before = base.offline.root
    away = {_keyid(one, wish.wallets, before) for one in wish.away}
    held = {_id(key): key for wallet in wish.wallets for key in wallet.root}
    _enough(before, set(held))
    after = succeed(first, away, _more(before, away), f"v{before.version + 1}", wish.secret)
    roles = _roles(before, after, away, {role: one.key for role, one in request.online.items()})
    made = making.root(before.version + 1, roles, end(now, ROOT_LIFE))
    files = {f"{made.version}.root": _signed(made, [*held.values(), *after.made], before)}
    if roles.keys["targets"][0].keyid not in before.roles["targets"].keyids:
        files |= _all_anew(base, after.keys, now, timedelta(days=request.targets_days))
    after.keys.write()
    after.keys.keep(files)
    out = {name: raw for name, raw in signing.newest_of({**base.files, **files}).items() if name not in base.carried}
    exchange.lay(SIGNED, out)
    return Rotated(made.version, _less(before, made), _less(made, before), tuple(out))


def _more(before: Root, away: set[str]) -> int:
    """Return how many root keys have to be made."""
    return len(away & set(before.roles["root"].keyids))


def _keyid(text: str, wallets: Sequence[OfflineKeys], root: Root) -> str:
    """Return the id of the key that a name (of one here) or the beginning of an id means."""
    named = [_id(key) for wallet in wallets for name, key in wallet.named().items() if name == text]
    begun = [one for one in root.keys if len(text) >= KEYID_CHARS and one.startswith(text)]
    offline = {*root.roles["root"].keyids, *root.roles["targets"].keyids}
    match [one for one in (named or begun) if one in offline]:
        case [one]:
            return one
        case _:
            names = ", ".join(name for wallet in wallets for name in wallet.named())
            raise OperatorProblem(Kind.INVALID, f"--replace {text}: no one key of this root; here are: {names}")


def _enough(before: Root, held: set[str]) -> None:
    role = before.roles["root"]
    here = len(held & set(role.keyids))
    if here < role.threshold:
        raise OperatorProblem(
            Kind.INVALID, f"{here} of the {role.threshold} root keys that must sign are here: name more folders, --keys"
        )


def _roles(before: Root, after: Successors, away: set[str], online: Mapping[str, Key]) -> RoleKeys:
    keys: dict[str, list[Key]] = {
        role: [before.keys[one] for one in before.roles[role].keyids if one not in away] for role in before.roles
    }
    keys["root"] += map(_public, after.made)
    if not keys["targets"]:
        keys["targets"] = [] if after.keys.release is None else [_public(after.keys.release)]
    if not keys["targets"] or keys["targets"][0].keyid in away:
        raise OperatorProblem(Kind.INVALID, f"{after.keys.folder}: the release key is not in the first folder")
    return RoleKeys(keys | {role: [key] for role, key in online.items()}, before.roles["root"].threshold)


def _signed(made: Root, signers: Sequence[PrivateKey], before: Root) -> bytes:
    raw = making.signed(made, signers)
    found: Metadata[Root] = Metadata.from_bytes(raw)
    try:
        for judge in (before, made):
            judge.verify_delegate("root", found.signed_bytes, found.signatures)
    except RepositoryError as error:
        raise OperatorProblem(Kind.INVALID, f"{made.version}.root: {error}: name more folders, --keys") from None
    return raw


def _all_anew(base: Base, keys: OfflineKeys, now: datetime, life: timedelta) -> dict[str, bytes]:
    offline = base.offline
    everything = signing.Plan(base, (), (), {}, ("targets", *offline.bins), life)
    return signing.made(keys, everything, now)


def _less(one: Root, other: Root) -> tuple[str, ...]:
    return tuple(sorted(set(one.keys) - set(other.keys)))


def _id(key: PrivateKey) -> str:
    return _public(key).keyid


def _public(key: PrivateKey) -> Key:
    return public_of(key.public_key())
