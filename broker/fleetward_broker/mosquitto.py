"""Mosquitto as the broker: its configuration, access list and admin account, written from our own gate.

Pure: text out, no file is touched. Rule: nothing here grants what ``gate.may`` denies, save what its language cannot
say, which broker/README.md names. Whoever may cut a connection speaks on a Unix socket of its own: the plugin that
listens to such words is loaded for that listener alone, so that no network client has anything to say them to.
Source: mosquitto.conf(5), mosquitto_ctrl_dynsec(1), for 2.0; protocol section 2.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fleetward_broker.gate import MAX_PACKET_BYTES, reads, writes
from fleetward_broker.tls import CIPHERS
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.topics import Principal, Role, principal_of

CONFIGURATION, ACL, ADMIN, STORE = "mosquitto.conf", "acl", "admin.json", "mosquitto.db"
PASSWORD, SOCKET = "admin.password", "admin.sock"
ADMIN_NAME = "fleetward-admin"
ADMIN_TOPIC = "$CONTROL/dynamic-security/v1"
SESSION_DAYS = 30
AUTOSAVE_S = 5
WINDOW = 2000
QUEUE_MESSAGES = 200_000
QUEUE_BYTES = 64 * 1024 * 1024
CONNECTIONS = 20_000
KEEP_ALIVE_S = 600
ANYBODY = "%u"
"""What Mosquitto replaces by the principal: the CN of the client's certificate."""
SALT_BYTES = 12
_HASH_ROUNDS = 20_000


@dataclass(frozen=True, slots=True)
class Listen:
    """Where to listen."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files, the folder for what Mosquitto reads and keeps besides, and its dynamic security plugin.

    crl: one file with the lists of all three issuing CAs.
    """

    certificate: Path
    key: Path
    roots: Path
    crl: Path
    folder: Path
    plugin: Path


def configuration(listen: Listen, files: Files, user: str | None = None) -> str:
    """Return mosquitto.conf. user: whom to become when started by root; None: Mosquitto's own choice.

    Raises:
        LocalMistake: a path that the file's language cannot hold.
    """
    lines = [
        "# Written by Fleetward; it is written anew at each start.",
        *([f"user {user}"] if user else []),
        "per_listener_settings true",
        *(f"log_type {kind}" for kind in ("error", "warning", "notice")),
        "log_dest stderr",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
        *_bounds(),
        *_persistence(files.folder),
        "",
        *_devices(listen, files),
        "",
        *_admin(files),
    ]
    return "\n".join([_checked(line) for line in lines]) + "\n"


def _bounds() -> list[str]:
    return [
        f"max_packet_size {MAX_PACKET_BYTES}",
        f"max_keepalive {KEEP_ALIVE_S}",
        f"max_inflight_messages {WINDOW}",
        f"max_queued_messages {QUEUE_MESSAGES}",
        f"max_queued_bytes {QUEUE_BYTES}",
        f"persistent_client_expiration {SESSION_DAYS}d",
        "set_tcp_nodelay true",
        "# Nobody may read $SYS.",
        "sys_interval 0",
    ]


def _persistence(folder: Path) -> list[str]:
    return [
        "persistence true",
        f"persistence_location {folder}/",
        f"persistence_file {STORE}",
        f"autosave_interval {AUTOSAVE_S}",
        "# Saving at each change writes the whole file each time. The outboxes give again what a crash loses.",
        "autosave_on_changes false",
    ]


def _devices(listen: Listen, files: Files) -> list[str]:
    return [
        f"listener {listen.port} {listen.host}",
        f"max_connections {CONNECTIONS}",
        "allow_anonymous false",
        "require_certificate true",
        "use_identity_as_username true",
        f"cafile {files.roots}",
        f"certfile {files.certificate}",
        f"keyfile {files.key}",
        f"crlfile {files.crl}",
        "# The least version, not the only one.",
        "tls_version tlsv1.2",
        f"ciphers {CIPHERS}",
        f"acl_file {files.folder / ACL}",
    ]


def _admin(files: Files) -> list[str]:
    return [
        "# A relative path, since a socket's name has at most 107 bytes: start Mosquitto in this folder.",
        f"listener 0 {SOCKET}",
        "allow_anonymous false",
        f"plugin {files.plugin}",
        f"plugin_opt_config_file {files.folder / ADMIN}",
    ]


def acl(views: Sequence[str] = ()) -> str:
    """Return the access list. views: names of the views there are; a view that is not named reads no view.

    Raises:
        LocalMistake: a name that is no view's.
    """
    own, server = Principal(ANYBODY, Role.DEVICE), Principal("server", Role.SERVER)
    lines = [
        "# Written by Fleetward from its gate. A subscription is granted whatever it asks; this list decides delivery.",
        *(f"pattern write {tree}+" for tree in writes(own)),
        *(f"pattern read {tree}#" for tree in reads(own)),
        "",
        f"user {server.name}",
        *(f"topic write {tree}#" for tree in writes(server)),
        *(f"topic read {tree}#" for tree in reads(server)),
    ]
    for name in views:
        lines += ["", *_view(name)]
    return "\n".join(lines) + "\n"


def _view(name: str) -> list[str]:
    """A view's lines: the patterns hold for it too, so what they give is denied first."""
    view = principal_of(name)
    if view is None or view.role is not Role.VIEW:
        raise LocalMistake(f"{name}: not a view's name")
    as_device = Principal(name, Role.DEVICE)
    return [
        f"user {name}",
        *(f"topic deny {tree}#" for tree in (*writes(as_device), *reads(as_device))),
        *(f"topic read {tree}#" for tree in reads(view)),
    ]


def administration(password: str, salt: bytes) -> str:
    """Return the dynamic security plugin's file: one account, which may speak to the plugin and do nothing else.

    salt: of ``SALT_BYTES``, which is all that Mosquitto 2.0 takes.
    """
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _HASH_ROUNDS)
    tree = "$CONTROL/dynamic-security/#"
    account = {
        "username": ADMIN_NAME,
        "password": base64.b64encode(digest).decode(),
        "salt": base64.b64encode(salt).decode(),
        "iterations": _HASH_ROUNDS,
        "roles": [{"rolename": "admin"}],
    }
    kinds = ("publishClientSend", "publishClientReceive", "subscribePattern")
    role = {"rolename": "admin", "acls": [{"acltype": kind, "topic": tree, "allow": True} for kind in kinds]}
    nothing = dict.fromkeys(("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe"), False)
    return json.dumps({"defaultACLAccess": nothing, "clients": [account], "roles": [role]}, indent=2) + "\n"


def _checked(line: str) -> str:
    if "\n" in line or "\r" in line:
        raise LocalMistake(f"{line!r}: a path may hold no end of line")
    return line
