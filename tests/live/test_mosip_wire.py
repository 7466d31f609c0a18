"""Servers that are none: whatever they do with a connection, there is an outcome in time and nothing is left over."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward_sandbox.mosip.pki import MosipPki, make_pki
from fleetward_server.mosip.exchange import WHYS, Asked, Unreachable
from fleetward_server.mosip.wire import Place, Wire

pytestmark = pytest.mark.live
TIMEOUT_S, PATIENT_S, SLACK_S = 1.0, 60.0, 30.0
"""How long is waited for who never answers, for who does, and how late a busy machine may notice."""
STAYS_S = 120.0
DRIP_S = 0.05
Talk = Callable[[ssl.SSLSocket, threading.Event], None]


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> MosipPki:
    began = datetime.now(UTC) - timedelta(hours=1)
    return make_pki(tmp_path_factory.mktemp("pki"), began, began)


@contextmanager
def server(pki: MosipPki, talk: Talk | None) -> Iterator[int]:
    """Listen; over TLS with ``talk``, without a word if there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki.folder / "tls.pem", pki.folder / "tls.key.pem")
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_serve, args=(listener, context, talk, ended))
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            ended.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(60)
            assert not thread.is_alive()


def _serve(listener: socket.socket, context: ssl.SSLContext, talk: Talk | None, ended: threading.Event) -> None:
    with suppress(OSError):
        connection, _ = listener.accept()
        with connection:
            if talk is None:
                ended.wait(STAYS_S)
                return
            with context.wrap_socket(connection, server_side=True) as secured:
                secured.recv(65536)
                talk(secured, ended)


def silent(_: ssl.SSLSocket, ended: threading.Event) -> None:
    ended.wait(STAYS_S)


def says(raw: bytes) -> Talk:
    return lambda connection, _: connection.sendall(raw)


def drips(raw: bytes, then: bytes) -> Talk:
    def talk(connection: ssl.SSLSocket, ended: threading.Event) -> None:
        connection.sendall(raw)
        with suppress(OSError):
            while not ended.wait(DRIP_S):
                connection.sendall(then)

    return talk


def half_closes(raw: bytes) -> Talk:
    """Say something, end the own half of the line, and stay; nothing is read any more either."""

    def talk(connection: ssl.SSLSocket, ended: threading.Event) -> None:
        connection.sendall(raw)
        socket.socket.shutdown(connection, socket.SHUT_WR)
        ended.wait(STAYS_S)

    return talk


OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CASES: dict[str, tuple[Talk | None, str]] = {
    "accepts and says nothing, not even TLS": (None, "timed-out"),
    "speaks TLS and answers nothing": (silent, "timed-out"),
    "drips a header without end": (drips(OK + b"x-more: ", b"x"), "timed-out"),
    "drips headers without end": (drips(OK, b"x: y\r\n"), "timed-out"),
    "drips a body without end": (drips(OK + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n"), "timed-out"),
    "ends before a word": (says(b""), "cut-off"),
    "ends in the headers": (says(OK), "cut-off"),
    "ends in the body": (says(OK + b"content-length: 99\r\n\r\n{"), "cut-off"),
    "half-closes before a word": (half_closes(b""), "cut-off"),
    "half-closes in the headers": (half_closes(OK), "cut-off"),
    "half-closes in the body": (half_closes(OK + b"content-length: 99\r\n\r\n{"), "cut-off"),
    "speaks no HTTP": (says(b"220 mail.example.org ESMTP\r\n"), "cut-off"),
    "answers a page": (says(OK + b"content-length: 6\r\n\r\n<html>"), "not-json"),
    "answers a list": (says(OK + b"content-length: 2\r\n\r\n[]"), "not-json"),
    "answers nested without end": (says(OK + b"content-length: 200000\r\n\r\n" + b"[" * 200_000), "not-json"),
    "sends elsewhere": (
        says(b"HTTP/1.1 302 Found\r\nlocation: https://evil.example/\r\ncontent-length: 0\r\n\r\n"),
        "bad-status",
    ),
    "is a gateway without a server": (says(b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"), "bad-status"),
    "answers too much": (says(OK + b"content-length: 3000000\r\n\r\n" + b" " * 3_000_000), "too-large"),
}


def wire(pki: MosipPki, port: int, host: str = "localhost", ca: str = "tls.pem", timeout_s: float = PATIENT_S) -> Wire:
    return Wire(Place(f"https://{host}:{port}", timeout_s, pki.folder / ca))


def why(dialled: Wire) -> tuple[str, float]:
    began = time.monotonic()
    with pytest.raises(Unreachable) as unreachable:
        dialled.ask(Asked("GET", "/"))
    assert unreachable.value.code in WHYS
    return unreachable.value.code, time.monotonic() - began


def test_a_server_that_answers_is_heard(pki: MosipPki) -> None:
    with server(pki, says(OK + b'content-length: 9\r\n\r\n{"a": 1} ')) as port, wire(pki, port) as dialled:
        assert dialled.ask(Asked("GET", "/")).body == {"a": 1}


@pytest.mark.parametrize(("talk", "code"), CASES.values(), ids=list(CASES))
def test_a_server_that_is_none_has_a_clear_outcome_in_time(pki: MosipPki, talk: Talk | None, code: str) -> None:
    timeout_s = TIMEOUT_S if code == "timed-out" else PATIENT_S
    with ExitStack() as later, server(pki, talk) as port:
        found, took_s = why(later.enter_context(wire(pki, port, timeout_s=timeout_s)))
    assert found == code
    # Of the others none waits for its time to pass.
    assert took_s < TIMEOUT_S + SLACK_S


def test_a_server_under_another_root_is_not_believed(pki: MosipPki) -> None:
    with server(pki, silent) as port, wire(pki, port, ca="root.pem") as dialled:
        assert why(dialled)[0] == "bad-tls"


@pytest.mark.parametrize(("began", "days"), [("over", -100), ("not yet", 5)])
def test_a_server_whose_certificate_is_not_valid_now_is_not_believed(
    tmp_path: Path, pki: MosipPki, began: str, days: int
) -> None:
    now = datetime.now(UTC)
    with server(pki, says(OK + b"content-length: 2\r\n\r\n{}")) as port, wire(pki, port) as dialled:
        assert dialled.ask(Asked("GET", "/")).body == {}
    other = make_pki(tmp_path / began, now, now + timedelta(days=days))
    with server(other, silent) as port, wire(other, port) as dialled:
        found, took_s = why(dialled)
    assert (found, took_s < TIMEOUT_S + SLACK_S) == ("bad-tls", True)


def test_a_server_of_another_name_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = datetime.now(UTC) - timedelta(hours=1)
    here = make_pki(tmp_path / "here", now, now)
    monkeypatch.setattr("fleetward_sandbox.mosip.pki.LOCAL", ("elsewhere.example", "192.0.2.1"))
    other = make_pki(tmp_path / "other", now, now)
    with server(here, says(OK + b"content-length: 2\r\n\r\n{}")) as port, wire(here, port) as dialled:
        assert dialled.ask(Asked("GET", "/")).body == {}
    with server(other, silent) as port, wire(other, port) as dialled:
        assert why(dialled)[0] == "bad-tls"


@pytest.mark.parametrize("host", ["localhost", "nowhere.invalid"])
def test_nobody_there_is_told_at_once(pki: MosipPki, host: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with wire(pki, port, host) as dialled:
        assert why(dialled)[0] == "no-connection"


def test_a_slow_answer_within_the_time_is_an_answer(pki: MosipPki) -> None:
    def talk(connection: ssl.SSLSocket, ended: threading.Event) -> None:
        for byte in OK + b"content-length: 2\r\n\r\n{}":
            connection.sendall(bytes([byte]))
            ended.wait(0.002)

    with server(pki, talk) as port, wire(pki, port) as dialled:
        assert dialled.ask(Asked("GET", "/")).body == {}


def test_a_connection_is_used_again_and_no_cookie_is_kept(pki: MosipPki) -> None:
    heard: list[bytes] = []

    def talk(connection: ssl.SSLSocket, _: threading.Event) -> None:
        for _ in range(2):
            connection.sendall(OK + b"set-cookie: Authorization=x; Path=/\r\ncontent-length: 2\r\n\r\n{}")
            heard.append(connection.recv(65536))

    with server(pki, talk) as port, wire(pki, port) as dialled:
        assert dialled.ask(Asked("GET", "/")).cookies == {"Authorization": "x"}
        dialled.ask(Asked("GET", "/"))
    assert b"ookie" not in heard[0]
    assert heard[0].startswith(b"GET / ")
