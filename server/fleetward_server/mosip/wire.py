"""One exchange with MOSIP over HTTPS: bounded in time and in size whatever the other side does, no thread ever stuck.

A deadline covers the whole exchange, from the name's look-up to the last byte, so that neither silence nor an answer
that drips can hold us. Certificates are verified always; proxies of the environment are honoured; a redirection is not
followed, since what we send is signed and carries a token. Source: S2, C2 ii; RFC 9110 sections 10.2.3 and 15.
"""

import asyncio
import json
import ssl
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from fleetward_server.mosip.answers import UNREADABLE, faults
from fleetward_server.mosip.exchange import Answer, Asked, Unreachable
from fleetward_server.mosip.settings import MosipTable

MOST_BYTES = 1 << 20
EARLIER = 0.9
ROUNDS = 5
MOST_AGAIN_S = 3600.0
"""The longest that we let ourselves be sent away for."""
PASSING = frozenset({408, 425, 429})
"""What a gateway says when it is too much, whatever else stands in the answer."""
BARRED = frozenset({401, 403})
"""A token that is not good; a gateway says so without a word of MOSIP's."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where MOSIP is. ca: PEM file of its TLS root, None for the system's. proxy: None for the environment's."""

    url: str
    timeout_s: float
    ca: Path | None = None
    proxy: str | None = None


def place_of(table: MosipTable, folder: Path) -> Place:
    """Return where ``[mosip]`` says MOSIP is. folder: where relative paths start."""
    return Place(table.url, table.timeout_s, folder / table.ca if table.ca else None, table.proxy or None)


class Wire:
    """Connections to one MOSIP; close it."""

    def __init__(self, place: Place) -> None:
        """Make a client; nothing is dialled yet.

        Raises:
            OSError, ssl.SSLError: the CA's file cannot be read or holds no certificate.
        """
        context = ssl.create_default_context(cafile=None if place.ca is None else str(place.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._timeout_s = place.timeout_s
        self._runner = asyncio.Runner()
        # The deadline over everything is ours: httpx's own begin anew with every byte. But where it cuts off a silence
        # by itself, a little earlier, it lets go of the socket, which a cancelled TLS handshake does not.
        self._client = httpx.AsyncClient(
            base_url=place.url,
            verify=context,
            proxy=place.proxy,
            timeout=place.timeout_s * EARLIER,
            follow_redirects=False,
        )

    def ask(self, asked: Asked) -> Answer:
        """Ask once.

        Raises:
            Unreachable: there is no answer of MOSIP's.
        """
        return self._runner.run(self._in_time(asked))

    def close(self) -> None:
        """End the connections."""
        self._runner.run(self._end())
        self._runner.close()

    async def _end(self) -> None:
        await self._client.aclose()
        # What was cut off in the middle is let go of in the loop's next rounds.
        for _ in range(ROUNDS):
            await asyncio.sleep(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def _in_time(self, asked: Asked) -> Answer:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await self._exchange(asked)
        except (TimeoutError, httpx.TimeoutException):
            raise Unreachable("timed-out", f"no whole answer within {self._timeout_s:g} s") from None
        except httpx.ConnectError as error:
            code = "bad-tls" if _is_tls(error) else "no-connection"
            raise Unreachable(code, str(error) or type(error).__name__) from None
        except (httpx.ProxyError, httpx.UnsupportedProtocol) as error:
            raise Unreachable("no-connection", str(error)) from None
        except httpx.HTTPError as error:
            raise Unreachable("cut-off", str(error) or type(error).__name__) from None

    async def _exchange(self, asked: Asked) -> Answer:
        # Every exchange says itself who it is; a jar would send a token that we dropped.
        self._client.cookies.clear()
        request = self._client.build_request(
            asked.method,
            asked.path,
            json=asked.body,
            data=None if asked.form is None else dict(asked.form),
            params=dict(asked.query) or None,
            headers=dict(asked.headers),
        )
        response = await self._client.send(request, stream=True)
        try:
            raw = await _bounded(response)
        finally:
            await response.aclose()
        # Not by the mapping, which raises where a name stands twice.
        cookies = {one.name: one.value or "" for one in response.cookies.jar}
        body = _object(raw)
        answer = Answer(response.status_code, body or {}, cookies, dict(response.headers))
        return _heard(answer, is_object=body is not None)


async def _bounded(response: httpx.Response) -> bytes:
    raw = bytearray()
    async for some in response.aiter_bytes():
        raw += some
        if len(raw) > MOST_BYTES:
            raise Unreachable("too-large", f"more than {MOST_BYTES} bytes")
    return bytes(raw)


def _object(raw: bytes) -> dict[str, Any] | None:
    """Return the JSON object of an answer, if it is one."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else None


def _heard(answer: Answer, *, is_object: bool) -> Answer:
    """Return an answer that is MOSIP's, or that says our token is not good.

    Raises:
        Unreachable: ``bad-status``, ``not-json``: somebody else's.
    """
    status = answer.status
    silent = all(fault.code == UNREADABLE for fault in faults(answer))
    passing = 300 <= status < 400 or status in PASSING or (status >= 500 and silent)
    if passing or not (is_object or status in BARRED):
        code = "bad-status" if status >= 300 else "not-json"
        raise Unreachable(code, f"HTTP {status}", _again_s(answer))
    return answer


def _again_s(answer: Answer) -> float:
    """Return when to come again: seconds, or a moment held against that server's own clock; 0 where nothing is said."""
    said, date = answer.headers.get("retry-after", ""), answer.headers.get("date", "")
    try:
        seconds = int(said) if said.isdecimal() else _apart_s(date, said)
    except (ValueError, TypeError, OverflowError):
        return 0
    return min(max(float(seconds), 0), MOST_AGAIN_S)


def _apart_s(first: str, last: str) -> float:
    return (parsedate_to_datetime(last) - parsedate_to_datetime(first)).total_seconds()


def _is_tls(error: BaseException) -> bool:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
        if isinstance(error, ssl.SSLError):
            return True
    return False
