"""Which devices: one grammar for the command line, and for whatever else chooses devices.

A filter is terms with spaces between, all of which hold: ``model:Slap-4 tag:site-7 -state:revoked``. A term is
``field:value``; commas part alternatives, ``*`` at the end of a value stands for any rest, quotes take a value as it
is (``model:"Slap 4"``), ``-`` or ``not`` in front turns a term round. A word without a field is the beginning of an id
or of a serial number. Nothing is every device.

A filter is read at one moment, which its durations count from. ``store/selecting.py`` says in SQL what it means, and a
property test holds that against the same in plain Python (tests/server/meaning.py).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cache
from typing import TYPE_CHECKING, Any, cast

from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.identity import SUB_TYPES, Certification, Purpose
from fleetward_schemas.upgrade import Phase
from fleetward_server.duration import EXPECTED, read_duration
from fleetward_server.problem import Kind, OperatorProblem, nearest
from fleetward_server.state import Presence

if TYPE_CHECKING:
    from lark import Lark, Token, Tree

MOST_CHARS = 4096
MOST_VALUES = 256
"""Of one filter: an expression that SQLite takes, and that a person could have meant."""

GRAMMAR = r"""
start: _BLANK? (term (_BLANK term)* _BLANK?)?
term: [NOT] [FIELD] value ("," value)*
value: [COMPARISON] (WORD | QUOTED)

NOT.3: /-|not(?=\s)\s+/
FIELD.2: /[^\s:",<>-][^\s:",<>]*:/
COMPARISON.2: /[<>]/
QUOTED.2: /"(?:\\.|[^"\\])*"\*?/
WORD: /[^\s",<>][^\s",]*/
_BLANK: /\s+/
"""
_SAID = {
    "NOT": None,
    "_BLANK": "a space",
    "FIELD": "a field such as model:",
    "COMPARISON": None,
    "QUOTED": None,
    "WORD": "a value",
    "COMMA": "a comma",
    "$END": "the end",
}


class Field(StrEnum):
    """What may be asked. NAME is a word without a field."""

    NAME = "name"
    ID = "id"
    SERIAL = "serial"
    MAKE = "make"
    MODEL = "model"
    TYPE = "type"
    PROVIDER = "provider"
    STATE = "state"
    LEVEL = "level"
    PURPOSE = "purpose"
    REASON = "reason"
    TAG = "tag"
    VERSION = "version"
    SEEN = "seen"
    CERT_EXPIRES = "cert_expires"
    RUNS = "runs"
    UPGRADE = "upgrade"


ALIASES = {"agent": Field.VERSION}
FIELDS: Mapping[str, Field] = {field: field for field in Field if field is not Field.NAME} | ALIASES
WORDS: Mapping[Field, tuple[str, ...]] = {
    Field.STATE: (*State, *Presence),
    Field.LEVEL: tuple(Certification),
    Field.PURPOSE: tuple(Purpose),
    Field.REASON: tuple(Reason),
    Field.TYPE: tuple(SUB_TYPES),
    Field.UPGRADE: tuple(Phase),
}
"""The closed lists; ``state`` knows the register's words and those of availability."""
ABSENT: Mapping[Field, str] = {Field.SEEN: "never", Field.CERT_EXPIRES: "none"}
"""The moments, and the word for one that there is not."""


@dataclass(frozen=True, slots=True)
class Is:
    """Exactly this text."""

    text: str


@dataclass(frozen=True, slots=True)
class Begins:
    """Any text with this beginning."""

    text: str


@dataclass(frozen=True, slots=True)
class Before:
    """A moment before ``at``."""

    at: datetime


@dataclass(frozen=True, slots=True)
class After:
    """A moment after ``at``."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Absent:
    """No moment at all."""


Test = Is | Begins | Before | After | Absent


@dataclass(frozen=True, slots=True)
class Term:
    """One term: any of its tests holds, or, negated, none."""

    field: Field
    tests: tuple[Test, ...]
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter as read. text: as written; moments are already counted from when it was read."""

    text: str = ""
    terms: tuple[Term, ...] = ()

    @property
    def name(self) -> str | None:
        """The one word that it is, for acts that take a device by name as well; None when it is more."""
        match self.terms:
            case (Term(Field.NAME, (Is(text) | Begins(text),), False),):
                return text
        return None


EVERYTHING = Selection()


def parse(text: str, now: datetime) -> Selection:
    """Read a filter; its durations count from ``now``.

    Raises:
        OperatorProblem: ``invalid``, with the column and what was expected there.
    """
    if len(text) > MOST_CHARS:
        raise OperatorProblem(Kind.INVALID, f"filter: {len(text)} characters: at most {MOST_CHARS}")
    terms = tuple(_term(cast("list[Any]", tree.children), now) for tree in _parsed(text))
    values = sum(len(term.tests) for term in terms)
    if values > MOST_VALUES:
        raise OperatorProblem(Kind.INVALID, f"filter: {values} values: at most {MOST_VALUES}")
    return Selection(text, terms)


@cache
def _grammar() -> "Lark":
    # Loaded by the first filter: most commands have none.
    from lark import Lark

    return Lark(GRAMMAR, parser="lalr", lexer="contextual", maybe_placeholders=True)


def _parsed(text: str) -> "list[Tree[Token]]":
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    try:
        return cast("list[Tree[Token]]", _grammar().parse(text).children)
    except UnexpectedCharacters as error:
        at = error.pos_in_stream or 0
        what = "a quote that is not closed" if text[at] == '"' else repr(text[at])
        raise _wrong(at, f"{what}: expected {_expected(error.allowed)}") from None
    except UnexpectedToken as error:
        ends = error.token.type == "$END"
        at, what = (len(text), "ends here") if ends else (error.token.start_pos or 0, repr(str(error.token)))
        raise _wrong(at, f"{what}: expected {_expected(error.expected)}") from None


def _expected(terminals: set[str]) -> str:
    said = [words for terminal, words in _SAID.items() if terminal in terminals and words is not None]
    return " or ".join(said)


def _wrong(at: int, message: str) -> OperatorProblem:
    return OperatorProblem(Kind.INVALID, f"filter, column {at + 1}: {message}")


def _term(children: list[Any], now: datetime) -> Term:
    negation, name, *values = children
    field = Field.NAME if name is None else _field(name)
    tests = tuple(_test(field, value.children[0], value.children[1], now) for value in values)
    return Term(field, tests, negation is not None)


def _field(token: "Token") -> Field:
    word = token.removesuffix(":")
    if word not in FIELDS:
        raise _wrong(token.start_pos or 0, f"unknown field {word!r}; {nearest(word, FIELDS)}")
    return FIELDS[word]


def _test(field: Field, comparison: "Token | None", value: "Token", now: datetime) -> Test:
    at = value.start_pos or 0
    if field in ABSENT:
        return _moment(field, comparison, value, now)
    if comparison is not None:
        asked = " and ".join(f"{one}:" for one in ABSENT)
        raise _wrong(comparison.start_pos or 0, f"{field} is not compared; < and > are for {asked}")
    text, begins = _text(value)
    if field in WORDS:
        if begins or text not in WORDS[field]:
            raise _wrong(at, f"{field}:{value}: {nearest(text, WORDS[field])}")
        return Is(text)
    return Begins(text) if begins or field is Field.NAME else Is(text)


def _moment(field: Field, comparison: "Token | None", value: "Token", now: datetime) -> Test:
    if comparison is None and value == ABSENT[field]:
        return Absent()
    length = read_duration(value)
    if comparison is None or length is None:
        wanted = f"< or > and how long ({EXPECTED}), or {ABSENT[field]}"
        raise _wrong(value.start_pos or 0, f"{field}:{comparison or ''}{value}: expected {wanted}")
    within = comparison == "<"
    if field is Field.SEEN:
        return After(now - length) if within else Before(now - length)
    return Before(now + length) if within else After(now + length)


def _text(value: "Token") -> tuple[str, bool]:
    """Return a value without quotes and ``*``, and whether there was one."""
    begins = value.endswith("*")
    plain = value.removesuffix("*")
    if plain.startswith('"'):
        inner = iter(plain[1:-1])
        return "".join(next(inner) if char == "\\" else char for char in inner), begins
    if "*" in plain:
        raise _wrong((value.start_pos or 0) + plain.index("*"), "'*': only at the end of a value, or in quotes")
    return plain, begins
