"""A token in software, for trying and for tests: SoftHSM2 in a folder of its own. It is no HSM: its keys are files.

The module reads its configuration's path from the environment, so making a token sets that for this process and
whatever it starts.
"""

import os
import secrets
import shutil
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path

from fleetward_broker.durable import write_private
from fleetward_broker.pkcs11_uri import TokenUri, show_uri

TOOL = "softhsm2-util"
PLACES = ("/usr/lib/softhsm", "/usr/lib/*/softhsm", "/usr/lib64/pkcs11", "/usr/local/lib/softhsm")
MODULE = "libsofthsm2.so"
CONFIGURATION = "SOFTHSM2_CONF"


class NoSoftHsm(RuntimeError):  # noqa: N818 - says what is missing
    """SoftHSM2 is not on this host."""


@dataclass(frozen=True, slots=True)
class SoftToken:
    """A token and the folder it lives in."""

    folder: Path
    label: str
    module: Path

    @property
    def pin(self) -> Path:
        """The file of its PIN."""
        return self.folder / f"{self.label}.pin"

    @property
    def parts(self) -> TokenUri:
        """Its URI, naming no key."""
        return TokenUri(self.module, str(self.pin), token=self.label)

    @property
    def uri(self) -> str:
        """Its URI as text."""
        return show_uri(self.parts)

    def key(self, label: str) -> str:
        """Return the URI of one of its keys."""
        return show_uri(replace(self.parts, label=label))

    def take_away(self) -> None:
        """Pull the token, as it were."""
        (self.folder / "tokens").rename(self.folder / "away")

    def give_back(self) -> None:
        """Put it back."""
        (self.folder / "away").rename(self.folder / "tokens")


def make_token(folder: Path, label: str = "fleetward") -> SoftToken:
    """Make a token with a PIN of its own in ``folder``; several may share a folder.

    Raises:
        NoSoftHsm: SoftHSM2 is not installed, or makes none.
    """
    tool, module = shutil.which(TOOL), _module()
    if tool is None or module is None:
        raise NoSoftHsm("SoftHSM2 is not here; install Debian's package: apt-get install softhsm2")
    (folder / "tokens").mkdir(mode=0o700, parents=True, exist_ok=True)
    configuration = folder / "softhsm2.conf"
    configuration.write_text(f"directories.tokendir = {folder.resolve()}/tokens\nobjectstore.backend = file\n")
    os.environ[CONFIGURATION] = str(configuration.resolve())
    made = SoftToken(folder.resolve(), label, module)
    pin = secrets.token_hex(8)
    # The tool takes PINs as arguments only, where this host's processes can see them: one more reason it is no HSM.
    command = [tool, "--init-token", "--free", "--label", label, "--pin", pin, "--so-pin", secrets.token_hex(8)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoSoftHsm(f"{TOOL}: {done.stderr.strip() or done.stdout.strip()}")
    write_private(made.pin, f"{pin}\n".encode())
    return made


def _module() -> Path | None:
    for place in PLACES:
        for found in sorted(Path("/").glob(f"{place.lstrip('/')}/{MODULE}")):
            return found
    return None
