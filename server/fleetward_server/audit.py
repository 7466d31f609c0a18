"""The audit chain: each row's hash covers the row and the hash before it, so that no row can be changed unseen.

The chain has no key: whoever owns the file can rewrite all of it, and is found out by a hash noted elsewhere, which is
why ``audit verify`` prints the last one. Source: S5 (append-only, hash-chained).
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from fleetward_schemas.moment import EPOCH
from fleetward_server.state import AuditEntry

GENESIS = "0" * 64
PAGE_ROWS = 1000
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Link:
    """One row of the chain. seq: counts from 1 without a gap. hash, prev_hash: lower-case hex of SHA-256."""

    seq: int
    entry: AuditEntry
    prev_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a walk along the chain found. broken: the first seq that does not hold. head: hash of the last that does."""

    count: int
    broken: int | None
    head: str


class Chained(Protocol):
    """A store as the audit sees it."""

    def audit_links(self, after: int, limit: int) -> list[Link]:
        """Return the rows after ``after``, ascending."""
        ...

    def audit_length(self) -> int:
        """Return the highest number ever given to a row, whether or not the row is still there."""
        ...


def chain_hash(prev_hash: str, seq: int, entry: AuditEntry) -> str:
    """Return the hash of a row: SHA-256 over the hash before and the row as canonical JSON."""
    row = {
        "seq": seq,
        "at": (entry.at - EPOCH) // MICROSECOND,
        "actor": entry.actor,
        "action": entry.action,
        "subject": entry.subject,
        "reason": entry.reason,
        "detail": entry.detail,
    }
    text = json.dumps(row, separators=(",", ":"), sort_keys=True, ensure_ascii=True)
    return hashlib.sha256((prev_hash + text).encode()).hexdigest()


def follow(prev_hash: str, seq: int, entry: AuditEntry) -> Link:
    """Return the row that stands after ``prev_hash``."""
    return Link(seq, entry, prev_hash, chain_hash(prev_hash, seq, entry))


def walk(store: Chained) -> Verdict:
    """Go along the whole chain; stop at the first row that does not hold."""
    head, last = GENESIS, 0
    for link in _links(store):
        if link != follow(head, last + 1, link.entry):
            return Verdict(last, last + 1, head)
        head, last = link.hash, link.seq
    # Rows cut off at the end leave a whole chain behind; the number given last does not go back.
    cut = store.audit_length() > last
    return Verdict(last, last + 1 if cut else None, head)


def verify(store: Chained) -> tuple[int, int | None]:
    """Return how many rows hold, and the first that does not."""
    verdict = walk(store)
    return verdict.count, verdict.broken


def _links(store: Chained) -> Iterator[Link]:
    after = 0
    while page := store.audit_links(after, PAGE_ROWS):
        yield from page
        after = page[-1].seq
