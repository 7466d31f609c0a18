"""The accepted messages: each kind once at least, both levels, every edge that must not be refused.

Source: protocol sections 3 and 4.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_sandbox.vector_author import SEQ, Author, digest, message_id, session
from fleetward_sandbox.vector_cases import DUPLICATE, Case, Spoiler, dumps
from fleetward_sandbox.vector_pki import NOW, Cast, leaf
from fleetward_schemas.clock import Beacon, TimeAnswer, TimeQuestion
from fleetward_schemas.commands import Command, Result, ResultState
from fleetward_schemas.encryption import Encryption
from fleetward_schemas.enrol import Challenge, Enrol, Enrolled, Hello, Reason, Settings
from fleetward_schemas.identity import Certification, Environment, Purpose
from fleetward_schemas.inventory import DeviceInfo, DeviceStatus, Info, sign_info
from fleetward_schemas.moment import show, to_ms
from fleetward_schemas.presence import Status, StatusReason
from fleetward_schemas.receipts import Ack, Alert, AlertCode, Refusal
from fleetward_schemas.replay import WIDTH, ReplayWindow
from fleetward_schemas.rotation import Certificate, Csr
from fleetward_schemas.strict import MAX_ENVELOPE_BYTES, b64url, show_der
from fleetward_schemas.telemetry import Reading, Telemetry
from fleetward_schemas.topics import release
from fleetward_schemas.upgrade import Assignment, Hashes, Phase, Progress, Release, ReleaseFile, Why, Window

METADATA = b'{"signatures":[],"signed":{"_type":"timestamp","version":1}}'
"""What a file of the repository looks like; the envelope says nothing of whether it is believed."""
READING = Reading(
    observedAt=show(NOW), uncertaintyMs=40, metrics={"uptimeS": 3600, "temperatureC": 31.5, "scannerReady": 1}
)
ONLINE = Status(state="online", session=session("session"), reason=StatusReason.STARTED)
OFFLINE = Status(state="offline", session=session("session"), reason=StatusReason.CONNECTION_LOST)


def accepted(author: Author) -> list[Case]:
    """Return every accepted case."""
    return [*_up(author), *_first_contact(author), *_down(author), *_edges(author)]


def _up(author: Author) -> Iterator[Case]:
    cast = author.cast
    yield author.from_a("up-telemetry", "telemetry", Telemetry(readings=[READING]))
    yield author.from_b("up-telemetry-eddsa", "telemetry", Telemetry(readings=[READING]))
    gave_way = READING.changed(metrics={"outboxDepth": 400, "outboxDropped": 3, "outboxThinned": 4211})
    yield author.from_a("up-telemetry-thinned", "telemetry", Telemetry(readings=[gave_way]))
    yield author.from_a("up-status-online", "status", ONLINE)
    yield author.from_a("up-status-offline", "status", OFFLINE)
    yield author.from_a("up-time", "time", TimeQuestion(nonce=digest("time")))
    info = DeviceInfo(
        deviceId="SN-0001",
        deviceCode=cast.id_a,
        deviceStatus=DeviceStatus.READY,
        deviceSubId=["1", "2", "3"],
        certification=Certification.L1,
        serviceVersion="0.1.0",
        firmware="1.0.0",
        specVersion=["0.9.5"],
        purpose=Purpose.REGISTRATION,
        env=Environment.STAGING,
        digitalId=cast.digital_id_a,
        timestamp=show(NOW),
    )
    signed = sign_info(info, cast.device_a.key, cast.device_a.chain[0])
    yield author.from_a("up-info", "info", Info(deviceInfo=signed))
    yield author.from_a(
        "up-result",
        "result",
        Result(commandId=message_id("command"), state=ResultState.SUCCEEDED, reason=None),
    )
    device_csr, transport_csr = _requests(cast)
    rotation = Csr(commandId=message_id("rotation"), deviceCsr=device_csr, transportCsr=transport_csr)
    yield author.from_a("up-csr", "csr", rotation)
    hour_ago = show(NOW - timedelta(hours=1))
    progress = Progress(
        assignmentVersion=to_ms(NOW), name="firmware", state=Phase.FAILED, reason=Why.WRONG_HASH, attempt=2
    )
    yield author.from_a("up-progress", "progress", progress)
    yield author.from_a("up-alert", "alert", Alert(code=AlertCode.REPLAYED, count=3, first=hour_ago, last=show(NOW)))


def _requests(cast: Cast) -> list[str]:
    return [
        show_der(profiles.request(f"{name} of B", cast.ring.ed25519(f"new-{name}-b")).public_bytes(Encoding.DER))
        for name in ("device", "transport")
    ]


def _first_contact(author: Author) -> Iterator[Case]:
    hello = Hello(
        nonce=digest("hello"),
        certification=Certification.L0,
        purpose=Purpose.REGISTRATION,
        protocol=[1],
        agentVersion="0.1.0",
        current=None,
    )
    yield author.from_factory("up-f-time", "time", TimeQuestion(nonce=digest("time")))
    yield author.from_factory("up-f-hello", "hello", hello)
    l1 = hello.changed(certification=Certification.L1)
    yield author.from_factory("up-f-hello-ftm", "hello", l1, ftm=True)
    device_csr, transport_csr = _requests(author.cast)
    enrol = Enrol(serverNonce=digest("server nonce"), deviceCsr=device_csr, transportCsr=transport_csr)
    yield author.from_factory("up-f-enrol", "enrol", enrol)
    yield author.from_factory("up-f-time-ftm", "time", TimeQuestion(nonce=digest("time")), ftm=True)
    yield author.from_factory("up-f-enrol-ftm", "enrol", enrol, ftm=True)


def _down(author: Author) -> Iterator[Case]:
    cast = author.cast
    at = show(NOW)
    answer = TimeAnswer(nonce=digest("time"), received=at, sent=at, radiusMs=250)
    yield author.to_a("down-time", "time", answer, answers="up-time")
    yield author.to_a("down-f-time", "time", answer, answers="up-f-time-ftm", factory=True)
    settings = Settings(telemetryS=60, timeS=600)
    challenge = Challenge(nonce=digest("hello"), serverNonce=digest("server nonce"), settings=settings)
    yield author.to_a("down-f-challenge", "challenge", challenge, answers="up-f-hello-ftm", factory=True)
    chain = [show_der(one) for one in cast.device_a.chain]
    transport = leaf(cast.ring, "transport-a", cast.id_a, profiles.TRANSPORT, cast.pki.device)
    tls = [show_der(one) for one in transport.chain]
    registered = Enrolled(status="registered", deviceChain=chain, transportChain=tls, env=Environment.STAGING)
    yield author.to_a("down-f-enrolled", "enrolled", registered, answers="up-f-enrol-ftm", factory=True)
    pending = Enrolled(status="pending", reason=Reason.AWAITING_APPROVAL, retryAfterS=60, env=Environment.STAGING)
    yield author.to_a("down-f-enrolled-pending", "enrolled", pending, answers="up-f-hello-ftm", factory=True)
    refusal = Refusal(id=message_id("up-alert"), code="bad-body")
    ids = [message_id("up-status-online"), message_id("up-telemetry")]
    yield author.to_a("down-ack", "ack", Ack(ids=ids, refused=[refusal]))
    order = Command(commandId=message_id("command"), command="collect-info", params={})
    yield author.to_a("down-command", "command", order)
    rotation = Command(commandId=message_id("rotation"), command="rotate-key", params={})
    yield author.to_a("down-command-rotate-key", "command", rotation)
    retirement = Command(commandId=message_id("retirement"), command="retire", params={})
    yield author.to_a("down-command-retire", "command", retirement)
    new = leaf(cast.ring, "new-device-a", f"sign-{cast.id_a}", profiles.DEVICE, cast.pki.device)
    certificate = Certificate(
        commandId=message_id("rotation"), deviceChain=[show_der(one) for one in new.chain], transportChain=tls
    )
    yield author.to_a("down-certificate", "certificate", certificate, answers="up-csr")
    yield author.to_a(
        "down-encryption",
        "encryption",
        Encryption(env=Environment.STAGING, domainUri="https://id.example.org", certificates=[show_der(new.chain[0])]),
    )
    yield author.to_a("down-assignment", "assignment", _assignment())
    unlock = Command(commandId=message_id("unlock"), command="unlock-upgrade", params={"name": "firmware"})
    yield author.to_a("down-command-unlock-upgrade", "command", unlock)
    yield author.to_all("fleet-beacon", "beacon", Beacon())
    yield author.to_all("fleet-release", "release", ReleaseFile(metadata=b64url(METADATA)), topic=release("timestamp"))


def _assignment() -> Assignment:
    image = Release(
        name="firmware",
        target="slap-4/firmware-1.4.2.bin",
        counter=7,
        hashes=Hashes(sha256=digest("the image")),
        length=1_048_576,
        url="https://releases.example.org/slap-4/firmware-1.4.2.bin",
    )
    window = Window(from_=show(NOW), to=show(NOW + timedelta(hours=6)))
    return Assignment(version=to_ms(NOW), releases=[image], window=window)


def _edges(author: Author) -> Iterator[Case]:
    """Accept what looks odd and is lawful."""
    cases = {case.name: case for case in [*_up(author), *_down(author)]}
    telemetry, command = Spoiler(cases["up-telemetry"]), Spoiler(cases["down-command"])
    yield _largest(cases["up-telemetry"])
    yield telemetry.receiver(
        "up-telemetry-week-old", "stamped 7 days ago, the oldest there is", "accepted", now=NOW + timedelta(days=7)
    )
    yield telemetry.receiver(
        "up-telemetry-ahead", "stamped 30 s ahead, the most there is", "accepted", now=NOW - timedelta(seconds=30)
    )
    yield Spoiler(cases["up-status-offline"]).receiver(
        "up-status-will-old", "a will has no age limit", "accepted", now=NOW + timedelta(days=20)
    )
    yield Spoiler(cases["up-time"]).receiver(
        "up-time-any-age", "a time question has no age", "accepted", now=NOW + timedelta(days=20)
    )
    late = ReplayWindow(SEQ + WIDTH - 1, 1)
    yield telemetry.receiver("up-telemetry-late", "the last unused number inside the window", "accepted", window=late)
    held = ReplayWindow(SEQ, 1)
    yield telemetry.receiver("up-telemetry-duplicate", "a number taken before: nothing changes", DUPLICATE, window=held)
    yield Spoiler(cases["up-time"]).receiver("up-time-no-number", "seq 0 is not checked", "accepted", window=held)
    yield command.receiver("down-command-unsynced", "a receiver without time judges no timestamp", "accepted", now=None)
    yield command.payload(
        "down-command-newer-server", "downlink: an unknown member is ignored", "accepted", weather="fine"
    )
    body = {"commandId": message_id("command"), "command": "collect-info", "params": {}, "weather": "fine"}
    yield command.payload(
        "down-command-newer-body", "downlink: an unknown member of the body is ignored", "accepted", body=body
    )


def _largest(base: Case) -> Case:
    """Return the base padded with JSON white space to the largest envelope there is."""
    raw = _padded(base, MAX_ENVELOPE_BYTES)
    return replace(base, name="up-telemetry-largest", raw=raw, twin=base.name, note="white space up to 48 KiB exactly")


def _padded(base: Case, size: int) -> str:
    header, payload, signature = (len(part) for part in base.raw.split("."))
    spaces = (size - header - signature - 2) * 3 // 4 - payload * 3 // 4
    return Spoiler(base).text("", "", "", dumps(base.payload()) + " " * spaces).raw


def too_large(base: Case) -> str:
    """Return the base padded with JSON white space just over the limit."""
    size = MAX_ENVELOPE_BYTES + 1
    while len(raw := _padded(base, size)) <= MAX_ENVELOPE_BYTES:
        size += 1
    return raw
