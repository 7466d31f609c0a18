"""Logging in at MOSIP by client id and secret; a token is kept until shortly before its end, or until it is refused.

Source: kernel authmanager ``/authenticate/clientidsecretkey`` (the token is a cookie); Keycloak, RFC 6749 section 4.4.
"""

import re
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pins import read_pin
from fleetward_schemas.errors import Refused
from fleetward_schemas.moment import EPOCH, show
from fleetward_schemas.strict import b64url_decode, read_object
from fleetward_server.mosip.answers import Fault, Meaning, errors_of, faults, meaning, printable
from fleetward_server.mosip.exchange import Answer, Asked, Exchange
from fleetward_server.mosip.settings import Login, MosipTable

EARLY = timedelta(seconds=30)
"""How long before its end a token is not used any more."""
SHORT = timedelta(minutes=1)
"""How long a token is used that does not say when it ends."""
MOST_S = 86_400
"""The longest that one is used, whatever it says."""
SECOND = timedelta(seconds=1)
SENDABLE = re.compile(r"[\x21-\x7e]{1,16384}")
BEARER = "Bearer "


class NoToken(Exception):  # noqa: N818 - says what is so
    """MOSIP does not let us in; the message is its own."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(f"{fault.code}: {fault.detail}")
        self.fault = fault


@dataclass(frozen=True, slots=True)
class Token:
    """A token and when to replace it."""

    text: str
    until: datetime


class Tokens:
    """The one token in use."""

    def __init__(self, table: MosipTable, folder: Path, wire: Exchange) -> None:
        """Log in at the first use. folder: where a relative ``secret_file`` starts."""
        self._table = table
        self._secret = folder / table.secret_file
        self._wire = wire
        self._token: Token | None = None

    def ask(self, asked: Asked, now: datetime) -> Answer:
        """Ask with a good token; one that MOSIP refuses is replaced once.

        Raises:
            NoToken: wrong client or secret, or no readable secret. Unreachable: no answer.
        """
        answer = self._wire.ask(replace(asked, headers=self._header(now)))
        if any(meaning(fault) is Meaning.TOKEN for fault in errors_of(answer)):
            self._token = None
            answer = self._wire.ask(replace(asked, headers=self._header(now)))
        return answer

    def _header(self, now: datetime) -> dict[str, str]:
        if self._token is None or now >= self._token.until:
            self._token = self._login(now)
        return {"Authorization": f"Bearer {self._token.text}", "Cookie": f"Authorization={self._token.text}"}

    def _login(self, now: datetime) -> Token:
        try:
            secret = read_pin(str(self._secret))
        except KeyUnavailable as problem:
            raise NoToken(Fault("no-secret", str(problem))) from None
        asked = self._keycloak(secret) if self._table.login == Login.KEYCLOAK else self._authmanager(secret, now)
        return self._token_of(self._wire.ask(asked), now)

    def _token_of(self, answer: Answer, now: datetime) -> Token:
        if self._table.login == Login.KEYCLOAK:
            text = answer.body.get("access_token")
        else:
            # Both of it; clients of MOSIP's own read the header, and a cookie of another domain is none of ours.
            text = answer.cookies.get("Authorization") or answer.headers.get("authorization")
        if not isinstance(text, str) or not text:
            raise NoToken(_why(answer))
        text = text.strip('"').removeprefix(BEARER)
        if SENDABLE.fullmatch(text) is None:
            raise NoToken(Fault("bad-token", "expected 1..16384 printable characters without a space"))
        return Token(text, _until(text, answer.body.get("expires_in"), now))

    def _authmanager(self, secret: str, now: datetime) -> Asked:
        request = {"clientId": self._table.client_id, "secretKey": secret, "appId": self._table.app_id}
        body = {"id": "string", "version": "v1", "requesttime": show(now), "metadata": {}, "request": request}
        return Asked("POST", "/v1/authmanager/authenticate/clientidsecretkey", body)

    def _keycloak(self, secret: str) -> Asked:
        form = {"grant_type": "client_credentials", "client_id": self._table.client_id, "client_secret": secret}
        return Asked("POST", f"/auth/realms/{self._table.realm}/protocol/openid-connect/token", form=form)


def _why(answer: Answer) -> Fault:
    found = faults(answer)
    if found:
        return found[0]
    said = answer.body.get("error_description") or answer.body.get("error") or "no token in the answer"
    return Fault(f"http-{answer.status}", printable(said, 200))


def _until(text: str, expires_in: object, now: datetime) -> datetime:
    left_s = expires_in if isinstance(expires_in, int) else _left_s(text, now)
    return now + SHORT if left_s is None else now + min(max(left_s, 0), MOST_S) * SECOND - EARLY


def _left_s(text: str, now: datetime) -> int | None:
    try:
        # Whose token it is and whether it is good, MOSIP judges; here its end is read, and nothing else.
        end = read_object(b64url_decode(text.split(".")[1].encode())).get("exp")
    except (Refused, IndexError):
        return None
    return end - (now - EPOCH) // SECOND if isinstance(end, int) else None
