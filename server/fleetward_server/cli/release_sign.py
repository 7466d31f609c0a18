"""What is done beside the offline keys, on a machine that need not know any provider: sign, and make the next root."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_server.cli import passphrase, show
from fleetward_server.cli.options import Json
from fleetward_server.cli.telling import telling, translated
from fleetward_server.problem import Kind, OperatorProblem

if TYPE_CHECKING:
    from fleetward_server.releases.request import Exchange

SIGN_HELP = """Beside the offline keys: look through what shall be released, and sign it.

R is the exchange that release add filled, carried here. Its bytes are hashed here, its metadata verified, and what
would be signed is shown and asked for. A counter that does not rise is refused, and so is anything that would go back.
Carry R back to the provider's host then, to release publish.
"""
ROTATE_HELP = """Beside the offline keys: make the next root, with other keys if wished, signed by the old and the new.

Enough root keys of the root before must be here, in one folder or several (--keys again). A root ends after a year: do
this before. --replace puts another key in the place of one that was lost, or that somebody else may have; the new one
is made in the first folder. If it is the release key, everything is signed anew. Carry R back to release publish.
"""
Keys = Annotated[Path, typer.Option("--keys", metavar="K", help="The folder of the offline keys.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def sign(
    keys: Keys,
    repo: Annotated[Path, typer.Option("--repo", metavar="R", help="The exchange that was carried here.")],
    secret_file: passphrase.File = None,
    secret_fd: passphrase.Descriptor = -1,
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Sign; see SIGN_HELP."""
    with telling(as_json=as_json), translated():
        from fleetward_server.releases.request import Exchange

        names = signed(keys, Exchange(repo), passphrase.Source(secret_file, secret_fd), yes=yes)
        show.record({"signed": list(names), "exchange": str(repo)}, as_json=as_json)


def rotate_root(
    keys: Annotated[list[Path], typer.Option("--keys", metavar="K", help="A folder of offline keys; may be repeated.")],
    repo: Annotated[Path, typer.Option("--repo", metavar="R", help="The exchange that was carried here.")],
    away: Annotated[
        list[str] | None, typer.Option("--replace", metavar="KEY", help="root-2, release, or how a key's id begins.")
    ] = None,
    secret_file: passphrase.File = None,
    secret_fd: passphrase.Descriptor = -1,
    *,
    as_json: Json = False,
) -> None:
    """Make the next root; see ROTATE_HELP."""
    with telling(as_json=as_json), translated():
        from fleetward_server.releases import rotating
        from fleetward_server.releases.keys import open_offline
        from fleetward_server.releases.request import Exchange

        secret = passphrase.Source(secret_file, secret_fd).read()
        wallets = tuple(open_offline(one, secret) for one in keys)
        done = rotating.rotate(rotating.Wish(wallets, tuple(away or ()), secret), Exchange(repo), datetime.now(UTC))
        show.record(show.plain(done), as_json=as_json)


def signed(keys: Path, exchange: "Exchange", source: passphrase.Source, *, yes: bool) -> tuple[str, ...]:
    """Show what would be signed, ask unless ``yes``, sign; return the names of what goes back.

    Raises:
        OperatorProblem: as ``signing.prepare``; ``held``: nobody said yes. KeyUnavailable, OSError.
    """
    from fleetward_server.releases import signing
    from fleetward_server.releases.keys import needs_secret, open_offline

    offline = open_offline(keys, source.read() if needs_secret(keys) else b"")
    now = datetime.now(UTC)
    plan = signing.prepare(offline, exchange, now)
    for line in signing.told(plan):
        show.note(line)
    if plan.new and not yes:
        _asked()
    return signing.perform(offline, exchange, plan, now)


def _asked() -> None:
    if not sys.stdin.isatty():
        raise OperatorProblem(Kind.HELD, "nothing was signed; say --yes")
    if not typer.confirm("Sign this?", err=True):
        raise OperatorProblem(Kind.HELD, "nothing was signed")
