"""A marker planted anywhere in what a device is told is found nowhere but in the allowed sinks (C10)."""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward_agent.device import Parts
from fleetward_agent.outbox import Outbox
from fleetward_agent.state import StateFile
from fleetward_agent.walk import Stage as At
from fleetward_schemas.clock import Beacon, TimeAnswer
from fleetward_schemas.commands import Command
from fleetward_schemas.encryption import Encryption, MosipAnchors
from fleetward_schemas.enrol import Challenge, Enrolled, Settings
from fleetward_schemas.envelope import Draft
from fleetward_schemas.identity import Environment
from fleetward_schemas.messages import KINDS
from fleetward_schemas.moment import show, to_ms
from fleetward_schemas.receipts import Ack
from fleetward_schemas.rotation import Certificate
from fleetward_schemas.shapes import Body
from fleetward_schemas.sinks import TOLD
from fleetward_schemas.strict import b64url, b64url_decode, show_der
from fleetward_schemas.topics import Direction, fleet
from fleetward_schemas.topics import release as release_topic
from fleetward_schemas.upgrade import Assignment, Release, ReleaseFile, Window
from tests.agent.forging import order
from tests.agent.forging import sealed as honest
from tests.agent.test_encryption import FIR, IDA, ROOT
from tests.canary import marked, places, sealed, spellings
from tests.chains import chain
from tests.world import FakeScanner, MemoryKeys, Provider, Stage

DOWN = sorted((kind.direction, kind.name) for kind in KINDS.values() if kind.direction is not Direction.UP)


@dataclass
class Search:
    """Everything that what a device is told can leave behind."""

    stage: Stage
    folder: Path
    log: pytest.LogCaptureFixture

    def finds(self, marker: str) -> set[str]:
        """Return where a marker is, in any spelling; logs are then forgotten, and what was said is answered."""
        found = {"log": f"{self.stage.log} {[vars(one) for one in self.log.records]}".encode()}
        self.stage.log.clear()
        self.log.clear()
        said = [b64url_decode(raw.split(b".")[1]) for _, raw in self.stage.link.published]
        found["said"] = b"\n".join(said)
        self.stage.server.serve()
        found["state"] = b"".join(path.read_bytes() for path in self.folder.glob("*") if path.is_file())
        return {where for where, data in found.items() if any(one in data for one in spellings(marker))}


@pytest.fixture
def search(provider: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Search]:
    """A device at work, all of whose memory is on disk and that believes MOSIP."""
    caplog.set_level(logging.DEBUG)
    keys, folder = MemoryKeys(), tmp_path / "state"
    scanner = FakeScanner(provider.origin().digital_id)
    parts = Parts(keys, scanner, StateFile(folder), Outbox(folder / "outbox.db"))
    stage = Stage(provider, parts=parts)
    stage.origin = replace(stage.origin, mosip=MosipAnchors([chain(ROOT)[0].certificate]))
    scanner.identity = stage.origin.digital_id
    stage.start()
    stage.until(lambda: stage.device.stage is At.WORKING, 60)
    stage.pass_s(2)
    yield Search(stage, folder, caplog)
    parts.outbox.close()


def bodies(stage: Stage) -> dict[str, Body]:
    """Return an honest body of each kind that a device is told."""
    now, below = stage.clock.now, chain(FIR, IDA, ROOT)[:2]
    number = stage.server.draft(stage.id, "ack", Ack(ids=[])).id
    device, transport = next(iter(stage.server.chains.values()))
    release = Release(
        name="firmware",
        target="firmware-2.bin",
        counter=2,
        hashes={"sha256": b64url(b"h" * 32)},
        length=1,
        url="https://releases.example.org/firmware-2.bin",
    )
    return {
        "time": TimeAnswer(nonce=b64url(b"n" * 32), received=show(now), sent=show(now), radiusMs=1),
        "challenge": Challenge(
            nonce=b64url(b"n" * 32), serverNonce=b64url(b"s" * 32), settings=Settings(telemetryS=30, timeS=600)
        ),
        "enrolled": Enrolled(
            status="registered",
            deviceChain=device,
            transportChain=transport,
            env=Environment.DEVELOPER,
            deviceCode="code-1",
        ),
        "ack": Ack(ids=[number]),
        "command": Command(commandId=number, command="collect-info", params={}),
        "certificate": Certificate(commandId=number, deviceChain=device, transportChain=transport),
        "encryption": Encryption(
            env=Environment.DEVELOPER,
            domainUri="https://id.example.org",
            certificates=[show_der(one.der) for one in below],
        ),
        "assignment": Assignment(
            version=to_ms(now), releases=[release], window=Window(from_=show(now), to=show(now + timedelta(hours=1)))
        ),
        "beacon": Beacon(),
        "release": ReleaseFile(metadata=b64url(b'{"signed":1}')),
    }


def drafted(stage: Stage, direction: Direction, kind: str) -> Draft:
    """Return an honest message."""
    draft = stage.server.draft(stage.id, kind, bodies(stage)[kind])
    if direction is Direction.FLEET:
        topic = release_topic("timestamp") if kind == "release" else fleet(kind)
        draft = replace(draft, topic=topic, digital_id=stage.server.server_identity())
    if KINDS[direction, kind].nonce_bound:
        draft = replace(draft, seq=0)
    return replace(draft, expires=stage.clock.now + timedelta(minutes=5)) if KINDS[direction, kind].expires else draft


@pytest.mark.parametrize(("direction", "kind"), DOWN, ids=[f"{kind}" for _, kind in DOWN])
def test_a_marker_anywhere_in_what_a_device_is_told_comes_to_rest_in_allowed_sinks_alone(
    search: Search, direction: Direction, kind: str
) -> None:
    stage, number = search.stage, 0
    payload = json.loads(b64url_decode(honest(stage, drafted(stage, direction, kind)).split(b".")[1]))
    for path in list(places(payload)):
        number += 1
        for marker, spoiled in marked(payload, path, number):
            raw = honest(stage, drafted(stage, direction, kind))
            fresh = json.loads(b64url_decode(raw.split(b".")[1]))
            changed = (
                spoiled
                if path in {("seq",), ("id",), ("timestamp",)}
                else spoiled | {name: fresh[name] for name in ("seq", "id", "timestamp")}
            )
            stage.link.send(str(payload["topic"]), sealed(raw, changed, stage.server.signer.key))
            for _ in range(3):
                stage.host.turn(0.05)
            allowed = TOLD.get((kind, str(path[-1]))) if path[:1] == ("body",) else None
            assert search.finds(marker) <= set(allowed or ()), path
    assert number >= 7


@pytest.mark.parametrize(("kind", "member"), TOLD, ids=[f"{kind}.{member}" for kind, member in TOLD])
def test_the_search_finds_a_marker_in_each_allowed_sink(search: Search, kind: str, member: str) -> None:
    stage, marker = search.stage, "Canary0001ZqXvCanary"
    draft = drafted(stage, Direction.DOWN, kind)
    draft = replace(draft, body=draft.body.changed(**{member: marker}))
    stage.link.send(draft.topic, honest(stage, draft))
    for _ in range(3):
        stage.host.turn(0.05)
    assert search.finds(marker) & {"state"}
    stage.link.send(stage.server.draft(stage.id, "command", Ack(ids=[])).topic, honest(stage, order(stage)))
    for _ in range(3):
        stage.host.turn(0.05)
    # What is said of it when somebody asks for device info.
    assert search.finds(marker) == set(TOLD[kind, member])


def test_the_search_would_find_a_marker_in_a_log_and_in_what_is_said(search: Search) -> None:
    marker = "Canary0001ZqXvCanary"
    search.stage.log.append(("refused", {"detail": marker}))
    search.stage.link.published.append(("any", b"." + b64url(f'{{"a":"{marker}"}}'.encode()).encode() + b"."))
    assert search.finds(marker) == {"log", "said"}
