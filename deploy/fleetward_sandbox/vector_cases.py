"""What a test vector is, and the five ways to spoil an accepted message in one thing.

A case holds all that its receiver knows: the bytes, where they arrived, its time, its trust, its replay window.
Source: schemas/README.md, section "Test vectors".
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from fleetward_schemas.errors import Code
from fleetward_schemas.jws import PrivateKey, sign
from fleetward_schemas.moment import show
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.strict import b64url, b64url_decode

ACCEPTED = "accepted"
DUPLICATE = "duplicate"
EMPTY = ReplayWindow()
Signing = Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Case:
    """One envelope and its judgement. key: who sealed it; trust: member names of the README's table to base64 or text.

    twin, note: the accepted case it differs from in one thing, and in what.
    """

    name: str
    topic: str
    raw: str
    now: datetime | None
    trust: dict[str, str]
    key: PrivateKey
    window: ReplayWindow = EMPTY
    expected: str = ACCEPTED
    twin: str | None = None
    note: str = ""

    def document(self) -> dict[str, Any]:
        """Return the case as it is written down."""
        return {
            "name": self.name,
            "direction": _direction(self.topic),
            "topic": self.topic,
            "raw": self.raw,
            "now": None if self.now is None else show(self.now),
            "trust": self.trust,
            "window": {"highest": self.window.highest, "seen": f"{self.window.seen:x}"},
            "expected": self.expected,
            "twin": self.twin,
            "note": self.note,
        }

    def header(self) -> dict[str, Any]:
        """Return the header, decoded."""
        return _decoded(self.raw.split(".")[0])

    def payload(self) -> dict[str, Any]:
        """Return the payload, decoded."""
        return _decoded(self.raw.split(".")[1])


def _direction(topic: str) -> str:
    return "up" if "/up/" in topic else "fleet" if topic.startswith("fw/v1/fleet") else "down"


def _decoded(segment: str) -> dict[str, Any]:
    decoded: dict[str, Any] = json.loads(b64url_decode(segment.encode()))
    return decoded


def dumps(value: Any) -> str:
    """Write JSON without spaces, as every sender of ours does."""
    return json.dumps(value, separators=(",", ":"))


def sealed(header: str, payload: str | bytes, signing: Signing) -> str:
    """Return the compact JWS of two texts, whatever they say."""
    raw = payload.encode("utf-8", "surrogatepass") if isinstance(payload, str) else payload
    signed = f"{b64url(header.encode())}.{b64url(raw)}"
    return f"{signed}.{b64url(signing(signed.encode()))}"


def signer(key: PrivateKey) -> Signing:
    """Return the one way ``key`` signs."""
    return lambda data: sign(key, data)


@dataclass(frozen=True, slots=True)
class Spoiler:
    """Makes refused twins of one accepted case; each names what it changed."""

    base: Case

    def _case(self, name: str, note: str, expected: str, raw: str) -> Case:
        return replace(self.base, name=name, note=note, expected=expected, raw=raw, twin=self.base.name)

    def header(self, name: str, note: str, code: str, signing: Signing | None = None, /, **changes: Any) -> Case:
        """Change header members (``...`` takes one out) and sign again, with the same key unless told how."""
        header = _changed(self.base.header(), changes)
        return self.header_text(name, note, code, dumps(header), signing)

    def header_text(self, name: str, note: str, code: str, text: str, signing: Signing | None = None) -> Case:
        """Put another header and sign again."""
        payload = b64url_decode(self.base.raw.split(".")[1].encode())
        return self._case(name, note, code, sealed(text, payload, signing or signer(self.base.key)))

    def payload(self, name: str, note: str, code: str, /, **changes: Any) -> Case:
        """Change payload members (``...`` takes one out) and sign again."""
        return self.text(name, note, code, dumps(_changed(self.base.payload(), changes)))

    def body(self, name: str, note: str, code: str = Code.BAD_BODY, /, **changes: Any) -> Case:
        """Change members of the body and sign again."""
        return self.payload(name, note, code, body=_changed(self.base.payload()["body"], changes))

    def text(self, name: str, note: str, code: str, payload: str | bytes) -> Case:
        """Put another payload and sign again."""
        return self._case(name, note, code, sealed(dumps(self.base.header()), payload, signer(self.base.key)))

    def raw(self, name: str, note: str, code: str, raw: str) -> Case:
        """Put other bytes, signed by nobody."""
        return self._case(name, note, code, raw)

    def receiver(self, name: str, note: str, code: str, **changes: Any) -> Case:
        """Leave the bytes and change what their receiver knows: topic, now, trust, window."""
        return replace(self.base, name=name, note=note, expected=code, twin=self.base.name, **changes)


def _changed(members: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    names = {name.replace("__", "#"): value for name, value in changes.items()}
    return {name: value for name, value in (members | names).items() if value is not ...}
