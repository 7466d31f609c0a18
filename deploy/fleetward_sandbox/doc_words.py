"""What the generated tables say in words: one sentence for each name of the wire; a missing one is an error."""

from fleetward_schemas import (
    clock,
    encryption,
    enrol,
    jws,
    messages,
    receipts,
    replay,
    shapes,
    strict,
    telemetry,
    upgrade,
)
from fleetward_schemas.certificates import MAX_X5C
from fleetward_schemas.enrol import Reason
from fleetward_schemas.errors import Code
from fleetward_schemas.identity import MAX_DIGITAL_ID_CHARS
from fleetward_schemas.topics import Direction

_UP, _DOWN, _FLEET = Direction.UP, Direction.DOWN, Direction.FLEET

BODIES: dict[tuple[Direction, str], str] = {
    (_UP, "time"): "what time is it?",
    (_UP, "hello"): "who I am, may I enrol?",
    (_UP, "enrol"): "two certification requests",
    (_UP, "status"): "birth and end of a session",
    (_UP, "csr"): "two certification requests, as ordered",
    (_UP, "telemetry"): "readings",
    (_UP, "info"): "MOSIP's device info",
    (_UP, "result"): "what became of a command",
    (_UP, "alert"): "what was refused, how often",
    (_UP, "progress"): "how far an upgrade got",
    (_DOWN, "time"): "the answer, for one nonce",
    (_DOWN, "challenge"): "a nonce to enrol with",
    (_DOWN, "enrolled"): "certificates, or a reason",
    (_DOWN, "ack"): "reports stored, reports refused",
    (_DOWN, "command"): "an order",
    (_DOWN, "certificate"): "the certificates for a `csr`",
    (_DOWN, "encryption"): "whom biometrics are encrypted for",
    (_DOWN, "assignment"): "what this device shall run",
    (_FLEET, "beacon"): "it is at least this late",
    (_FLEET, "release"): "one file of the release repository",
}

FIELDS = {
    "Moment": ("moment", "UTC, to the millisecond; the date must exist, hour 00..23, no leap second"),
    "MessageId": ("id", "UUID version 7 in lower case"),
    "Digest": ("digest", "32 bytes in base64url: nonces, hashes, thumbprints"),
    "Session": ("session", "16 random bytes in base64url"),
    "Der": ("DER", "padded standard base64, canonical"),
    "Name": ("name", "printable ASCII"),
    "Word": ("word", "one word of a list that may grow: what you do not know is something else"),
    "Jws": ("JWS", "three segments of base64url"),
}

_NONE = "-"
_UNTOLD = "is never told"
_AGAIN = "signs anew, sends again"
_DROP = "drops it, counts it"
_ALERT = "ignores it, counts it, `alert`"
CODES: dict[Code, tuple[str, str, str]] = {
    Code.TOO_LARGE: ("more than 48 KiB", _UNTOLD, "ignores it, counts it, `alert` as `malformed`"),
    Code.MALFORMED: ("token, header, JSON or members are not of the form", _UNTOLD, _ALERT),
    Code.BAD_ALG: ("another algorithm, or a key of another kind or strength", _UNTOLD, _ALERT),
    Code.WRONG_TOPIC: ("signed topic or kind is not where it arrived", _UNTOLD, _ALERT),
    Code.UNKNOWN_KIND: ("no such kind in this direction", _UNTOLD, _ALERT),
    Code.NOT_ALLOWED: (
        "the kind is not for this principal; a `csr` for which no order is open",
        "is never told; a `csr`: `failed`, `csr-refused`",
        "ignores it, counts it, `alert` as `unknown-kind`",
    ),
    Code.STALE: (
        "too old, over 30 s ahead, `expires` has come; a time answer delayed by more than 5 s",
        _UNTOLD,
        _ALERT,
    ),
    Code.UNKNOWN_SIGNER: ("uplink: no certificate of this principal, or not valid now", _UNTOLD, _NONE),
    Code.WRONG_SERVER: (
        "downlink: not the server's signing certificate, one 7 days older than the newest accepted, or another `env`",
        _NONE,
        _ALERT,
    ),
    Code.BAD_SIGNATURE: ("the signature does not fit", _UNTOLD, _ALERT),
    Code.REPLAYED: ("a number 128 or more below the highest, 0, or one used for another report", _AGAIN, _ALERT),
    Code.BAD_BODY: ("the body does not have its kind's shape", _DROP, _ALERT),
    Code.BAD_DIGITAL_ID: (
        "not readable, signed by another key, older than the current one, not it, or other members than on record",
        _AGAIN,
        _ALERT,
    ),
    Code.MISMATCH: (
        "the digital ID of another device id; in first contact, a claim that differs from the record",
        f"{_AGAIN}; a claim: is told by `enrolled`",
        _NONE,
    ),
    Code.CLONE: ("an FTM key that is bound to another device", "is told by `enrolled`", _NONE),
    Code.BAD_NONCE: ("answers no question that is open", "is told by `enrolled`", "ignores it, counts it"),
    Code.BAD_CSR: (
        "a request that proves no new, approved key",
        "is told by `enrolled`; a `csr`: makes new keys",
        _NONE,
    ),
    Code.CLOCK_JUMP: ("a time answer that cannot be true together with what is known", _NONE, _ALERT),
    Code.TOO_OFTEN: (
        "more than one `time`, `hello` or `csr` a second, or more reports than the server allows",
        "a report or `csr`: signs anew, sends again later; else is never told",
        _NONE,
    ),
}

REASONS: dict[Reason, str] = {
    Reason.NOT_LISTED: "pending: the provider's list does not have this device",
    Reason.AWAITING_APPROVAL: "pending: an operator must approve this very key",
    Reason.MODEL_NOT_APPROVED: "refused: make and model are not approved",
    Reason.COMPLIANCE_LEVEL: "refused: this purpose needs another certification level",
    Reason.MISMATCH: "refused: certification, purpose or identity differ from the record",
    Reason.CLONE: "refused: the FTM key belongs to another device, or the device to another FTM key",
    Reason.REFUSED_BY_OPERATOR: "refused: an operator said no",
    Reason.RETIRED: "refused: the device was retired; ask at most daily",
    Reason.REVOKED: "refused: the device was revoked; ask at most daily",
    Reason.QUARANTINED: "refused: the device is in quarantine; it may report with the certificates it holds",
    Reason.CHALLENGE_EXPIRED: "refused: the server's nonce is unknown, used or over 10 minutes old; say `hello` again",
    Reason.BAD_CSR: "refused: a request is not readable, not signed by its key, or its key is not new; make new keys",
    Reason.PROTOCOL: "refused: no wire version in common",
    Reason.BUSY: "pending: the provider's keys cannot be reached now; nothing was decided, ask again",
}

LIMITS = {
    "one envelope, bytes on the wire": strict.MAX_ENVELOPE_BYTES,
    "protected header, base64url characters": jws.MAX_HEADER_CHARS,
    "certificates in `x5c` of an envelope and in a chain": MAX_X5C,
    "digital ID, characters": MAX_DIGITAL_ID_CHARS,
    "JSON: levels of objects and arrays, the outermost counts": strict.MAX_DEPTH,
    "JSON: openers `{` and `[` in one text, those inside strings too": strict.MAX_OPENERS,
    "JSON: characters of one number": strict.MAX_NUMBER_CHARS,
    "JSON: integers are below, and above its negative": strict.MAX_INTEGER,
    "RSA, bits, least": jws.MIN_RSA_BITS,
    "RSA, bits, most": jws.MAX_RSA_BITS,
    "RSA public exponent": jws.RSA_EXPONENT,
    "replay window, numbers": replay.WIDTH,
    "a timestamp ahead of the receiver's time, seconds": messages.AHEAD_S,
    "life of a challenge, seconds": enrol.CHALLENGE_LIFE_S,
    "wire version": enrol.PROTOCOL,
    "certificates in a chain of a body": shapes.MAX_CHAIN,
    "domains whose encryption certificates a device keeps": encryption.MAX_DOMAINS,
    "ids, and refusals, in one `ack`": shapes.MAX_IDS,
    "readings in one `telemetry`": telemetry.MAX_READINGS,
    "codes an `alert` may speak of": len(receipts.AlertCode),
    "upgrade: pieces of software in one `assignment`": upgrade.MAX_RELEASES,
    "upgrade: failed attempts of one target, then locked": upgrade.MAX_ATTEMPTS,
    "upgrade: an `assignment`'s version ahead of the device's time, milliseconds": upgrade.AHEAD_MS,
    "upgrade: a file that has not come is absent after, seconds": upgrade.ABSENT_S,
    "upgrade: an inconsistent set is read again for, seconds": upgrade.INCONSISTENT_S,
    "time: delay that counts, microseconds": clock.MAX_DELAY_US,
    "time: drift of a device's oscillator, parts per million": clock.DRIFT_PPM,
    "time: widest interval of a synced device, microseconds": clock.SYNCED_WIDTH_US,
    "time: a signing leaf older than the newest seen, days": clock.SIGNER_AGE.days,
}

EVENTS = {
    ("device", "approve"): "an operator, or the provider's list with a proof, says yes",
    ("device", "refuse"): "an operator says no",
    ("device", "certify"): "certificates were issued",
    ("device", "revoke"): "an operator withdraws trust",
    ("device", "retire"): "the device was taken out of service",
    ("device", "quarantine"): "an operator lets it report and do nothing else",
    ("device", "release"): "an operator ends the quarantine",
    ("device", "reinstate"): "an operator lets a revoked or retired device ask anew",
    ("command", "send"): "published, or published again",
    ("command", "supersede"): "a newer `rotate-key` was given before it was ever sent",
    ("command", "accepted"): "a signed `result` said so; so do the four others",
    ("upgrade", "agreed"): "repository and assignment agree on hash, length and counter, and the counter is higher",
    ("upgrade", "disagreed"): "they do not, or the counter is not higher",
    ("upgrade", "fetched"): "the bytes are here, of the right length and hash",
    ("upgrade", "begin"): "inside the window; the attempt counts from here",
    ("upgrade", "installed"): "the new version lies beside the old one",
    ("upgrade", "activated"): "the new version runs: after the restart or reboot it asked for",
    ("upgrade", "healthy"): "every check of the new version held: only now the counter is raised",
    ("upgrade", "broken"): "something failed, or did not end in time",
    ("upgrade", "rolled-back"): "the old version runs again",
    ("upgrade", "again"): "the next attempt's time has come, or a newer assignment",
    ("upgrade", "exhausted"): "ten attempts failed",
    ("upgrade", "unlock"): "an operator's `unlock-upgrade`",
    ("command", "expired"): "a signed `result`, or nobody answered in time: then provisional",
}
