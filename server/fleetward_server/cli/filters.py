"""What commands say of filters, and how they take words that begin with a minus. Source: selection.py."""

from collections.abc import Sequence

import typer

from fleetward_server.duration import EXPECTED

FILTER_HELP = f"""A filter is terms with spaces between, all of which hold: model:Slap-4 tag:site-7 -state:revoked.
Fields: id, serial, make, model, type, provider, state (pending ... revoked, online, offline, never), level, purpose,
reason, tag, version, seen (<2h within, >7d not for, never), cert_expires (<30d, >30d, none; {EXPECTED}),
runs (firmware@1.4.2, or by its counter firmware@7), upgrade (failed, locked ...: the device's last word of one).
Commas part alternatives, * ends a beginning, quotes take a value as it is, - or 'not' turns a term round;
a word alone begins an id or a serial number."""
WORDS_MAY_BEGIN_WITH_MINUS = {"ignore_unknown_options": True}
"""For commands without one-letter options: a word such as ``-tag:x`` is taken as it is."""


def signed_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return what is to be put on (``+word``) and what is to be taken off (``-word``).

    Raises:
        typer.BadParameter: a word without a sign.
    """
    for word in words:
        if not word.startswith(("+", "-")):
            raise typer.BadParameter(f"{word!r}: expected +{word} to put it on, or -{word} to take it off")
    return [word[1:] for word in words if word[0] == "+"], [word[1:] for word in words if word[0] == "-"]


def plain_words(words: Sequence[str] | None) -> list[str]:
    """Return the words of such a command.

    Raises:
        typer.BadParameter: one of them was meant as an option.
    """
    for word in words or ():
        if word.startswith("--"):
            raise typer.BadParameter(f"no such option: {word}")
    return list(words or ())
