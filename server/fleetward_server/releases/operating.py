"""What an operator does with releases at the provider's host; each act is in the audit with its actor.

Nothing here needs an offline key but the first making of the repository, and whoever chooses to have the keys here.
Source: S5, S7; ``signing`` for what is done beside the offline keys.
"""

from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import Root, TargetFile

from fleetward_broker.signers import open_key
from fleetward_schemas.errors import Refused
from fleetward_schemas.upgrade import Custom
from fleetward_server.keeper import Keeper
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases import init, making, publishing
from fleetward_server.releases.files import MOST_BYTES, Whole, targets_of
from fleetward_server.releases.init import Wish
from fleetward_server.releases.keys import make_online
from fleetward_server.releases.online import alone
from fleetward_server.releases.places import home
from fleetward_server.releases.publishing import Published
from fleetward_server.releases.request import EXCHANGE, Exchange, OnlineKey, Request, Wanted
from fleetward_server.releases.rules import may_release, target_file
from fleetward_server.releases.shelf import custom_of, open_repository

SIGNATURE_BYTES = 1400
"""More than a signature of RSA 4096 adds to a bin."""


@dataclass(frozen=True, slots=True)
class NewTarget:
    """What shall be released. path: its name and version and the file's name if empty. url: others serve the bytes."""

    file: Path
    name: str
    version: str
    counter: int
    models: tuple[str, ...] = ()
    path: str = ""
    url: str = ""


class Releaser(Keeper):
    """Somebody who may release."""

    def make_repository(self, wish: Wish) -> Root:
        """Make offline keys, online keys and an empty repository. Raises: as ``init.make_repository``."""
        made = init.make_repository(self.config, wish, self._now())
        said = f"root {made.version}, {len(made.roles['root'].keyids)} keys"
        self._note("release-repository-made", "releases", "", said)
        return made

    def exchange(self, folder: Path | None) -> Exchange:
        """Return the folder that goes to the offline keys; the provider's own if none is named."""
        return Exchange(folder or home(self.folder) / EXCHANGE)

    def ask(self, new: NewTarget, exchange: Exchange, reason: str) -> Wanted:
        """Ask for a release: its bytes go into the exchange.

        Raises:
            OperatorProblem: ``invalid``: no lawful target, or its bin would grow too long for the wire. ``conflict``,
                ``held``: as ``rules.may_release``. OSError, Busy.
        """
        with alone(self.folder):
            whole, before = open_repository(self.folder), exchange.request
            sha256_hex, length = exchange.bring(new.file)
            wanted = _wanted(new, sha256_hex, length)
            released = {one.path: custom_of(one) for one in targets_of(whole.offline)}
            may_release({wanted.path: wanted.custom}, released | before.customs())
            asked = before.changed(add=[*before.add, wanted])
            _fits(whole, asked)
            self._ask(asked, exchange, whole)
        custom = wanted.custom
        self._note("release-requested", wanted.path, reason, f"{_told(custom)} sha256 {sha256_hex}")
        return wanted

    def ask_withdrawal(self, path: str, exchange: Exchange, reason: str) -> None:
        """Ask that a target shall exist no more.

        Raises:
            OperatorProblem: ``not-found``: it is not released. OSError.
        """
        with alone(self.folder):
            whole, before = open_repository(self.folder), exchange.request
            if path not in {one.path for one in targets_of(whole.offline)}:
                raise OperatorProblem(Kind.NOT_FOUND, f"{path}: not released; fleetward release list tells what is")
            if path not in before.withdraw:
                before = before.changed(withdraw=[*before.withdraw, path])
            self._ask(before, exchange, whole)
        self._note("release-withdrawal-requested", path, reason, "")

    def ask_renewal(self, exchange: Exchange, *, new_online_keys: bool = False) -> None:
        """Have what ends soon signed again, and a new root with other online keys if wished.

        Raises:
            KeyUnavailable, OSError.
        """
        with alone(self.folder):
            whole, request = open_repository(self.folder), exchange.request
            if new_online_keys:
                uris = make_online(self.config, f"-v{whole.offline.root.version + 1}")
                online = {name.removesuffix("_key"): _online_key(uri, self.folder) for name, uri in uris.items()}
                request = request.changed(online=online)
                self._note("release-online-keys-made", "releases", "", " ".join(uris.values()))
            self._ask(request, exchange, whole)

    def publish(self, exchange: Exchange, reason: str) -> Published:
        """Take in what was signed. Raises: as ``publishing.publish``."""
        done = publishing.publish(self.config, exchange, self._now())
        released = ((one, custom_of(one)) for one in done.released)
        said = [("released", one.path, f"{_told(custom)} sha256 {one.hashes['sha256']}") for one, custom in released]
        said += [("withdrawn", one.path, f"sha256 {one.hashes['sha256']}") for one in done.withdrawn]
        said += [("release-root-rotated", "releases", f"root {done.root}")] if done.root else []
        said.append(("release-published", "releases", f"{done.files} files"))
        entries = [self._entry(action, subject, reason, detail) for action, subject, detail in said]
        with self._unit() as unit:
            unit.apply(entries)
        return done

    def _ask(self, request: Request, exchange: Exchange, whole: Whole) -> None:
        days = self.config.releases.targets_days
        exchange.ask(request.changed(targets_days=days), whole.files)


def _told(custom: Custom) -> str:
    return f"{custom.name} {custom.version} counter {custom.counter}"


def _online_key(uri: str, folder: Path) -> OnlineKey:
    key = making.public_of(open_key(uri, folder).public_key())
    return OnlineKey(uri=uri, keyid=key.keyid, public=key.to_dict())


def _wanted(new: NewTarget, sha256_hex: str, length: int) -> Wanted:
    path = new.path or f"{new.name}/{new.version}/{new.file.name}"
    try:
        custom = Custom(name=new.name, counter=new.counter, version=new.version, models=list(new.models) or None)
        wanted = Wanted(path=path, length=length, sha256=sha256_hex, custom=custom, url=new.url or None)
        return Wanted.read(wanted.document())
    except Refused as refusal:
        raise OperatorProblem(Kind.INVALID, f"{path}: no lawful target: {refusal.detail}") from None


def _fits(whole: Whole, asked: Request) -> None:
    """C2: a file of the repository goes in one envelope, so that a bin that grows too long could never be read."""
    bins: dict[str, dict[str, TargetFile]] = {}
    for one in asked.add:
        role = whole.offline.bin_of(one.path)
        held = bins.setdefault(role, dict(whole.offline.bins[role].signed.targets))
        held[one.path] = target_file(one.path, one.length, one.sha256, one.custom)
    for role, held in bins.items():
        before = whole.offline.bins[role].signed
        size = len(making.signed(making.one_bin(before.version + 1, held, before.expires), [])) + SIGNATURE_BYTES
        if size > MOST_BYTES:
            raise OperatorProblem(
                Kind.INVALID,
                f"{asked.add[-1].path}: its bin {role} would have {size} bytes, at most {MOST_BYTES}: another --target"
                " path comes into another bin; or withdraw what nobody needs",
            )
