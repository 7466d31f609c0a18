"""Keys in files, mode 0600, one per name: the device and transport keys of a device without a better place for them.

Opened through ``signers.open_key``, which checks a file's mode and the key's kind, and once per process: reading an RSA
key costs a tenth of a second. A key made for a name stays that name's key: an enrolment that a crash cut short goes on
with it. A destroyed file is overwritten first; what a disk or a snapshot keeps of the old block is beyond us, which is
what a token is for. Source: protocol section 5 (idempotent enrolment; retirement); S4a.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from fleetward_broker.durable import shred, sync_folder, write_private
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.signers import key_pem, make_key, open_key
from fleetward_schemas.jws import Alg, PrivateKey

FOLDER_MODE = 0o700
ENDING = ".key.pem"
DEVICE, TRANSPORT = "device-", "transport-"
"""How names of keys begin."""


def _open_plain(path: Path) -> PrivateKey:
    return open_key(f"file:{quote(str(path))}")


@dataclass(frozen=True, slots=True)
class Form:
    """How a key lies in a file. ending: of the file's name."""

    ending: str
    make: Callable[[Alg], PrivateKey]
    open: Callable[[Path], PrivateKey]


PLAIN = Form(ENDING, make_key, _open_plain)


class FileKeys:
    """A folder of keys."""

    def __init__(self, folder: Path, form: Form = PLAIN) -> None:
        """Hold keys in ``folder``, which is made when the first key is."""
        self._folder = folder
        self._form = form
        self._opened: dict[str, PrivateKey] = {}

    def make(self, name: str, alg: Alg) -> PrivateKey:
        """Make a key, or return the one that has this name.

        Raises:
            KeyUnavailable: the folder cannot be written.
        """
        path = self._path(name)
        if path.exists():
            return self.open(name)
        key = self._form.make(alg)
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
            self._opened[name] = self._form.open(self._path(name))
        return self._opened[name]

    def destroy(self, name: str) -> None:
        """Overwrite and remove a key's file, and what a crash left of its writing.

        Raises:
            KeyUnavailable: it is there and cannot be removed.
        """
        self._opened.pop(name, None)
        try:
            for path in [path for path in self._files() if self._name_of(path) == name]:
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
            return frozenset(map(self._name_of, self._files()))
        except OSError as error:
            raise KeyUnavailable(f"{self._folder}: {error.strerror}") from None

    def _files(self) -> list[Path]:
        if not self._folder.exists():
            return []
        return [path for path in self._folder.iterdir() if self._is_key(path.name)]

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{self._form.ending}"

    def _is_key(self, file: str) -> bool:
        """Say whether a file is a key, or what ``write_private`` writes first: ``.<name>.key.pem.<pid>.tmp``."""
        ending = self._form.ending
        return file.endswith(ending) or (file.startswith(".") and ending in file and file.endswith(".tmp"))

    def _name_of(self, path: Path) -> str:
        return path.name.rpartition(self._form.ending)[0].removeprefix(".")
