"""A real Mosquitto for tests, configured by our own writers, with the PKI and helpers of the embedded one's house."""

import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from fleetward_broker import mosquitto_admin
from fleetward_broker.mosquitto import SOCKET, Files, Listen
from fleetward_broker.mosquitto_admin import NotTold
from fleetward_schemas.certificates import Unit
from fleetward_server.brokers import mosquitto_plugin, program, self_if_root, write_mosquitto
from tests.live.brokerhouse import Badge, BrokerProcess, Pki


@dataclass
class MosquittoProcess(BrokerProcess):
    """Mosquitto on a folder."""

    def __post_init__(self) -> None:
        self.pki = Pki(self.folder / "pki")

    def start(self) -> None:
        with socket.create_server(("127.0.0.1", self.port)) as free:
            self.port = free.getsockname()[1]
        conf = self._write()
        (self.folder / SOCKET).unlink(missing_ok=True)
        with (self.folder / "broker.log").open("a") as log:
            command = [program("mosquitto"), "-c", str(conf)]
            self.process = subprocess.Popen(
                command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self.until((self.folder / SOCKET).is_socket)

    def _write(self) -> Path:
        pki = self.pki.folder
        self._write_crls()
        pems = (pki / "broker.pem", pki / "broker.key.pem", pki / "root.pem", pki / "all.crl.pem")
        files = Files(*pems, self.folder, mosquitto_plugin())
        return write_mosquitto(self.folder, Listen("127.0.0.1", self.port), files, ["view-1"], user=self_if_root())

    def _write_crls(self) -> None:
        lists = [(self.pki.folder / f"{unit}.crl.pem").read_bytes() for unit in Unit]
        (self.pki.folder / "all.crl.pem").write_bytes(b"".join(lists))

    def revoke(self, badge: Badge) -> None:
        assert self.process is not None
        self.pki.revoke(badge)
        self._write_crls()
        self.process.send_signal(signal.SIGHUP)
        try:
            mosquitto_admin.cut(self.folder, [badge.name])
        except NotTold:
            # 2.0.11 falls over one reload in some hundred; as with ``up``, its successor begins with the lists.
            if self.end() != -signal.SIGSEGV:
                raise
            self.falls += 1
            self.start()
