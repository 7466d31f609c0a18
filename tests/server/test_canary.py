"""A marker planted anywhere in a message is found in no log, row, audit entry or answer but the allowed sinks (C10)."""

import base64
import json
import logging
from datetime import datetime
from itertools import product
from typing import Any

import pytest

from fleetward_schemas.commands import ResultState
from fleetward_schemas.identity import Environment
from fleetward_schemas.ids import next_id
from fleetward_schemas.inventory import DeviceInfo, DeviceStatus, Info, sign_info
from fleetward_schemas.jws import compact
from fleetward_schemas.messages import KINDS
from fleetward_schemas.moment import show
from fleetward_schemas.receipts import Alert, AlertCode
from fleetward_schemas.sinks import SINKS
from fleetward_schemas.strict import b64url, b64url_decode
from fleetward_schemas.topics import Direction
from fleetward_schemas.upgrade import Phase, Progress, Why
from tests.canary import marked, places, sealed, spellings
from tests.device import TestDevice
from tests.server.assigned import assign, assignment
from tests.server.searching import PAGES, Search
from tests.server.test_worker import Bench


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """Return the bench once its L1 is there and shall run something."""
    bench.enrolled(bench.l1)
    assign(bench.store, assignment(bench.l1.id, bench.now, version=1), bench.now)
    return bench


def test_a_marker_is_found_in_each_of_its_spellings() -> None:
    marker = "Canary0001ZqXvCanary"
    for padding, outside in product(range(3), range(3)):
        text = base64.urlsafe_b64encode(b"." * padding + marker.encode() + b"...")
        twice = base64.urlsafe_b64encode(b"." * outside + text + b"...")
        assert any(one in text for one in spellings(marker))
        assert any(one in twice for one in spellings(marker))


def said(bench: Bench, device: TestDevice) -> dict[str, tuple[str, bytes]]:
    """Return one honest message of each kind that goes up."""
    now, number = bench.now, next_id(bench.now, None, b"12345678")
    alert = Alert(code=AlertCode.STALE, count=1, first=show(now), last=show(now))
    progress = Progress(assignmentVersion=1, name="firmware", state=Phase.FAILED, reason=Why.INSTALL, attempt=1)
    return {
        "time": device.ask_time(now),
        "hello": device.hello(now),
        "enrol": device.enrol(now, b64url(b"n" * 32)),
        "status": device.online(now),
        "csr": device.csr(now, number),
        "telemetry": device.telemetry(now),
        "info": device.say("info", Info(deviceInfo=info(device, now)), now),
        "result": device.result(now, number, ResultState.SUCCEEDED),
        "alert": device.say("alert", alert, now),
        "progress": device.say("progress", progress, now),
    }


def info(device: TestDevice, now: datetime, **changes: Any) -> str:
    made = DeviceInfo(
        deviceId=device.id,
        deviceCode=device.id,
        deviceStatus=DeviceStatus.READY,
        deviceSubId=["1"],
        certification=device.certification,
        serviceVersion="1",
        firmware="1",
        specVersion=["0.9.5"],
        purpose=device.purpose,
        env=Environment.DEVELOPER,
        digitalId=device.digital_id,
        timestamp=show(now),
    )
    return sign_info(made.changed(**changes), device.device_key, device.device_leaf)


UP = sorted(kind.name for kind in KINDS.values() if kind.direction is Direction.UP)


@pytest.mark.parametrize("kind", UP)
def test_a_marker_anywhere_in_a_message_comes_to_rest_in_allowed_sinks_alone(
    bench: Bench, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    search, device, number = Search(bench, caplog, capsys), bench.l1, 0
    topic, raw = said(bench, device)[kind]
    payload = json.loads(b64url_decode(raw.split(b".")[1]))
    key = device.proof if kind in {"hello", "enrol"} else device.device_key
    for path in list(places(payload)):
        number += 1
        for marker, spoiled in marked(payload, path, number):
            device.seq += 1
            fresh = spoiled if path == ("seq",) else spoiled | {"seq": payload["seq"] and device.seq}
            bench.hear((topic, sealed(raw, fresh, key)))
            allowed = SINKS.get((kind, str(path[-1])), ()) if path[:1] == ("body",) else ()
            assert search.finds(marker) <= {*allowed, *([PAGES] if allowed else [])}, path
    assert number >= 8


@pytest.mark.parametrize("header", [{"kid": "{}"}, {"alg": "{}"}, {"typ": "{}"}, {"x5t#S256": "{}"}, {"{}": "1"}])
def test_a_marker_in_a_header_comes_to_rest_nowhere(
    bench: Bench, caplog: pytest.LogCaptureFixture, header: dict[str, str]
) -> None:
    topic, raw = bench.l1.telemetry(bench.now)
    marker = "Canary0001ZqXvCanary"
    good = json.loads(b64url_decode(raw.split(b".")[0]))
    changed = good | {name.format(marker): value.format(marker) for name, value in header.items()}
    spoiled = compact(
        b64url(json.dumps(changed).encode()).encode(), b64url_decode(raw.split(b".")[1]), bench.l1.device_key
    )

    bench.hear((topic, spoiled))

    assert Search(bench, caplog).finds(marker) == set()


@pytest.mark.parametrize("text", [b"%s", b'{"a": "%s"}', b"%s.%s.%s", b"\xff\xd8\xff\xe0%s", b"a.b.%s"])
def test_a_marker_in_noise_comes_to_rest_nowhere(bench: Bench, caplog: pytest.LogCaptureFixture, text: bytes) -> None:
    marker = "Canary0001ZqXvCanary"

    bench.hear((bench.l1.telemetry(bench.now)[0], text.replace(b"%s", marker.encode())))

    assert bench.refusals(bench.l1.id) == {"malformed": 1}
    assert Search(bench, caplog).finds(marker) == set()


@pytest.mark.parametrize("changes", [{"firmware": "{}"}, {"specVersion": ["0.9.5", "{}"]}])
def test_the_search_finds_a_marker_in_an_allowed_sink(
    bench: Bench, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    marker = "Canary0001ZqXvCanary"
    filled = json.loads(json.dumps(changes).replace("{}", marker))

    bench.hear(bench.l1.say("info", Info(deviceInfo=info(bench.l1, bench.now, **filled)), bench.now))

    assert Search(bench, caplog).finds(marker) == set(SINKS["info", "deviceInfo"])


def test_device_info_that_contradicts_the_record_is_told_by_its_code_counted_and_in_the_audit(bench: Bench) -> None:
    device = bench.l1
    text = info(device, bench.now, env=Environment.PRODUCTION)

    sent = bench.hear(device.say("info", Info(deviceInfo=text), bench.now))

    assert sent[0][1]["body"] == {"ids": [], "refused": [{"id": device.last_id, "code": "bad-body"}]}
    assert bench.refusals(device.id) == {"bad-body": 1}
    assert [link.entry.action for link in bench.store.history(device.id)][-1] == "contradiction-alarm"
    assert list(bench.store.reports()) == []
    bench.hear(device.say("info", Info(deviceInfo=info(device, bench.now)), bench.now))
    assert len(list(bench.store.reports())) == 1


def test_a_marker_that_device_info_has_no_member_for_is_refused_and_gone(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    marker, device = "Canary0001ZqXvCanary", bench.l1
    text = info(device, bench.now).encode()
    inside = json.loads(b64url_decode(text.split(b".")[1])) | {"image": marker}
    spoiled = compact(text.split(b".")[0], json.dumps(inside).encode(), device.device_key).decode()

    bench.hear(device.say("info", Info(deviceInfo=spoiled), bench.now))

    assert bench.refusals(device.id) == {"bad-body": 1}
    assert Search(bench, caplog).finds(marker) == set()


def test_the_search_would_find_a_marker_in_the_log(bench: Bench, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("fleetward.server").warning("refused", extra={"detail": "Canary0001ZqXvCanary"})

    assert Search(bench, caplog).finds("Canary0001ZqXvCanary") == {"log"}


def test_what_is_stored_of_a_report_is_canonical_and_no_longer_than_its_message(bench: Bench) -> None:
    device = bench.l1
    spaced = device.telemetry(bench.now)
    payload = json.loads(b64url_decode(spaced[1].split(b".")[1]))
    loose = json.dumps(payload, indent=8).encode()

    bench.hear((spaced[0], compact(spaced[1].split(b".")[0], loose, device.device_key)))

    (report,) = bench.store.reports()
    assert report.body == json.dumps(json.loads(report.body), separators=(",", ":"))
    assert set(json.loads(report.body)) == {"readings"}
    assert len(report.body) < len(loose)
