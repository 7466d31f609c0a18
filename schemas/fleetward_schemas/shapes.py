"""The field types that bodies are made of. Each is bounded, so that nothing opaque fits anywhere (C10).

Uplink bodies are closed: an unknown member is refused. Downlink bodies ignore what they do not know, so that an old
agent survives a new server. What comes in is read by ``Body.read``; a constructor checks no member by itself, so what
we say ourselves passes ``Body.checked`` before it is kept or sealed. Source: protocol sections 3 and 4.
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Self, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta

from fleetward_schemas import moment
from fleetward_schemas.errors import Code, LocalMistake, Refused

MAX_CHAIN = 3
MAX_IDS = 256
T = TypeVar("T")
B = TypeVar("B", bound="Body")

# Anchored by \A and \Z: to Python, $ also stands before a last line feed. The exported schema has ^ and $ instead.
_SHORT_MONTHS = "(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8])"
_DAY = f"(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|{_SHORT_MONTHS})"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)"
_TIME = "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
_BASE64 = "[A-Za-z0-9+/]"

Moment = Annotated[
    str,
    Meta(
        min_length=24,
        max_length=24,
        pattern=rf"\A(?!0000)(?:[0-9]{{4}}-{_DAY}|{_LEAP_YEAR}-02-29){_TIME}\.[0-9]{{3}}Z\Z",
    ),
]
"""A UTC moment with milliseconds, on a day that exists."""
MessageId = Annotated[
    str,
    Meta(
        min_length=36,
        max_length=36,
        pattern=r"\A[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\Z",
    ),
]
"""A UUID version 7."""
Digest = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]\Z")]
"""Canonical base64url of 32 bytes: nonces, hashes, thumbprints."""
Session = Annotated[str, Meta(pattern=r"\A[A-Za-z0-9_-]{21}[AQgw]\Z")]
"""Canonical base64url of 16 random bytes."""
Der = Annotated[
    str,
    Meta(
        min_length=4,
        max_length=8192,
        pattern=rf"\A(?:{_BASE64}{{4}})*(?:{_BASE64}[AQgw]==|{_BASE64}{{2}}[AEIMQUYcgkosw048]=)?\Z",
    ),
]
"""Canonical padded base64 of DER, at most 6 KiB of it."""
ChainOfDer = Annotated[list[Der], Meta(min_length=1, max_length=MAX_CHAIN)]
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"\A[\x20-\x7e]+\Z")]
"""Printable ASCII, at most 128 characters."""
Word = Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9-]{0,63}\Z")]
"""One word of a closed list, as an older agent sees it: a newer server may know more words."""
Jws = Annotated[str, Meta(max_length=12288, pattern=r"\A[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z")]


class Unlawful(ValueError):  # noqa: N818 - says what is wrong with it
    """A rule between members does not hold. Raised in ``__post_init__``; its text is ours alone, no value in it."""


class Body(msgspec.Struct, frozen=True):
    """Base of all shapes: frozen, strict types."""

    @classmethod
    def read(cls, document: dict[str, Any]) -> Self:
        """Return what a decoded JSON object says.

        Raises:
            Refused: ``bad-body``, naming the first member of ours that does not fit, never its value.
        """
        return read_as(cls, document)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it: names as on the wire, in their order."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        return document

    def json(self) -> str:
        """Return it as compact JSON."""
        return msgspec.json.encode(self).decode()

    def checked(self) -> dict[str, Any]:
        """Return the document of what we say ourselves; one pass of the reader, small beside a signature.

        Raises:
            LocalMistake: a receiver would refuse it.
        """
        document = self.document()
        try:
            self.read(document)
        except Refused as refusal:
            raise LocalMistake(f"{type(self).__name__} {refusal.detail}") from None
        return document

    def changed(self, **members: Any) -> Self:
        """Return the same with other members."""
        return msgspec.structs.replace(self, **members)


class UpBody(Body, frozen=True, forbid_unknown_fields=True):
    """Base of what devices say: closed."""


class DownBody(Body, frozen=True):
    """Base of what the server says: unknown members ignored."""


def at(text: Moment) -> datetime:
    """Return a checked moment as an aware datetime."""
    return moment.parse(text)


def read_as(shape: type[T], document: object, *, native: tuple[type, ...] = ()) -> T:
    """Return decoded JSON in a shape: a ``Body``, a dataclass or a field type. native: other types, as YAML has.

    Raises:
        Refused: ``bad-body``, as ``Body.read``.
    """
    try:
        return msgspec.convert(document, shape, builtin_types=native) if native else msgspec.convert(document, shape)
    except msgspec.ValidationError as error:
        raise Refused(Code.BAD_BODY, _fault(error)) from None


def read_json(shape: type[T], raw: bytes) -> T:
    """Return what one of our own files says, which may be longer than a message.

    Raises:
        Refused: ``bad-body``.
    """
    try:
        return msgspec.json.decode(raw, type=shape)
    except msgspec.ValidationError as error:
        raise Refused(Code.BAD_BODY, _fault(error)) from None
    except (msgspec.DecodeError, RecursionError):
        raise Refused(Code.BAD_BODY, "not JSON in UTF-8") from None


def read_own(shape: type[B], document: object, *, native: tuple[type, ...] = ()) -> B:
    """Return what a file of an operator's says: as ``read_as``, but names and words that are not known are told of.

    Raises:
        Refused: ``bad-body``.
    """
    for name in document if isinstance(document, dict) else ():
        if name not in shape.__struct_encode_fields__:
            raise Refused(Code.BAD_BODY, f"{name}: not known; known: {', '.join(shape.__struct_encode_fields__)}")
    try:
        return read_as(shape, document, native=native)
    except Refused as refusal:
        name, _, why = refusal.detail.partition(": ")
        words = words_of(get_type_hints(shape).get(name)) if why == _NO_WORD else ()
        raise Refused(Code.BAD_BODY, f"{name}: expected {' or '.join(words)}" if words else refusal.detail) from None


def words_of(hint: object) -> tuple[str, ...]:
    """Return the words that a field's annotation lists, in their order; none where it lists none."""
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        return tuple(hint)
    return tuple(word for part in get_args(hint) for word in ((part,) if isinstance(part, str) else words_of(part)))


_NO_WORD = "not one of its words"
_WHERE = re.compile(r" - at `(?:key` in `)?\$([^`]*)`\Z")
_STEP = re.compile(r"\[(?:\d+|\.\.\.)\]|\.[^.\[]+", re.ASCII)
_MISSING = re.compile(r"Object missing required field `([^`]+)`")
_UNKNOWN = "Object contains unknown"


def _fault(error: msgspec.ValidationError) -> str:
    """Name the first member that does not fit and what is wrong with it, in words of ours.

    C10: the library's texts hold the word that was not in a list and the name that was not expected, which are the
    sender's. Those texts are replaced, and where such a name may stand for a path, only names of ours are repeated.
    """
    text = str(error)
    found = _WHERE.search(text)
    where = [step.strip("[].") for step in _STEP.findall(found[1])] if found else []
    if text.startswith(_UNKNOWN):
        names = _own_names(Body)
        where = [step if step in names or re.fullmatch("[0-9]{1,3}", step) else "?" for step in where]
    missing = _MISSING.match(text)
    if missing:
        where.append(missing[1])
    return f"{'.'.join(filter(None, where)) or 'as a whole'}: {_complaint(error, text)}"


def _own_names(shape: type[Body]) -> set[str]:
    return set(shape.__struct_encode_fields__).union(*map(_own_names, shape.__subclasses__()))


def _complaint(error: msgspec.ValidationError, text: str) -> str:
    if isinstance(error.__cause__, Unlawful):
        return str(error.__cause__)
    if text.startswith("Object missing"):
        return "missing"
    if text.startswith(_UNKNOWN):
        return "a member that is not known"
    if text.startswith("Expected `str` matching"):
        return "not of its form"
    if text.startswith("Expected "):
        # In our own bounds and the names of types.
        return f"expected {text.removeprefix('Expected ').partition(' - at ')[0].replace('`', '')}"
    return _NO_WORD
