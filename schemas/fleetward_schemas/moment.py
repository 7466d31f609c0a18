"""Moments on the wire: ISO 8601 UTC with milliseconds and ``Z``; in a digital ID, seconds and ``Z``.

Source: C2 iii ("timestamp ISO to the milliseconds"), MOSIP glossary (``yyyy-mm-ddTHH:MM:ssZ``) for digital IDs.
"""

import re
from datetime import UTC, datetime, timedelta

from fleetward_schemas.errors import Code, LocalMistake, Refused

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The hour stops at 23: newer readers take 24:00 for the next day's 00:00, two spellings of one moment.
_TO_THE_SECOND = r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_MILLISECONDS = re.compile(_TO_THE_SECOND + r"\.\d{3}Z", re.ASCII)
_SECONDS = re.compile(_TO_THE_SECOND + "Z", re.ASCII)


def to_ms(moment: datetime) -> int:
    """Return whole milliseconds since 1970, rounded down."""
    return (moment - EPOCH) // timedelta(milliseconds=1)


def from_ms(ms: int) -> datetime:
    """Return the aware UTC moment of ``ms`` milliseconds since 1970."""
    return EPOCH + timedelta(milliseconds=ms)


def show(moment: datetime) -> str:
    """Print ``YYYY-MM-DDTHH:MM:SS.sssZ``, rounded down to the millisecond."""
    return _plain(moment).isoformat(timespec="milliseconds") + "Z"


def show_seconds(moment: datetime) -> str:
    """Print ``YYYY-MM-DDTHH:MM:SSZ``, the form of a digital ID's ``dateTime``."""
    return _plain(moment).isoformat(timespec="seconds") + "Z"


def _plain(moment: datetime) -> datetime:
    """Return the moment in UTC without its zone; ``isoformat`` rounds down and pads the year, ``strftime`` does not."""
    if moment.tzinfo is None:
        raise LocalMistake("a moment needs its time zone")
    return moment.astimezone(UTC).replace(tzinfo=None)


def parse(text: str) -> datetime:
    """Read ``YYYY-MM-DDTHH:MM:SS.sssZ``.

    Raises:
        Refused: ``malformed``, any other spelling or an impossible date.
    """
    return _read(text, _MILLISECONDS)


def parse_loose(text: str) -> datetime:
    """Read the form with or without milliseconds, as digital IDs in the field carry both.

    Raises:
        Refused: ``malformed``.
    """
    return _read(text, _SECONDS if len(text) == len("YYYY-MM-DDTHH:MM:SSZ") else _MILLISECONDS)


def _read(text: str, form: re.Pattern[str]) -> datetime:
    if not form.fullmatch(text):
        raise Refused(Code.MALFORMED, "not a UTC moment in ISO 8601 with Z")
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Refused(Code.MALFORMED, "a date that does not exist") from None
