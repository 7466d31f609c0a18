"""The tree of commands. Heavy modules are loaded by the command that needs them, so that ``--help`` is quick.

Other rooms add commands by the entry-point group ``fleetward.commands``; a broken one is told when it is called, and
takes nothing else down with it.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Annotated, Any

import typer

from fleetward_broker.logs import FORMATS, LEVELS, start_logging
from fleetward_server.cli import (
    audit,
    authority,
    backup,
    broker,
    bundle,
    cert,
    command,
    compliance,
    config,
    device,
    ftm_root,
    hsm,
    key,
    mass,
    model,
    mosip,
    release,
    schema,
    serve,
    show,
    telemetry,
    time,
    topic,
    upgrade,
)
from fleetward_server.cli.doctor import doctor
from fleetward_server.cli.exit_codes import EPILOG, OF_KIND, ExitCode
from fleetward_server.cli.options import Json
from fleetward_server.cli.serve import LogChoice
from fleetward_server.cli.telling import complain, one_of, telling, translated
from fleetward_server.problem import OperatorProblem

GROUP = "fleetward.commands"
GROUPS = {
    "device": device.app,
    "command": command.app,
    "upgrade": upgrade.app,
    "mass": mass.app,
    "bundle": bundle.app,
    "cert": cert.app,
    "key": key.app,
    "model": model.app,
    "ftm-root": ftm_root.app,
    "release": release.app,
    "telemetry": telemetry.app,
    "time": time.app,
    "audit": audit.app,
    "authority": authority.app,
    "backup": backup.app,
    "schema": schema.app,
    "topic": topic.app,
    "broker": broker.app,
    "hsm": hsm.app,
    "config": config.app,
    "mosip": mosip.app,
    "compliance": compliance.app,
}
SINGLE = (serve.init, serve.up, serve.down, doctor)
# What a click exception is called depends on typer's version; what it derives from does not.
OURS = ("--log-level", "--log-format")
CliProblem: type[Exception] = typer.BadParameter.__mro__[2]


def build(extra: Sequence[EntryPoint] = ()) -> typer.Typer:
    """Return the whole command line. extra: entry points to add."""
    app = typer.Typer(
        name="fleetward",
        help="Fleet manager for trusted biometric devices: the provider's end.",
        epilog=EPILOG,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        callback=_before,
    )
    for function in SINGLE:
        app.command(epilog=EPILOG)(function)
    app.command("version")(show_version)
    for name, group in GROUPS.items():
        app.add_typer(group, name=name, epilog=EPILOG)
    for point in extra:
        _add(app, point)
    return app


def _tell_version(asked: bool) -> None:
    if asked:
        print(f"fleetward {own_version()}")
        raise typer.Exit


def _before(
    ctx: typer.Context,
    log_level: Annotated[str, typer.Option("--log-level", help="debug, info, warning or error.")] = "info",
    log_format: Annotated[str, typer.Option("--log-format", help="text or json.")] = "text",
    _: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which Fleetward this is.")
    ] = False,
) -> None:
    with telling(as_json=False):
        one_of("--log-level", log_level, LEVELS)
        one_of("--log-format", log_format, FORMATS)
    start_logging(log_level, log_format)
    ctx.obj = LogChoice(log_level, log_format)


def show_version(*, as_json: Json = False) -> None:
    """Show which Fleetward this is, and what it runs on."""
    import platform
    import sqlite3

    found = {"fleetward": own_version(), "python": platform.python_version(), "sqlite": sqlite3.sqlite_version}
    show.record(found, as_json=as_json)


def own_version() -> str:
    """Return the version that is installed, or ``unknown`` where it runs from its sources."""
    try:
        return version("fleetward")
    except PackageNotFoundError:
        return "unknown"


def _add(app: typer.Typer, point: EntryPoint) -> None:
    try:
        loaded = point.load()
    except Exception as error:  # noqa: BLE001 - another room's code: whatever it raises is told when it is called
        app.command(point.name, help=f"(cannot be loaded: {error})")(_broken(point.name, error))
        return
    if isinstance(loaded, typer.Typer):
        app.add_typer(loaded, name=point.name)
    else:
        app.command(point.name)(loaded)


def _broken(name: str, error: Exception) -> Any:
    def tell(*, as_json: Json = False) -> None:
        complain("failed", f"{name} cannot be loaded: {type(error).__name__}: {error}", as_json=as_json)
        raise typer.Exit(ExitCode.UNEXPECTED)

    return tell


def needed(arguments: Sequence[str]) -> list[EntryPoint]:
    """Return the entry points to load: none when one of our own commands is called."""
    called = _called(arguments)
    own = {*GROUPS, "version", *(function.__name__ for function in SINGLE)}
    return [] if called in own else sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _called(arguments: Sequence[str]) -> str | None:
    """Return the first word that is neither an option of ours nor its value."""
    words = iter(arguments)
    for word in words:
        if word in OURS:
            next(words, None)
        elif not word.startswith("-"):
            return word
    return None


def run(arguments: list[str]) -> int:
    """Run one command and return its exit code."""
    as_json = "--json" in arguments
    if strange := [word for word in arguments if not _is_text(word)]:
        complain("usage", f"{strange[0]!r}: is not UTF-8; see the locale (LC_ALL)", as_json=as_json)
        return ExitCode.USAGE
    extra = needed(arguments)
    command = typer.main.get_command(build(extra))
    try:
        # Commands of other rooms raise what our own modules raise; ours have told it before it gets here.
        with translated() if extra and _called(arguments) else nullcontext():
            ended = command.main(arguments, prog_name="fleetward", standalone_mode=False)
        with show.stdout():
            return ended if isinstance(ended, int) else ExitCode.OK
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            return ExitCode.OK
        return end.code if isinstance(end.code, int) else ExitCode.UNEXPECTED
    except OperatorProblem as problem:
        complain(problem.kind, problem.message, as_json=as_json)
        return OF_KIND[problem.kind]
    except OSError as error:
        complain("failed", f"{error.filename or 'stdout'}: {error.strerror}", as_json=as_json)
        return ExitCode.UNEXPECTED
    except typer.Abort:
        complain("interrupted", "interrupted; nothing was done", as_json=as_json)
        return ExitCode.INTERRUPTED
    except CliProblem as problem:
        return _misused(problem, as_json=as_json)
    finally:
        show.let_go()


def _is_text(word: str) -> bool:
    """Whether a word of the command line is text; what no locale could read are lone surrogates."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _misused(problem: Any, *, as_json: bool) -> int:
    """Tell of a wrong word or option in one line, and where to read more."""
    message = str(problem.format_message()).strip()
    option = getattr(problem, "option_name", None)
    if option in OURS:
        message += f"; it goes before the command: fleetward {option} ..."
    elif message and problem.ctx is not None and not as_json:
        message += f" (see: {problem.ctx.command_path} --help)"
    if message:
        complain("usage", message, as_json=as_json)
    return ExitCode.USAGE
