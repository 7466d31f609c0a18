"""Search what was written, logs and stores, for the marks of biometric data; tells where, never what.

Three looks: the first bytes of ISO 19794, WSQ, JPEG, JPEG 2000, PNG and CBEFF records, raw, in base64(url) and in hex;
the names of the fields that captures travel in; and, in texts, any opaque run longer than what a log may hold, since
what is encrypted has no mark. A run that is a certificate, a request for one, a signature behind its message, or base64
of JSON in which nothing is found is none: these are proofs of identity, read to the last byte. Source: C10; ISO/IEC
19794-2/4/5/6; MOSIP "Capture response".
"""

import base64
import binascii
import json
import mmap
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

MOST_RUN = 512
MOST_DEPTH = 4
SIGNATURE_BYTES = 512
"""Of RSA-4096; what is shorter is no long run."""
HEAD_BYTES = 8192
_TAIL = rb"[A-Za-z0-9+/_=-]{40,}"
_START = rb"(?<![A-Za-z0-9+/_-])"
_RAW = {
    "ISO 19794 record": rb"(?:FMR|FIR|FAC|IIR)\x00(?:0[1-3]0|\x20\x32\x30)\x00",
    # With the length of the first segment: four bytes alone stand in any gigabyte of keys and signatures.
    "WSQ image": rb"\xff\xa0\xff[\xa2-\xa8][\x00-\x04]",
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


def found(data: bytes | mmap.mmap, depth: int = MOST_DEPTH) -> Iterator[tuple[int, str]]:
    """Yield offset and name of every mark. A text is looked through for opaque runs too; a store holds certificates.

    depth: how often base64 may stand in base64.
    """
    for what, pattern in MARKS:
        yield from ((match.start(), what) for match in pattern.finditer(data))
    if b"\x00" in data[:HEAD_BYTES]:
        return
    for match in OPAQUE[1].finditer(data):
        behind = data[max(match.start() - 1, 0) : match.start()] == b"."
        yield from ((match.start(), what) for what in _inside(match[0], depth, behind=behind))


def _inside(run: bytes, depth: int, *, behind: bool) -> set[str]:
    """Return what is wrong with a long run; nothing if it is a proof of identity. behind: it stands behind a point."""
    raw = _decoded(run)
    if (behind and len(raw) == SIGNATURE_BYTES) or _is_proof(raw):
        return set()
    if depth and _is_object(raw):
        return {what for _, what in found(raw, depth - 1)}
    return {OPAQUE[0]}


def _decoded(run: bytes) -> bytes:
    plain = run.translate(bytes.maketrans(b"-_", b"+/"))
    try:
        return base64.b64decode(plain + b"=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError):
        return b""


def _is_object(raw: bytes) -> bool:
    try:
        return isinstance(json.loads(raw), dict)
    except (ValueError, RecursionError):
        return False


def _is_proof(raw: bytes) -> bool:
    """Say whether this is a certificate or a request for one, to the last byte."""
    if not raw.startswith(b"\x30\x82"):
        return False
    with warnings.catch_warnings():
        # MOSIP's serial numbers may be negative.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        for load in (x509.load_der_x509_certificate, x509.load_der_x509_csr):
            try:
                if load(raw).public_bytes(Encoding.DER) == raw:
                    return True
            except ValueError:
                continue
    return False
