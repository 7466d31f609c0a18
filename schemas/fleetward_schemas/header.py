"""The protected header of every message: which key signed, by its chain or its certificate's thumbprint; nothing else.

What is not expected is never followed: ``jku``, ``jwk``, ``x5u``, ``kid`` and ``crit`` are refused.
Source: protocol section 3; RFC 7515 section 4.1, RFC 8725 section 3.10.
"""

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from fleetward_schemas.certificates import MAX_X5C, public_key, read_certificate
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.jws import Alg, alg_of, header_alg
from fleetward_schemas.strict import b64_der, b64url, b64url_decode, read_object

TYP = "fw1+jws"
SHORT_HEADER_CHARS = 160
"""A header by thumbprint has about 130 characters; one by chain has thousands."""


@dataclass(frozen=True, slots=True)
class Header:
    """The protected header. Exactly one of x5c (DER, leaf first, root left out) and x5t (thumbprint) is set."""

    alg: Alg
    x5c: tuple[bytes, ...] | None
    x5t: str | None


def header_segment(header: dict[str, Any]) -> bytes:
    """Return a header as it stands in a message."""
    return b64url(json.dumps(header, separators=(",", ":")).encode()).encode()


def read_header(segment: bytes) -> Header:
    """Read a protected header: exactly alg, typ, and one of x5c and x5t#S256.

    Raises:
        Refused: ``malformed`` or ``bad-alg``.
    """
    return _short_header(segment) if len(segment) <= SHORT_HEADER_CHARS else _long_header(segment)


# What fills these is not yet believed, so they are small: a hostile broker must not own a device's memory.
@lru_cache(maxsize=8192)
def _short_header(segment: bytes) -> Header:
    return _header(segment)


@lru_cache(maxsize=256)
def _long_header(segment: bytes) -> Header:
    return _header(segment)


def _header(segment: bytes) -> Header:
    header = read_object(b64url_decode(segment))
    chain, x5t = header.get("x5c"), header.get("x5t#S256")
    if header.keys() not in ({"alg", "typ", "x5c"}, {"alg", "typ", "x5t#S256"}) or header["typ"] != TYP:
        # jku, jwk, x5u, kid and crit end here.
        raise Refused(Code.MALFORMED, f"a header is alg, typ {TYP} and one of x5c, x5t#S256")
    alg = header_alg(header)
    if x5t is not None:
        if not isinstance(x5t, str) or not x5t.isascii() or len(b64url_decode(x5t.encode())) != 32:
            raise Refused(Code.MALFORMED, "x5t#S256 is 32 bytes in base64url")
        return Header(alg, None, x5t)
    if not isinstance(chain, list) or not 1 <= len(chain) <= MAX_X5C or not all(isinstance(c, str) for c in chain):
        raise Refused(Code.MALFORMED, f"x5c is 1..{MAX_X5C} certificates")
    ders = tuple(b64_der(c) for c in chain)
    if alg_of(key := public_key(read_certificate(ders[0]))) is not alg:
        raise Refused(Code.BAD_ALG, f"{alg} with a key for {alg_of(key)}")
    return Header(alg, ders, None)
