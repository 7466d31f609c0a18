"""Receipts and alarms: the server's ``ack`` for each report it stored, the device's ``alert`` for what it refused.

Source: protocol section 4. The broker's PUBACK proves nothing end to end; only an ``ack`` empties an outbox.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, field

from fleetward_schemas.shapes import MAX_IDS, DownBody, MessageId, Moment, UpBody, Word


class Refusal(DownBody, frozen=True):
    """One report that was not stored, and the code why."""

    id: MessageId
    code: Word


class Ack(DownBody, frozen=True):
    """ids: stored, or stored before. refused: final for some codes (``FINAL_CODES``), else to be sent again."""

    ids: Annotated[list[MessageId], Meta(max_length=MAX_IDS)]
    refused: Annotated[list[Refusal], Meta(max_length=MAX_IDS)] = field(default_factory=list)


class AlertCode(StrEnum):
    """What a device noticed: refusal codes of downlink messages, and its own."""

    MALFORMED = "malformed"
    BAD_ALG = "bad-alg"
    WRONG_TOPIC = "wrong-topic"
    UNKNOWN_KIND = "unknown-kind"
    STALE = "stale"
    WRONG_SERVER = "wrong-server"
    BAD_SIGNATURE = "bad-signature"
    REPLAYED = "replayed"
    BAD_BODY = "bad-body"
    BAD_DIGITAL_ID = "bad-digital-id"
    CLOCK_JUMP = "clock-jump"
    OUTBOX_FULL = "outbox-full"
    REPORT_REFUSED = "report-refused"


class Alert(UpBody, frozen=True):
    """What happened ``count`` times between two moments."""

    code: AlertCode
    count: Annotated[int, Meta(ge=1, le=2**52)]
    first: Moment
    last: Moment
