"""python-tuf's own client as an oracle: it reads a set by names as the wire has them."""

from collections.abc import Callable, Iterator
from pathlib import Path

from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import TargetFile
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface

BASE = "mqtt://release/"


class Fetcher(FetcherInterface):
    """Files by name; what is absent is a 404."""

    def __init__(self, read: Callable[[str], bytes | None]) -> None:
        self.read = read
        self.asked: list[str] = []

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(BASE).removesuffix(".json")
        self.asked.append(name)
        raw = self.read(name)
        if raw is None:
            raise DownloadHTTPError(f"{name}: absent", 404)
        yield raw


class Client:
    """A device's end: what it verified stays in its folder."""

    def __init__(self, folder: Path, read: Callable[[str], bytes | None], root: bytes) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.fetcher, self.root = folder, Fetcher(read), root

    def find(self, path: str) -> TargetFile | None:
        """Refresh, and look for a target."""
        updater = Updater(str(self.folder), BASE, fetcher=self.fetcher, bootstrap=self.root)
        updater.refresh()
        return updater.get_targetinfo(path)
