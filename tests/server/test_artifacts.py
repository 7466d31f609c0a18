"""The bytes of releases over HTTPS: by name alone, whole or from a point on, to whom we know, and never for ever."""

import asyncio
import hashlib
import shutil
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_private
from fleetward_broker.profiles import Issuer, Subject
from fleetward_broker.signers import key_pem, make_key
from fleetward_broker.tls import client_context
from fleetward_schemas.jws import Alg
from fleetward_server.authority import publish_revocations
from fleetward_server.config import Config, load
from fleetward_server.generations import open_issuer
from fleetward_server.lines import alone, renew_line
from fleetward_server.releases.artifacts import Guarded, Patience, answer, application
from fleetward_server.releases.serve import listen, open_listener, server
from fleetward_server.releases.settings import ReleasesTable

CONTENT = bytes(range(256)) * 1024
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NAME = f"firmware/1.4.2/{DIGEST}.fw.bin"
HOUR = timedelta(hours=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    path = folder / "targets" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    (folder / "secret").write_bytes(b"secret")
    (folder / f"{DIGEST}.secret").write_bytes(b"secret")
    (folder / "targets" / f"{DIGEST}.link").symlink_to(folder / "secret")
    (folder / "targets" / "linked").symlink_to(folder)
    (folder / "targets" / "plain.bin").write_bytes(b"secret")
    (folder / "targets" / f"{DIGEST}.folder").mkdir()
    return folder / "targets"


def ask(store: Path, path: str, method: str = "GET", **headers: str) -> httpx.Response:
    async def once() -> httpx.Response:
        transport = httpx.ASGITransport(application(store))
        async with httpx.AsyncClient(transport=transport, base_url="https://x") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(once())


def test_a_target_is_given_whole_with_its_hash_as_etag(store):
    got = ask(store, f"/targets/{NAME}")
    assert (got.status_code, got.content) == (200, CONTENT)
    assert got.headers["etag"] == f'"{DIGEST}"'
    assert got.headers["content-length"] == str(len(CONTENT))
    assert "immutable" in got.headers["cache-control"]


@pytest.mark.parametrize(
    ("wanted", "first", "last"), [("bytes=1000-", 1000, len(CONTENT)), ("bytes=0-9", 0, 10), ("bytes=-5", -5, None)]
)
def test_a_part_of_it_is_given(store, wanted, first, last):
    got = ask(store, f"/targets/{NAME}", Range=wanted)
    assert (got.status_code, got.content) == (206, CONTENT[first:last])


def test_a_part_is_given_only_of_what_was_begun(store):
    same = ask(store, f"/targets/{NAME}", Range="bytes=9-", **{"If-Range": f'"{DIGEST}"'})
    other = ask(store, f"/targets/{NAME}", Range="bytes=9-", **{"If-Range": f'"{"0" * 64}"'})
    assert (same.status_code, other.status_code) == (206, 200)


@pytest.mark.parametrize("wanted", [f"bytes={len(CONTENT)}-", "bytes=9-3", "bytes=x", "lines=1-2"])
def test_a_part_that_is_not_there_is_not_given(store, wanted):
    got = ask(store, f"/targets/{NAME}", Range=wanted)
    assert got.status_code in {400, 416} or got.content == CONTENT


def test_many_parts_at_once_are_not_put_together(store):
    got = ask(store, f"/targets/{NAME}", Range="bytes=" + ",".join(f"{n}-{n}" for n in range(0, 4000, 2)))
    assert "multipart" not in got.headers["content-type"]


def test_what_is_known_is_not_given_again(store):
    got = ask(store, f"/targets/{NAME}", **{"If-None-Match": f'"{DIGEST}"'})
    assert (got.status_code, got.content) == (304, b"")


def test_head_tells_the_length_alone(store):
    got = ask(store, f"/targets/{NAME}", "HEAD")
    assert (got.status_code, got.content, got.headers["content-length"]) == (200, b"", str(len(CONTENT)))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_done_but_to_read(store, method):
    assert ask(store, f"/targets/{NAME}", method).status_code == 405


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/targets",
        "/targets/",
        "/targets/firmware/",
        "/targets/firmware/1.4.2",
        "/targets/plain.bin",
        f"/targets/../{DIGEST}.secret",
        f"/targets/%2e%2e/{DIGEST}.secret",
        f"/targets/..%2f{DIGEST}.secret",
        f"/targets/firmware/%2e%2e/%2e%2e/{DIGEST}.secret",
        f"/targets//{DIGEST}.secret",
        f"/targets/{DIGEST}.link",
        f"/targets/linked/{DIGEST}.secret",
        f"/targets/{DIGEST}.folder",
        f"/targets/{DIGEST}.fw.bin",
        f"/targets/{NAME}%00",
        f"/targets/{NAME}/",
        f"/targets/{'a/' * 200}{DIGEST}.x",
        "/docs",
        "/openapi.json",
    ],
)
def test_there_is_nothing_else(store, path):
    got = ask(store, path)
    assert got.status_code == 404
    assert b"secret" not in got.content


@pytest.mark.parametrize(
    "name",
    [
        f"../{DIGEST}.secret",
        f"firmware/../../{DIGEST}.secret",
        f"/{DIGEST}.secret",
        f"./{NAME}",
        f"{NAME}\0",
        f"{NAME}\n",
    ],
)
def test_a_name_leads_nowhere_else_even_undisguised(store, name):
    assert answer(store, name, "").status_code == 404
    assert answer(store, NAME, "").status_code == 200


def test_who_takes_nothing_is_cut(store):
    async def never(_: object) -> None:
        await asyncio.Event().wait()

    async def receive() -> dict[str, str]:
        return await asyncio.Event().wait()  # type: ignore[return-value]

    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start"})  # type: ignore[operator]

    with pytest.raises(TimeoutError):
        asyncio.run(Patience(app, 0.01)({"type": "http"}, receive, never))  # type: ignore[arg-type]


# Over TLS, as it is reached.


class Impatient(Guarded):
    headers_within_s = 3.0


@contextmanager
def serving(config: Config, *, limits: type[Guarded] = Guarded) -> Iterator[int]:
    """Listen in a thread, as the process does; one setting may be a test's."""
    listener = open_listener(config, 0)
    loop, stopping = asyncio.new_event_loop(), asyncio.Event()

    async def run() -> None:
        if limits is Guarded:
            await listen(config, listener, stopping)
            return
        one: uvicorn.Server = server(config)
        one.config.http_protocol_class = limits
        task = asyncio.create_task(one.serve(sockets=[listener.dup()]))
        await stopping.wait()
        one.should_exit = one.force_exit = True
        await task

    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        loop.call_soon_threadsafe(stopping.set)
        thread.join(30)
        loop.close()
        listener.close()


@pytest.fixture
def config(provider: Path, tmp_path: Path) -> Config:
    shutil.copytree(provider, tmp_path / "p")
    config = load(tmp_path / "p")
    path = config.folder / "releases" / "targets" / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    return replace(config, releases=ReleasesTable(listen="127.0.0.1:0", connections=8))


def transport(config: Config, issuer: Issuer | None = None) -> ssl.SSLContext:
    """Return what a device dials with, its certificate by this authority."""
    issuer = issuer or open_issuer(config, "device-ca")
    key, folder = make_key(Alg.EDDSA), config.folder
    subject, start = Subject("a" * 26, "Acme"), datetime.now(UTC) - timedelta(seconds=60)
    leaf = profiles.issue(profiles.TRANSPORT, subject, key.public_key(), issuer, start=start)
    chain = (leaf, issuer.certificate)
    (folder / "t.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in chain))
    write_private(folder / "t.key.pem", key_pem(key))
    return client_context(config.pki / "root.pem", folder / "t.pem", folder / "t.key.pem")


def bare(config: Config) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(config.pki / "root.pem"))


def test_a_device_gets_bytes_over_tls(config):
    with serving(config) as port, httpx.Client(verify=transport(config)) as client:
        got = client.get(f"https://localhost:{port}/targets/{NAME}", headers={"Range": "bytes=7-"})
        assert (got.status_code, got.content) == (206, CONTENT[7:])


def test_who_shows_no_certificate_gets_nothing_unless_that_is_wanted(config):
    with serving(config) as port, httpx.Client(verify=bare(config)) as client, pytest.raises(httpx.TransportError):
        client.get(f"https://localhost:{port}/targets/{NAME}")
    open_to_all = replace(config, releases=replace(config.releases, client_certificates="optional"))
    with serving(open_to_all) as port, httpx.Client(verify=bare(config)) as client:
        assert client.get(f"https://localhost:{port}/targets/{NAME}").content == CONTENT


def test_a_certificate_of_others_opens_nothing(config):
    key = make_key(Alg.RS256)
    other = Issuer(profiles.self_signed(Subject("root", "Other"), key, datetime.now(UTC) - HOUR), key)
    context = transport(config, other)
    with serving(config) as port, httpx.Client(verify=context) as client, pytest.raises(httpx.TransportError):
        client.get(f"https://localhost:{port}/targets/{NAME}")


def test_who_was_put_out_gets_nothing_from_then_on(config):
    context = transport(config)
    serial = x509.load_pem_x509_certificate((config.folder / "t.pem").read_bytes()).serial_number
    authority = open_issuer(config, "device-ca").certificate.public_bytes(Encoding.DER)
    with serving(config) as port:
        assert given(port, context)
        publish_revocations(config, {authority: {serial: datetime.now(UTC)}}, datetime.now(UTC))
        deadline = datetime.now(UTC) + timedelta(seconds=30)
        while given(port, context):
            assert datetime.now(UTC) < deadline
        assert given(port, transport(config))


def given(port: int, context: ssl.SSLContext) -> bool:
    """Say whether a device gets its bytes; where it does not, TLS is what says no."""
    try:
        with httpx.Client(verify=context) as client:
            return client.get(f"https://localhost:{port}/targets/{NAME}").content == CONTENT
    except httpx.TransportError:
        return False


def test_another_certificate_is_taken_up_while_it_serves(config):
    context = transport(config)
    with serving(config) as port:
        with httpx.Client(verify=context) as client:
            assert client.get(f"https://localhost:{port}/targets/{NAME}").status_code == 200
        before = shown(port, context)
        for name in ("broker.pem", "broker.key.pem"):
            (config.pki / name).write_bytes((config.pki / name).read_bytes())
        assert shown(port, context) == before
        with alone(config):
            renew_line(config, "broker", datetime.now(UTC))
        deadline = datetime.now(UTC) + timedelta(seconds=30)
        while shown(port, context) == before:
            assert datetime.now(UTC) < deadline
        with httpx.Client(verify=context) as client:
            assert client.get(f"https://localhost:{port}/targets/{NAME}").content == CONTENT


def shown(port: int, context: ssl.SSLContext) -> bytes | None:
    with dialled(port, context) as line:
        return line.getpeercert(binary_form=True)


@contextmanager
def dialled(port: int, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    raw = socket.create_connection(("localhost", port), 60)
    with raw, context.wrap_socket(raw, server_hostname="localhost") as line:
        yield line


def test_who_never_ends_its_question_is_cut(config):
    """Slow headers, the first and after an answer; one who asks in time stays."""
    context = transport(config)
    with serving(config, limits=Impatient) as port:
        with dialled(port, context) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
            assert line.recv(100) == b""
        with dialled(port, context) as line:
            line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert line.recv(4096).startswith(b"HTTP/1.1 404")
            line.sendall(b"GET /")
            line.recv(4096)
            assert line.recv(4096) == b""


def test_headers_without_end_are_refused(config):
    with serving(config) as port, dialled(port, transport(config)) as line:
        line.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000)
        assert line.recv(100).startswith(b"HTTP/1.1 400")


def answers(port: int, context: ssl.SSLContext) -> bool:
    """Say whether there is room for a line: that one was closed is seen a little later."""
    try:
        with dialled(port, context) as line:
            line.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            return line.recv(4096).startswith(b"HTTP/1.1 404")
    except OSError:
        return False


def test_one_too_many_is_cut_and_there_is_room_again(config):
    context = transport(config)
    with serving(config) as port:
        lines = [dialled(port, context) for _ in range(8)]
        opened = [line.__enter__() for line in lines]
        for line in opened:
            line.sendall(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
            assert line.recv(4096).startswith(b"HTTP/1.1 404")
        with dialled(port, context) as line:
            assert line.recv(10) == b""
        opened[0].close()
        deadline = datetime.now(UTC) + timedelta(seconds=60)
        while not answers(port, context):
            assert datetime.now(UTC) < deadline
        for one in lines:
            one.__exit__(None, None, None)
