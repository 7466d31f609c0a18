"""What can be wrong: one closed list of refusal codes, and the two sides of blame.

``Refused`` is the peer's fault (hostile or broken input) and never changes anything; ``LocalMistake`` is ours and is
never caught. Source: protocol section 3 ("Checks, first failure wins") and section 5 for the codes of the walks.
"""

from enum import StrEnum


class Code(StrEnum):
    """Every refusal there is, in the order in which a message meets the checks."""

    TOO_LARGE = "too-large"
    MALFORMED = "malformed"
    BAD_ALG = "bad-alg"
    WRONG_TOPIC = "wrong-topic"
    UNKNOWN_KIND = "unknown-kind"
    NOT_ALLOWED = "not-allowed"
    STALE = "stale"
    UNKNOWN_SIGNER = "unknown-signer"
    WRONG_SERVER = "wrong-server"
    BAD_SIGNATURE = "bad-signature"
    REPLAYED = "replayed"
    BAD_BODY = "bad-body"
    # Found by the handlers, after the envelope held.
    BAD_DIGITAL_ID = "bad-digital-id"
    MISMATCH = "mismatch"
    CLONE = "clone"
    BAD_NONCE = "bad-nonce"
    BAD_CSR = "bad-csr"
    CLOCK_JUMP = "clock-jump"
    TOO_OFTEN = "too-often"


FINAL_CODES = frozenset({Code.BAD_BODY, Code.UNKNOWN_KIND, Code.NOT_ALLOWED, Code.TOO_LARGE})
"""A report refused with one of these is dropped and counted; with any other it is signed anew and sent again."""


class Refused(Exception):  # noqa: N818 - the name says what happened to the input
    """The input is refused; nothing was changed.

    code: one member of ``Code``, the only part a peer ever sees.
    detail: both sides of the comparison, for our own log; never a payload, key or secret.
    """

    def __init__(self, code: Code, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else str(code))
        self.code = code
        self.detail = detail


class LocalMistake(RuntimeError):  # noqa: N818 - says whose fault it is
    """Our own code asked for something unlawful; a bug, never a peer's doing."""
