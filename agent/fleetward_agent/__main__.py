"""``fleetward-agent run | status | doctor | bundle | clock``. Exit codes stand in agent/README.md.

argparse and nothing else: start-up time and memory are the device's. A service starts ``serve`` instead, without it.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from fleetward_agent import VERSION
from fleetward_agent.assembly import assemble
from fleetward_agent.config import FILE, ConfigProblem, Site, declared, load_site, site_of_folder
from fleetward_agent.doctor import examine, examine_plugs
from fleetward_agent.lock import alone
from fleetward_agent.run import World
from fleetward_agent.serve import Exit, Stop, ended, log, say, serve
from fleetward_agent.status import NotRegistered, NotStarted, TimeUnknown, status_of
from fleetward_broker.durable import write_durably
from fleetward_broker.logs import FORMATS, LEVELS, start_logging


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    asked = _parser().parse_args(arguments)
    try:
        return ended(lambda: asked.command(_site(asked), asked))
    except (NotStarted, NotRegistered, TimeUnknown) as problem:
        return say(problem, Exit.NOT_FOUND)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fleetward-agent", description=__doc__)
    parser.add_argument("--version", action="version", version=f"fleetward-agent {VERSION}")
    commands = parser.add_subparsers(required=True, metavar="run | status | doctor | bundle | clock")
    for name, command, tells in (
        ("run", run, "work until told to stop"),
        ("status", status, "say what the state files say"),
        ("doctor", doctor, "check what may stand in the way"),
    ):
        one = commands.add_parser(name, help=tells, description=tells)
        one.set_defaults(command=command)
        _options(one)
    _bundle_options(commands)
    _clock_options(commands)
    return parser


def _bundle_options(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    tells = "take a bundle that was brought by hand; the agent must not run"
    words = commands.add_parser("bundle", help=tells, description=tells).add_subparsers(required=True, metavar="apply")
    one = words.add_parser("apply", help=tells, description=tells)
    one.set_defaults(command=apply_bundle)
    one.add_argument("file", type=Path, metavar="FILE", help="the bundle")
    one.add_argument("--answers", type=Path, metavar="FILE", help="write what is to be carried back")
    _options(one)


def _clock_options(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    tells = "trusted time, for the host"
    words = commands.add_parser("clock", help=tells, description=tells).add_subparsers(required=True, metavar="WORD")
    for name, command, tells in (
        ("show", show_clock, "say what is known of the time, and what was refused"),
        ("export", export_clock, "hand the time on: to a file, to chronyd"),
        ("set", set_clock, "set the system clock, if it shows a time that cannot be true; needs CAP_SYS_TIME"),
    ):
        one = words.add_parser(name, help=tells, description=tells)
        one.set_defaults(command=command)
        _options(one)
        if name == "export":
            one.add_argument("--file", type=Path, help="write the interval as JSON, whole")
            one.add_argument("--sock", type=Path, help="the socket of chronyd's 'refclock SOCK'")
            one.add_argument("--every", type=float, metavar="SECONDS", help="again and again, until told to stop")


def _options(parser: argparse.ArgumentParser) -> None:
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--config", type=Path, metavar="FILE", help=f"configuration file (default {FILE})")
    where.add_argument("--device", type=Path, metavar="FOLDER", help="a provisioned folder")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--log-level", choices=LEVELS, help="least urgent line to log")
    parser.add_argument("--log-format", choices=FORMATS, help="form of the log on stderr")


def _site(asked: argparse.Namespace) -> Site:
    if asked.device is not None:
        return site_of_folder(asked.device)
    return load_site(asked.config or Path(FILE))


def run(site: Site, asked: argparse.Namespace) -> Exit:
    """Work until SIGTERM or SIGINT."""
    return serve(site, asked.log_level, asked.log_format)


def apply_bundle(site: Site, asked: argparse.Namespace) -> Exit:
    """Take a bundle, and write what is to be carried back."""
    # Only here: an agent on the line needs none of it.
    from fleetward_agent.visit import Visit

    start_logging(asked.log_level or site.log.level, asked.log_format or site.log.format)
    config, world = declared(site), World.real(log)
    whole = asked.file.read_bytes()
    with alone(config.state_dir):
        visit = Visit(assemble(config), world.boot_id, world.instant())
        done = visit.apply(whole, world.instant())
        found = {"taken": dict(done.taken), "held": done.held, "left": list(done.left), "others": done.others}
        if asked.answers is not None:
            answers, found["answers"] = visit.answers(world.instant())
            write_durably(asked.answers, answers)
    _print(found, asked, lambda: "\n".join(f"{name:8} {value}" for name, value in found.items()))
    return Exit.OK


def show_clock(site: Site, asked: argparse.Namespace) -> Exit:
    """Print the clock."""
    # Only here, as in the next two: an agent on the line hands nothing on.
    from fleetward_agent.clock_export import lines, read, shown

    found = shown(read(declared(site)))
    _print(found, asked, lambda: lines(found))
    return Exit.OK


def export_clock(site: Site, asked: argparse.Namespace) -> Exit:
    """Hand the time on, once or until told to stop."""
    from fleetward_agent.clock_export import export, export_until, read

    if asked.file is None and asked.sock is None:
        raise ConfigProblem("clock export: needs --file, --sock or both")
    config, stop = declared(site), Stop()
    if asked.every is None:
        export(read(config), asked.file, asked.sock)
        return Exit.OK
    start_logging(asked.log_level or site.log.level, asked.log_format or site.log.format)
    export_until(stop, lambda: export(read(config), asked.file, asked.sock), lambda: stop.wait(asked.every), log)
    return Exit.INTERRUPTED if stop.by == signal.SIGINT else Exit.OK


def set_clock(site: Site, _: argparse.Namespace) -> Exit:
    """Set the system clock: by an order of somebody who may, and never otherwise."""
    from fleetward_agent.clock_export import read, set_system

    print(set_system(read(declared(site))))
    return Exit.OK


def status(site: Site, asked: argparse.Namespace) -> Exit:
    """Print what the state files say."""
    found = asdict(status_of(declared(site)))
    _print(found, asked, lambda: "\n".join(f"{name.replace('_', ' '):20} {value}" for name, value in found.items()))
    return Exit.OK


def doctor(site: Site, asked: argparse.Namespace) -> Exit:
    """Print one line per check."""
    if site.drivers:
        from fleetward_agent.probe import UdevBus

        findings = examine_plugs(site, UdevBus(site.drivers).scan())
    else:
        findings = examine(declared(site))
    lines = (f"{'ok  ' if one.ok else 'FAIL'}  {one.check:12} {one.detail}" for one in findings)
    _print([asdict(one) for one in findings], asked, lambda: "\n".join(lines))
    return Exit.OK if all(one.ok for one in findings) else Exit.UNEXPECTED


def _print(document: object, asked: argparse.Namespace, text: Callable[[], str]) -> None:
    print(json.dumps(document) if asked.json else text(), flush=True)


if __name__ == "__main__":
    sys.exit(main())
