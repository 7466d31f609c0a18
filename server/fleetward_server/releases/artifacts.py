"""The bytes of releases over HTTPS: files by path, whole or from a point on, and nothing else.

A name carries the hash of what it names, so that it is the ETag, and an answer may be kept for ever. There is no list,
no folder, no link that is followed. Who is slow to ask, slow to take, or one too many is cut; a device goes on later
with Range. Source: S7; wire, section "Upgrades" 6; RFC 9110 sections 8.8.3, 13 and 14.
"""

import asyncio
import re
import stat
from pathlib import Path
from typing import cast

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from fleetward_server.releases.files import TARGETS

NAME = re.compile(r"(?:[A-Za-z0-9][A-Za-z0-9._-]*/)*([0-9a-f]{64})\.[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
MOST_NAME_CHARS = 256
HEADERS_WITHIN_S = 10.0
STALLED_S = 30.0
"""For 64 KiB: a line slower than 17 kbit/s is cut."""
FOR_EVER = "public, max-age=31536000, immutable"


class Bytes(FileResponse):
    """A file, whole or one range of it."""

    max_ranges = 1


def application(folder: Path) -> ASGIApp:
    """Return what answers. folder: the store of bytes; there need be none yet."""

    async def give(request: Request) -> Response:
        return answer(folder, request.path_params["name"], request.headers.get("if-none-match", ""))

    app = Starlette(routes=[Route(f"/{TARGETS}/{{name:path}}", give)])
    app.router.redirect_slashes = False
    return Patience(app)


def answer(folder: Path, name: str, known: str) -> Response:
    """Return one target's bytes, or that there are none. known: ETags that the other side has."""
    named = NAME.fullmatch(name) if len(name) <= MOST_NAME_CHARS else None
    if named is None or not _is_plain(folder, name):
        return PlainTextResponse("no such target\n", 404)
    headers = {"etag": f'"{named[1]}"', "cache-control": FOR_EVER}
    if named[1] in known:
        return Response(status_code=304, headers=headers)
    return Bytes(folder / name, headers=headers, media_type="application/octet-stream")


def _is_plain(folder: Path, name: str) -> bool:
    """Say whether a name leads to a file through folders alone: a link could lead anywhere."""
    path = [folder / name, *(folder / name).parents]
    inside = path[: path.index(folder)]
    try:
        modes = [one.lstat().st_mode for one in inside]
    except OSError:
        return False
    return stat.S_ISREG(modes[0]) and all(stat.S_ISDIR(mode) for mode in modes[1:])


class Patience:
    """Cuts who does not take what it asked for."""

    def __init__(self, app: ASGIApp, stalled_s: float = STALLED_S) -> None:
        """stalled_s: how long one chunk may take."""
        self._app = app
        self._stalled_s = stalled_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""

        async def patiently(message: Message) -> None:
            async with asyncio.timeout(self._stalled_s):
                await send(message)

        await self._app(scope, receive, patiently)


class Guarded(H11Protocol):
    """A connection: one of so many, and a request is here within a while or never."""

    headers_within_s = HEADERS_WITHIN_S
    _waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take a connection, or cut what is one too many."""
        super().connection_made(cast("asyncio.Transport", transport))
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            self.transport.abort()
            return
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Read on, but not for ever."""
        super().data_received(data)
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering:
            self._unwait()
        elif self._waiting is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._unwait()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.headers_within_s, self.transport.abort)

    def _unwait(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
