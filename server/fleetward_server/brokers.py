"""The brokers that ``up`` can run, as a table: how each is started, and how it is told that certificates are revoked.

A new kind of broker is one line here; what it grants is the gate's business (broker room). Source: protocol section 2.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetward_broker import mosquitto, mosquitto_admin
from fleetward_broker.durable import write_durably, write_private
from fleetward_broker.mosquitto import Files, Listen
from fleetward_schemas.topics import Role, principal_of
from fleetward_server.authority import ALL_REVOKED
from fleetward_server.config import Config
from fleetward_server.lines import alone
from fleetward_server.locks import CHANGE_S
from fleetward_server.parts import Part, StartFailed

FOLDER = "broker"
START_S = 300.0
"""Long: what it kept is read first, and one that was ended meanwhile would read it all again."""
ALSO = "/usr/sbin:/usr/local/sbin"
PLUGIN = "mosquitto_dynamic_security.so"
LIBRARIES = ("/usr/lib/*/", "/usr/lib/", "/usr/local/lib/")

Spawn = Callable[[list[str], Path], Part]
"""Start a command in a folder."""


class NotInstalled(Exception):  # noqa: N818 - says what is missing
    """A program that was asked for is not on this host; the message names the package."""


@dataclass(frozen=True, slots=True)
class Runner:
    """How one kind of broker is run.

    start: write its files, start it and wait until it serves; given and returned is the port, 0 for any free one.
    enforce: make the process with this id read certificates and CRLs again, and end these principals' connections.
    rereads_roots: it then reads the provider's roots again too.
    """

    start: Callable[[Config, int, Spawn], int]
    enforce: Callable[[Config, int, Sequence[str]], None]
    rereads_roots: bool


def _start_embedded(config: Config, port: int, spawn: Spawn) -> int:
    folder = _folder(config)
    text = (
        f'[listen]\nhost = "{config.broker.bind}"\nport = {port}\n\n'
        '[tls]\ncertificate = "../pki/broker.pem"\nkey = "../pki/broker.key.pem"\n'
        f'roots = "../pki/root.pem"\ncrls = ["../pki/crl/{ALL_REVOKED}"]\n\n'
        '[store]\npath = "broker.db"\n\n'
        f"[limits]\nconnects_per_s = {config.broker.connects_per_s}\n"
    )
    path = folder / "broker.toml"
    write_durably(path, text.encode())
    part = spawn([sys.executable, "-m", "fleetward_broker.embedded", "--config", str(path)], folder)
    return int(json.loads(part.first_line(START_S))["port"])


def _enforce_embedded(config: Config, pid: int, principals: Sequence[str]) -> None:
    """It compares every live connection with the lists by itself."""
    del config, principals
    os.kill(pid, signal.SIGHUP)


def _start_mosquitto(config: Config, port: int, spawn: Spawn) -> int:
    command, plugin = program("mosquitto"), mosquitto_plugin()
    folder, pki = _folder(config), config.pki.resolve()
    listen = Listen(config.broker.bind, port or _free_port(config.broker.bind))
    files = Files(
        pki / "broker.pem", pki / "broker.key.pem", pki / "root.pem", pki / "crl" / ALL_REVOKED, folder, plugin
    )
    path = write_mosquitto(folder, listen, files, views(config), user=self_if_root())
    (folder / mosquitto.SOCKET).unlink(missing_ok=True)
    part = spawn([command, "-c", str(path)], folder)
    # Its listeners open in the order of its configuration, so that the last one says that all are there.
    part.await_((folder / mosquitto.SOCKET).is_socket, START_S, f" on {listen.host}:{listen.port}")
    return listen.port


def _enforce_mosquitto(config: Config, pid: int, principals: Sequence[str]) -> None:
    """The signal is before the words: by the time it reads them it has read the lists."""
    os.kill(pid, signal.SIGHUP)
    mosquitto_admin.cut(_folder(config), principals)


RUNNERS = {
    "embedded": Runner(_start_embedded, _enforce_embedded, rereads_roots=True),
    "mosquitto": Runner(_start_mosquitto, _enforce_mosquitto, rereads_roots=False),
}


def write_mosquitto(
    folder: Path, listen: Listen, files: Files, named: Sequence[str], *, user: str | None = None
) -> Path:
    """Write what Mosquitto reads into ``folder``; return its configuration's path. named: the views there are."""
    password = secrets.token_urlsafe(32)
    write_private(folder / mosquitto.PASSWORD, f"{password}\n".encode())
    account = mosquitto.administration(password, secrets.token_bytes(mosquitto.SALT_BYTES))
    write_private(folder / mosquitto.ADMIN, account.encode())
    write_durably(folder / mosquitto.ACL, mosquitto.acl(named).encode())
    path = folder / mosquitto.CONFIGURATION
    write_durably(path, mosquitto.configuration(listen, files, user).encode())
    return path


def export_mosquitto(config: Config, out: Path, at: Path, listen: Listen) -> list[Path]:
    """Write all that a Mosquitto of the operator's own needs into ``out``; ``at`` is the folder's path at its host.

    Returns the files written. Raises: NotInstalled: this host lacks the plugin whose place the configuration names.
    Busy: another process is changing the keys. OSError.
    """
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    copies = {"broker.pem": "broker.pem", "root.pem": "root.pem", ALL_REVOKED: f"crl/{ALL_REVOKED}"}
    # A certificate goes with the key that it is for.
    with alone(config, CHANGE_S):
        for name, source in copies.items():
            write_durably(out / name, (config.pki / source).read_bytes())
        write_private(out / "broker.key.pem", (config.pki / "broker.key.pem").read_bytes())
    pems = (at / "broker.pem", at / "broker.key.pem", at / "root.pem", at / ALL_REVOKED)
    write_mosquitto(out, listen, Files(*pems, at, mosquitto_plugin()), views(config))
    own = (mosquitto.CONFIGURATION, mosquitto.ACL, mosquitto.ADMIN, mosquitto.PASSWORD, "broker.key.pem")
    return [out / name for name in (*own, *copies)]


def views(config: Config) -> list[str]:
    """Return the names of the views that have a certificate in the provider's folder."""
    found = (principal_of(path.stem) for path in config.pki.glob("view-*.pem"))
    return sorted(view.name for view in found if view is not None and view.role is Role.VIEW)


def program(name: str) -> str:
    """Return where a program is; daemons often lie where only root looks.

    Raises:
        NotInstalled: nowhere.
    """
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{ALSO}")
    if found is None:
        raise NotInstalled(f"{name}: not found; install Debian's package: apt-get install {name}")
    return found


def mosquitto_plugin() -> Path:
    """Return where its dynamic security plugin is.

    Raises:
        NotInstalled: nowhere.
    """
    for place in LIBRARIES:
        for found in sorted(Path("/").glob(place.lstrip("/") + PLUGIN)):
            return found
    raise NotInstalled(f"{PLUGIN}: not found; it is part of Debian's package mosquitto, 2.0 or newer")


def _folder(config: Config) -> Path:
    folder = (config.folder / FOLDER).resolve()
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


def self_if_root() -> str | None:
    """Root starts it as root, since the provider's folder is root's alone then; anybody else is left as he is."""
    return "root" if os.getuid() == 0 else None


def _free_port(host: str) -> int:
    try:
        with socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET) as free:
            return int(free.getsockname()[1])
    except OSError as error:
        raise StartFailed(f"broker: [broker] bind = {host!r}: {error.strerror}") from None
