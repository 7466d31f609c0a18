"""The strict readers under every message: base64url and JSON, where lenient libraries let two spellings mean one thing.

Everything here is bytes in, value out, or ``Refused``. Caps come before decoding, so hostile sizes cost nothing.
Source: RFC 7515 appendix C (unpadded base64url), RFC 8259, RFC 7493 (no duplicate members), protocol section 3.
"""

import base64
import binascii
import json
import math
from typing import Annotated, Any, NoReturn

import msgspec

from fleetward_schemas.errors import Code, Refused

MAX_ENVELOPE_BYTES = 48 * 1024
"""Longest message, as it stands on the wire; the brokers refuse packets over 64 KiB before that."""
# Standard base64's own characters become one that no alphabet has: msgspec reads that, in a third of binascii's time.
_STANDARD = bytes.maketrans(b"-_+/=", b"+/!!!")
_PADDING = (b"", b"", b"==", b"=")
_LAST = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")
MAX_DEPTH = 8
MAX_OPENERS = 600
MAX_NUMBER_CHARS = 24
MAX_INTEGER = 2**53


def b64url(raw: bytes) -> str:
    """Encode without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def b64url_decode(text: bytes) -> bytes:
    """Decode canonical unpadded base64url.

    Raises:
        Refused: ``malformed``: padding, foreign characters, white space, or unused bits that are not zero.
    """
    rest = len(text) % 4
    # Two spellings of one value differ only in the last character's unused bits.
    if rest and text[-1] not in _LAST[rest]:
        raise Refused(Code.MALFORMED, "base64url is not canonical")
    try:
        return msgspec.convert((text.translate(_STANDARD) + _PADDING[rest]).decode("ascii"), bytes)
    except (UnicodeDecodeError, msgspec.ValidationError):
        raise Refused(Code.MALFORMED, "not base64url") from None


def b64_der(text: str) -> bytes:
    """Decode canonical padded base64 (RFC 4648 section 4), the spelling of DER in ``x5c``, chains and CSRs.

    Raises:
        Refused: ``malformed``.
    """
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(Code.MALFORMED, "not base64") from None
    if base64.b64encode(raw).decode() != text:
        raise Refused(Code.MALFORMED, "base64 is not canonical")
    return raw


def show_der(der: bytes) -> str:
    """Encode DER as ``x5c`` wants it: padded standard base64."""
    return base64.b64encode(der).decode()


def read_object(raw: bytes) -> dict[str, Any]:
    """Read one JSON object: UTF-8, no duplicate members, finite numbers, integers below 2^53, depth <= 8.

    Raises:
        Refused: ``malformed``.
    """
    openers = _count(raw, b"{") + _count(raw, b"[")
    if openers > MAX_OPENERS:
        raise Refused(Code.MALFORMED, f"more than {MAX_OPENERS} objects and arrays")
    value = _spelled_as_by_us(raw)
    return _spelled_otherwise(raw, openers) if value is None else value


def _spelled_as_by_us(raw: bytes) -> dict[str, Any] | None:
    """Return a compact object, None for any other: written anew it is the same bytes, so that none can be read twice.

    A member that stands twice would be gone, an escape or a number of another form would be another; how deep and how
    large is the decoder's to say. It takes a third of the time of ``_spelled_otherwise``, which alone refuses.
    """
    try:
        value = _COMPACT.decode(raw)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return None
    return value if msgspec.json.encode(value) == raw else None


def _spelled_otherwise(raw: bytes, openers: int) -> dict[str, Any]:
    try:
        value = _DECODER.decode(raw.decode("utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError):
        raise Refused(Code.MALFORMED, "not JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise Refused(Code.MALFORMED, "not a JSON object")
    # A surrogate can only come from an escape, and few openers cannot nest deeply: the walk is rarely paid.
    # One byte is looked for at the speed of memory, two in a row are not.
    escaped = b"\\" in raw
    if escaped or openers > MAX_DEPTH:
        _walk(value, 1, escaped=escaped)
    return value


def _count(raw: bytes, byte: bytes) -> int:
    """Return how often a byte is there, 601 for more: ``replace`` looks for it by ``memchr``, ``count`` one by one."""
    return len(raw) - len(raw.replace(byte, b"", MAX_OPENERS + 1))


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise Refused(Code.MALFORMED, "a member stands twice")
    return members


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS or abs(number := int(text)) >= MAX_INTEGER:
        raise Refused(Code.MALFORMED, "integer is not below 2^53")
    return number if text[0] != "-" else -abs(number)


def _float(text: str) -> float:
    if len(text) > MAX_NUMBER_CHARS or not math.isfinite(number := float(text)):
        raise Refused(Code.MALFORMED, "number is too long or not finite")
    return number


def _constant(text: str) -> NoReturn:
    raise Refused(Code.MALFORMED, f"{text} is not JSON")


def _walk(value: Any, depth: int, *, escaped: bool) -> None:
    """Refuse what is nested deeper than 8 or holds a lone surrogate."""
    if isinstance(value, str):
        if escaped and not _encodes(value):
            raise Refused(Code.MALFORMED, "a lone surrogate")
        return
    if not isinstance(value, (dict, list)):
        return
    if depth > MAX_DEPTH:
        raise Refused(Code.MALFORMED, f"nested deeper than {MAX_DEPTH}")
    if isinstance(value, dict) and escaped and not all(map(_encodes, value)):
        raise Refused(Code.MALFORMED, "a lone surrogate in a member's name")
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, (dict, list, str)):
            _walk(inner, depth + 1, escaped=escaped)


def _encodes(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _object(depth: int) -> Any:
    """Return the type of an object that is nested no deeper than this, its integers below 2^53."""
    plain = None | bool | Annotated[int, msgspec.Meta(gt=-MAX_INTEGER, lt=MAX_INTEGER)] | float | str
    value: Any = plain
    for _ in range(depth - 1):
        value = plain | list[value] | dict[str, value]
    return dict[str, value]


# Made once: a decoder costs as much as a small message.
_COMPACT: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(_object(MAX_DEPTH))
_DECODER = json.JSONDecoder(
    object_pairs_hook=_members, parse_int=_integer, parse_float=_float, parse_constant=_constant
)
