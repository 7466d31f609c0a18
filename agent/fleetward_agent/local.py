"""Device info for the host's own software, in a file that is replaced whole and behind a socket that only tells.

Loaded only where agent.toml has it (``[local]``). Nothing that a client does costs a signature: what is told changes
when the device does, is signed then, and is answered from memory. Source: S4b; MOSIP's discovery and info; C9.
"""

import json
import os
import pwd
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fleetward_agent.config import ConfigProblem, Site
from fleetward_agent.device import Device
from fleetward_agent.instant import SECOND_US
from fleetward_agent.local_door import Door, DoorProblem
from fleetward_agent.local_table import LocalTable
from fleetward_agent.local_words import Looked, Sign, answer, code_of, document, tell, unsigned_identity
from fleetward_agent.origin import Origin
from fleetward_agent.run import Host
from fleetward_agent.session import Session
from fleetward_agent.state import Pair
from fleetward_agent.world import World
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.link import SelectorLink
from fleetward_schemas.inventory import sign_words
from fleetward_schemas.sbi import DeviceError
from fleetward_schemas.strict import b64_der
from fleetward_schemas.topics import DeviceId

LOCAL = "local"
"""Tag of what the link watches for us."""
LOOK_US = SECOND_US
REFRESH_US = 60 * SECOND_US
Devices = Callable[[], Sequence[Device]]
Key = tuple[Any, ...]


class Local:
    """See the module. ``turn`` after each of the host's."""

    def __init__(self, table: LocalTable, folder: Path, devices: Devices, world: World) -> None:
        """Nothing is told before the first turn. folder: where relative paths start.

        Raises:
            ConfigProblem: a user that this host does not know, or a socket that cannot be made.
        """
        self._table, self._devices, self._world = table, devices, world
        self._file = folder / table.file if table.file else None
        self._told: dict[DeviceId, tuple[Key, dict[str, Any]]] = {}
        self._whole: dict[str, Any] = document((), None)
        self._written: tuple[list[Any], int] | None = None
        self._problem = ""
        self._unsigned: set[DeviceId] = set()
        self._due_us = 0
        self.door: Door | None = None
        if table.socket:
            try:
                path, mode = folder / table.socket, int(table.mode, 8)
                self.door = Door(path, mode, _users(table.users), self._answer, world.log)
            except (DoorProblem, OSError) as problem:
                raise ConfigProblem(f"[local] socket: {problem}") from None

    def turn(self) -> None:
        """Look at the devices once a second, write what changed, and let the socket go on."""
        now_us = self._world.boot_us()
        if now_us >= self._due_us:
            self._due_us = now_us + LOOK_US
            self._look(now_us)
        self.hear()

    def hear(self) -> None:
        """Let the socket go on."""
        if self.door is not None:
            self.door.step(self._world.boot_us())

    def close(self) -> None:
        """Say that no device is here any more."""
        self._whole = document((), None)
        self._write([], self._world.boot_us())
        if self.door is not None:
            self.door.close()

    def _answer(self, asked: str) -> bytes:
        return json.dumps(answer(self._whole, asked), separators=(",", ":")).encode() + b"\n"

    def _look(self, now_us: int) -> None:
        devices = self._devices()
        told = {one.id: self._of(one, now_us) for one in devices}
        self._told = told
        synced = [one.session.clock.now(now_us) for one in devices if one.session.clock.synced(now_us)]
        self._whole = document(tuple(words for _, words in told.values()), max(synced, default=None))
        words = self._whole["devices"]
        if self._written is None or words != self._written[0] or now_us >= self._written[1] + REFRESH_US:
            self._write(words, now_us)

    def _of(self, device: Device, now_us: int) -> tuple[Key, dict[str, Any]]:
        """Return what is told of a device: what was told, unless it changed since."""
        there = device.parts.scanner.present()
        sighting = device.parts.scanner.read() if there else None
        looked = Looked(device.session, sighting, now_us)
        code, session = code_of(looked), device.session
        synced = session.clock.synced(now_us)
        key: Key = (code, sighting, session.pair, session.kept.device_code, synced)
        held = self._told.get(device.id)
        if held is not None and held[0] == key:
            return held
        try:
            signed = self._identity(device, looked, code), _signer(device, session.pair, code)
        except KeyUnavailable as problem:
            if device.id not in self._unsigned:
                self._unsigned.add(device.id)
                self._world.log("local-unsigned", {"device": device.id, "problem": str(problem)})
            code = DeviceError.NOT_READY if code is DeviceError.SUCCESS else code
            held_id = session.digital_id or unsigned_identity(looked)
            # Not remembered under its key: it is tried again at the next look.
            return (), tell(looked, code, self._table.callback, (held_id, None))
        self._unsigned.discard(device.id)
        return key, tell(looked, code, self._table.callback, signed)

    def _identity(self, device: Device, looked: Looked, code: DeviceError) -> str:
        session: Session = looked.session
        if code is not DeviceError.NOT_REGISTERED and session.pair is not None:
            return session.pair.digital_id
        origin: Origin = device.origin
        if origin.ftm is not None and session.clock.synced(looked.boot_us):
            return origin.first_identity(session.clock.now(looked.boot_us))
        return unsigned_identity(looked)

    def _write(self, words: list[Any], now_us: int) -> None:
        """Replace the file; a disk that refuses is told of once, and costs the file alone."""
        self._written = words, now_us
        if self._file is None:
            return
        beside = self._file.with_name(f".{self._file.name}.{os.getpid()}")
        raw = json.dumps(self._whole, indent=1).encode() + b"\n"
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                os.fchmod(descriptor, int(self._table.mode, 8))
                file.write(raw)
            beside.replace(self._file)
            self._problem = ""
        except OSError as error:
            if str(error) != self._problem:
                self._problem = str(error)
                self._world.log("local-not-written", {"file": str(self._file), "problem": self._problem})


@contextmanager
def telling(site: Site, host: Host, link: SelectorLink, world: World) -> Iterator[Callable[[], None]]:
    """Tell of a host's devices as its configuration says; call what is given after each turn.

    Raises:
        ConfigProblem: see ``Local``.
    """
    local = Local(site.local, site.folder, lambda: host.devices, world)
    if local.door is not None:
        link.watch(local.door, LOCAL)
        host.heed(LOCAL, local.hear)
    try:
        yield local.turn
    finally:
        local.close()


def _signer(device: Device, pair: Pair | None, code: DeviceError) -> Sign | None:
    if code is DeviceError.NOT_REGISTERED or pair is None:
        return None
    key, leaf = device.parts.keys.open(pair.device_key), b64_der(pair.device_chain[0])
    return lambda payload: sign_words(payload, key, leaf)


def _users(names: Sequence[str]) -> frozenset[int]:
    """Return whom the socket answers: root, the agent's own user, and those named.

    Raises:
        ConfigProblem: this host has no such user.
    """
    try:
        return frozenset({0, os.getuid(), *(pwd.getpwnam(name).pw_uid for name in names)})
    except KeyError as problem:
        raise ConfigProblem(f"[local] users: {problem.args[0]}") from None
