"""Write the generated parts of the READMEs: ``python -m fleetward_sandbox.docs``; ``--check`` only looks.

A part stands between ``<!-- generated:NAME -->`` and ``<!-- /generated -->``. State machines are drawn from
their tables, and the tables of the wire from ``KINDS``.
"""

import argparse
import json
import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

from fleetward_broker import profiles
from fleetward_sandbox.doc_shapes import bodies, other_shapes, table
from fleetward_sandbox.doc_words import BODIES, CODES, EVENTS, FIELDS, LIMITS, REASONS
from fleetward_schemas import commands, enrol, shapes, upgrade
from fleetward_schemas.certificates import CLIENT_AUTH, DEVICE_SIGNING, SERVER_AUTH, SERVER_SIGNING
from fleetward_schemas.commands import ResultReason, ResultState, Verb
from fleetward_schemas.enrol import Reason
from fleetward_schemas.errors import FINAL_CODES, Code
from fleetward_schemas.export import field_schema
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.messages import KINDS, Kind
from fleetward_schemas.presence import StatusReason
from fleetward_schemas.receipts import AlertCode
from fleetward_schemas.strict import b64url_decode
from fleetward_schemas.telemetry import METRICS
from fleetward_schemas.topics import Direction, Role
from fleetward_server.compliance_clauses import clauses

HOUSE = Path(__file__).parents[2]
VECTORS = HOUSE / "schemas" / "vectors"
LONGEST, SHOWN = 100, 48
PART = re.compile(r"(<!-- generated:([a-z-]+) -->\n).*?(<!-- /generated -->)", re.DOTALL)
WHO = {Role.DEVICE: "`<id>`", Role.FACTORY: "`f-<id>`"}
PURPOSES = {
    SERVER_SIGNING: "server signing",
    DEVICE_SIGNING: "device signing",
    CLIENT_AUTH: "clientAuth",
    SERVER_AUTH: "serverAuth",
}


def kinds() -> str:
    """Return the table of kinds."""
    head = ("topic", "kind", "who", "oldest", "number", "report", "QoS", "what")
    return table(head, (_kind(kind) for kind in KINDS.values()))


def _kind(kind: Kind) -> tuple[str, ...]:
    who = (
        "all" if kind.direction is Direction.FLEET else ", ".join(WHO[role] for role in Role if role in kind.principals)
    )
    age = "-" if kind.max_age_s is None else _age(kind.max_age_s)
    number = "0" if kind.nonce_bound else "yes"
    report = "yes" if kind.report else ""
    return (
        kind.direction,
        f"`{kind.name}`",
        who,
        age,
        number,
        report,
        str(kind.qos),
        BODIES[kind.direction, kind.name],
    )


def _age(seconds: int) -> str:
    return f"{seconds // 86400} days" if seconds >= 86400 else f"{seconds} s"


def fields() -> str:
    """Return the table of field types."""
    rows = []
    for name, (word, meaning) in FIELDS.items():
        schema = field_schema(getattr(shapes, name))
        size = f"{schema.get('minLength', '')}..{schema['maxLength']}" if "maxLength" in schema else "by its pattern"
        rows.append((f"*{word}*", f"`{schema['pattern']}`", size, meaning))
    return table(("type", "pattern", "characters", "meaning"), rows)


def codes() -> str:
    """Return the table of refusal codes, in the order of the checks."""
    rows = [(f"`{code}`", *CODES[code], "yes" if code in FINAL_CODES else "") for code in Code]
    return table(("code", "found when", "a device whose report it hits", "a device that finds it", "final"), rows)


def metrics() -> str:
    """Return the closed list of metrics."""
    rows = [(f"`{name}`", f"{low:.15g}", f"{high:.15g}", text) for name, (low, high, text) in METRICS.items()]
    return table(("metric", "lowest", "highest", "meaning"), rows)


def words() -> str:
    """Return every closed list of words."""
    lists: Mapping[str, type[StrEnum]] = {
        "`enrolled.reason`": Reason,
        "`status.reason`": StatusReason,
        "`command.command`": Verb,
        "`result.state`": ResultState,
        "`result.reason`": ResultReason,
        "`alert.code`": AlertCode,
        "`progress.state`": upgrade.Phase,
        "`progress.reason`": upgrade.Why,
        "`deviceStatus`": DeviceStatus,
    }
    return table(("where", "words"), ((where, " ".join(f"`{w}`" for w in words)) for where, words in lists.items()))


def reasons() -> str:
    """Return what each reason of an enrolment means."""
    return table(("reason", "meaning"), ((f"`{reason}`", REASONS[reason]) for reason in Reason))


def limits() -> str:
    """Return the numbers that code holds to."""
    return table(("limit", "value"), ((text, f"{value:,}".replace(",", " ")) for text, value in LIMITS.items()))


def certificates() -> str:
    """Return the certificate profiles."""
    rows = (
        (
            profile.name,
            f"{profile.life.days} days",
            ", ".join(PURPOSES[purpose] for purpose in profile.purposes) or "-",
            "-" if profile.path_length is None else profile.path_length,
        )
        for profile in profiles.PROFILES
    )
    return table(("certificate", "life", "extended key usage", "path length"), rows)


def purposes() -> str:
    """Return the object identifiers of our own purposes and the usual ones."""
    return table(("purpose", "OID"), ((name, f"`{oid.dotted_string}`") for oid, name in PURPOSES.items()))


def drawing(start: StrEnum, steps: Mapping[Any, Mapping[Any, Any]]) -> str:
    """Return a state table as a Mermaid drawing."""
    lines = ["stateDiagram-v2", f"    [*] --> {start}"]
    for state, edges in steps.items():
        targets: dict[Any, list[str]] = {}
        for event, target in edges.items():
            targets.setdefault(target, []).append(str(event))
        lines += [f"    {state} --> {target}: {', '.join(events)}" for target, events in targets.items()]
        lines += [] if edges else [f"    {state} --> [*]"]
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def events() -> str:
    """Return what each event of the two state tables is."""
    return table(("table", "event", "happens when"), ((*key, text) for key, text in EVENTS.items()))


def specification() -> str:
    """Return the table of clauses, from the data that the report for auditors is made from."""
    rows = (
        (
            one.id,
            f"{one.asks} ({one.missing})" if one.missing else one.asks,
            " ".join(f"`{module}`" for module in one.implemented),
            " ".join(f"`{file}`" for file in one.files),
        )
        for one in clauses().clause
    )
    return table(("clause", "what it asks", "implemented", "tested"), rows)


GENERATED: dict[str, Callable[[], str]] = {
    "kinds": kinds,
    "bodies": bodies,
    "other-shapes": other_shapes,
    "fields": fields,
    "codes": codes,
    "metrics": metrics,
    "words": words,
    "reasons": reasons,
    "limits": limits,
    "certificates": certificates,
    "purposes": purposes,
    "states-enrol": lambda: drawing(enrol.State.PENDING, enrol.NEXT),
    "states-command": lambda: drawing(commands.Step.QUEUED, commands.NEXT),
    "states-upgrade": lambda: drawing(upgrade.Phase.ASSIGNED, upgrade.NEXT),
    "events": events,
    "specification": specification,
}


def example(name: str) -> str:
    """Return the payload of an accepted vector, its long texts cut."""
    cases = json.loads((VECTORS / "envelopes-accepted.json").read_text())
    raw = next(case["raw"] for case in cases if case["name"] == name)
    payload = json.loads(b64url_decode(raw.split(".")[1].encode()))
    return "```json\n" + json.dumps(_cut(payload), indent=2) + "\n```\n"


def _cut(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST:
        return value[:SHOWN] + "..."
    if isinstance(value, list):
        return [_cut(inner) for inner in value]
    return {name: _cut(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def make(name: str) -> str:
    """Return one generated part; ``example-<vector>`` is the payload of that vector.

    Raises:
        KeyError: nobody knows the name.
    """
    return example(name.removeprefix("example-")) if name.startswith("example-") else GENERATED[name]()


def render(text: str) -> str:
    """Return ``text`` with every generated part made anew."""
    return PART.sub(lambda found: f"{found[1]}\n{make(found[2])}\n{found[3]}", text)


def readmes(house: Path = HOUSE) -> list[Path]:
    """Return the documents that have generated parts."""
    candidates = [*house.glob("*.md"), *house.glob("*/*.md")]
    return sorted(path for path in candidates if PART.search(path.read_text()))


def outdated(house: Path = HOUSE) -> list[Path]:
    """Return the documents whose generated parts differ from what the code says now."""
    return [path for path in readmes(house) if render(path.read_text()) != path.read_text()]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m fleetward_sandbox.docs", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a part is out of date")
    checking = parser.parse_args().check
    old = outdated()
    for path in old:
        if not checking:
            path.write_text(render(path.read_text()))
    return 1 if checking and old else 0


if __name__ == "__main__":
    raise SystemExit(main())
