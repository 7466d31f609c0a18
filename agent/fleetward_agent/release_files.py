"""python-tuf's client over files that were read by name. Only here tuf is imported; its exceptions end here.

Source: TUF specification 1.0 section 5; ``release_reader`` imports this when it is first needed.
"""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import unquote

from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, TargetFile
from tuf.ngclient import FetcherInterface, Updater, UpdaterConfig

from fleetward_agent.upgrade_effects import ReadRelease
from fleetward_broker.durable import write_durably
from fleetward_schemas import moment

BASE = "file-by-name:/"
MOST_BYTES = 48_000
MOST_ROOTS = 256
NOT_FOUND = 404
FILE_MODE = 0o600
_LIMITS = UpdaterConfig(
    max_root_rotations=MOST_ROOTS,
    max_delegations=4,
    root_max_length=MOST_BYTES,
    timestamp_max_length=MOST_BYTES,
    snapshot_max_length=MOST_BYTES,
    targets_max_length=MOST_BYTES,
    prefix_targets_with_hash=False,
)


class Odd(Exception):  # noqa: N818 - says what is wrong with the set
    """The set does not fit together, is not signed as it must be, is older than what is held, or has expired."""


class Missing(DownloadError):  # noqa: N818 - says what is to be done
    """A file was never asked for. file: its name on the wire."""

    def __init__(self, file: str) -> None:
        super().__init__(file)
        self.file = file


class Durable(Updater):
    """python-tuf's client, whose files survive the power: a version once seen is not forgotten by a cut."""

    def _persist_file(self, filename: str, data: bytes) -> None:
        write_durably(Path(filename), data, FILE_MODE)


class Files(FetcherInterface):
    """What came, by the names of the wire: TUF's without ``.json``."""

    def __init__(self, wanted: ReadRelease) -> None:
        self._files = dict(wanted.files)
        self._absent = wanted.absent

    def _fetch(self, url: str) -> Iterator[bytes]:
        file = unquote(url.removeprefix(BASE)).removesuffix(".json")
        if file in self._files:
            return iter((self._files[file],))
        if file in self._absent:
            raise DownloadHTTPError(f"{file}: absent", NOT_FOUND)
        raise Missing(file)


def target_of(root: bytes, folder: Path, wanted: ReadRelease, client: type[Durable] = Durable) -> TargetFile | None:
    """Return the target as the repository has it; None: it has none.

    Raises:
        Missing: a file is wanted next. Odd: see there. OSError: what verified cannot be kept.
    """
    try:
        updater = client(str(folder), BASE, fetcher=Files(wanted), config=_LIMITS, bootstrap=root)
        # S3: expiry is judged at the latest end of trusted time, never by the host's clock.
        updater._trusted_set.reference_time = moment.EPOCH + timedelta(microseconds=wanted.latest_us)  # noqa: SLF001
        updater.refresh()
        return updater.get_targetinfo(wanted.release.target)
    except Missing:
        raise
    except (RepositoryError, DownloadError) as error:
        raise Odd(str(error)) from None


def root_of(raw: bytes) -> Root:
    """Return a root that stands by itself: whole, and signed by as many of its own keys as it asks for.

    Raises:
        Odd: it does not.
    """
    try:
        found = Metadata[Root].from_bytes(raw)
        if not isinstance(found.signed, Root):
            raise Odd("it is no root")
        found.verify_delegate(Root.type, found)
    except RepositoryError as error:
        raise Odd(str(error)) from None
    return found.signed
