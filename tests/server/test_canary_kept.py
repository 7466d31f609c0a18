"""What a device may lawfully say comes to rest where the table says and nowhere else, least of all in a log (C10).

Markers stand where they are taken: inside device info and digital IDs that are rightly signed, in certification
requests, and in what is random. A leak of a value that is refused is not the only one.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import AttributeOID, NameOID

from fleetward_schemas.clock import TimeQuestion
from fleetward_schemas.commands import ResultState
from fleetward_schemas.enrol import Enrol, Hello
from fleetward_schemas.inventory import Info
from fleetward_schemas.jws import PrivateKey, compact
from fleetward_schemas.presence import Status
from fleetward_schemas.rotation import Csr
from fleetward_schemas.shapes import Body
from fleetward_schemas.sinks import SINKS
from fleetward_schemas.strict import b64_der, b64url, b64url_decode, show_der
from fleetward_schemas.topics import DeviceId
from fleetward_server.operator import LocalOperator
from tests.canary import marked, places, sealed
from tests.server.searching import PAGES, Search
from tests.server.test_canary import info
from tests.server.test_rotation import ordered
from tests.server.test_worker import Bench

MARKER = "Canary0001ZqXvCanary"
NONCE = MARKER + "A" * 23
"""As a nonce is spelled: 32 bytes in base64url."""
SESSION = MARKER + "AA"
INFO = set(SINKS["info", "deviceInfo"])


@pytest.fixture
def search(bench: Bench, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> Search:
    """Search from now on, with an L1 at work."""
    bench.enrolled(bench.l1)
    return Search(bench, caplog, capsys)


def inside(token: str, part: int, key: PrivateKey) -> Iterator[tuple[tuple[Any, ...], str, str]]:
    """Yield path, marker and the token with the marker there in one of its parts, signed anew."""
    parts = token.split(".")
    document = json.loads(b64url_decode(parts[part].encode()))
    for number, path in enumerate(places(document), 1):
        for marker, spoiled in marked(document, path, number):
            raw = [b64url_decode(one.encode()) for one in parts[:2]]
            raw[part] = json.dumps(spoiled).encode()
            yield path, marker, compact(b64url(raw[0]).encode(), raw[1], key).decode()


def test_what_stands_inside_device_info_is_kept_as_device_info_alone(search: Search) -> None:
    bench, device = search.bench, search.bench.l1
    kept = set()
    for path, marker, token in inside(info(device, bench.now), 1, device.device_key):
        bench.hear(device.say("info", Info(deviceInfo=token), bench.now))
        found = search.finds(marker)
        assert found <= INFO | {PAGES}, path
        if found >= INFO:
            kept.add(path[0])
    # The rest is of a closed list, or held against the record.
    assert kept == {"deviceId", "deviceCode", "serviceVersion", "firmware", "specVersion"}


def test_what_stands_in_the_header_of_device_info_is_kept_nowhere(search: Search) -> None:
    bench, device = search.bench, search.bench.l1
    for path, marker, token in inside(info(device, bench.now), 0, device.device_key):
        bench.hear(device.say("info", Info(deviceInfo=token), bench.now))
        assert search.finds(marker) == set(), path


@pytest.mark.parametrize("part", [0, 1], ids=["header", "payload"])
@pytest.mark.parametrize("kind", ["telemetry", "hello"])
def test_what_stands_inside_a_digital_id_is_kept_nowhere(search: Search, kind: str, part: int) -> None:
    bench, device = search.bench, search.bench.l1
    topic, raw = device.hello(bench.now) if kind == "hello" else device.telemetry(bench.now)
    payload = json.loads(b64url_decode(raw.split(b".")[1]))
    key = device.proof if kind == "hello" else device.device_key
    for path, marker, token in inside(payload["digitalId"], part, device.proof):
        device.seq += 1
        fresh = payload | {"digitalId": token, "seq": payload["seq"] and device.seq}
        bench.hear((topic, sealed(raw, fresh, key)))
        # Whose digital ID is signed rightly and names another is answered under it, and nothing is kept.
        assert search.finds(marker) <= ({"answer"} if (kind, part) == ("hello", 1) else set()), path


def spoken(marker: str) -> dict[tuple[str, str], tuple[str, Body]]:
    """Return messages that are taken, each with what it may choose: (kind, member) -> what is planted, and the body."""
    hello = Hello(nonce=NONCE, certification="L1", purpose="Registration", protocol=[1], agentVersion=marker)  # type: ignore[arg-type]
    return {
        ("hello", "agentVersion"): (marker, hello.changed(nonce=b64url(b"n" * 32))),
        ("hello", "nonce"): (NONCE, hello.changed(agentVersion="1")),
        ("time", "nonce"): (NONCE, TimeQuestion(nonce=NONCE)),
        ("status", "session"): (SESSION, Status(state="online", session=SESSION)),
    }


@pytest.mark.parametrize(("kind", "member"), list(spoken(MARKER)), ids=[f"{a}.{b}" for a, b in spoken(MARKER)])
def test_what_a_device_chooses_freely_is_found_in_each_of_its_sinks_and_nowhere_else(
    search: Search, kind: str, member: str
) -> None:
    bench, device = search.bench, search.bench.l1
    _, body = spoken(MARKER)[kind, member]
    if isinstance(body, Hello):
        body = body.changed(certification=device.certification, purpose=device.purpose)
    sent = bench.hear(device.say(kind, body, bench.now))
    assert sent
    assert search.finds(MARKER) == set(SINKS[kind, member])


def test_every_sink_has_such_a_test(search: Search) -> None:
    assert set(SINKS) == set(spoken(MARKER)) | {("info", "deviceInfo")}


def subject(request: x509.CertificateSigningRequestBuilder) -> x509.CertificateSigningRequestBuilder:
    name = x509.NameAttribute(NameOID.COMMON_NAME, MARKER)
    return x509.CertificateSigningRequestBuilder().subject_name(x509.Name([name]))


def attribute(request: x509.CertificateSigningRequestBuilder) -> x509.CertificateSigningRequestBuilder:
    return request.add_attribute(AttributeOID.CHALLENGE_PASSWORD, MARKER.encode())


def extension(request: x509.CertificateSigningRequestBuilder) -> x509.CertificateSigningRequestBuilder:
    return request.add_extension(x509.SubjectAlternativeName([x509.DNSName(MARKER)]), critical=False)


def test_a_whole_life_under_a_marker_leaves_it_in_its_sinks_alone(search: Search) -> None:
    bench, device, told = search.bench, search.bench.l0, set[str]()

    def hear(message: tuple[str, bytes]) -> list[tuple[str, dict[str, Any]]]:
        said: list[tuple[str, dict[str, Any]]] = bench.hear(message)
        told.update(search.finds(MARKER))
        return said

    hello = Hello(
        nonce=NONCE, certification=device.certification, purpose=device.purpose, protocol=[1], agentVersion=MARKER
    )
    ((_, challenge),) = hear(device.say("hello", hello, bench.now))
    ((_, answer),) = hear(device.enrol(bench.now, challenge["body"]["serverNonce"]))
    device.take(b64_der(answer["body"]["deviceChain"][0]), bench.now)
    hear(device.online(bench.now, SESSION))
    hear(device.ask_time(bench.now))
    hear(device.telemetry(bench.now))
    hear(device.say("info", Info(deviceInfo=info(device, bench.now, firmware=MARKER, deviceCode=MARKER)), bench.now))
    order = ordered(bench, device)
    ((_, certificate),) = hear(device.csr(bench.now, order.id))
    device = device.rotate(b64_der(certificate["body"]["deviceChain"][0]), bench.now)
    hear(device.online(bench.now, SESSION))
    hear(device.result(bench.now, order.id, ResultState.SUCCEEDED))
    order = ordered(bench, device, "retire")
    hear(device.result(bench.now, order.id, ResultState.SUCCEEDED))
    with LocalOperator(bench.store.path.parent, "eve", lambda: bench.now) as eve:
        eve.revoke(DeviceId(device.id), "lost")
    bench.worker.chores(bench.now)

    told.update(search.finds(MARKER))
    kept = {*SINKS["hello", "agentVersion"], *SINKS["hello", "nonce"], *SINKS["status", "session"], *INFO}
    assert told == kept | (told & {PAGES})


Plant = Callable[[x509.CertificateSigningRequestBuilder], x509.CertificateSigningRequestBuilder]
PLANTS = {"subject": subject, "attribute": attribute, "extension": extension}


def requested(key: PrivateKey, plant: Plant) -> str:
    named = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else SHA256()
    return show_der(plant(named).sign(key, algorithm).public_bytes(Encoding.DER))


@pytest.mark.parametrize("plant", PLANTS.values(), ids=list(PLANTS))
def test_of_a_request_at_the_enrolment_nothing_is_kept_but_its_key(search: Search, plant: Plant) -> None:
    bench, device = search.bench, search.bench.l0
    ((_, challenge),) = bench.hear(device.hello(bench.now))
    nonce = challenge["body"]["serverNonce"]  # type: ignore[index]
    asked = [requested(key, plant) for key in (device.device_key, device.transport_key)]
    said = device.say("enrol", Enrol(serverNonce=nonce, deviceCsr=asked[0], transportCsr=asked[1]), bench.now)
    ((_, answer),) = bench.hear(said)
    assert answer["body"]["status"] == "registered"  # type: ignore[index]
    assert search.finds(MARKER) == set()


@pytest.mark.parametrize("plant", PLANTS.values(), ids=list(PLANTS))
def test_of_a_request_at_a_rotation_nothing_is_kept_but_its_key(search: Search, plant: Plant) -> None:
    bench, device = search.bench, search.bench.l1
    command = ordered(bench, device)
    asked = [requested(key, plant) for key in device.next_keys]
    body = Csr(commandId=command.id, deviceCsr=asked[0], transportCsr=asked[1])
    ((kind, _),) = bench.hear(device.say("csr", body, bench.now))
    assert kind == "certificate"
    assert search.finds(MARKER) == set()
