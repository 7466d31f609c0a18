"""``fleetward backup``: the whole provider in one file, looked through, and made a folder again."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fleetward_server.cli import show
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.options import HERE, Actor, Dir, Json
from fleetward_server.cli.telling import acting, complain, telling, translated, whoami

if TYPE_CHECKING:
    from fleetward_server.restore import Restored

app = typer.Typer(help="The whole provider in one file, and back.", no_args_is_help=True)
CREATE_HELP = """Write a backup of the provider to a new file, also while it serves.

In it: the register at one moment, fleetward.toml, certificates and CRLs, the server's client id, and keys that are
files, encrypted under the passphrase. Not in it: keys in a token (only their URIs), and the broker's store, which
devices and server make good by themselves. The register is not encrypted: keep the file as you keep the folder.
Note the manifest's hash elsewhere, and ship D/issued.log off this host all the time: with it a restore loses no device.
"""
RESTORE_HELP = """Make a provider's folder from a backup; it must be new or empty, and is made whole or not at all.

Be sure first that the old server is off: two with one client id would put each other off the line.
What the server learnt after the backup is lost, and the lost window is printed. With --issued FILE (D/issued.log of the
lost server, as often as there are files) every device goes on as if nothing had been. Without, devices certified since
then prove themselves anew about an hour after they find that nobody answers (L0: approve them).
"""
Archive = Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")]
Secret = Annotated[
    Path | None,
    typer.Option("--passphrase-file", help="Its first line is the passphrase; mode 0600, 12 bytes or more."),
]


@app.command(help=CREATE_HELP)
def create(
    out: Annotated[Path, typer.Option("--out", help="The new file.")],
    folder: Dir = HERE,
    secret: Secret = None,
    actor: Actor = "",
    *,
    without_keys: Annotated[bool, typer.Option("--without-keys", help="Leave keys that are files out.")] = False,
    as_json: Json = False,
) -> None:
    """Write a backup; see CREATE_HELP."""
    with acting(folder, as_json=as_json, actor=actor) as operator, translated():
        from fleetward_server import backup

        passphrase = None if secret is None else backup.read_secret(secret)
        made = backup.create(operator.config, out, passphrase, datetime.now(UTC), without_keys=without_keys)
        if made.schema_is_ours:
            operator.note_backup(made.manifest_hash)
        for name in made.left_out:
            show.note(f"not in it: {name}")
        found = {"file": str(out), "manifest": made.manifest_hash, **made.manifest}
        show.record({**found, "members": backup.contents(made.members)} if as_json else found, as_json=as_json)


@app.command()
def verify(file: Archive, secret: Secret = None, *, as_json: Json = False) -> None:
    """Check every hash, every page of the register, every link of the audit, and with the passphrase every key."""
    with telling(as_json=as_json), translated():
        from fleetward_server import backup

        verdict = backup.verify(file, None if secret is None else backup.read_secret(secret))
        if verdict.flaws:
            complain("unverified", f"{file}: {'; '.join(verdict.flaws)}", as_json=as_json)
            raise typer.Exit(ExitCode.UNVERIFIED)
        if verdict.opened is not None:
            proven = (
                "by the passphrase" if verdict.opened.authentic else "no: compare the manifest's hash with your note"
            )
            found = {"file": str(file), "manifest": verdict.opened.manifest_hash, "authentic": proven}
            show.record({**found, **{name: verdict.opened.manifest[name] for name in SHOWN}}, as_json=as_json)


SHOWN = ("created", "fleetward", "provider", "database", "audit", "keys")


@app.command(help=RESTORE_HELP)
def restore(
    file: Archive,
    folder: Dir = HERE,
    secret: Secret = None,
    issued: Annotated[list[Path] | None, typer.Option("--issued", help="An issued.log; may be repeated.")] = None,
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Make a folder from a backup; see RESTORE_HELP."""
    with telling(as_json=as_json), translated():
        from fleetward_server.backup import read_secret
        from fleetward_server.restore import Wish
        from fleetward_server.restore import restore as do

        passphrase = None if secret is None else read_secret(secret)
        journals, who = tuple(issued or ()), f"operator:{actor or whoami()}"
        restored = do(Wish(file, folder, passphrase, journals, who), datetime.now(UTC))
        show.record(outcome(folder, restored), as_json=as_json)
        for line in lost(restored, journals=bool(journals)):
            show.note(line)


def outcome(folder: Path, restored: "Restored") -> dict[str, object]:
    """Return what was done, and the window that is lost."""
    return {
        "folder": str(folder),
        "manifest": restored.opened.manifest_hash,
        "lost_since": restored.created,
        "certificates_adopted": restored.adopted.certificates,
        "devices_adopted": restored.adopted.devices,
        "devices_silenced": restored.adopted.silenced,
        "journal_lines_damaged": restored.adopted.damaged,
        "keys": restored.keys,
        "keys_missing": list(restored.keys_missing),
    }


def lost(restored: "Restored", *, journals: bool) -> list[str]:
    """Say what is gone."""
    since = show.word(restored.created)
    said = [f"lost: what the server learnt since {since}: acknowledged reports, orders, decisions, audit rows"]
    if journals:
        said.append(f"not lost: {restored.adopted.certificates} certificates issued since then, from the journals")
    else:
        said.append(f"lost: certificates issued and devices put out since {since} (no --issued was given):")
        said.append("      devices certified since then enrol anew by themselves; put out again whom you had put out")
    if restored.adopted.damaged:
        said.append(f"lost: {restored.adopted.damaged} journal lines that cannot be read or prove nothing")
    said += [f"bring this key before up: {key}" for key in restored.keys_missing]
    return said
