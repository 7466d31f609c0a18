"""What goes to MOSIP and comes back, as values: nothing here touches a network, so that who only looks loads none.

Source: S2; MOSIP's services speak JSON over HTTP and put their errors inside.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


class Unreachable(Exception):  # noqa: N818 - says what is so
    """There was no answer of MOSIP's. code: our own word for why, see ``WHYS``. again_s: when it says to come again."""

    def __init__(self, code: str, detail: str, again_s: float = 0) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail
        self.again_s = again_s


WHYS = {
    "no-connection": "nothing listens there, the name is unknown, or the proxy does not let us through",
    "bad-tls": "its certificate is not believed: [mosip] ca, its name, or its time",
    "timed-out": "no whole answer within [mosip] timeout_s",
    "cut-off": "the connection ended in the middle of an answer",
    "bad-status": "an HTTP status that MOSIP's services do not give: a proxy, or a service that is down",
    "not-json": "an answer that is no JSON object, such as a page of a proxy",
    "too-large": "an answer of more than 1 MiB",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is asked. path: below the base address. body: sent as JSON. form: sent as a form instead."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    form: Mapping[str, str] | None = None
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came. body: one JSON object. headers: by name in lower case."""

    status: int
    body: dict[str, Any]
    cookies: dict[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)


class Exchange(Protocol):
    """Whoever asks MOSIP."""

    def ask(self, asked: Asked) -> Answer:
        """Ask once. Raises Unreachable."""
        ...
