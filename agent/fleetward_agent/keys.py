"""Keys in files, mode 0600, one per name: the device and transport keys of a device without a better place for them.

Opened through ``signers.open_key``, so a key's mode and kind are checked at each opening. A key made for a name stays
that name's key: an enrolment that a crash cut short goes on with it. Source: protocol section 5 (idempotent enrolment).
"""

from pathlib import Path
from urllib.parse import quote

from fleetward_broker.signers import KeyUnavailable, key_pem, make_key, open_key, sync_folder, write_private
from fleetward_schemas.jws import Alg, PrivateKey

FOLDER_MODE = 0o700


class FileKeys:
    """A folder of keys."""

    def __init__(self, folder: Path) -> None:
        """Hold keys in ``folder``, which is made when the first key is."""
        self._folder = folder

    def make(self, name: str, alg: Alg) -> PrivateKey:
        """Make a key, or return the one that has this name.

        Raises:
            KeyUnavailable: the folder cannot be written.
        """
        path = self._path(name)
        if path.exists():
            return self.open(name)
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=FOLDER_MODE)
            write_private(path, key_pem(make_key(alg)))
        except OSError as error:
            raise KeyUnavailable(f"{path}: {error.strerror}") from None
        return self.open(name)

    def open(self, name: str) -> PrivateKey:
        """Open a key.

        Raises:
            KeyUnavailable: see ``signers.open_key``.
        """
        return open_key(f"file:{quote(str(self._path(name)))}")

    def destroy(self, name: str) -> None:
        """Remove a key's file.

        Raises:
            KeyUnavailable: it is there and cannot be removed.
        """
        try:
            self._path(name).unlink(missing_ok=True)
            if self._folder.exists():
                sync_folder(self._folder)
        except OSError as error:
            raise KeyUnavailable(f"{self._path(name)}: {error.strerror}") from None

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.key.pem"
