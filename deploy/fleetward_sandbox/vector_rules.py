"""Vectors of the small rules under the envelope: names, spellings, numbers, moments, and the clock.

Each is ``{"name", ..., "expected"}``; hostile ones name their accepted ``twin``. Source: schemas/README.md.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fleetward_sandbox.vector_author import digest
from fleetward_sandbox.vector_cases import ACCEPTED, DUPLICATE, dumps, sealed, signer
from fleetward_sandbox.vector_pki import IDENTITY_A, IDENTITY_B, Cast
from fleetward_schemas.errors import Code
from fleetward_schemas.identity import device_id
from fleetward_schemas.replay import WIDTH, ReplayWindow
from fleetward_schemas.strict import show_der

Vector = dict[str, Any]
MALFORMED = str(Code.MALFORMED)


def _row(name: str, expected: str, twin: str | None, note: str, **given: Any) -> Vector:
    return {"name": name, **given, "expected": expected, "twin": twin, "note": note}


def device_ids(_: Cast) -> Iterator[Vector]:
    """Give the device id of four fields: none is accepted or refused, each has its one answer."""
    fields = ("deviceProviderId", "make", "model", "serialNo")
    put = {
        "a": {name: getattr(IDENTITY_A, name) for name in fields},
        "b": {name: getattr(IDENTITY_B, name) for name in fields},
        "border-moved": {"deviceProviderId": "EXAMPLEE", "make": "xample", "model": "Slap 5", "serialNo": "SN-0001"},
        "letter-case": {"deviceProviderId": "example", "make": "Example", "model": "Slap 5", "serialNo": "SN-0001"},
        "longest": {"deviceProviderId": "P" * 36, "make": "M" * 36, "model": "~" * 36, "serialNo": " " * 64},
    }
    for name, given in put.items():
        identity = IDENTITY_A.changed(**given)
        yield {"name": name, "fields": given, "deviceId": device_id(identity)}


def base64url(_: Cast) -> Iterator[Vector]:
    """Spell bytes."""
    for name, text in (("empty", ""), ("one", "QQ"), ("two", "QUI"), ("three", "QUJD"), ("alphabet", "-_-_")):
        yield _row(f"b64-{name}", ACCEPTED, None, "", text=text)
    for name, twin, text in (
        ("padded", "one", "QQ=="),
        ("padded-two", "two", "QUI="),
        ("bits", "one", "QR"),
        ("bits-two", "two", "QUJ"),
        ("lonely", "three", "QUJDQ"),
        ("standard", "alphabet", "+/+/"),
        ("newline", "three", "QUJD\n"),
        ("space", "three", "QU JD"),
        ("percent", "alphabet", "%2D_-_"),
        ("dot", "three", "QU.D"),
    ):
        yield _row(f"b64-{name}", MALFORMED, f"b64-{twin}", "", text=text)


def json_objects(_: Cast) -> Iterator[Vector]:
    """Spell objects. text: as it is, so members may stand twice in it."""
    good = {
        "plain": '{"a":1}',
        "spaced": ' { "a" : 1 } ',
        "deepest": '{"a":' * 8 + "1" + "}" * 8,
        "largest": '{"a":9007199254740991}',
        "float": '{"a":1.5e3}',
        "pair": '{"a":"\\ud83d\\ude00"}',
        "letters": '{"a":"\u00e9"}',
    }
    bad = {
        "twice": ("plain", '{"a":1,"a":1}'),
        "twice-escaped": ("plain", '{"a":1,"\\u0061":1}'),
        "array": ("plain", "[1]"),
        "trailing": ("plain", '{"a":1},'),
        "comma": ("plain", '{"a":1,}'),
        "quotes": ("plain", "{'a':1}"),
        "comment": ("plain", '{"a":1}//'),
        "bom": ("plain", '\ufeff{"a":1}'),
        "nan": ("float", '{"a":NaN}'),
        "infinity": ("float", '{"a":-Infinity}'),
        "overflow": ("float", '{"a":1.5e999}'),
        "long-number": ("float", '{"a":1.500000000000000000000e3}'),
        "leading-zero": ("largest", '{"a":09007199254740991}'),
        "plus": ("largest", '{"a":+9007199254740991}'),
        "huge": ("largest", '{"a":9007199254740992}'),
        "deep": ("deepest", '{"a":' * 9 + "1" + "}" * 9),
        "lone-surrogate": ("pair", '{"a":"\\ud83d"}'),
        "surrogates-turned": ("pair", '{"a":"\\ude00\\ud83d"}'),
        "lone-surrogate-name": ("pair", '{"\\ud83d":"a"}'),
        "control": ("letters", '{"a":"\u0001"}'),
    }
    for name, text in good.items():
        yield _row(f"json-{name}", ACCEPTED, None, "", text=text)
    for name, (twin, text) in bad.items():
        yield _row(f"json-{name}", MALFORMED, f"json-{twin}", "", text=text)


def moments(_: Cast) -> Iterator[Vector]:
    """Spell moments; ms: milliseconds since 1970."""
    for name, text, ms in (
        ("plain", "2026-03-01T12:00:00.000Z", 1_772_366_400_000),
        ("last-ms", "2026-03-01T23:59:59.999Z", 1_772_409_599_999),
        ("leap-day", "2028-02-29T00:00:00.000Z", 1_835_395_200_000),
        ("epoch", "1970-01-01T00:00:00.000Z", 0),
    ):
        yield _row(f"moment-{name}", ACCEPTED, None, "", text=text, ms=ms)
    for name, twin, text in (
        ("no-ms", "plain", "2026-03-01T12:00:00Z"),
        ("micro", "plain", "2026-03-01T12:00:00.000000Z"),
        ("offset", "plain", "2026-03-01T12:00:00.000+00:00"),
        ("small-z", "plain", "2026-03-01T12:00:00.000z"),
        ("space", "plain", "2026-03-01 12:00:00.000Z"),
        ("comma", "plain", "2026-03-01T12:00:00,000Z"),
        ("leap-second", "last-ms", "2026-03-01T23:59:60.000Z"),
        ("midnight", "last-ms", "2026-03-01T24:00:00.000Z"),
        ("no-leap-day", "leap-day", "2027-02-29T00:00:00.000Z"),
        ("newline", "plain", "2026-03-01T12:00:00.000Z\n"),
    ):
        yield _row(f"moment-{name}", MALFORMED, f"moment-{twin}", "", text=text)


def replays(_: Cast) -> Iterator[Vector]:
    """Number messages. after: the window once the number is accepted."""
    start = ReplayWindow().accept(1000).accept(1002)
    full = ReplayWindow(1000, (1 << WIDTH) - 1)
    for name, window, seq, expected, twin in (
        ("first", ReplayWindow(), 1, ACCEPTED, None),
        ("next", start, 1003, ACCEPTED, None),
        ("late", start, 1001, ACCEPTED, None),
        ("lowest", start, 1002 - WIDTH + 1, ACCEPTED, None),
        ("jump", start, 2**53 - 1, ACCEPTED, None),
        ("again", start, 1002, DUPLICATE, "replay-next"),
        ("late-again", start, 1000, DUPLICATE, "replay-late"),
        ("below", start, 1002 - WIDTH, str(Code.REPLAYED), "replay-lowest"),
        ("zero", ReplayWindow(), 0, str(Code.REPLAYED), "replay-first"),
        ("full", full, 1000 - WIDTH + 1, DUPLICATE, "replay-lowest"),
    ):
        after = window.accept(seq) if expected == ACCEPTED else window
        yield _row(f"replay-{name}", expected, twin, "", window=_window(window), seq=seq, after=_window(after))


def _window(window: ReplayWindow) -> Vector:
    return {"highest": window.highest, "seen": f"{window.seen:x}"}


def digital_ids(cast: Cast) -> Iterator[Vector]:
    """Sign digital IDs: whatever is wrong, the one code is bad-digital-id."""
    for name, text in (("l1", cast.digital_id_a), ("l0", cast.digital_id_b), ("factory", cast.factory_digital_id_b)):
        yield _row(f"digital-id-{name}", ACCEPTED, None, "", text=text)
    forger = _Forger(cast)
    yield forger.row(
        "milliseconds", "issued to the millisecond", {"dateTime": "2026-03-01T00:00:00.000Z"}, expected=ACCEPTED
    )
    yield forger.row("extra", "a ninth member", {"image": ""})
    for field in IDENTITY_A.document():
        yield forger.row(f"no-{field}", f"no {field}", {field: ...})
    yield forger.row("number", "a number for a text", {"serialNo": 1})
    yield forger.row("empty", "an empty serialNo", {"serialNo": ""})
    yield forger.row("long", "a serialNo of 65 characters", {"serialNo": "1" * 65})
    yield forger.row("not-ascii", "a letter outside ASCII", {"make": "Ex\u00e4mple"})
    yield forger.row("newline", "a line feed", {"make": "Example\n"})
    yield forger.row("type", "an unknown type", {"type": "Voice"})
    yield forger.row("sub-type", "another type's sub type", {"deviceSubType": "Full face"})
    yield forger.row("local-time", "a time without Z", {"dateTime": "2026-03-01T00:00:00"})
    yield forger.row("typ", "another typ", {}, header={"typ": "fw1+jws"})
    yield forger.row("alg-none", "alg none", {}, header={"alg": "none"})
    yield forger.row("alg-differs", "RS256 named, an Ed25519 certificate", {}, header={"alg": "RS256"})
    yield forger.row("kid", "a header member kid", {}, header={"kid": "1"})
    yield forger.row("x5c-empty", "an empty x5c", {}, header={"x5c": []})
    leaf = show_der(cast.ftm_a.chain[0])
    chain = {"x5c": [leaf, show_der(cast.server.chain[1])]}
    yield forger.row("x5c-chain", "a chain behind the leaf is ignored", {}, header=chain, expected=ACCEPTED)
    yield forger.row("x5c-junk", "no certificate behind the leaf", {}, header={"x5c": [leaf, show_der(b"junk")]})
    yield forger.row("x5c-other", "another's certificate", {}, header={"x5c": [show_der(cast.server.chain[0])]})
    text = cast.digital_id_a
    yield _row("digital-id-padded", str(Code.BAD_DIGITAL_ID), "digital-id-l1", "padding", text=text + "==")
    yield _row(
        "digital-id-cut",
        str(Code.BAD_DIGITAL_ID),
        "digital-id-l1",
        "its signature cut",
        text=text.rsplit(".", 1)[0] + ".",
    )


@dataclass(frozen=True, slots=True)
class _Forger:
    """Signs spoiled digital IDs of device A with the right key."""

    cast: Cast

    def row(
        self,
        name: str,
        note: str,
        changes: Vector,
        *,
        header: Vector | None = None,
        expected: str = Code.BAD_DIGITAL_ID,
    ) -> Vector:
        plain = {"alg": "EdDSA", "typ": "JWT", "x5c": [show_der(self.cast.ftm_a.chain[0])]} | (header or {})
        members = json.loads(IDENTITY_A.json()) | changes
        payload = dumps({name: value for name, value in members.items() if value is not ...})
        text = sealed(dumps(plain), payload, signer(self.cast.ftm_a.key))
        return _row(f"digital-id-{name}", str(expected), "digital-id-l1", note, text=text)


def answers(_: Cast) -> Iterator[Vector]:
    """Answer a time question; all microseconds, ``*Us`` of true time since 1970 or of the boot clock."""
    base: Vector = {
        "clock": {"earliestUs": 1_772_366_000_000_000, "latestUs": 253_402_300_799_000_000, "bootUs": 0, "signerUs": 0},
        "question": {"nonce": digest("time"), "bootUs": 1_000_000},
        "answer": {
            "nonce": digest("time"),
            "received": "2026-03-01T12:00:00.100Z",
            "sent": "2026-03-01T12:00:00.150Z",
            "radiusMs": 250,
        },
        "signer": {
            "notBefore": "2026-02-28T12:00:00.000Z",
            "notAfter": "2026-03-07T12:00:00.000Z",
            "leafNotBefore": "2026-02-28T12:00:00.000Z",
        },
        "bootUs": 1_350_000,
    }
    after = {"earliestUs": 1_772_366_399_900_000, "latestUs": 1_772_366_400_700_071, "bootUs": 1_350_000}
    yield _answer(base, "plain", ACCEPTED, "", {}, after=after)
    known = {"clock": {"earliestUs": 1_772_366_398_500_000, "latestUs": 1_772_366_402_000_000}}
    yield _answer(base, "narrowing", ACCEPTED, "a known interval gets narrower", known, after=after)
    # 1.35 s later, less 270 us of drift: the known end is the higher one.
    higher = {"clock": {"earliestUs": 1_772_366_399_000_000}}
    kept = after | {"earliestUs": 1_772_366_400_349_730}
    yield _answer(base, "known-earliest", ACCEPTED, "what is known of earliest is better", higher, after=kept)
    yield _answer(base, "other-nonce", "bad-nonce", "another nonce", {"answer": {"nonce": digest("other")}})
    yield _answer(base, "no-question", "bad-nonce", "nothing was asked", {"question": None})
    yield _answer(base, "slow", "stale", "5001 ms of delay", {"bootUs": 1_000_000 + 5_051_000})
    yield _answer(base, "too-quick", "stale", "a delay below nothing", {"bootUs": 1_049_000})
    ended = {"signer": {"notAfter": "2026-03-01T12:00:00.000Z"}}
    yield _answer(base, "signer-ended", "wrong-server", "sent after the chain ended", ended)
    early = {"signer": {"notBefore": "2026-03-01T13:00:00.000Z"}}
    yield _answer(base, "signer-not-yet", "wrong-server", "sent before the chain began", early)
    newer = {"clock": {"signerUs": 1_772_971_200_000_001}}
    yield _answer(base, "signer-outdated", "wrong-server", "a leaf over 7 days older than the newest seen", newer)
    ahead = {"clock": {"earliestUs": 1_772_366_401_000_000}}
    yield _answer(base, "jump", "clock-jump", "the answer ends before what is known", ahead)


def _answer(
    base: Vector, name: str, expected: str, note: str, changes: Vector, *, after: Vector | None = None
) -> Vector:
    given = {
        key: value | changes[key] if isinstance(value, dict) and changes.get(key) else changes.get(key, value)
        for key, value in base.items()
    }
    twin = None if name == "plain" else "clock-plain"
    return _row(f"clock-{name}", expected, twin, note, **given, after=after)
