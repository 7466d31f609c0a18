"""``fleetward release``: what exists for devices, asked for here, signed beside the offline keys, published here."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_schemas.strict import b64url_decode
from fleetward_server.cli import passphrase, show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.options import HERE, Actor, Dir, Json, Reason
from fleetward_server.cli.release_sign import ROTATE_HELP, SIGN_HELP, Keys, rotate_root, sign, signed
from fleetward_server.cli.telling import telling, translated, whoami
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_server.releases.operating import NewTarget, Releaser
    from fleetward_server.releases.publishing import Published
    from fleetward_server.releases.shelf import Target

app = typer.Typer(help="What software exists for devices.", no_args_is_help=True)
COLUMNS = ("path", "name", "version", "counter", "models", "length", "url")
ENDING = ("role", "ends", "signed_by", "left")
INIT_HELP = """Make the release repository: offline keys in the folder K, two online keys here, nothing released yet.

K holds the root keys (any --threshold of them sign a new root) and the release key, under a passphrase or in a token.
Whoever has K can ship code: take it to a machine on no network, and remove it here. Releasing then is: release add
here, release sign there on a copy of DIR/releases/exchange, release publish here.
"""
QUICK_HELP = """Add, sign and publish in one, where the offline keys are on this very machine.

For trying and for small makers. The keys are online then: whoever breaks into this machine can ship code.
"""
Stick = Annotated[
    Path | None, typer.Option("--exchange", metavar="R", help="The exchange; DIR/releases/exchange if left out.")
]
File = Annotated[Path, typer.Argument(metavar="FILE", help="What devices shall run.")]
Name = Annotated[str, typer.Option("--name", help="Of the software that it replaces: firmware, agent.")]
Version = Annotated[str, typer.Option("--version", help="For people.")]
Counter = Annotated[int, typer.Option("--counter", help="Its order: higher than all before for the same devices.")]
Models = Annotated[list[str] | None, typer.Option("--model", help="make/model that it is for; of all if left out.")]
Path_ = Annotated[str, typer.Option("--target", help="Its path.", show_default="NAME/VERSION/FILE")]
Url = Annotated[str, typer.Option("--url", help="https://, where others serve its bytes; we keep none then.")]


@contextmanager
def releasing(folder: Path, *, as_json: bool, actor: str = "") -> Iterator["Releaser"]:
    """Give a command somebody who may release."""
    with telling(as_json=as_json), translated():
        from fleetward_server.releases.operating import Releaser

        with Releaser(folder, actor or whoami()) as operator:
            yield operator


@app.command(help=INIT_HELP)
def init(
    keys: Keys,
    folder: Dir = HERE,
    threshold: Annotated[int, typer.Option("--threshold", help="Root keys that must sign a new root.")] = 2,
    root_keys: Annotated[int, typer.Option("--root-keys", help="How many root keys.")] = 3,
    hsm: Annotated[str, typer.Option("--hsm", help="pkcs11: URI of the token for the offline keys.")] = "",
    secret_file: passphrase.File = None,
    secret_fd: passphrase.Descriptor = -1,
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Make the repository; see INIT_HELP."""
    with releasing(folder, as_json=as_json, actor=actor) as operator:
        from fleetward_server.releases.init import Wish
        from fleetward_server.releases.keys import WARNING

        secret = b"" if hsm else passphrase.Source(secret_file, secret_fd).read(twice=True)
        made = operator.make_repository(Wish(keys, secret, root_keys, threshold, hsm))
        show.note(WARNING.format(keys))
        show.note("Devices need the first root: release root --out, or it goes along with sandbox provision.")
        found = {"keys": str(keys), "root": made.version, "root_keys": root_keys, "threshold": threshold}
        show.record({**found, "root_ends": made.expires}, as_json=as_json)


@app.command()
def add(
    file: File,
    name: Name,
    version: Version,
    counter: Counter,
    model: Models = None,
    path: Path_ = "",
    url: Url = "",
    folder: Dir = HERE,
    exchange: Stick = None,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Ask for a release: file and request go into the exchange, which is then carried to the offline keys."""
    with releasing(folder, as_json=as_json, actor=actor) as operator:
        new = _new(file, name, version, counter, model, path, url)
        there = operator.exchange(exchange)
        wanted = operator.ask(new, there, reason)
        show.note(f"Carry {there.folder} to the offline keys: fleetward release sign --keys K --repo R")
        found = {"path": wanted.path, "sha256": wanted.sha256, "length": wanted.length, "exchange": str(there.folder)}
        show.record(found, as_json=as_json)


@app.command()
def withdraw(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A target's path, as release list tells it.")],
    folder: Dir = HERE,
    exchange: Stick = None,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Ask that a target shall exist no more: no device begins it then, and devices that run it go on to run it."""
    with releasing(folder, as_json=as_json, actor=actor) as operator:
        there = operator.exchange(exchange)
        operator.ask_withdrawal(path, there, reason)
        show.record({"withdraw": path, "exchange": str(there.folder)}, as_json=as_json)


@app.command()
def renew(
    folder: Dir = HERE,
    exchange: Stick = None,
    actor: Actor = "",
    *,
    new_online_keys: Annotated[
        bool, typer.Option("--new-online-keys", help="Make other keys for snapshot and timestamp; rotate-root follows.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Ask that what ends soon is signed again, with nothing new; see release expiring."""
    with releasing(folder, as_json=as_json, actor=actor) as operator:
        there = operator.exchange(exchange)
        operator.ask_renewal(there, new_online_keys=new_online_keys)
        show.record({"exchange": str(there.folder)}, as_json=as_json)


app.command(help=SIGN_HELP)(sign)
app.command("rotate-root", help=ROTATE_HELP)(rotate_root)


@app.command()
def publish(
    folder: Dir = HERE,
    exchange: Stick = None,
    reason: Reason = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Take in what was signed: it is verified as a device does it, and from then on it exists."""
    with releasing(folder, as_json=as_json, actor=actor) as operator:
        show.record(_published(operator.publish(operator.exchange(exchange), reason)), as_json=as_json)


@app.command(help=QUICK_HELP)
def quick(
    file: File,
    keys: Keys,
    name: Name,
    version: Version,
    counter: Counter,
    model: Models = None,
    path: Path_ = "",
    url: Url = "",
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    secret_file: passphrase.File = None,
    secret_fd: passphrase.Descriptor = -1,
    *,
    as_json: Json = False,
) -> None:
    """Do all three; see QUICK_HELP."""
    with releasing(folder, as_json=as_json, actor=actor) as operator:
        there = operator.exchange(None)
        operator.ask(_new(file, name, version, counter, model, path, url), there, reason)
        signed(keys, there, passphrase.Source(secret_file, secret_fd), yes=True)
        show.note(f"{keys}: the offline keys are on the machine that serves; they belong elsewhere")
        show.record(_published(operator.publish(there, reason)), as_json=as_json)


@app.command("list")
def list_targets(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """List every released target."""
    with releasing(folder, as_json=as_json) as operator:
        from fleetward_server.releases.shelf import open_shelf

        show.rows(COLUMNS, map(_row, open_shelf(operator.config).targets.values()), as_json=as_json)


@app.command("show")
def show_target(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A target's path.")],
    folder: Dir = HERE,
    *,
    as_json: Json = False,
) -> None:
    """Show one released target."""
    with releasing(folder, as_json=as_json) as operator:
        from fleetward_server.releases.shelf import open_shelf

        found = open_shelf(operator.config).targets.get(path)
        if found is None:
            raise OperatorProblem(Kind.NOT_FOUND, f"{path}: not released; fleetward release list tells what is")
        show.record(_row(found), as_json=as_json)


@app.command()
def verify(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Check every signature, version and end of the repository, and every byte that is kept; exit 7 if one fails."""
    with releasing(folder, as_json=as_json) as operator:
        from fleetward_server.releases.proving import prove

        proof = prove(operator.config, datetime.now(UTC))
        show.record(show.plain(proof), as_json=as_json)
        if proof.flaws:
            raise typer.Exit(ExitCode.UNVERIFIED)


@app.command()
def root(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    folder: Dir = HERE,
    version: Annotated[int, typer.Option("--root-version", help="Which root.", show_default="the newest")] = 0,
    *,
    as_json: Json = False,
) -> None:
    """Write the root for factories: the newest, so that new devices never believe a key that was taken back."""
    with releasing(folder, as_json=as_json) as operator:
        from fleetward_server.releases.proving import root_file

        number, raw = root_file(operator.folder, version)
        out.write_bytes(raw)
        show.record({"root": number, "file": str(out)}, as_json=as_json)


@app.command()
def expiring(folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Tell when each role ends; exit 5 if one that the offline keys sign has to be signed again soon: for cron."""
    now = datetime.now(UTC)
    with releasing(folder, as_json=as_json) as operator:
        from fleetward_server.releases.proving import standings

        found = standings(operator.folder, now)
        show.rows(ENDING, map(show.plain, found), as_json=as_json)
        if any(one.soon for one in found):
            raise typer.Exit(ExitCode.CONFLICT)


def _new(
    file: Path, name: str, version: str, counter: int, model: list[str] | None, path: str, url: str
) -> "NewTarget":
    from fleetward_server.releases.operating import NewTarget

    return NewTarget(file, name, version, counter, tuple(model or ()), path, url)


def _published(done: "Published") -> dict[str, object]:
    return {
        "released": [one.path for one in done.released],
        "withdrawn": [one.path for one in done.withdrawn],
        "root": done.root or None,
        "files": done.files,
    }


def _row(target: "Target") -> dict[str, object]:
    # In hexadecimal, as sha256sum prints it.
    return {**show.plain(target), "sha256": b64url_decode(target.sha256.encode()).hex()}
