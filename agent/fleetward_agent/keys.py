"""Keys in files, mode 0600, one per name: the device and transport keys of a device without a better place for them.

Opened through ``signers.open_key``, which checks a file's mode and the key's kind, and once per process: reading an RSA
key costs a tenth of a second. A key made for a name stays that name's key: an enrolment that a crash cut short goes on
with it. A destroyed file is overwritten first; what a disk or a snapshot keeps of the old block is beyond us, which is
what a token is for. Source: protocol section 5 (idempotent enrolment; retirement); S4a.
"""

from pathlib import Path
from urllib.parse import quote

from fleetward_agent.ports import KeyStore
from fleetward_broker.pkcs11_uri import token_alone
from fleetward_broker.signers import (
    KeyUnavailable,
    key_pem,
    make_key,
    needing_hsm,
    open_key,
    shred,
    sync_folder,
    write_private,
)
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_schemas.topics import DeviceId

FOLDER_MODE = 0o700
ENDING = ".key.pem"
DEVICE, TRANSPORT = "device-", "transport-"
"""How names of keys begin."""


def key_store(folder: Path, token: str, base: Path, device_id: DeviceId) -> KeyStore:
    """Return where a device's keys are: files in ``folder``, and with a token's URI its device keys there.

    base: folder that a relative ``pin-source`` starts from.

    Raises:
        KeyUnavailable: the URI is wrong, or the part for tokens is missing.
    """
    files = FileKeys(folder)
    if not token:
        return files
    with needing_hsm():
        from fleetward_agent.token_keys import SplitKeys, TokenKeys

        return SplitKeys(TokenKeys(token_alone(token, base), device_id), files)


class FileKeys:
    """A folder of keys."""

    def __init__(self, folder: Path) -> None:
        """Hold keys in ``folder``, which is made when the first key is."""
        self._folder = folder
        self._opened: dict[str, PrivateKey] = {}

    def make(self, name: str, alg: Alg) -> PrivateKey:
        """Make a key, or return the one that has this name.

        Raises:
            KeyUnavailable: the folder cannot be written.
        """
        path = self._path(name)
        if path.exists():
            return self.open(name)
        key = make_key(alg)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
            write_private(path, key_pem(key))
        except OSError as error:
            raise KeyUnavailable(f"{path}: {error.strerror}") from None
        self._opened[name] = key
        return key

    def open(self, name: str) -> PrivateKey:
        """Open a key.

        Raises:
            KeyUnavailable: see ``signers.open_key``.
        """
        if name not in self._opened:
            self._opened[name] = open_key(f"file:{quote(str(self._path(name)))}")
        return self._opened[name]

    def destroy(self, name: str) -> None:
        """Overwrite and remove a key's file, and what a crash left of its writing.

        Raises:
            KeyUnavailable: it is there and cannot be removed.
        """
        self._opened.pop(name, None)
        try:
            for path in [path for path in self._files() if _name_of(path) == name]:
                shred(path)
            if self._folder.exists():
                sync_folder(self._folder)
        except OSError as error:
            raise KeyUnavailable(f"{self._path(name)}: {error.strerror}") from None

    def names(self) -> frozenset[str]:
        """Return the name of every key here, those too whose writing a crash cut short.

        Raises:
            KeyUnavailable: the folder cannot be read.
        """
        try:
            return frozenset(map(_name_of, self._files()))
        except OSError as error:
            raise KeyUnavailable(f"{self._folder}: {error.strerror}") from None

    def _files(self) -> list[Path]:
        if not self._folder.exists():
            return []
        return [path for path in self._folder.iterdir() if _is_key(path.name)]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{ENDING}"


def _is_key(file: str) -> bool:
    """Say whether a file is a key, or what ``write_private`` writes first: ``.<name>.key.pem.<pid>.tmp``."""
    return file.endswith(ENDING) or (file.startswith(".") and ENDING in file and file.endswith(".tmp"))


def _name_of(path: Path) -> str:
    return path.name.rpartition(ENDING)[0].removeprefix(".")
