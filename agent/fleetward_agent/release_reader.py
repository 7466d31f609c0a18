"""What the release repository proves: The Update Framework's client over files that came by MQTT. Slow; off the loop.

python-tuf verifies; it is imported when it is first needed, for it costs memory that a device at rest must not pay.
Time is *latest* of trusted time, never the host's. What verified is kept on disk: no version of any file goes back.
Source: S7, C7, C8; protocol section 5 "Releases"; TUF specification 1.0 section 5.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING
from weakref import finalize

from fleetward_agent.upgrade_effects import ReadRelease, ReleaseRead
from fleetward_schemas.errors import Refused
from fleetward_schemas.strict import b64url
from fleetward_schemas.upgrade import Custom, Release, Why

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

FILE = "release-root.json"
"""The first root of the repository, in the provisioned folder."""
FOLDER = "release"
"""Where what verified is kept, beside the device's state."""
TIMESTAMP = "timestamp"


class ReleaseReader:
    """One device's view of the repository; used by one thread at a time."""

    def __init__(self, root: bytes | None, folder: Path | None, model: str) -> None:
        """Begin at ``root``, the factory's ``release-root.json``; with None nothing is ever released.

        folder: where what verified is kept; None: for as long as this object lives. model: ``make/model``.
        """
        self._root = root
        self._model = model
        self._folder = folder
        if folder is None and root is not None:
            own = TemporaryDirectory(prefix="fleetward-release-")
            self._folder = Path(own.name)
            finalize(self, own.cleanup)

    def read(self, wanted: ReadRelease) -> ReleaseRead:
        """Say what is missing, why the release is refused, or that both agree."""
        name = wanted.release.name
        if self._root is None or self._folder is None:
            return ReleaseRead(name, why=Why.NO_RELEASES)
        from fleetward_agent.release_files import Missing, Odd, target_of

        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            found = target_of(self._root, self._folder, wanted)
        except Missing as missing:
            return ReleaseRead(name, wants=_with_timestamp(missing.file, wanted))
        except Odd:
            return ReleaseRead(name, why=Why.METADATA, again=True)
        except OSError:
            return ReleaseRead(name, why=Why.STORAGE)
        if found is None:
            return ReleaseRead(name, why=Why.NOT_RELEASED)
        custom = _custom(found)
        if custom is None or not _agree(wanted.release, found, custom, self._model):
            return ReleaseRead(name, why=Why.MISMATCH)
        return ReleaseRead(name, version=custom.version)


def _with_timestamp(file: str, wanted: ReadRelease) -> tuple[str, ...]:
    """Return what to ask for next: with a root the timestamp, whose coming tells that there is no newer root."""
    had = {name for name, _ in wanted.files} | wanted.absent
    return (file,) if TIMESTAMP in had or file == TIMESTAMP else (file, TIMESTAMP)


def _custom(found: "TargetFile") -> Custom | None:
    try:
        return Custom.read(found.custom)
    except Refused:
        return None


def _agree(release: Release, found: "TargetFile", custom: Custom, model: str) -> bool:
    """Say whether director and repository mean the same bytes, for this device. C7."""
    try:
        sha256 = b64url(bytes.fromhex(found.hashes.get("sha256", "")))
    except ValueError:
        return False
    told = (sha256, found.length, custom.name, custom.counter)
    assigned = (release.hashes.sha256, release.length, release.name, release.counter)
    return told == assigned and (custom.models is None or model in custom.models)
