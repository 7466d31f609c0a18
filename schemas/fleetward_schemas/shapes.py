"""The field types that bodies are made of. Each is bounded, so that nothing opaque fits anywhere (C10).

Uplink bodies are closed: an unknown member is refused. Downlink bodies ignore what they do not know, so that an old
agent survives a new server. Source: protocol sections 3 and 4.
"""

import re
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from fleetward_schemas import moment
from fleetward_schemas.errors import Refused
from fleetward_schemas.ids import is_uuid7
from fleetward_schemas.strict import b64_der

MAX_CHAIN = 3
MAX_IDS = 256
_OWN_NAME = re.compile(r"[A-Za-z]{1,24}", re.ASCII)


def _shown(pattern: str) -> Any:
    return Field(json_schema_extra={"pattern": pattern})


def _moment(text: str) -> str:
    try:
        moment.parse(text)
    except Refused as refusal:
        raise ValueError(refusal.detail) from None
    return text


def _der(text: str) -> str:
    try:
        b64_der(text)
    except Refused as refusal:
        raise ValueError(refusal.detail) from None
    return text


def _uuid7(text: str) -> str:
    if not is_uuid7(text):
        raise ValueError("not a lower-case UUID version 7")
    return text


# The patterns beside the validators are for the exported JSON Schema, where no validator of ours runs.
Moment = Annotated[
    str,
    StringConstraints(min_length=24, max_length=24),
    AfterValidator(_moment),
    _shown(r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$"),
]
"""A UTC moment with milliseconds."""
MessageId = Annotated[
    str,
    StringConstraints(min_length=36, max_length=36),
    AfterValidator(_uuid7),
    _shown(r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$"),
]
"""A UUID version 7."""
Digest = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$")]
"""Canonical base64url of 32 bytes: nonces, hashes, thumbprints."""
Session = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{21}[AQgw]$")]
"""Canonical base64url of 16 random bytes."""
Der = Annotated[
    str, StringConstraints(min_length=4, max_length=8192), AfterValidator(_der), _shown(r"^[A-Za-z0-9+/]+={0,2}$")
]
"""Padded base64 of DER, at most 6 KiB of it."""
ChainOfDer = Annotated[list[Der], Field(min_length=1, max_length=MAX_CHAIN)]
Name = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[\x20-\x7e]+$")]
"""Printable ASCII, at most 128 characters."""
Word = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
"""One word of a closed list, as an older agent sees it: a newer server may know more words."""
Jws = Annotated[str, StringConstraints(max_length=12288, pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+$")]


class UpBody(BaseModel):
    """Base of what devices say: closed, frozen, strict types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class DownBody(BaseModel):
    """Base of what the server says: unknown members ignored, frozen, strict types."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


def at(text: Moment) -> datetime:
    """Return a checked moment as an aware datetime."""
    return moment.parse(text)


def first_fault(error: ValidationError) -> str:
    """Name the first member that does not fit and what is wrong with it, never its value.

    C10: a name the sender invented is his word too; it is not repeated beyond the length of our own names.
    """
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = first["loc"][:-1] if first["type"] == "extra_forbidden" else first["loc"]
    where = [str(part) if isinstance(part, int) or _OWN_NAME.fullmatch(part) else "?" for part in path]
    return f"{'.'.join(where) or 'as a whole'}: {first['type']}"
