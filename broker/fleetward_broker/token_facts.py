"""What a token and a key in it say of themselves, for a person to read; nothing is judged and nothing changed here.

Source: S6; PKCS#11 2.40 sections 3.2 (CK_TOKEN_INFO) and 4 (attributes).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pkcs11
from pkcs11 import Attribute, Mechanism, ObjectClass, Session, TokenFlag
from pkcs11 import exceptions as said

from fleetward_broker.pkcs11 import module_at
from fleetward_broker.pkcs11_uri import TokenUri, read_uri
from fleetward_broker.token_keys import GENERATE, MUST_BE, said_of, word_of
from fleetward_broker.token_objects import find

FLAGS = {
    TokenFlag.USER_PIN_COUNT_LOW: "pin-count-low",
    TokenFlag.USER_PIN_FINAL_TRY: "pin-final-try",
    TokenFlag.USER_PIN_LOCKED: "pin-locked",
    TokenFlag.USER_PIN_TO_BE_CHANGED: "pin-to-be-changed",
    TokenFlag.WRITE_PROTECTED: "write-protected",
}
"""What a person should know of; anything else is as it ought to be."""
RS256 = {"outside": Mechanism.RSA_PKCS, "inside": Mechanism.SHA256_RSA_PKCS}
MAKING = {"EdDSA": Mechanism.EC_EDWARDS_KEY_PAIR_GEN}
UNREPORTED = "unreported"
FLAGS_OF_A_KEY = (
    *MUST_BE,
    Attribute.TOKEN,
    Attribute.PRIVATE,
    Attribute.MODIFIABLE,
    Attribute.DECRYPT,
    Attribute.UNWRAP,
    Attribute.DERIVE,
    Attribute.SIGN_RECOVER,
    Attribute.WRAP_WITH_TRUSTED,
    Attribute.ALWAYS_AUTHENTICATE,
)
WORDS_OF_A_KEY = (Attribute.LABEL, Attribute.ID, Attribute.KEY_TYPE, Attribute.KEY_GEN_MECHANISM)


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """A token from outside. signs, makes: algorithm -> whether the mechanism for it is there."""

    module: str
    label: str
    serial: str
    manufacturer: str
    model: str
    firmware: str
    flags: tuple[str, ...]
    signs: dict[str, bool]
    makes: dict[str, bool]


def look_at_token(text: str, base: Path | None = None) -> TokenFacts:
    """Return what a token says of itself, without a PIN.

    Raises:
        KeyUnavailable: the URI is wrong; TokenLost: it is not there.
    """
    uri = read_uri(text, base)
    return module_at(uri.module).look(uri, lambda token: _facts(token, uri))


def every_attribute_of(text: str, base: Path | None = None) -> dict[str, str]:
    """Return all that a key says of itself: yes, no, a word, or ``unreported``.

    Raises:
        KeyUnavailable: it is not there.
    """
    uri = read_uri(text, base)
    return module_at(uri.module).token(uri).use(lambda session: _every_attribute(session, uri))


def _facts(token: pkcs11.Token, uri: TokenUri) -> TokenFacts:
    have = token.slot.get_mechanisms()
    signs = {"RS256": RS256[uri.digest], "EdDSA": Mechanism.EDDSA}
    makes = {"RS256": GENERATE[uri.keygen], **MAKING}
    return TokenFacts(
        module=str(uri.module),
        label=token.label,
        serial=_text(token.serial),
        manufacturer=_text(token.manufacturer_id),
        model=_text(token.model),
        firmware="{}.{}".format(*token.firmware_version),
        flags=tuple(name for flag, name in FLAGS.items() if token.flags & flag),
        signs={alg: mechanism in have for alg, mechanism in signs.items()},
        makes={alg: mechanism in have for alg, mechanism in makes.items()},
    )


def _every_attribute(session: Session, uri: TokenUri) -> dict[str, str]:
    key = find(session, uri, ObjectClass.PRIVATE_KEY)
    words = {True: "yes", False: "no", None: UNREPORTED}
    return {word_of(one): words[said_of(key, one)] for one in FLAGS_OF_A_KEY} | {
        word_of(one): _worded(key, one) for one in WORDS_OF_A_KEY
    }


def _worded(key: Mapping[Attribute, Any], attribute: Attribute) -> str:
    try:
        value = key[attribute]
    except (said.AttributeTypeInvalid, ValueError):
        return UNREPORTED
    if isinstance(value, bytes):
        return value.hex()
    return getattr(value, "name", None) or str(value)


def _text(raw: bytes | str) -> str:
    text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
    return text.strip().strip("\0")
