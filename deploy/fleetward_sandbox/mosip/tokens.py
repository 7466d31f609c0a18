"""Logging in: MOSIP's authmanager (a cookie) and Keycloak itself (a bearer token), by client id and secret.

Source: kernel authmanager ``/authenticate/clientidsecretkey``; RFC 6749 section 4.4 (client credentials).
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.cookies import SimpleCookie

import jwt

from fleetward_schemas.moment import EPOCH

SECOND = timedelta(seconds=1)


@dataclass
class Tokens:
    """Who may log in, and which tokens were given. given: how many."""

    clients: dict[str, str]
    life_s: int = 300
    key: str = field(default_factory=lambda: secrets.token_hex(32))
    given: int = 0

    def login(self, client: str, secret: str, now: datetime) -> str | None:
        """Return a token, None for a client or secret that is wrong."""
        known = self.clients.get(client)
        if known is None or not secrets.compare_digest(known.encode(), secret.encode()):
            return None
        self.given += 1
        end = (now - EPOCH) // SECOND + self.life_s
        return jwt.encode({"azp": client, "exp": end, "jti": secrets.token_hex(8)}, self.key, "HS256")

    def holds(self, token: str, now: datetime) -> bool:
        """Say whether a token is ours and its time is not over."""
        try:
            claims = jwt.decode(token, self.key, ["HS256"], options={"verify_exp": False})
        except jwt.InvalidTokenError:
            return False
        return int(claims["exp"]) > (now - EPOCH) // SECOND


def sent(headers: Mapping[str, str]) -> str:
    """Return the token that came with a request, as a bearer's or in a cookie; empty without one."""
    bearer = headers.get("authorization", "").removeprefix("Bearer ")
    cookie = SimpleCookie(headers.get("cookie", "")).get("Authorization")
    return bearer or ("" if cookie is None else cookie.value.removeprefix("Bearer "))
