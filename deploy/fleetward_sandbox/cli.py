"""The sandbox on the command line: ``fleetward sandbox provision`` and ``mosip``, ``simulate``, ``demo``."""

import json
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from fleetward_broker.halt import SignalEvent
from fleetward_schemas.identity import Certification, Purpose
from fleetward_server.problem import Kind, OperatorProblem, nearest

sandbox = typer.Typer(help="What stands in for the outside world: the FTM maker's factory, provisioning, MOSIP.")
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]
Dir = Annotated[Path, typer.Option("--dir", envvar="FLEETWARD_DIR", help="The provider's folder.")]


@sandbox.callback()
def _sandbox() -> None:
    """Keep each a command of its own."""


@sandbox.command("provision")
def provision_command(
    out: Annotated[Path, typer.Option("--out", help="Where the device folders go, one each.")],
    folder: Dir = Path("fleetward"),
    count: Annotated[int, typer.Option("--count", min=1, max=100_000, help="How many devices.")] = 1,
    level: Annotated[
        Certification | None, typer.Option("--level", help="L0 or L1; both, one to four, if left out.")
    ] = None,
    purpose: Annotated[Purpose, typer.Option("--purpose", help="What they are registered for.")] = Purpose.REGISTRATION,
    first: Annotated[
        int | None, typer.Option("--first", min=1, help="First serial number; after those in OUT.")
    ] = None,
    *,
    unlisted: Annotated[bool, typer.Option("--unlisted", help="Leave them off the provider's list.")] = False,
    milliseconds: Annotated[
        bool, typer.Option("--milliseconds", help="Digital IDs to the millisecond: MOSIP's partner management 1.1.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Make devices as a factory does: keys, certificates, papers; and put them on the provider's list."""
    from fleetward_sandbox.provision import Made, Order, next_serial, provision
    from fleetward_server.running import running

    number = first or next_serial(folder, out)
    order = Order(count, out, level, first=number, purpose=purpose, listed=not unlisted, milliseconds=milliseconds)
    found = running(folder) or {}

    def done(made: Made) -> None:
        print(f"{made.id}  {made.certification}  {made.folder}", file=sys.stderr)

    made = provision(folder, order, done, port=found.get("port"))
    rows = [{"id": one.id, "certification": one.certification, "folder": str(one.folder)} for one in made]
    print(json.dumps(rows) if as_json else f"{len(rows)} devices in {out}")


@sandbox.command("mosip")
def mosip_command(
    folder: Dir = Path("fleetward"),
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Where to listen; 0: any free port.")] = 8443,
    profile: Annotated[
        str, typer.Option("--profile", help="For the printed table: crypto-only, pms-1.1 or masterdata-1.1.")
    ] = "pms-1.1",
    quirk: Annotated[
        list[str] | None, typer.Option("--quirk", help="Misbehave, always; may be given again. 'help' lists them.")
    ] = None,
    approvals: Annotated[
        Path | None, typer.Option("--approvals", help="JSON: models, services and mappings that it approved.")
    ] = None,
    *,
    lenient: Annotated[bool, typer.Option("--lenient", help="Ask nobody whose certificate it is, as MOSIP.")] = False,
    as_json: Json = False,
) -> None:
    """Answer as MOSIP's services do, over TLS, until Ctrl-C; prints the table for fleetward.toml first."""
    with _extra():
        from fleetward_sandbox.mosip.front import Front, told_quirks
    if quirk and "help" in quirk:
        print(told_quirks(as_json=as_json))
        return
    Front(folder, profile, tuple(quirk or ()), approvals, lenient=lenient, as_json=as_json).serve(port)


@contextmanager
def _extra() -> Iterator[None]:
    """Say which extra an import lacks."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in {"asn1crypto", "starlette", "uvicorn"}:
            raise
        lacks = f"needs {error.name}; run: pip install 'fleetward[sandbox]'"
        raise OperatorProblem(Kind.INVALID, lacks) from None


def _has_mosip(word: str) -> None:
    with _extra():
        from fleetward_sandbox.demo_mosip import PROFILES
    if word not in PROFILES:
        raise OperatorProblem(Kind.INVALID, f"--mosip {word!r}: {nearest(word, PROFILES)}")


def simulate(
    folder: Dir = Path("fleetward"),
    devices: Annotated[int, typer.Option("--devices", min=1, max=20_000, help="How many.")] = 25,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=1, help="Stop by itself; until Ctrl-C if left out.")
    ] = None,
    *,
    as_json: Json = False,
) -> None:
    """Run simulated devices of real agent code against this provider, making those that are missing."""
    from fleetward_sandbox.fleet import Door, Fleet, provisioned
    from fleetward_sandbox.provision import Order, next_serial, provision
    from fleetward_server.running import running

    found = running(folder)
    if found is None:
        start = f"fleetward up --dir {shlex.quote(str(folder))}"
        raise OperatorProblem(Kind.CONFLICT, f"{folder}: nothing is running; start it with: {start}")
    out = folder / "sandbox" / "devices"
    have = provisioned(out)
    if len(have) < devices:
        print(f"making {devices - len(have)} devices", file=sys.stderr)
        provision(folder, Order(devices - len(have), out, first=next_serial(folder, out)), port=int(found["port"]))
    fleet = Fleet(provisioned(out)[:devices], Door(str(found["host"]), int(found["port"])))
    stopped = SignalEvent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    end = time.monotonic() + seconds if seconds else float("inf")
    fleet.run(lambda: stopped.is_set() or time.monotonic() > end)
    stages = [str(device.stage) for device in fleet.devices]
    counts = {stage: stages.count(stage) for stage in sorted(set(stages))}
    print(json.dumps({"devices": devices, "stages": counts}) if as_json else f"{devices} devices: {counts}")
    raise typer.Exit(130 if stopped.is_set() and seconds else 0)


def demo(
    devices: Annotated[int, typer.Option("--devices", min=2, max=1000, help="How many scanners.")] = 25,
    folder: Annotated[Path, typer.Option("--dir", help="Where to work; emptied first.")] = Path("demo-run"),
    *,
    once: Annotated[bool, typer.Option("--once", help="End by itself; exit 0 only if all went well.")] = False,
    hsm: Annotated[bool, typer.Option("--hsm", help="Keep the provider's keys in a token (SoftHSM2).")] = False,
    mosip: Annotated[
        str, typer.Option("--mosip", help="With a MOSIP beside it: pms-1.1, masterdata-1.1 or crypto-only.")
    ] = "",
    away: Annotated[int, typer.Option("--away", min=2, max=3600, help="Seconds the network is cut for.")] = 6,
    picture: Annotated[Path | None, typer.Option("--picture", help="Write an SVG of how it looked.")] = None,
    as_json: Json = False,
) -> None:
    """Watch scanners that nobody touched prove themselves, register, report and obey."""
    from fleetward_sandbox.demo import show

    if mosip:
        _has_mosip(mosip)
    plain = as_json or not sys.stdout.isatty()
    raise typer.Exit(show(folder, devices, once=once, plain=plain, hsm=hsm, mosip=mosip, away_s=away, picture=picture))
