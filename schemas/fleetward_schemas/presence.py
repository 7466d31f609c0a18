"""Presence: the signed birth of a session and its signed will. Availability, never evidence.

Source: protocol section 5 "Operation"; MOSIP device status words are inventory's, not these.
"""

from enum import StrEnum
from typing import Literal

from fleetward_schemas.shapes import Session, UpBody


class StatusReason(StrEnum):
    """Why a session began or ended."""

    STARTED = "started"
    RECONNECTED = "reconnected"
    CONNECTION_LOST = "connection-lost"
    SHUTDOWN = "shutdown"
    UNPLUGGED = "unplugged"
    ROTATED = "rotated"
    RETIRED = "retired"


class Status(UpBody, frozen=True):
    """``online`` of a fresh session, or its ``offline``: sent before DISCONNECT, or left as the will."""

    state: Literal["online", "offline"]
    session: Session
    reason: StatusReason | None = None
