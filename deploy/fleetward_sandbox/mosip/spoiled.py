"""Answers that are none: what a proxy, a dying server or a bad line makes of them."""

import asyncio
from collections.abc import AsyncIterator
from enum import StrEnum

from starlette.responses import HTMLResponse, Response, StreamingResponse

from fleetward_sandbox.mosip.quirks import Quirk, Quirks

PAGE = "<html><body><h1>502 Bad Gateway</h1></body></html>"
DRIP_S = 0.05
HUGE_BYTES = 4 * 1024 * 1024


class Spoiling(StrEnum):
    """When: before anything was done, or after."""

    BEFORE = "before"
    AFTER = "after"


class LineCut(Exception):  # noqa: N818 - what happens to the connection
    """Raised in the middle of an answer: the server ends the connection there."""


async def spoiled(quirks: Quirks, when: Spoiling) -> Response | None:
    """Return what comes instead of the answer; None: the answer."""
    if when is Spoiling.AFTER:
        return StreamingResponse(_cut(b"")) if quirks.happens(Quirk.LOSE_ANSWER) else None
    if quirks.happens(Quirk.HTML):
        return HTMLResponse(PAGE)
    if quirks.happens(Quirk.UNAVAILABLE):
        return Response(status_code=503)
    if quirks.happens(Quirk.HANG):
        await asyncio.Event().wait()
    if quirks.happens(Quirk.DRIP):
        return StreamingResponse(_drip(), media_type="application/json")
    if quirks.happens(Quirk.CUT):
        return StreamingResponse(_cut(b'{"response":'), headers={"content-length": "4096"})
    if quirks.happens(Quirk.NOT_JSON):
        return Response('{"response": {"status"', media_type="application/json")
    if quirks.happens(Quirk.HUGE):
        return Response(b'{"response":"' + b"A" * HUGE_BYTES + b'"}', media_type="application/json")
    return None


async def _drip() -> AsyncIterator[bytes]:
    yield b"{"
    while True:
        await asyncio.sleep(DRIP_S)
        yield b" "


async def _cut(begun: bytes) -> AsyncIterator[bytes]:
    yield begun
    raise LineCut
