"""What the sandbox MOSIP does wrong on purpose: each thing a real server, or something before it, was seen to do.

A quirk is set for a number of answers, or for ever; it never changes what the register does, except where it says so.
"""

from dataclasses import dataclass, field
from enum import StrEnum

FOR_EVER = -1


class Quirk(StrEnum):
    """All of them."""

    HTML = "html"
    UNAVAILABLE = "unavailable"
    HANG = "hang"
    DRIP = "drip"
    CUT = "cut"
    LOSE_ANSWER = "lose-answer"
    NOT_JSON = "not-json"
    HUGE = "huge"
    DROP_TOKEN = "drop-token"  # noqa: S105 - a word, no secret
    ERROR_MEMBER = "error-member"
    UNKNOWN_CODE = "unknown-code"
    SIGNING_FAILS = "signing-fails"
    FORGED = "forged"
    EXPIRED_SIGNER = "expired-signer"
    THUMBPRINT_ONLY = "thumbprint-only"
    SINGLE_CERTIFICATE = "single-certificate"
    EXPIRED_CERTIFICATE = "expired-certificate"
    FOREIGN_CERTIFICATE = "foreign-certificate"
    PARTNER_CERTIFICATE = "partner-certificate"
    PARTNER_SIGNER = "partner-signer"
    NOT_MINIMAL = "not-minimal"
    URL_BASE64 = "url-base64"
    UNSIGNED = "unsigned"
    P7B = "p7b"
    OTHER_DEVICE = "other-device"


MEANINGS = {
    Quirk.HTML: "a page of a proxy, HTTP 200",
    Quirk.UNAVAILABLE: "HTTP 503 without a body",
    Quirk.HANG: "the request is read and nothing is answered",
    Quirk.DRIP: "the answer comes one byte at a time, for ever",
    Quirk.CUT: "the connection ends in the middle of the answer",
    Quirk.LOSE_ANSWER: "what was asked is done, and the connection ends without an answer",
    Quirk.NOT_JSON: "half a JSON document, HTTP 200",
    Quirk.HUGE: "an answer of 4 MiB",
    Quirk.DROP_TOKEN: "HTTP 401 KER-ATH-401 for a token that should still be good",
    Quirk.ERROR_MEMBER: "`error`, as the specification spells it, instead of `errors`",
    Quirk.UNKNOWN_CODE: "an error with a code that is nowhere documented",
    Quirk.SIGNING_FAILS: "PMS_AUT_032: the keymanager does not sign the answer, and nothing is kept",
    Quirk.FORGED: "the answer is signed by a key of nobody known",
    Quirk.EXPIRED_SIGNER: "the answer's signer has an expired certificate",
    Quirk.THUMBPRINT_ONLY: "the answer names its signer by x5t#S256 and brings no x5c",
    Quirk.SINGLE_CERTIFICATE: "one object where the specification has an array of certificates",
    Quirk.EXPIRED_CERTIFICATE: "an encryption certificate whose time is over",
    Quirk.FOREIGN_CERTIFICATE: "an encryption certificate that MOSIP did not issue",
    Quirk.PARTNER_CERTIFICATE: "the certificate of a partner, which MOSIP signed and which may be encrypted for",
    Quirk.PARTNER_SIGNER: "the answer is signed by such a partner",
    Quirk.NOT_MINIMAL: "an encryption certificate whose key has a zero too many, which is no DER",
    Quirk.URL_BASE64: "an encryption certificate in unpadded base64url, as SBI 1.0 has it",
    Quirk.UNSIGNED: "the answer that should be signed is in three padded segments, as masterdata's, and no JWS",
    Quirk.P7B: "what MOSIP signed at an upload comes as a whole chain (p7b, base64url), as its keymanager has it",
    Quirk.OTHER_DEVICE: "the answer to a registration repeats another device's digital ID",
}


@dataclass
class Quirks:
    """The switch. left: how often each will still happen."""

    left: dict[Quirk, int] = field(default_factory=dict)

    def set(self, quirk: Quirk, times: int = FOR_EVER) -> None:
        """Have it happen ``times`` times."""
        self.left[quirk] = times

    def clear(self) -> None:
        """Behave."""
        self.left.clear()

    def happens(self, quirk: Quirk) -> bool:
        """Say whether it happens now; one of its times is used up."""
        left = self.left.get(quirk, 0)
        if left > 0:
            self.left[quirk] = left - 1
        return left != 0
