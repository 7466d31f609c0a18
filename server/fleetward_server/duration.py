"""How long, as a person writes it: ``90s``, ``15m``, ``2h``, ``7d``."""

from datetime import timedelta

EXPECTED = "90s, 15m, 2h or 7d"
LONGEST = timedelta(days=36_500)
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_MOST_DIGITS = 10


def read_duration(text: str) -> timedelta | None:
    """Read a duration of at most a century; None when it is none."""
    number, unit = text[:-1], text[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit()) or len(number) > _MOST_DIGITS:
        return None
    found = timedelta(**{_UNITS[unit]: int(number)}) if int(number) <= LONGEST.total_seconds() else None
    return None if found is None or found > LONGEST else found
