"""Hostile envelopes of upgrades: assignments, progress and the repository's files that say what they may not (C7, C8).

Only the envelope and its shape are judged here: whether a release exists is The Update Framework's to say.
Source: protocol sections 2 to 5; schemas/README.md, section "Upgrades".
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from fleetward_broker import profiles
from fleetward_sandbox.vector_cases import Case, Spoiler, signer
from fleetward_sandbox.vector_pki import NOW, Cast, authorities, leaf
from fleetward_sandbox.vector_unlawful import moved
from fleetward_schemas.errors import Code
from fleetward_schemas.moment import show
from fleetward_schemas.strict import show_der
from fleetward_schemas.topics import ROOT, down, release, up

MS = timedelta(milliseconds=1)
RELEASES: dict[str, tuple[str, dict[str, Any]]] = {
    "http": ("bytes over plain HTTP", {"url": "http://releases.example.org/firmware.bin"}),
    "file": ("bytes from the device's own disk", {"url": "file:///etc/passwd"}),
    "upwards": ("a target that climbs", {"target": "../firmware.bin"}),
    "counter-zero": ("a counter that is none", {"counter": 0}),
    "counter-fraction": ("a counter that is no integer", {"counter": 7.0}),
    "counter-true": ("a counter that is true", {"counter": True}),
    "no-hash": ("no SHA-256", {"hashes": {}}),
    "other-hash": ("another hash in its place", {"hashes": {"sha512": "A" * 86}}),
    "empty": ("no bytes at all", {"length": 0}),
    "name-line": ("a name with a line end", {"name": "firmware\n"}),
}


def upgrades(good: dict[str, Case], cast: Cast) -> Iterator[Case]:
    """Assign, tell and publish what may not be."""
    yield from _assignments(Spoiler(good["down-assignment"]), cast)
    yield from _progress(Spoiler(good["up-progress"]))
    to = up(f"f-{cast.id_b}", "progress")
    yield moved(Spoiler(good["up-f-hello"]), "factory-progress", "a factory principal tells", Code.NOT_ALLOWED, to)
    yield from _files(Spoiler(good["fleet-release"]), cast)


def _assignments(assignment: Spoiler, cast: Cast) -> Iterator[Case]:
    told = assignment.base.payload()["body"]
    (one,), window = told["releases"], told["window"]
    for title, (note, change) in RELEASES.items():
        yield assignment.body(f"assignment-{title}", note, releases=[one | change])
    yield assignment.body("assignment-twice", "one name twice", releases=[one, one | {"counter": 8}])
    nine = [one | {"name": f"part-{number}"} for number in range(9)]
    yield assignment.body("assignment-nine", "nine pieces of software", releases=nine)
    yield assignment.body("assignment-no-version", "no version", version=...)
    turned = {"from": window["to"], "to": window["from"]}
    yield assignment.body("assignment-window", "a window that ends before it begins", window=turned)
    old = NOW + timedelta(days=7) + MS
    yield assignment.receiver("assignment-old", "one millisecond too old", Code.STALE, now=old)
    yield assignment.payload("assignment-expires", "expires where none belongs", Code.MALFORMED, expires=show(old))
    to = down(f"f-{cast.id_a}", "assignment")
    yield moved(assignment, "factory-assignment", "to a factory principal", Code.NOT_ALLOWED, to)
    yield assignment.receiver(
        "assignment-other", "arrived at another device", Code.WRONG_TOPIC, topic=down(cast.id_b, "assignment")
    )
    yield assignment.header(
        "assignment-by-device",
        "signed by a device's certificate",
        Code.WRONG_SERVER,
        signer(cast.device_b.key),
        x5c=[show_der(der) for der in cast.device_b.chain],
    )


def _progress(progress: Spoiler) -> Iterator[Case]:
    yield progress.body("progress-state", "a state that is not in the list", state="nearly")
    yield progress.body("progress-reason", "a reason in free words", reason="the cat")
    yield progress.body("progress-extra", "a member nobody knows", log="x")
    yield progress.body("progress-attempt", "an eleventh attempt", attempt=11)
    yield progress.body("progress-name", "a name with a space", name="firm ware")


def _files(file: Spoiler, cast: Cast) -> Iterator[Case]:
    yield file.body("release-padded", "metadata in padded base64", metadata="e30=")
    yield file.body("release-empty", "no metadata", metadata="")
    wrong = Code.WRONG_TOPIC
    yield file.receiver("release-other-file", "arrived as another file", wrong, topic=release("2.root"))
    yield file.receiver("release-no-file", "arrived as no file", wrong, topic=f"{ROOT}/fleet/release")
    yield file.receiver("release-deeper", "arrived a level below", wrong, topic=release("1.root") + "/x")
    foreign = authorities(cast.ring, "attacker-")
    attacker = leaf(cast.ring, "false-server-attacker-chain", "sign-server", profiles.SERVER_SIGNER, foreign.service)
    x5c = [show_der(der) for der in attacker.chain]
    yield file.header("release-attacker", "by an attacker's chain", Code.WRONG_SERVER, signer(attacker.key), x5c=x5c)
