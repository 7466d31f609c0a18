"""A target's bytes fetched over HTTPS: resumed, bounded, and believed by their hash alone.

Who serves them may be hostile: never more than ``length`` bytes, never the time of one that stalls or drips, never a
redirect to anything but HTTPS, and nothing opens the file before its SHA-256 is right. TLS keeps others from seeing
which software a device has. Not counted against ``[budget] bytes_per_day``, which is for messages: half a download is
of no use, and who assigns a release knows its size; ``[upgrade] most_bytes`` bounds it.
Source: protocol section 5 "Releases", point 6; RFC 9110 section 14 (ranges).
"""

import os
import shutil
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, SSLError

from fleetward_agent import VERSION
from fleetward_agent.installers import Broken
from fleetward_agent.installers.files import digest, move_durably, remove_durably
from fleetward_broker.durable import sync_folder
from fleetward_schemas.upgrade import Release, Why

MOST_REDIRECTS = 5
LEAST_LEFT_BYTES = 16 << 20
"""What a download leaves free on the disk, for the state beside it."""
READ_BYTES = 1 << 16
OK, PARTIAL, UNSATISFIABLE = 200, 206, 416
REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server is borne with. tries: attempts in a row that brought nothing. slow_bytes: least in stall_s."""

    dial_s: float = 20.0
    stall_s: float = 60.0
    slow_bytes: int = 4096
    tries: int = 6
    first_wait_s: float = 1.0
    most_wait_s: float = 60.0
    whole_s: float = 5 * 3600.0


@dataclass(frozen=True, slots=True)
class Ways:
    """How downloads are made. host_authorities: the host's own count beside the provider's root.

    proxy: empty: as the environment says (``https_proxy``, ``no_proxy``). most_bytes: the longest package; 0: any.
    """

    host_authorities: bool = False
    proxy: str = ""
    most_bytes: int = 0
    patience: Patience = Patience()


class _Again(Exception):  # noqa: N818 - says what to do
    """This attempt brought nothing more; another may."""


def believe_host(context: ssl.SSLContext) -> None:
    """Have the host's own authorities count too; the web's are not all as RFC 5280 wants them."""
    context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT


class Downloads:
    """The downloads of one device, below one folder; ``stop`` ends one that runs."""

    def __init__(self, folder: Path, ways: Ways, stop: Event) -> None:
        self._folder = folder
        self._ways = ways
        self._stop = stop

    def path(self, release: Release) -> Path:
        """Return where a release's bytes are once they are right."""
        return self._folder / f"{release.name}.{release.hashes.sha256[:16]}.target"

    def fetch(self, release: Release, context: ssl.SSLContext) -> None:
        """Have the bytes at ``path``. context: what is dialled with.

        Raises:
            Broken: they cannot be had, or are not the right ones. OSError: of the disk.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        target, part = self.path(release), self.path(release).with_suffix(".part")
        self._sweep(release.name, {target, part})
        if digest(target) == release.hashes.sha256:
            return
        self._check_room(release, part)
        if self._ways.host_authorities:
            believe_host(context)
        resumed = part.exists()
        if not self._right(release, part, context) and not (resumed and self._right(release, part, context)):
            raise Broken(f"{release.target}: SHA-256 is another", Why.WRONG_HASH)
        move_durably(part, target)

    def _right(self, release: Release, part: Path, context: ssl.SSLContext) -> bool:
        """Fill up and compare; what is wrong is removed: of what was resumed, a crash may have left a part."""
        self._fill(release, part, context)
        if digest(part) == release.hashes.sha256:
            return True
        remove_durably(part)
        return False

    def forget(self, name: str) -> None:
        """Remove what was fetched for a name."""
        self._sweep(name, set())

    def _sweep(self, name: str, kept: set[Path]) -> None:
        for path in self._folder.glob(f"{name}.*"):
            if path not in kept and path.suffix in {".part", ".target"}:
                path.unlink()

    def _check_room(self, release: Release, part: Path) -> None:
        if 0 < self._ways.most_bytes < release.length:
            raise Broken(f"{release.length} bytes: [upgrade] most_bytes is {self._ways.most_bytes}", Why.STORAGE)
        missing = release.length - (part.stat().st_size if part.exists() else 0)
        free = shutil.disk_usage(self._folder).free
        if free < missing + LEAST_LEFT_BYTES:
            raise Broken(f"{missing} bytes to come: {free} free on the disk", Why.STORAGE)

    def _fill(self, release: Release, part: Path, context: ssl.SSLContext) -> None:
        """Append until there are ``length`` bytes, however often the line breaks."""
        patience = self._ways.patience
        until, tries, wait_s = time.monotonic() + patience.whole_s, 0, patience.first_wait_s
        while (had := _size(part)) != release.length:
            if had > release.length:
                part.unlink()
                continue
            try:
                self._attempt(release, part, context, until)
            except SSLError as problem:
                # Asked again, it would show the same certificate.
                raise Broken(f"{release.target}: {_said(problem)}: not the provider's server?") from None
            except (_Again, HTTPError) as problem:
                if _size(part) > had:
                    tries, wait_s = 0, patience.first_wait_s
                tries += 1
                if tries >= patience.tries or time.monotonic() + wait_s > until:
                    raise Broken(f"{release.target}: {_said(problem)}") from None
                self._stop.wait(wait_s)
                wait_s = min(wait_s * 2, patience.most_wait_s)

    def _attempt(self, release: Release, part: Path, context: ssl.SSLContext, until: float) -> None:
        had = _size(part)
        with self._asked(release.url, had, context) as response:
            if response.status == UNSATISFIABLE:
                part.unlink(missing_ok=True)
                raise _Again("no such range")
            if response.status == PARTIAL and not _continues(response, had, release.length):
                part.unlink(missing_ok=True)
                raise _Again("another range than the one asked for")
            if response.status not in {OK, PARTIAL}:
                raise _Again(f"answers {response.status}")
            told = response.headers.get("Content-Length", "")
            if response.status == OK and told and told != str(release.length):
                raise Broken(f"{release.target}: {told[:20]} bytes there: expected {release.length}")
            with part.open("ab" if response.status == PARTIAL else "wb") as file:
                try:
                    for piece in self._pieces(response, release.length - file.tell(), until):
                        file.write(piece)
                finally:
                    file.flush()
                    os.fsync(file.fileno())
        sync_folder(self._folder)

    def _pieces(self, response: urllib3.BaseHTTPResponse, left: int, until: float) -> Iterator[bytes]:
        """Read as the bytes come, as long as they come fast enough; the last byte wanted is the last byte read."""
        patience = self._ways.patience
        since, got = time.monotonic(), 0
        while left > 0:
            piece = response.read1(min(READ_BYTES, left))
            if not piece:
                raise _Again("the connection ended early")
            left, got = left - len(piece), got + len(piece)
            yield piece
            now = time.monotonic()
            if self._stop.is_set():
                raise Broken("stopped, for the agent ends", Why.INTERRUPTED)
            if now > until:
                raise Broken(f"not here within {patience.whole_s:g} s")
            if now - since >= patience.stall_s:
                if got < patience.slow_bytes:
                    raise _Again(f"{got} bytes in {patience.stall_s:g} s")
                since, got = now, 0

    @contextmanager
    def _asked(self, url: str, had: int, context: ssl.SSLContext) -> Iterator[urllib3.BaseHTTPResponse]:
        """Ask, and follow redirects to HTTPS; the connection is closed, not kept."""
        headers = {"User-Agent": f"fleetward-agent/{VERSION}", "Accept-Encoding": "identity"}
        if had:
            headers["Range"] = f"bytes={had}-"
        for _ in range(MOST_REDIRECTS + 1):
            if self._stop.is_set():
                raise Broken("stopped, for the agent ends", Why.INTERRUPTED)
            with self._pool(url, context) as pool:
                response = pool.request("GET", url, headers=headers, redirect=False, preload_content=False)
                try:
                    if response.status not in REDIRECTS:
                        yield response
                        return
                    url = _redirected(url, response.headers.get("Location", ""))
                finally:
                    response.close()
        raise Broken(f"more than {MOST_REDIRECTS} redirects")

    def _pool(self, url: str, context: ssl.SSLContext) -> urllib3.PoolManager:
        patience = self._ways.patience
        timeout = urllib3.Timeout(connect=patience.dial_s, read=patience.stall_s)
        host = urlsplit(url).hostname or ""
        proxy = self._ways.proxy or ("" if proxy_bypass(host) else getproxies().get("https", ""))
        if proxy:
            return urllib3.ProxyManager(proxy, ssl_context=context, retries=False, timeout=timeout)
        return urllib3.PoolManager(ssl_context=context, retries=False, timeout=timeout)


def _continues(response: urllib3.BaseHTTPResponse, had: int, length: int) -> bool:
    return response.headers.get("Content-Range", "") == f"bytes {had}-{length - 1}/{length}"


def _redirected(url: str, location: str) -> str:
    there = urljoin(url, location)
    if not location or urlsplit(there).scheme != "https":
        raise Broken("redirected to what is not HTTPS")
    return there


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _said(problem: Exception) -> str:
    """Name a problem without what the other side chose to say."""
    return str(problem) if isinstance(problem, _Again) else type(problem).__name__
