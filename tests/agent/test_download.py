"""Bytes are fetched whole from whoever serves them, or not at all; nothing the other side does holds a device."""

import contextlib
import hashlib
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from threading import Event

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_agent.download import LEAST_LEFT_BYTES, Downloads, Patience, Ways
from fleetward_agent.installers import Broken
from fleetward_schemas.strict import b64url
from fleetward_schemas.upgrade import Release, Why
from tests.agent.fileserver import Answer, Asked, FileServer, device_context, honest
from tests.agent.packages import release
from tests.world import Provider

RAW = os.urandom(300_000)
QUICK = Patience(dial_s=60, stall_s=0.5, slow_bytes=4096, tries=3, first_wait_s=0.01, most_wait_s=0.02, whole_s=300)
PATIENT = replace(QUICK, stall_s=60, slow_bytes=1)
"""With servers that are not slow: a busy machine is no stall."""


@pytest.fixture(scope="module")
def provider() -> Provider:
    return Provider()


@pytest.fixture
def server(tmp_path: Path, provider: Provider):
    (tmp_path / "server").mkdir()
    with FileServer(tmp_path / "server", provider, RAW) as made:
        yield made


@pytest.fixture
def downloads(tmp_path: Path) -> Downloads:
    return Downloads(tmp_path / "upgrade", Ways(patience=PATIENT), Event())


@pytest.fixture
def wanted(server: FileServer) -> Release:
    return release(RAW, url=server.url)


def part(downloads: Downloads, wanted: Release) -> Path:
    return downloads.path(wanted).with_suffix(".part")


def put(downloads: Downloads, wanted: Release, raw: bytes) -> None:
    part(downloads, wanted).parent.mkdir(exist_ok=True)
    part(downloads, wanted).write_bytes(raw)


def got(downloads: Downloads, wanted: Release) -> bool:
    path = downloads.path(wanted)
    return path.exists() and b64url(hashlib.sha256(path.read_bytes()).digest()) == wanted.hashes.sha256


def test_what_is_served_lies_there_and_the_transport_certificate_was_shown(
    server: FileServer, downloads: Downloads, wanted: Release, provider: Provider
) -> None:
    context, shown = device_context(provider)
    downloads.fetch(wanted, context)

    assert got(downloads, wanted)
    assert server.asked == [("/fw.bin", None)]
    assert server.shown == [shown]
    downloads.fetch(wanted, context)
    assert len(server.asked) == 1, "what is there is not fetched again"
    downloads.forget("firmware")
    assert not list(downloads.path(wanted).parent.iterdir())


def test_it_is_resumed_where_a_process_died(
    server: FileServer, downloads: Downloads, wanted: Release, provider: Provider
) -> None:
    put(downloads, wanted, RAW[:123_456])
    downloads.fetch(wanted, device_context(provider)[0])

    assert got(downloads, wanted)
    assert server.asked == [("/fw.bin", "bytes=123456-")]


def test_what_was_left_may_be_wrong_and_is_fetched_anew(
    server: FileServer, downloads: Downloads, wanted: Release, provider: Provider
) -> None:
    put(downloads, wanted, bytes(1000))
    downloads.fetch(wanted, device_context(provider)[0])

    assert got(downloads, wanted)
    assert [span for _, span in server.asked] == ["bytes=1000-", None]


def test_more_than_there_can_be_is_thrown_away(
    server: FileServer, downloads: Downloads, wanted: Release, provider: Provider
) -> None:
    put(downloads, wanted, RAW + b"more")
    downloads.fetch(wanted, device_context(provider)[0])

    assert got(downloads, wanted)
    assert server.asked == [("/fw.bin", None)]


def breaks_off(at: int) -> Answer:
    def answer(asked: Asked) -> None:
        asked.head(200 if not asked.start else 206, Content_Length=len(RAW) - asked.start, **_span(asked))
        asked.wfile.write(RAW[asked.start : asked.start + at])

    return answer


def _span(asked: Asked) -> dict[str, str]:
    return {"Content_Range": f"bytes {asked.start}-{len(RAW) - 1}/{len(RAW)}"} if asked.start else {}


def range_ignored(asked: Asked) -> None:
    asked.head(200, Content_Length=len(RAW))
    asked.wfile.write(RAW)


def unsatisfiable(asked: Asked) -> None:
    asked.head(416, Content_Length=0)


def another_range(asked: Asked) -> None:
    asked.head(206, Content_Length=10, Content_Range=f"bytes 0-9/{len(RAW)}")
    asked.wfile.write(RAW[:10])


def overloaded(asked: Asked) -> None:
    asked.head(503, Content_Length=0)


def without_length(asked: Asked) -> None:
    asked.head(200)
    asked.wfile.write(RAW)


def to_itself(asked: Asked) -> None:
    asked.head(302, Content_Length=0, Location="/elsewhere/fw.bin")


BORNE: dict[str, list[Answer]] = {
    "breaks-off": [breaks_off(100_000), breaks_off(50_000), breaks_off(1), breaks_off(1), breaks_off(1)],
    "range-ignored": [breaks_off(1000), range_ignored],
    "416": [breaks_off(1000), unsatisfiable],
    "another-range": [breaks_off(1000), another_range],
    "overloaded": [overloaded, overloaded],
    "no-length": [without_length],
    "redirect": [to_itself],
    "five-redirects": [to_itself] * 5,
}


@pytest.mark.parametrize("way", BORNE)
def test_a_server_that_falters_is_borne(
    server: FileServer, downloads: Downloads, wanted: Release, provider: Provider, way: str
) -> None:
    server.answers = list(BORNE[way])
    downloads.fetch(wanted, device_context(provider)[0])

    assert got(downloads, wanted)


def short(asked: Asked) -> None:
    asked.head(200, Content_Length=len(RAW) - 1)
    asked.wfile.write(RAW[:-1])


def long(asked: Asked) -> None:
    asked.head(200, Content_Length=len(RAW) + 1)
    asked.wfile.write(RAW + b"x")


def endless(asked: Asked) -> None:
    asked.head(200)
    while not asked.server.let.is_set():
        asked.wfile.write(bytes(1 << 16))


def stalls(asked: Asked) -> None:
    asked.head(200, Content_Length=len(RAW))
    asked.server.let.wait(30)


def drips(asked: Asked) -> None:
    asked.head(200, Content_Length=len(RAW))
    while not asked.server.let.wait(0.1):
        asked.wfile.write(b"x")
        asked.wfile.flush()


def silent(asked: Asked) -> None:
    asked.server.let.wait(30)


def to_plain(asked: Asked) -> None:
    asked.head(302, Content_Length=0, Location=asked.server.url.replace("https", "http"))


def to_a_file(asked: Asked) -> None:
    asked.head(301, Content_Length=0, Location="file:///etc/passwd")


def to_nowhere(asked: Asked) -> None:
    asked.head(307, Content_Length=0)


def not_there(asked: Asked) -> None:
    asked.head(404, Content_Length=0)


def other_bytes(asked: Asked) -> None:
    asked.head(200, Content_Length=len(RAW))
    asked.wfile.write(bytes(len(RAW)))


def no_http(asked: Asked) -> None:
    asked.wfile.write(b"\x00\x01garbage\r\n\r\n" * 1000)


HOSTILE: dict[str, tuple[Answer, Why | None]] = {
    "short": (short, None),
    "long": (long, None),
    "endless": (endless, Why.WRONG_HASH),
    "stalls": (stalls, None),
    "drips": (drips, None),
    "silent": (silent, None),
    "redirect-to-http": (to_plain, None),
    "redirect-to-a-file": (to_a_file, None),
    "redirect-to-nowhere": (to_nowhere, None),
    "redirects-for-ever": (to_itself, None),
    "not-there": (not_there, None),
    "other-bytes": (other_bytes, Why.WRONG_HASH),
    "no-http": (no_http, None),
    "breaks-off-at-once": (breaks_off(0), None),
}
SLOW = {"stalls", "drips", "silent"}


@pytest.mark.parametrize("way", HOSTILE)
def test_a_server_that_serves_nothing_right_ends_in_a_failure_soon(
    tmp_path: Path, server: FileServer, wanted: Release, provider: Provider, way: str
) -> None:
    answer, why = HOSTILE[way]
    downloads = Downloads(tmp_path / "upgrade", Ways(patience=QUICK if way in SLOW else PATIENT), Event())
    server.answers = [answer] * 50

    with pytest.raises(Broken) as broken:
        downloads.fetch(wanted, device_context(provider)[0])
    assert broken.value.why is why
    assert not downloads.path(wanted).exists()
    lies = part(downloads, wanted)
    assert not lies.exists() or lies.stat().st_size <= len(RAW)
    assert "passwd" not in str(broken.value)


def test_a_server_of_another_provider_is_left_at_once(
    server: FileServer, downloads: Downloads, wanted: Release, provider: Provider
) -> None:
    with pytest.raises(Broken, match="not the provider's server"):
        downloads.fetch(wanted, device_context(provider, Provider())[0])
    assert server.asked == []


def test_a_server_under_another_name_is_left_at_once(
    server: FileServer, downloads: Downloads, wanted: Release, provider: Provider
) -> None:
    there = wanted.changed(url=wanted.url.replace("localhost", "127.0.0.1"))

    with pytest.raises(Broken, match="not the provider's server"):
        downloads.fetch(there, device_context(provider)[0])


def test_nobody_there_is_a_failure(downloads: Downloads, provider: Provider) -> None:
    with pytest.raises(Broken, match="NewConnectionError"):
        downloads.fetch(release(RAW, url="https://localhost:9/fw"), device_context(provider)[0])


def test_a_full_disk_is_told_before_anything_is_asked(
    server: FileServer, downloads: Downloads, wanted: Release, provider: Provider
) -> None:
    huge = wanted.changed(length=2**40 - LEAST_LEFT_BYTES)

    with pytest.raises(Broken, match="free on the disk") as full:
        downloads.fetch(huge, device_context(provider)[0])
    assert full.value.why is Why.STORAGE
    assert server.asked == []


@pytest.mark.parametrize(("most", "taken"), [(len(RAW) - 1, False), (len(RAW), True)])
def test_a_link_may_bear_no_more_than_so_much(
    tmp_path: Path, server: FileServer, wanted: Release, provider: Provider, most: int, taken: bool
) -> None:
    bounded = Downloads(tmp_path / "upgrade", Ways(most_bytes=most, patience=PATIENT), Event())
    if taken:
        bounded.fetch(wanted, device_context(provider)[0])
        return
    with pytest.raises(Broken, match="most_bytes") as refused:
        bounded.fetch(wanted, device_context(provider)[0])
    assert refused.value.why is Why.STORAGE


def test_an_agent_that_ends_ends_its_download(
    tmp_path: Path, server: FileServer, wanted: Release, provider: Provider
) -> None:
    stop = Event()

    def stopped_in_between(asked: Asked) -> None:
        stop.set()
        honest(asked)

    server.answers = [stopped_in_between]
    with pytest.raises(Broken) as ended:
        Downloads(tmp_path / "upgrade", Ways(patience=PATIENT), stop).fetch(wanted, device_context(provider)[0])
    assert ended.value.why is Why.INTERRUPTED


def test_only_the_release_that_is_wanted_is_kept(
    downloads: Downloads, server: FileServer, wanted: Release, provider: Provider
) -> None:
    put(downloads, wanted, b"")
    folder = downloads.path(wanted).parent
    for name in ("firmware.old.part", "firmware.older.target", "agent.x.target"):
        (folder / name).write_bytes(b"x")
    downloads.fetch(wanted, device_context(provider)[0])

    assert {path.name for path in folder.iterdir()} == {downloads.path(wanted).name, "agent.x.target"}


def test_a_proxy_is_asked_for_the_way_and_sees_no_more(
    tmp_path: Path, server: FileServer, wanted: Release, provider: Provider
) -> None:
    with Proxy() as proxy:
        ways = Ways(proxy=f"http://localhost:{proxy.port}", patience=PATIENT)
        Downloads(tmp_path / "upgrade", ways, Event()).fetch(wanted, device_context(provider)[0])

    assert proxy.lines == [f"CONNECT localhost:{server.server_address[1]} HTTP/1.0"]


def test_the_environments_proxy_counts(
    downloads: Downloads, server: FileServer, wanted: Release, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy() as proxy:
        monkeypatch.setenv("https_proxy", f"http://localhost:{proxy.port}")
        monkeypatch.setenv("no_proxy", "elsewhere.example")
        downloads.fetch(wanted, device_context(provider)[0])
        assert len(proxy.lines) == 1
        downloads.forget("firmware")
        monkeypatch.setenv("no_proxy", "localhost")
        downloads.fetch(wanted, device_context(provider)[0])

    assert len(proxy.lines) == 1


def test_the_hosts_authorities_count_only_where_that_is_said(
    tmp_path: Path, server: FileServer, wanted: Release, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "host.pem").write_bytes(provider.root.certificate.public_bytes(Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "host.pem"))
    for counts in (False, True):
        made = Downloads(tmp_path / str(counts), Ways(host_authorities=counts, patience=PATIENT), Event())
        if counts:
            made.fetch(wanted, device_context(provider, Provider())[0])
        else:
            with pytest.raises(Broken, match="not the provider's server"):
                made.fetch(wanted, device_context(provider, Provider())[0])


class Proxy:
    """An HTTP proxy that makes tunnels, and notes the lines it was asked by."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self) -> "Proxy":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.listener.close()

    def _serve(self) -> None:
        import contextlib
        import socket

        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    head += near.recv(1)
                self.lines.append(head.decode().splitlines()[0])
                host, _, port = head.split()[1].decode().partition(":")
                far = socket.create_connection((host, int(port)))
                near.sendall(b"HTTP/1.0 200 yes\r\n\r\n")
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(one: object, other: object) -> None:
    with contextlib.suppress(OSError):
        while chunk := one.recv(65536):  # type: ignore[attr-defined]
            other.sendall(chunk)  # type: ignore[attr-defined]
    with contextlib.suppress(OSError):
        other.shutdown(1)  # type: ignore[attr-defined]
    one.close()  # type: ignore[attr-defined]


def test_patience_is_a_matter_of_minutes_in_the_field() -> None:
    assert replace(Patience(), whole_s=0).stall_s == 60
    assert Patience().whole_s < 6 * 3600
