"""Hostile envelopes, by what they say and where: topics, kinds, moments, numbers, members, bodies.

Source: protocol sections 2 to 4.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

from fleetward_sandbox.vector_author import SEQ, message_id
from fleetward_sandbox.vector_cases import Case, Spoiler
from fleetward_sandbox.vector_pki import IDENTITY_A, NOW, Cast
from fleetward_schemas.errors import Code
from fleetward_schemas.identity import sign_identity
from fleetward_schemas.moment import show
from fleetward_schemas.replay import WIDTH, ReplayWindow
from fleetward_schemas.topics import down, fleet, up

MALFORMED = Code.MALFORMED


def places(good: dict[str, Case], cast: Cast) -> Iterator[Case]:
    """Say a thing where it does not belong."""
    telemetry, command, beacon = (Spoiler(good[name]) for name in ("up-telemetry", "down-command", "fleet-beacon"))
    wrong = Code.WRONG_TOPIC
    yield telemetry.receiver(
        "topic-other-device", "arrived on another device's topic", wrong, topic=up(cast.id_b, "telemetry")
    )
    yield telemetry.receiver("topic-other-kind", "arrived as another kind", wrong, topic=up(cast.id_a, "status"))
    yield telemetry.receiver(
        "topic-factory", "arrived on the factory principal's topic", wrong, topic=up(f"f-{cast.id_a}", "telemetry")
    )
    yield telemetry.receiver("topic-nobody", "arrived on no topic of ours", wrong, topic="fw/v2/telemetry")
    yield telemetry.payload("kind-differs", "the signed kind is not the topic's", wrong, kind="status")
    yield telemetry.payload(
        "topic-differs", "the signed topic is not where it arrived", wrong, topic=up(cast.id_b, "telemetry")
    )
    yield command.receiver("topic-other-receiver", "arrived at another device", wrong, topic=down(cast.id_b, "command"))
    yield beacon.receiver("topic-below-beacon", "a level below a fleet topic", wrong, topic=fleet("beacon/more"))
    yield moved(telemetry, "kind-unknown", "a kind nobody knows", Code.UNKNOWN_KIND, up(cast.id_a, "capture"))
    yield moved(telemetry, "kind-downlink", "a downlink kind sent up", Code.UNKNOWN_KIND, up(cast.id_a, "command"))
    yield moved(beacon, "kind-unknown-fleet", "a fleet kind nobody knows", Code.UNKNOWN_KIND, fleet("news"))
    yield from _not_theirs(good, cast)


def _not_theirs(good: dict[str, Case], cast: Cast) -> Iterator[Case]:
    """Move a kind to a principal that it is not for."""
    telemetry, hello, command = (Spoiler(good[name]) for name in ("up-telemetry", "up-f-hello", "down-command"))
    yield moved(
        hello, "factory-telemetry", "a factory principal reports", Code.NOT_ALLOWED, up(f"f-{cast.id_b}", "telemetry")
    )
    yield moved(telemetry, "device-hello", "a device says hello", Code.NOT_ALLOWED, up(cast.id_a, "hello"))
    yield moved(hello, "factory-csr", "a factory principal rotates", Code.NOT_ALLOWED, up(f"f-{cast.id_b}", "csr"))
    yield moved(
        Spoiler(good["down-certificate"]),
        "factory-certificate",
        "rotated certificates to a factory principal",
        Code.NOT_ALLOWED,
        down(f"f-{cast.id_a}", "certificate"),
    )
    yield moved(
        Spoiler(good["down-encryption"]),
        "factory-encryption",
        "an encryption certificate to a factory principal",
        Code.NOT_ALLOWED,
        down(f"f-{cast.id_a}", "encryption"),
    )
    yield moved(telemetry, "device-enrol", "a device enrols", Code.NOT_ALLOWED, up(cast.id_a, "enrol"))
    yield moved(
        command,
        "factory-command",
        "a command to a factory principal",
        Code.NOT_ALLOWED,
        down(f"f-{cast.id_a}", "command"),
    )
    yield moved(command, "device-challenge", "a challenge to a device", Code.NOT_ALLOWED, down(cast.id_a, "challenge"))


def moved(spoiler: Spoiler, name: str, note: str, code: str, topic: str) -> Case:
    """Sign the same for another topic, and let it arrive there."""
    return replace(spoiler.payload(name, note, code, topic=topic, kind=topic.rsplit("/", 1)[1]), topic=topic)


def moments(good: dict[str, Case], _: Cast) -> Iterator[Case]:
    """Come too early, too late, or twice."""
    stale, week = Code.STALE, timedelta(days=7)
    ms = timedelta(milliseconds=1)
    for name, age in (
        ("up-telemetry", week),
        ("up-status-online", timedelta(seconds=120)),
        ("up-f-hello", timedelta(seconds=120)),
        ("up-f-enrol", timedelta(seconds=120)),
        ("down-ack", week),
        ("up-csr", timedelta(seconds=120)),
        ("down-certificate", week),
        ("down-encryption", week),
        ("down-f-challenge", timedelta(seconds=120)),
    ):
        yield Spoiler(good[name]).receiver(f"{name}-old", "one millisecond too old", stale, now=NOW + age + ms)
    ahead = NOW - timedelta(seconds=30) - ms
    for name in ("up-telemetry", "up-status-offline", "up-f-hello", "down-command"):
        yield Spoiler(good[name]).receiver(f"{name}-ahead-of-time", "one millisecond too far ahead", stale, now=ahead)
    command = Spoiler(good["down-command"])
    yield command.receiver("command-expired", "its expires has come", stale, now=NOW + timedelta(days=1))
    yield command.payload("command-without-expires", "no expires", MALFORMED, expires=...)
    telemetry = Spoiler(good["up-telemetry"])
    yield telemetry.payload("telemetry-with-expires", "expires where none belongs", MALFORMED, expires=show(NOW + week))
    for title, text in (
        ("zone", "2026-03-01T12:00:00.000+00:00"),
        ("seconds", "2026-03-01T12:00:00Z"),
        ("micro", "2026-03-01T12:00:00.000000Z"),
        ("impossible", "2026-02-30T12:00:00.000Z"),
        ("leap", "2026-03-01T23:59:60.000Z"),
        ("midnight", "2026-03-01T24:00:00.000Z"),
    ):
        yield telemetry.payload(f"timestamp-{title}", f"a timestamp {text}", MALFORMED, timestamp=text)
    below = ReplayWindow(SEQ + WIDTH, 1)
    yield telemetry.receiver("seq-below-window", "128 below the highest", Code.REPLAYED, window=below)
    yield telemetry.payload("seq-zero", "0 in a kind that is numbered", Code.REPLAYED, seq=0)


def members(good: dict[str, Case], _: Cast) -> Iterator[Case]:
    """Add, drop or misspell members of the payload."""
    telemetry = Spoiler(good["up-telemetry"])
    for name in ("id", "kind", "topic", "seq", "timestamp", "digitalId", "body"):
        yield telemetry.payload(f"member-no-{name}", f"no {name}", MALFORMED, **{name: ...})
    yield telemetry.payload("member-extra", "a member nobody knows, sent up", MALFORMED, note="x")
    yield telemetry.payload("member-id-capitals", "a UUID in capitals", MALFORMED, id=message_id("x").upper())
    yield telemetry.payload("member-id-v4", "a UUID version 4", MALFORMED, id="9b2d6c1e-6c00-4000-8000-000000000000")
    yield telemetry.payload("member-reply-no-id", "inReplyTo is no id", MALFORMED, inReplyTo="yesterday")
    yield telemetry.payload("member-body-array", "the body is an array", MALFORMED, body=[])
    yield telemetry.payload("member-body-text", "the body is a text", MALFORMED, body="{}")
    yield telemetry.payload("member-digital-id-empty", "an empty digital ID", MALFORMED, digitalId="")
    yield telemetry.payload("member-kind-number", "kind is a number", MALFORMED, kind=1)


def identities(good: dict[str, Case], cast: Cast) -> Iterator[Case]:
    """Carry a digital ID that is not the speaker's, or not the listener's."""
    telemetry, command = Spoiler(good["up-telemetry"]), Spoiler(good["down-command"])
    eddsa, hello = Spoiler(good["up-telemetry-eddsa"]), Spoiler(good["up-f-hello"])
    bad = Code.BAD_DIGITAL_ID
    yield telemetry.payload(
        "digital-id-of-other", "another device's digital ID", Code.MISMATCH, digitalId=cast.digital_id_b
    )
    forged = sign_identity(IDENTITY_A, cast.device_a.key, cast.device_a.chain[0])
    yield telemetry.payload("digital-id-l1-by-device-key", "signed by the device key at L1", bad, digitalId=forged)
    yield eddsa.payload(
        "digital-id-l0-by-factory-key",
        "signed by the factory key after enrolment",
        bad,
        digitalId=cast.factory_digital_id_b,
    )
    yield hello.payload(
        "digital-id-first-by-device-key", "signed by another key than the hello", bad, digitalId=cast.digital_id_b
    )
    yield telemetry.payload("digital-id-plain", "eight plain strings, no JWS", bad, digitalId=IDENTITY_A.json())
    head, payload, _ = cast.digital_id_a.split(".")
    yield telemetry.payload("digital-id-unsigned", "its signature taken off", bad, digitalId=f"{head}.{payload}.")
    other = IDENTITY_A.at(NOW)
    renewed = sign_identity(other, cast.ftm_a.key, cast.ftm_a.chain[0])
    yield command.payload("digital-id-not-mine", "not the digital ID the device holds", bad, digitalId=renewed)
    yield command.payload("digital-id-of-another-device", "another device's echoed", bad, digitalId=cast.digital_id_b)


def bodies(good: dict[str, Case], _: Cast) -> Iterator[Case]:
    """Say what the kind's shape does not allow (C9, C10)."""
    telemetry, reading = Spoiler(good["up-telemetry"]), good["up-telemetry"].payload()["body"]["readings"][0]
    yield telemetry.body("body-extra", "a member nobody knows", note="x")
    yield telemetry.body("body-empty", "no readings", readings=[])
    yield telemetry.body("body-missing", "readings missing", readings=...)
    put: dict[str, tuple[str, dict[str, Any]]] = {
        "unknown": ("a metric nobody knows", {"bytesOfFinger": 1}),
        "text": ("a metric that is a text", {"uptimeS": "3600"}),
        "true": ("a metric that is true", {"scannerReady": True}),
        "outside": ("a metric outside its bounds", {"temperatureC": 1000}),
        "none": ("no metric at all", {}),
        "object": ("a metric that is an object", {"uptimeS": {"value": 1}}),
    }
    for title, (note, metrics) in put.items():
        yield telemetry.body(f"body-metric-{title}", note, readings=[reading | {"metrics": metrics}])
    thin = Spoiler(good["up-telemetry-thinned"])
    below = [good["up-telemetry-thinned"].payload()["body"]["readings"][0] | {"metrics": {"outboxThinned": -1}}]
    yield thin.body("body-metric-thinned-below", "less than nothing given up", readings=below)
    yield telemetry.body("body-reading-extra", "a member beside the metrics", readings=[reading | {"image": ""}])
    status, info, alert, result = (Spoiler(good[n]) for n in ("up-status-online", "up-info", "up-alert", "up-result"))
    yield status.body("body-state-unknown", "a state that is not in the list", state="asleep")
    yield status.body("body-reason-free", "a reason in free words", reason="the cat")
    yield status.body("body-session-short", "a session of 12 bytes", session="A" * 16)
    yield info.body("body-info-no-jws", "device info that is no JWS", deviceInfo="{}")
    yield alert.body("body-alert-code", "a code that is not in the list", code="curious")
    yield alert.body("body-alert-zero", "nothing happened", count=0)
    yield result.body("body-result-state", "a state that is not in the list", state="maybe")
    yield from _enrolments(good)
    yield from _rotations(Spoiler(good["up-csr"]), Spoiler(good["down-certificate"]))
    encryption = Spoiler(good["down-encryption"])
    yield encryption.body("body-encryption-env", "an environment MOSIP does not have", env="Preproduction")
    yield encryption.body("body-encryption-empty", "no certificate", certificates=[])
    yield encryption.body("body-encryption-domain", "a domain with a space", domainUri="https://id example.org")


def _enrolments(good: dict[str, Case]) -> Iterator[Case]:
    hello, enrol, answer = (Spoiler(good[n]) for n in ("up-f-hello", "up-f-enrol", "down-time"))
    yield hello.body("body-nonce-short", "a nonce of 16 bytes", nonce="A" * 22)
    yield hello.body("body-nonce-not-canonical", "unused bits set in a nonce", nonce="A" * 42 + "B")
    yield hello.body("body-level", "a level that was removed", certification="L2")
    yield enrol.body("body-csr-not-base64", "a request in base64url without padding", deviceCsr="MIH-_w")
    yield answer.body("body-moment", "received without milliseconds", received="2026-03-01T12:00:00Z")
    yield answer.body("body-radius", "a radius below nothing", radiusMs=-1)
    enrolled = Spoiler(good["down-f-enrolled"])
    yield enrolled.body("body-enrolled-half", "registered with one chain", transportChain=None)
    yield enrolled.body("body-enrolled-refused", "refused with chains", status="refused", reason="clone")


def _rotations(csr: Spoiler, certificate: Spoiler) -> Iterator[Case]:
    yield csr.body("body-csr-no-command", "keys that no command asked for", commandId=...)
    yield csr.body("body-csr-one-key", "one request of the two", transportCsr=...)
    yield csr.body("body-csr-extra", "a member nobody knows", serverNonce="A" * 43)
    yield csr.body("body-csr-base64url", "a request in base64url without padding", deviceCsr="MIH-_w")
    yield certificate.body("body-certificate-half", "one chain of the two", transportChain=...)
    yield certificate.body("body-certificate-empty", "an empty chain", deviceChain=[])
    yield certificate.body("body-certificate-no-command", "no command named", commandId=...)
