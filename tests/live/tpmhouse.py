"""A TPM 2.0 for tests: swtpm, a resource manager, a token by tpm2_ptool, all in one folder; and a child at work on it.

Its module talks D-Bus in the process that loads it, and GLib ends a process whose bus goes away: so no test loads it,
and ``TpmChild`` says what it found as JSON. ``python -m tests.live.tpmhouse <uri> <word> ...`` is that child.
"""

import json
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fleetward_agent.token_keys import TokenKeys
from fleetward_broker.durable import write_private
from fleetward_broker.pkcs11_uri import TokenUri, show_uri, token_alone
from fleetward_broker.signers import open_key
from fleetward_broker.token_facts import every_attribute_of, look_at_token
from fleetward_broker.token_keys import make_token_key
from fleetward_schemas.jws import Alg, sign, verify
from fleetward_schemas.topics import DeviceId

LABEL = "scanner"
MODULE = "libtpm2_pkcs11.so"
PROVIDER = Path(__file__).parents[2] / "deploy" / "tpm" / "openssl.cnf"
WAIT_S = 120.0
RATE_S = 2.0
PAYLOAD = bytes(400)
BESIDE = "device-beside"
PUBLIC_BLOB, PRIVATE_BLOB = 0x8F000002, 0x8F000003
"""Of tpm2-pkcs11: the halves of a key as the TPM gave them out, the private one wrapped."""
BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>
"""


@dataclass
class Tpm:
    """A TPM that runs while it is entered. folder: with a short path, since sockets have short names."""

    folder: Path
    parts: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to find it."""
        return {
            "DBUS_SESSION_BUS_ADDRESS": f"unix:path={self.folder}/bus",
            "TPM2_PKCS11_STORE": str(self.folder / "store"),
            "TPM2_PKCS11_TCTI": "tabrmd:bus_type=session",
            "TPM2TOOLS_TCTI": "tabrmd:bus_type=session",
            "TPM2OPENSSL_TCTI": "tabrmd:bus_type=session",
            "TSS2_LOG": "all+none",
        }

    @property
    def beside_provider(self) -> dict[str, str]:
        """What a process needs that has its transport key in the TPM too: OpenSSL's provider, its module elsewhere."""
        server = {"P11_KIT_SERVER_ADDRESS": f"unix:path={self.folder}/p11"}
        return self.environment | server | {"OPENSSL_CONF": str(PROVIDER)}

    @property
    def token(self) -> TokenUri:
        """Its token's URI, naming no key."""
        module = next(Path("/usr/lib").glob(f"*/pkcs11/{MODULE}"))
        return TokenUri(module, str(self.folder / "pin"), token=LABEL, digest="inside", wait_s=30)

    @property
    def served(self) -> TokenUri:
        """The same token, its module in another process."""
        return replace(self.token, module=self.token.module.with_name("p11-kit-client.so"))

    @property
    def uri(self) -> str:
        return show_uri(self.token)

    @property
    def store(self) -> Path:
        """Where its module keeps keys, wrapped by the TPM."""
        return self.folder / "store" / "tpm2_pkcs11.sqlite3"

    def stored(self, attribute: int, label: str = "") -> set[str]:
        """Return an attribute of every key in that store (of this label), in hexadecimal; it keeps them as YAML."""
        store = sqlite3.connect(self.store, timeout=60)
        texts = [str(row[0]) for row in store.execute("SELECT attrs FROM tobjects")]
        store.close()
        found = re.compile(rf'\? !!int "{attribute}"\s+: !!str "([0-9a-f]+)"')
        return {one for text in texts if label.encode().hex() in text for one in found.findall(text)}

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self.stop)
            self.start()
            undo.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all of it and make the token."""
        for name in ("state", "store"):
            (self.folder / name).mkdir(mode=0o700)
        (self.folder / "bus.conf").write_text(BUS.format(path=self.folder / "bus"))
        socket = self.folder / "swtpm"
        self._start(
            "dbus-daemon", "--nofork", f"--config-file={self.folder}/bus.conf", until=(self.folder / "bus").exists
        )
        where = ("--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl")
        flags = ("--tpm2", "--tpmstate", f"dir={self.folder}/state", "--flags", "not-need-init,startup-clear")
        self._start("swtpm", "socket", *flags, *where, until=Path(f"{socket}.ctrl").exists)
        root = ("--allow-root",) if os.geteuid() == 0 else ()
        self._start("tpm2-abrmd", "--session", *root, "--tcti", f"swtpm:path={socket}", until=self._answers)
        self._make_token()
        serve = ("--foreground", "--name", str(self.folder / "p11"), "--provider", str(self.token.module))
        self._start("p11-kit", "server", *serve, "pkcs11:", until=(self.folder / "p11").exists)

    def stop(self) -> None:
        """End what was started, last first."""
        for part in reversed(self.parts):
            part.terminate()
            part.wait(WAIT_S)

    def run(self, *command: str) -> str:
        """Run one of its tools."""
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def child(self, word: str, *words: str) -> Any:
        """Have a child do one thing with the token and say what it found."""
        return json.loads(self.run(sys.executable, "-m", "tests.live.tpmhouse", self.uri, word, *words))

    def _start(self, name: str, *words: str, until: Callable[[], bool]) -> None:
        program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program is not None, f"{name}: not installed; see deploy/apt.txt"
        with (self.folder / f"{name}.log").open("wb") as log:
            environment = {**os.environ, **self.environment}
            self.parts.append(subprocess.Popen([program, *words], env=environment, stdout=log, stderr=log))
        deadline = time.monotonic() + WAIT_S
        while not until():
            assert time.monotonic() < deadline, (self.folder / f"{name}.log").read_text()
            time.sleep(0.05)

    def _answers(self) -> bool:
        command = ["tpm2_getrandom", "--hex", "4"]
        environment = {**os.environ, **self.environment}
        return not subprocess.run(command, env=environment, capture_output=True, check=False).returncode

    def _make_token(self) -> None:
        pin = secrets.token_hex(8)
        write_private(self.folder / "pin", f"{pin}\n".encode())
        store = ("--path", str(self.folder / "store"))
        self.run("tpm2_ptool", "init", *store)
        words = ("--pid", "1", "--label", LABEL, "--userpin", pin, "--sopin", secrets.token_hex(8))
        self.run("tpm2_ptool", "addtoken", *words, *store)


def rate(uri: str) -> dict[str, float]:
    """Return RSA-2048 signatures a second with a key, each verified at the end."""
    key, count, start = open_key(uri), 0, time.monotonic()
    while time.monotonic() < start + RATE_S:
        signature = sign(key, PAYLOAD)
        count += 1
    passed_s = time.monotonic() - start
    verify(key.public_key(), PAYLOAD, signature)
    return {"per_s": count / passed_s}


def public_pem(uri: str) -> str:
    return open_key(uri).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def make(uri: str) -> str:
    make_token_key(uri, Alg.RS256)
    return public_pem(uri)


def names(token: str, device_id: str) -> list[str]:
    return sorted(TokenKeys(token_alone(token, Path()), DeviceId(device_id)).names())


def beside(token: str, device_id: str, *, destroyed: bool) -> list[str]:
    """Make one more device key, or destroy that one; return the names of all."""
    keys = TokenKeys(token_alone(token, Path()), DeviceId(device_id))
    if destroyed:
        keys.destroy(BESIDE)
    else:
        keys.make(BESIDE, Alg.RS256)
    return sorted(keys.names())


def main(token: str, word: str, *words: str) -> None:
    acts: Mapping[str, Callable[..., Any]] = {
        "make": make,
        "public": public_pem,
        "attributes": every_attribute_of,
        "rate": rate,
        "make-beside": lambda device_id: beside(token, device_id, destroyed=False),
        "destroy-beside": lambda device_id: beside(token, device_id, destroyed=True),
        "names": lambda device_id: names(token, device_id),
        "facts": lambda: look_at_token(token).makes,
    }
    print(json.dumps(acts[word](*words)))


if __name__ == "__main__":
    main(*sys.argv[1:])
