"""Cutting connections at a Mosquitto: the one word its administrator says, on its Unix socket.

An account made and deleted at once under a principal's name ends that principal's connections and leaves nothing
behind. Whether it may come back is the CRL's business: reload that first. Source: mosquitto_ctrl_dynsec(1), 2.0.
"""

import json
import os
import select
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from fleetward_broker.mosquitto import ADMIN_NAME, ADMIN_TOPIC, PASSWORD, SOCKET

ANSWER_S = 10.0
LOOK_MS = 100
PER_WORD = 100
"""Principals in one message, which stays well under the packet limit."""


class NotTold(Exception):  # noqa: N818 - says what is so
    """The broker did not do as it was told; the message says what is known."""


def cut(folder: Path, principals: Sequence[str]) -> None:
    """End every connection of ``principals``. folder: where Mosquitto was started.

    Raises:
        NotTold: it does not answer, or refuses.
    """
    for start in range(0, len(principals), PER_WORD):
        _say(folder, principals[start : start + PER_WORD])


def _say(folder: Path, principals: Sequence[str]) -> None:
    commands = [
        {"command": command, "username": name} for name in principals for command in ("createClient", "deleteClient")
    ]
    answers = _answered(folder, json.dumps({"commands": commands}))
    # Making an account may fail because a crash left one behind; deleting it is what cuts.
    failed = [one for one in answers if one.get("command") == "deleteClient" and "error" in one]
    if failed or len(answers) != len(commands):
        raise NotTold(f"{folder / SOCKET}: {failed[0]['error'] if failed else f'{len(answers)} answers'}")


def _answered(folder: Path, word: str) -> list[dict[str, Any]]:
    heard: list[bytes] = []
    client = _client(folder, word, heard)
    client.username_pw_set(ADMIN_NAME, _password(folder))
    try:
        client.connect(SOCKET)
        deadline, code = time.monotonic() + ANSWER_S, MQTTErrorCode.MQTT_ERR_SUCCESS
        while not (heard or code) and time.monotonic() < deadline:
            code = _turned(client)
        client.disconnect()
    except OSError as error:
        raise NotTold(f"{folder / SOCKET}: {error.strerror or error}") from None
    if not heard:
        raise NotTold(f"{folder / SOCKET}: no answer ({code.name})")
    return list(json.loads(heard[0])["responses"])


def _turned(client: Client) -> MQTTErrorCode:
    """Do what paho's ``loop`` does, whose ``select`` takes no descriptor above 1,023: an operator may hold many."""
    line, polled = client.socket(), select.poll()
    if line is None:
        return MQTTErrorCode.MQTT_ERR_CONN_LOST
    polled.register(line, select.POLLIN | (select.POLLOUT if client.want_write() else 0))
    code = client.loop_misc()
    for _, ready in polled.poll(LOOK_MS):
        if not code and ready & select.POLLOUT:
            code = client.loop_write()
        if not code and ready & ~select.POLLOUT:
            code = client.loop_read()
    return code


def _client(folder: Path, word: str, heard: list[bytes]) -> Client:
    """Return a client that asks for answers, then says ``word``, then hears."""

    def listen(*_: Any) -> None:
        client.subscribe(f"{ADMIN_TOPIC}/response", 1)

    def speak(*_: Any) -> None:
        client.publish(ADMIN_TOPIC, word, 1)

    def hear(_client: Client, _data: Any, message: MQTTMessage) -> None:
        heard.append(bytes(message.payload))

    client = _UnixClient(folder)
    client.on_connect, client.on_subscribe, client.on_message = listen, speak, hear
    return client


def _password(folder: Path) -> str:
    try:
        return (folder / PASSWORD).read_text().strip()
    except OSError as error:
        raise NotTold(f"{folder / PASSWORD}: {error.strerror}") from None


class _UnixClient(Client):
    """paho on the socket in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(CallbackAPIVersion.VERSION2, "", transport="unix")
        self._folder = folder

    def _create_socket(self) -> socket.socket:
        """Name it through its open folder: a socket's name has at most 107 bytes, a folder's may have more."""
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        # One that hangs takes no more, once so many wait.
        made.settimeout(ANSWER_S)
        try:
            made.connect(f"/proc/self/fd/{descriptor}/{SOCKET}")
        except OSError:
            made.close()
            raise
        finally:
            os.close(descriptor)
        return made
