"""Promises of the envelope that the vectors cannot show: order of checks, sealing, and what a receiver may keep."""

import json
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_sandbox.vector_author import SEQ, message_id
from fleetward_sandbox.vector_cases import Spoiler, dumps
from fleetward_sandbox.vector_good import OFFLINE, ONLINE, READING
from fleetward_sandbox.vector_pki import NOW
from fleetward_schemas.certificates import public_key, read_certificate, thumbprint
from fleetward_schemas.clock import Beacon, TimeQuestion
from fleetward_schemas.envelope import Draft, Seal, admit, open_sealed, read_body, seal
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.header import read_header
from fleetward_schemas.replay import WIDTH, ReplayWindow
from fleetward_schemas.strict import b64url
from fleetward_schemas.telemetry import MAX_READINGS, METRICS, Telemetry
from fleetward_schemas.topics import down, fleet, up

NONCE = b64url(bytes(32))


class Knows:
    """A trust that has one key; asked: how often it was."""

    def __init__(self, key):
        self.key = key
        self.asked = 0

    def signer(self, *_):
        self.asked += 1
        return self.key


@pytest.fixture(scope="module")
def telemetry(author):
    return author.from_b("up-telemetry", "telemetry", Telemetry(readings=[READING]))


@pytest.fixture
def trust(cast):
    return Knows(cast.device_b.key.public_key())


@pytest.fixture(scope="module")
def by_b(cast):
    return Seal.by_thumbprint(cast.device_b.key, thumbprint(cast.device_b.chain[0]))


def opened(case, trust, *, now=NOW, topic=None):
    return open_sealed(case.raw.encode(), topic or case.topic, trust, now)


def code_of(function, *arguments, **named):
    with pytest.raises(Refused) as refusal:
        function(*arguments, **named)
    return refusal.value.code


def test_what_was_sealed_is_opened(telemetry, trust):
    message = opened(telemetry, trust)
    assert (message.id, message.at, message.expires) == (message_id("up-telemetry"), NOW, None)
    assert message.kind.name == message.address.kind == "telemetry"
    assert read_body(message) == Telemetry(readings=[READING])


def test_nobody_is_asked_for_a_key_before_everything_else_held(telemetry, trust):
    for stale in (NOW + timedelta(days=8), NOW - timedelta(minutes=1)):
        assert code_of(opened, telemetry, trust, now=stale) is Code.STALE
    assert code_of(opened, telemetry, trust, topic="fw/v1/fleet/beacon") is Code.WRONG_TOPIC
    assert trust.asked == 0


def test_the_first_check_that_fails_wins(telemetry, cast):
    """Spoil everything at once, then mend it check by check."""
    spoiler = Spoiler(telemetry)
    topic, hello = up(cast.id_b, "capture"), up(cast.id_b, "hello")
    steps = [
        (spoiler.raw("", "", "", telemetry.raw + "A" * 50_000), telemetry.topic, Code.TOO_LARGE),
        (spoiler.header("", "", "", alg="none", kid="1"), topic, Code.MALFORMED),
        (spoiler.header("", "", "", alg="none"), topic, Code.BAD_ALG),
        (telemetry, topic, Code.WRONG_TOPIC),
        (spoiler.payload("", "", "", topic=topic, kind="capture"), topic, Code.UNKNOWN_KIND),
        (spoiler.payload("", "", "", topic=hello, kind="hello"), hello, Code.NOT_ALLOWED),
        (telemetry, telemetry.topic, Code.STALE),
    ]
    for case, where, code in steps:
        assert code_of(opened, case, None, now=NOW + timedelta(days=8), topic=where) is code


def test_another_key_is_a_bad_signature_and_another_kind_of_key_a_bad_algorithm(telemetry, cast):
    assert code_of(opened, telemetry, Knows(cast.server.key.public_key())) is Code.BAD_SIGNATURE
    assert code_of(opened, telemetry, Knows(cast.device_a.key.public_key())) is Code.BAD_ALG


def test_a_receiver_without_time_judges_no_timestamp(telemetry, trust):
    assert opened(telemetry, trust, now=None).at == NOW


@pytest.mark.parametrize("days", [1, 25])
def test_a_will_is_of_any_age_and_a_birth_is_not(author, trust, days):
    will = author.from_b("will", "status", OFFLINE)
    birth = author.from_b("birth", "status", ONLINE)
    assert opened(will, trust, now=NOW + timedelta(days=days)).members.body["state"] == "offline"
    assert code_of(opened, birth, trust, now=NOW + timedelta(days=days)) is Code.STALE


def test_a_will_is_never_from_the_future(author, trust):
    will = author.from_b("will", "status", OFFLINE)
    assert code_of(opened, will, trust, now=NOW - timedelta(seconds=31)) is Code.STALE


def test_a_number_is_admitted_once_and_a_duplicate_changes_nothing(telemetry, trust):
    message = opened(telemetry, trust)
    window = admit(message, ReplayWindow())
    assert window == ReplayWindow(SEQ, 1)
    assert admit(message, window) is None


def test_a_number_below_the_window_is_replayed(telemetry, trust):
    message = opened(telemetry, trust)
    assert admit(message, ReplayWindow(SEQ + WIDTH - 1, 1)) is not None
    assert code_of(admit, message, ReplayWindow(SEQ + WIDTH, 1)) is Code.REPLAYED


def test_what_a_nonce_binds_leaves_the_window_alone(author, trust):
    message = opened(author.from_b("time", "time", TimeQuestion(nonce=NONCE)), trust)
    window = ReplayWindow(7, 1)
    assert message.members.seq == 0
    assert admit(message, window) is window


def test_a_bad_body_names_the_member_and_never_what_it_says(telemetry, trust):
    spoiled = Spoiler(telemetry).body("", "", readings=[{"observedAt": "secret", "uncertaintyMs": 1, "metrics": {}}])
    with pytest.raises(Refused) as refusal:
        read_body(opened(spoiled, trust))
    assert refusal.value.code is Code.BAD_BODY
    assert refusal.value.detail == "telemetry readings.0.observedAt: expected str of length >= 24"


def test_no_word_of_a_stranger_reaches_a_refusal(telemetry, trust):
    secret = "biometric" * 40
    for spoiled in (
        Spoiler(telemetry).payload("", "", "", **{secret: 1}),
        Spoiler(telemetry).body("", "", **{secret: 1}),
        Spoiler(telemetry).body("", "", readings=[READING.document() | {"metrics": {secret: "x"}}]),
    ):
        with pytest.raises(Refused) as refusal:
            read_body(opened(spoiled, trust))
        assert secret not in str(refusal.value)


@given(st.text(alphabet="abc\n\ud800é", max_size=5))
def test_no_text_makes_a_reader_of_headers_stumble(text):
    raw = dumps({"alg": text, "typ": "fw1+jws", "x5t#S256": text}).encode()
    assert code_of(read_header, b64url(raw).encode()) in {Code.MALFORMED, Code.BAD_ALG}


def test_sealing_for_no_topic_of_ours_is_our_mistake(cast, by_b):
    for topic in ("fw/v1/x", up(cast.id_b, "capture"), down(cast.id_b, "telemetry"), fleet("beacon")):
        with pytest.raises(LocalMistake):
            seal(Draft(topic, message_id("x"), 1, cast.digital_id_b, Telemetry(readings=[READING])), by_b, NOW)


def test_sealing_another_kinds_body_is_our_mistake(cast, by_b):
    with pytest.raises(LocalMistake):
        seal(Draft(up(cast.id_b, "telemetry"), message_id("x"), 1, cast.digital_id_b, Beacon()), by_b, NOW)


def test_the_largest_telemetry_fits_and_more_is_our_mistake(cast, author):
    full = READING.changed(metrics={name: high for name, (_, high, _) in METRICS.items()})
    assert author.from_a("full", "telemetry", Telemetry(readings=[full] * 70))
    big = Telemetry(readings=[full] * (MAX_READINGS * 2))
    with pytest.raises(LocalMistake):
        author.from_a("big", "telemetry", big)


def test_absent_members_are_left_out(telemetry):
    assert telemetry.payload().keys() == {"id", "kind", "topic", "seq", "timestamp", "digitalId", "body"}


def test_a_header_is_read_from_its_exact_bytes(cast, by_b):
    header = read_header(by_b.header_segment)
    assert (header.alg, header.x5c, header.x5t) == ("EdDSA", None, thumbprint(cast.device_b.chain[0]))
    chain = read_header(Seal.by_chain(cast.server.key, cast.server.chain).header_segment)
    assert public_key(read_certificate(chain.x5c[0])) == cast.server.key.public_key()


@given(st.binary(max_size=80))
def test_no_bytes_make_a_receiver_stumble(raw):
    for topic in ("fw/v1/fleet/beacon", "nowhere", ""):
        assert code_of(open_sealed, raw, topic, None, NOW) is Code.MALFORMED


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3)))
def test_no_payload_makes_a_receiver_stumble(cast, value):
    head = b64url(dumps({"alg": "EdDSA", "typ": "fw1+jws", "x5t#S256": NONCE}).encode())
    payload = {"id": value, "kind": value, "topic": value, "seq": value, "timestamp": value, "digitalId": value}
    raw = f"{head}.{b64url(json.dumps(payload | {'body': value}).encode())}.QQ"
    assert code_of(open_sealed, raw.encode(), up(cast.id_b, "telemetry"), None, NOW) is Code.MALFORMED
