"""``fleetward device``: the register of devices, looked at and decided about."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fleetward_server.cli import show
from fleetward_server.cli.command import WEEK_S, give, told
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.cli.filters import FILTER_HELP, WORDS_MAY_BEGIN_WITH_MINUS, plain_words, signed_words
from fleetward_server.cli.many import Which, Yes, act_on_many, single
from fleetward_server.cli.options import HERE, PAGE, Actor, Dir, Json, Limit, Name, Reason, Why
from fleetward_server.cli.telling import acting

if TYPE_CHECKING:
    from fleetward_server.admission import Diff
    from fleetward_server.mass import MassOperator
    from fleetward_server.operations import Papers
    from fleetward_server.state import Device

app = typer.Typer(help="The register of devices.", no_args_is_help=True)
COLUMNS = ("id", "serial", "model", "state", "certification", "presence", "seen_at", "reason", "tags")
LIST_HELP = """Bring the provider's list of devices in: whole, or not at all.

FILE is a JSON array of objects or CSV with a header, in UTF-8. Columns: serialNo, make, model, type, deviceSubType,
deviceProvider, deviceProviderId; certification (L0, L1); purpose (Registration, Auth; Auth needs L1); optional ftmKey
(L1: base64url SHA-256 of the FTM key's SubjectPublicKeyInfo) and tags (array; in CSV separated by ';').
New rows become approved records; a pending device on the list becomes approved. Certification, purpose, identity and
FTM key of a record never change: a row that differs is an error.
"""


@app.command("list", epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def list_devices(
    words: Annotated[list[str] | None, typer.Argument(metavar="[FILTER]...", help="Which; see below.")] = None,
    folder: Dir = HERE,
    after: Annotated[str, typer.Option("--after", help="Go on after this id.")] = "",
    limit: Limit = PAGE,
    *,
    as_json: Json = False,
) -> None:
    """List devices by id: all of them, or those that a filter means."""
    with acting(folder, as_json=as_json) as operator:
        wanted = operator.selection(" ".join(plain_words(words)))
        found = operator.devices(wanted, after, limit)
        show.rows(COLUMNS, map(summary, found), as_json=as_json)
        if len(found) == limit:
            show.note(f"there may be more: --after {found[-1].id}")


@app.command("show")
def show_device(name: Name, folder: Dir = HERE, *, as_json: Json = False) -> None:
    """Show all there is about one device: record, checklist, certificates, software, commands, refusals, history."""
    with acting(folder, as_json=as_json) as operator:
        papers = operator.papers(name)
        document = whole(papers)
        if as_json:
            show.record(document, as_json=True)
            return
        show.record({name: value for name, value in document.items() if not isinstance(value, list)}, as_json=False)
        for title, columns in PARTS.items():
            if document[title]:
                print(f"\n{title}")
                show.rows(columns, document[title], as_json=False)


PARTS = {
    "checklist": ("item", "held", "reason", "excused"),
    "certificates": ("use", "state", "not_before", "not_after", "thumbprint"),
    "software": ("name", "running", "assigned", "phase", "why", "attempt", "since"),
    "commands": ("id", "verb", "step", "reason", "created_at", "expires_at"),
    "refusals": ("principal", "code", "count", "last_at"),
    "history": ("seq", "at", "actor", "action", "reason", "detail"),
}


@app.command("import", help=LIST_HELP)
def import_devices(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The list, CSV or JSON.")],
    folder: Dir = HERE,
    actor: Actor = "",
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    as_json: Json = False,
) -> None:
    """Bring the provider's list in; see LIST_HELP."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        from fleetward_server.listing import read_sheet

        sheet = read_sheet(file)
        diff = operator.import_list(sheet.rows, dry_run=dry_run, places=sheet.places)
        tell_differences(differences(diff, dry_run=dry_run), as_json=as_json)
        if diff.errors:
            raise typer.Exit(ExitCode.USAGE)


@app.command()
def approve(
    name: Name,
    folder: Dir = HERE,
    reason: Reason = "",
    key: Annotated[str, typer.Option("--key", help="Only if this very key asked (asking_key of show).")] = "",
    actor: Actor = "",
    *,
    as_json: Json = False,
) -> None:
    """Approve a device that waits, with the key that asked."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        device = operator.approve(operator.device(name).id, reason, key or None)
        show.record(summary(device), as_json=as_json)


@app.command()
def refuse(name: Name, folder: Dir = HERE, reason: Reason = "", actor: Actor = "", *, as_json: Json = False) -> None:
    """Refuse a device that waits; of a registered one, the key that asks to replace its own."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        show.record(summary(operator.refuse(operator.device(name).id, reason)), as_json=as_json)


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def revoke(
    which: Which, reason: Why, folder: Dir = HERE, actor: Actor = "", *, yes: Yes = False, as_json: Json = False
) -> None:
    """Put devices out for good: their certificates cease to count and the broker cuts them at once."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        _decide(operator, "revoke", which, reason, yes=yes, as_json=as_json)


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def retire(
    which: Which,
    reason: Why,
    folder: Dir = HERE,
    expires_in: Annotated[int, typer.Option("--expires-in", min=60, help="Seconds until it is out unheard.")] = WEEK_S,
    actor: Actor = "",
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Take devices out of service: each destroys its keys and says so; a minute later it is out for good.

    One that does not answer within --expires-in is put out all the same, and the audit says so.
    """
    with acting(folder, as_json=as_json, actor=actor) as operator:
        order = {"verb": "retire", "params": {}, "expires_in_s": expires_in}
        give(operator, which, order, reason, wait=0, yes=yes, as_json=as_json)


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def quarantine(
    which: Which, reason: Why, folder: Dir = HERE, actor: Actor = "", *, yes: Yes = False, as_json: Json = False
) -> None:
    """Let devices report and do nothing else: no commands, no new certificates, until they are released."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        _decide(operator, "quarantine", which, reason, yes=yes, as_json=as_json)


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def release(
    which: Which, folder: Dir = HERE, reason: Reason = "", actor: Actor = "", *, yes: Yes = False, as_json: Json = False
) -> None:
    """End devices' quarantine."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        _decide(operator, "release", which, reason, yes=yes, as_json=as_json)


@app.command(epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def reinstate(
    which: Which, reason: Why, folder: Dir = HERE, actor: Actor = "", *, yes: Yes = False, as_json: Json = False
) -> None:
    """Let revoked or retired devices ask anew: an L1 proves itself by its FTM, an L0 waits for approval of its key."""
    with acting(folder, as_json=as_json, actor=actor) as operator:
        _decide(operator, "reinstate", which, reason, yes=yes, as_json=as_json)


def _decide(operator: "MassOperator", word: str, which: str, reason: str, *, yes: bool, as_json: bool) -> None:
    """Decide about one device or about those that a filter means; ends with the command's exit code."""
    from fleetward_server.mass_state import Action, MassWish

    device_id = single(operator, which)
    if device_id is None:
        act_on_many(operator, MassWish(Action(word), {}, which, reason), yes=yes, as_json=as_json)
        return
    decisions = {
        Action.REVOKE: operator.revoke,
        Action.QUARANTINE: operator.quarantine,
        Action.RELEASE: operator.release,
        Action.REINSTATE: operator.reinstate,
    }
    show.record(summary(decisions[Action(word)](device_id, reason)), as_json=as_json)


@app.command("tag", epilog=FILTER_HELP, context_settings=WORDS_MAY_BEGIN_WITH_MINUS)
def tag_devices(
    which: Which,
    tags: Annotated[
        list[str], typer.Argument(metavar="+TAG|-TAG...", help="+site-7 puts a tag on, -old takes one off.")
    ],
    folder: Dir = HERE,
    reason: Reason = "",
    actor: Actor = "",
    *,
    yes: Yes = False,
    as_json: Json = False,
) -> None:
    """Put tags on devices and take tags off them."""
    add, remove = signed_words(plain_words(tags))
    with acting(folder, as_json=as_json, actor=actor) as operator:
        device_id = single(operator, which)
        if device_id is not None:
            show.record(summary(operator.tag(device_id, add, remove, reason)), as_json=as_json)
            return
        from fleetward_server.mass_state import Action, MassWish

        wish = MassWish(Action.TAG, {"add": add, "remove": remove}, which, reason)
        act_on_many(operator, wish, yes=yes, as_json=as_json)


def summary(device: "Device") -> dict[str, object]:
    """Return a device on one line."""
    return {
        "id": device.id,
        "serial": device.identity.serialNo,
        "make": device.identity.make,
        "model": device.identity.model,
        "type": device.identity.type,
        "state": device.state,
        "certification": device.certification,
        "purpose": device.purpose,
        "listed": device.listed,
        "presence": device.presence,
        "seen_at": device.seen_at,
        "reason": device.reason,
        "tags": device.tags,
    }


def whole(papers: "Papers") -> dict[str, Any]:
    """Return everything about a device, as the JSON document and the page have it; no certificate bytes."""
    device = papers.device
    more = {
        "provider": device.identity.deviceProvider,
        "provider_id": device.identity.deviceProviderId,
        "sub_type": device.identity.deviceSubType,
        "ftm_key": device.ftm_key,
        "asking_key": device.asking_key,
        "approved_key": device.approved_key,
        "enrolments": device.enrolments,
        "presence_at": device.presence_at,
        "agent_version": device.agent_version,
        "retire_at": device.retire_at,
        "created_at": device.created_at,
        "changed_at": device.changed_at,
    }
    keys = PARTS["certificates"]
    return {
        **summary(device),
        **more,
        "clock": None if papers.clock is None else show.plain(papers.clock),
        "checklist": [show.plain(check) for check in device.checklist],
        "certificates": [{key: getattr(one, key) for key in keys} for one in papers.certificates],
        "software": [show.plain(line) for line in papers.software],
        "commands": [told(command) for command in papers.commands],
        "refusals": [show.plain(refusal) for refusal in papers.refusals],
        "history": [{"seq": link.seq, **show.plain(link.entry)} for link in papers.history],
    }


def tell_differences(found: dict[str, Any], *, as_json: bool) -> None:
    """Print what an import did or would do: numbers, and of each kind the first, a line each."""
    if as_json:
        show.record(found, as_json=True)
        return
    kinds = {name: value for name, value in found.items() if isinstance(value, list)}
    show.record(found | {name: len(lines) for name, lines in kinds.items()}, as_json=False)
    for name, lines in kinds.items():
        show.section(name, lines)


def differences(diff: "Diff", *, dry_run: bool) -> dict[str, object]:
    """Return what an import did or would do."""
    return {
        "dry_run": dry_run,
        "added": list(diff.added),
        "changed": [f"{one.id} ({', '.join(one.columns)})" for one in diff.changed],
        "unchanged": diff.unchanged,
        "errors": [str(flaw) for flaw in diff.errors],
    }
