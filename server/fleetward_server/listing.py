"""The provider's list: which devices may come, at what level and for what, before they ever connect.

FORMAT. A JSON array of objects, or CSV with a header line, in UTF-8. Columns:
  serialNo make model type deviceSubType deviceProvider deviceProviderId   the digital ID without its dateTime
  certification   L0 or L1
  purpose         Registration or Auth (Auth needs L1)
  ftmKey          optional, L1 only: base64url SHA-256 of the FTM key's SubjectPublicKeyInfo
  tags            optional: an array, in CSV separated by ``;``; given, they replace the tags the record has
A new row becomes an approved record; a pending device that is on the list becomes approved. What a record says of
identity, level, purpose and FTM key never changes: a row that differs is an error. One error, and nothing is imported.

A pending record that was never listed holds only what a stranger claimed, so there the list wins.
Source: S5; protocol section 1 (the record, not the device, says L0 or L1); K1.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Certification, DigitalId, Purpose, device_id, may_serve
from fleetward_schemas.moment import show_seconds
from fleetward_schemas.shapes import Digest, read_as, read_own
from fleetward_schemas.topics import DeviceId
from fleetward_server.approval import TAGS_MOST, check_tag
from fleetward_server.problem import Kind, OperatorProblem, nearest

IDENTITY_COLUMNS = ("serialNo", "make", "model", "type", "deviceSubType", "deviceProvider", "deviceProviderId")
REQUIRED = (*IDENTITY_COLUMNS, "certification", "purpose")
COLUMNS = (*REQUIRED, "ftmKey", "tags")
MOST_BYTES = 64 * 1024 * 1024
OTHER_COMMAS = (";", "\t", "|")
_SEPARATORS = re.compile(r"[\s,]*")
Fields = Mapping[str, object]


class Wrong(Exception):  # noqa: N818 - says what a cell is
    """A row that does not hold. column: None when it is the whole row."""

    def __init__(self, column: str | None, message: str) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True, slots=True)
class Sheet:
    """A list as read. places: where each row stands, for messages (``devices.csv:12``)."""

    rows: tuple[Fields, ...]
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Listed:
    """One lawful row. tags: None when the list does not speak of them."""

    place: str
    identity: DigitalId
    certification: Certification
    purpose: Purpose
    ftm_key: str | None = None
    tags: tuple[str, ...] | None = None

    @property
    def id(self) -> DeviceId:
        """The device id."""
        return device_id(self.identity)


def read_sheet(path: Path) -> Sheet:
    """Read a list file: JSON when its first character is ``[``, else CSV.

    Raises:
        OperatorProblem: ``invalid``: unreadable, or neither.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MOST_BYTES + 1)
        if len(raw) > MOST_BYTES:
            raise OperatorProblem(Kind.INVALID, f"{path}: over {MOST_BYTES >> 20} MiB")
        text = raw.decode("utf-8-sig")
    except OSError as error:
        raise OperatorProblem(Kind.INVALID, f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise OperatorProblem(Kind.INVALID, f"{path}: not UTF-8 at byte {error.start}") from None
    match text.lstrip()[:1]:
        case "":
            raise OperatorProblem(Kind.INVALID, f"{path}: empty; expected a header line of CSV, or a JSON array")
        case "{":
            raise OperatorProblem(Kind.INVALID, f"{path}: expected a JSON array of objects: [{{...}}, {{...}}]")
        case first:
            pairs = list((_json_rows if first == "[" else _csv_rows)(text, path))
    return Sheet(tuple(row for _, row in pairs), tuple(f"{path}:{line}" for line, _ in pairs))


def _json_rows(text: str, path: Path) -> Iterator[tuple[int, Fields]]:
    """Read member by member, so that each row knows its line."""
    try:
        json.loads(text)
    except json.JSONDecodeError as error:
        raise OperatorProblem(Kind.INVALID, f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except ValueError:
        raise OperatorProblem(Kind.INVALID, f"{path}: a number of more digits than can be read") from None
    except RecursionError:
        raise OperatorProblem(Kind.INVALID, f"{path}: nested too deep") from None
    decoder, at = json.JSONDecoder(object_pairs_hook=_each_once), text.index("[") + 1
    line, counted = 1, 0
    while text[(at := _after_blanks(text, at))] != "]":
        line, counted = line + text.count("\n", counted, at), at
        try:
            row, at = decoder.raw_decode(text, at)
        except Wrong as wrong:
            raise OperatorProblem(Kind.INVALID, f"{path}:{line}: {wrong.column}: {wrong}") from None
        if not isinstance(row, dict):
            raise OperatorProblem(Kind.INVALID, f"{path}:{line}: expected an object of columns")
        yield line, row


def _each_once(pairs: list[tuple[str, object]]) -> Fields:
    """Refuse an object that says a thing twice: which of the two was meant?"""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Wrong(_twice([name for name, _ in pairs]), "stands twice")
    return found


def _twice(names: Sequence[str]) -> str | None:
    return next((name for number, name in enumerate(names) if name in names[:number]), None)


def _after_blanks(text: str, at: int) -> int:
    blanks = _SEPARATORS.match(text, at)
    return at if blanks is None else blanks.end()


def _csv_rows(text: str, path: Path) -> Iterator[tuple[int, Fields]]:
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        _check_header(reader.fieldnames or (), f"{path}:{reader.line_num}")
        for row in reader:
            if None in row or None in row.values():
                raise OperatorProblem(Kind.INVALID, f"{path}:{reader.line_num}: not as many cells as the header has")
            yield reader.line_num, {name: value for name, value in row.items() if value != ""}
    except csv.Error as error:
        raise OperatorProblem(Kind.INVALID, f"{path}:{reader.line_num}: not CSV: {error}") from None


def _check_header(names: Sequence[str], place: str) -> None:
    """Refuse a header line once, instead of each row below it.

    Raises:
        OperatorProblem: ``invalid``: naming the first column that nobody knows, that stands twice, or that lacks.
    """
    if len(names) == 1 and (parted := [one for one in OTHER_COMMAS if one in names[0]]):
        raise OperatorProblem(Kind.INVALID, f"{place}: columns are parted by {parted[0]!r}: expected commas")
    for name in names:
        if name not in COLUMNS:
            raise OperatorProblem(Kind.INVALID, f"{place}: {name}: unknown column; {nearest(name, COLUMNS)}")
    if (twice := _twice(names)) is not None:
        raise OperatorProblem(Kind.INVALID, f"{place}: {twice}: stands twice")
    for name in REQUIRED:
        if name not in names:
            raise OperatorProblem(Kind.INVALID, f"{place}: {name}: missing; columns: {', '.join(REQUIRED)}")


def read_row(row: Fields, place: str, provider_id: str, now: datetime) -> Listed:
    """Read one row of this provider's list.

    Raises:
        Wrong: the first column that does not hold.
    """
    for column in row:
        if column not in COLUMNS:
            raise Wrong(str(column), f"unknown column; {nearest(str(column), COLUMNS)}")
    for column in REQUIRED:
        if column not in row:
            raise Wrong(column, "missing")
    for column in REQUIRED:
        if row[column] != _trimmed(row[column]):
            raise Wrong(column, f"{row[column]!r}: begins or ends with a space")
    identity = _identity(row, now)
    if identity.deviceProviderId != provider_id:
        raise Wrong("deviceProviderId", f"{identity.deviceProviderId!r}: this provider is {provider_id!r}")
    certification = Certification(_word(row, "certification", tuple(Certification)))
    purpose = Purpose(_word(row, "purpose", tuple(Purpose)))
    if not may_serve(certification, purpose):
        raise Wrong("purpose", f"{purpose} needs L1, the row says {certification}")
    return Listed(place, identity, certification, purpose, _ftm_key(row, certification), _tags(row))


def _trimmed(cell: object) -> object:
    return cell.strip() if isinstance(cell, str) else cell


def _identity(row: Fields, now: datetime) -> DigitalId:
    named = {column: row[column] for column in IDENTITY_COLUMNS}
    try:
        return read_own(DigitalId, named | {"dateTime": show_seconds(now)})
    except Refused as refusal:
        found, _, why = refusal.detail.partition(": ")
        column = found if found in row else "deviceSubType"
        raise Wrong(column, f"{row[column]!r}: {why}") from None


def _word(row: Fields, column: str, known: tuple[str, ...]) -> str:
    word = row[column]
    if not isinstance(word, str) or word not in known:
        raise Wrong(column, f"{word!r}: expected {' or '.join(known)}")
    return word


def _ftm_key(row: Fields, certification: Certification) -> str | None:
    key = row.get("ftmKey")
    if key is None:
        return None
    if certification is Certification.L0:
        raise Wrong("ftmKey", "an L0 has no FTM")
    try:
        return read_as(Digest, key)
    except Refused:
        raise Wrong("ftmKey", f"{key!r}: expected 43 characters of base64url, a SHA-256") from None


def _tags(row: Fields) -> tuple[str, ...] | None:
    tags = row.get("tags")
    if tags is None:
        return None
    words = [word for word in tags.split(";") if word] if isinstance(tags, str) else tags
    if not isinstance(words, list) or len(words) > TAGS_MOST or not all(isinstance(word, str) for word in words):
        raise Wrong("tags", f"expected at most {TAGS_MOST} words")
    try:
        for word in words:
            check_tag(word)
    except OperatorProblem as problem:
        raise Wrong("tags", problem.message) from None
    return tuple(sorted(set(words)))
