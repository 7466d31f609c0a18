"""Where things of the repository are: its folder, and where devices get a target's bytes.

A target lies under its path with its hash before the last name (TUF, consistent snapshots), so that the folder
``targets`` can be copied to any web server as it is. Source: TUF 1.0 section 6.2.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import TargetFile

from fleetward_server.config import Config
from fleetward_server.releases.files import FOLDER, METADATA, TARGETS
from fleetward_server.running import running

PORT = 8884
TOLD = "told.json"
"""What the broker may hold."""
ELSEWHERE = "urls.json"
"""Targets whose bytes somebody else serves: path -> URL."""


def home(folder: Path) -> Path:
    """Return the repository of a provider's folder."""
    return folder / FOLDER


def stored_as(path: str, sha256_hex: str) -> str:
    """Return how a target is called in the store of bytes, and in its URL."""
    parent, slash, name = path.rpartition("/")
    return f"{parent}{slash}{sha256_hex}.{name}"


@dataclass(frozen=True, slots=True)
class Where:
    """base: of the URLs of bytes that we keep, empty while nothing serves them. elsewhere: the others, by path."""

    base: str
    elsewhere: Mapping[str, str]

    def url(self, target: TargetFile) -> str:
        """Return where a target's bytes are, empty if nowhere."""
        if target.path in self.elsewhere:
            return self.elsewhere[target.path]
        return f"{self.base}/{stored_as(target.path, target.hashes['sha256'])}" if self.base else ""


def read(config: Config) -> Where:
    """Return where this provider's bytes are now. Raises: OSError."""
    return Where(_base(config), read_elsewhere(home(config.folder)))


def read_elsewhere(of: Path) -> dict[str, str]:
    """Return the targets that others serve. of: the repository. Raises: OSError."""
    path = of / ELSEWHERE
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def kept(folder: Path) -> Iterator[Path]:
    """Yield what a backup needs of a provider's repository, in order: all that it says, and keys; no bytes."""
    of = home(folder)
    found = [*of.glob(f"{METADATA}/*.json"), *of.glob("keys/*.pem"), of / ELSEWHERE, of / TOLD]
    yield from sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def listens_on(config: Config) -> tuple[str, int]:
    """Return host and port where our own bytes are served; port 0: any free one."""
    if not config.releases.listen:
        return config.broker.bind, PORT if config.broker.port else 0
    host, _, port = config.releases.listen.rpartition(":")
    return host.strip("[]"), int(port)


def serves_bytes(config: Config) -> bool:
    """Say whether bytes are to be served here: there is a repository, and nobody else does."""
    wanted = bool(config.releases.listen) or not config.releases.base_url
    return wanted and (home(config.folder) / METADATA / "1.root.json").exists()


def _base(config: Config) -> str:
    if config.releases.base_url:
        return config.releases.base_url.rstrip("/")
    port = listens_on(config)[1] or (running(config.folder) or {}).get("artifacts_port")
    return f"https://{config.broker.host}:{port}/{TARGETS}" if port else ""
