"""Search what was written, logs and stores, for the marks of biometric data; tells where, never what.

Three looks: the first bytes of ISO 19794, WSQ, JPEG, JPEG 2000, PNG and CBEFF records, raw, in base64(url) and in hex;
the names of the fields that captures travel in; and, in texts, any opaque run longer than what a log may hold, since
what is encrypted has no mark. Source: C10; ISO/IEC 19794-2/4/5/6; MOSIP "Capture response".
"""

import mmap
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

MOST_RUN = 512
HEAD_BYTES = 8192
_TAIL = rb"[A-Za-z0-9+/_=-]{40,}"
_START = rb"(?<![A-Za-z0-9+/_-])"
_RAW = {
    "ISO 19794 record": rb"(?:FMR|FIR|FAC|IIR)\x00(?:0[1-3]0|\x20\x32\x30)\x00",
    "WSQ image": rb"\xff\xa0\xff[\xa2-\xa8]",
    "JPEG image": rb"\xff\xd8\xff[\xdb\xe0\xe1\xee]\x00",
    "JPEG 2000 image": rb"\x00\x00\x00\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51\x00",
    "PNG image": rb"\x89PNG\r\n\x1a\n",
    "CBEFF record": rb"<(?:[a-z0-9]+:)?(?:BIR|BDB)[ >]",
}
_BASE64 = {
    "ISO 19794 record": rb"(?:Rk1SA|RklSA|RkFDA|SUlSA)",
    "WSQ image": rb"[/_]6D[/_][o-r]",
    "JPEG image": rb"[/_]9j[/_][24b]",
    "JPEG 2000 image": rb"(?:AAAADGpQIC|[/_]0[/_]{2}U)",
    "PNG image": rb"iVBORw0KGg",
}
_HEX = {
    "ISO 19794 record": rb"(?i:464d5200|46495200|46414300|49495200)[0-9A-Fa-f]{56,}",
    "WSQ image": rb"(?i:ffa0ffa)[0-9A-Fa-f]{56,}",
    "JPEG image": rb"(?i:ffd8ff)[0-9A-Fa-f]{56,}",
}
_WORDS = rb"\"?(?i:bioValue|bioSubType|sessionKey)\"?\s*[:=]"
_OPAQUE = _START + rb"[A-Za-z0-9+/_-]{%d,}" % (MOST_RUN + 1)
MARKS: tuple[tuple[str, re.Pattern[bytes]], ...] = (
    *((name, re.compile(one)) for name, one in _RAW.items()),
    *((f"{name} in base64", re.compile(_START + one + _TAIL)) for name, one in _BASE64.items()),
    *((f"{name} in hex", re.compile(rb"(?<![0-9A-Fa-f])" + one)) for name, one in _HEX.items()),
    ("field of a capture", re.compile(_WORDS)),
)
OPAQUE = ("opaque run", re.compile(_OPAQUE))


@dataclass(frozen=True, slots=True)
class Mark:
    """Something found. offset: its first byte."""

    path: str
    offset: int
    what: str


def marks(path: Path) -> Iterator[Mark]:
    """Yield what a file holds.

    Raises:
        OSError: it cannot be read.
    """
    if path.stat().st_size == 0:
        return
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield from (Mark(str(path), offset, what) for offset, what in found(data))


def found(data: bytes | mmap.mmap) -> Iterator[tuple[int, str]]:
    """Yield offset and name of every mark. A text is looked through for opaque runs too; a store holds certificates."""
    is_text = b"\x00" not in data[:HEAD_BYTES]
    for what, pattern in (*MARKS, OPAQUE) if is_text else MARKS:
        yield from ((match.start(), what) for match in pattern.finditer(data))
