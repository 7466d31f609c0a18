"""Where things of the repository are: its folder, and where devices get a target's bytes.

A target lies under its path with its hash before the last name (TUF, consistent snapshots), so that the folder
``targets`` can be copied to any web server as it is. Source: TUF 1.0 section 6.2.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tuf.api.metadata import TargetFile

from fleetward_server.config import Config
from fleetward_server.releases.files import FOLDER, TARGETS
from fleetward_server.running import running

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


def _base(config: Config) -> str:
    if config.releases.base_url:
        return config.releases.base_url.rstrip("/")
    port = config.releases.address[1] or (running(config.folder) or {}).get("artifacts_port")
    return f"https://{config.broker.host}:{port}/{TARGETS}" if port else ""
