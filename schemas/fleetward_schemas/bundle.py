"""A bundle: signed envelopes in a file, carried by hand where no network leads; the same ones, believed no more easily.

A line each: the topic it would have come on, a space, the compact JWS. The last line is the SHA-256 of all before it:
it tells a damaged or cut file at once and proves nothing; each envelope is verified as from the network.
Source: protocol section 3; an untrusted courier is an untrusted broker.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.strict import MAX_ENVELOPE_BYTES, b64url
from fleetward_schemas.topics import MAX_TOPIC_CHARS

FIRST_LINE = b"fw1-bundle"
MAX_BUNDLE_BYTES = 16 * 1024 * 1024
_SUM = b"sha256 "


@dataclass(frozen=True, slots=True)
class Carried:
    """One envelope and the topic it would have arrived on."""

    topic: str
    raw: bytes


def write_bundle(messages: Iterable[Carried]) -> bytes:
    """Return the file that holds these messages, in their order.

    Raises:
        LocalMistake: more than 16 MiB.
    """
    lines = [FIRST_LINE, *(one.topic.encode("ascii") + b" " + one.raw for one in messages)]
    body = b"".join(line + b"\n" for line in lines)
    whole = body + _SUM + _digest(body) + b"\n"
    if len(whole) > MAX_BUNDLE_BYTES:
        raise LocalMistake(f"a bundle of {len(whole)} bytes: at most {MAX_BUNDLE_BYTES}")
    return whole


def read_bundle(whole: bytes) -> tuple[Carried, ...]:
    """Return the messages of a file; nothing of them is believed yet.

    Raises:
        Refused: ``too-large``; ``malformed``: no bundle, or one that was damaged or cut short on its way.
    """
    if len(whole) > MAX_BUNDLE_BYTES:
        raise Refused(Code.TOO_LARGE, f"a bundle of {len(whole)} bytes: at most {MAX_BUNDLE_BYTES}")
    body, _, last = whole.removesuffix(b"\n").rpartition(b"\n")
    if not whole.startswith(FIRST_LINE + b"\n") or not whole.endswith(b"\n"):
        raise Refused(Code.MALFORMED, f"a bundle begins with the line {FIRST_LINE.decode()} and ends with a newline")
    if last != _SUM + _digest(body + b"\n"):
        raise Refused(Code.MALFORMED, "the last line is not the SHA-256 of the lines before: damaged or cut short")
    return tuple(_line(number, line) for number, line in enumerate(body.split(b"\n")[1:], start=2))


def _digest(body: bytes) -> bytes:
    return b64url(hashlib.sha256(body).digest()).encode()


def _line(number: int, line: bytes) -> Carried:
    topic, space, raw = line.partition(b" ")
    if not space or not topic or len(topic) > MAX_TOPIC_CHARS or not topic.isascii():
        raise Refused(Code.MALFORMED, f"line {number}: expected a topic, a space and an envelope")
    if len(raw) > MAX_ENVELOPE_BYTES:
        raise Refused(Code.TOO_LARGE, f"line {number}: an envelope of {len(raw)} bytes: at most {MAX_ENVELOPE_BYTES}")
    return Carried(topic.decode("ascii"), raw)
