"""URIs of keys in tokens: ``pkcs11:token=fleetward;object=device-ca?module-path=/usr/lib/...so&pin-source=...``.

A token is found by label or serial, never by slot id, which changes when a token is made; a PIN never stands in a URI.
Of the query, what begins with ``fleetward-`` is ours: how a vendor's token differs from the others.
Source: S6; RFC 7512 section 2.3 (vendor-specific attributes).
"""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

from fleetward_broker.key_problems import KeyUnavailable

SCHEME = "pkcs11:"
CREDENTIAL = "credential:"
SESSIONS = ("ro", "rw")
_PATH = ("token", "serial", "object", "id")
_OURS = tuple(f"fleetward-{name}" for name in ("session", "unreported", "keygen", "digest", "modifiable", "wait"))
_QUERY = ("module-path", "pin-source", *_OURS)
KEYGENS = ("pkcs", "x9.31")
"""How RSA keys are made: ``CKM_RSA_PKCS_KEY_PAIR_GEN`` or ``CKM_RSA_X9_31_KEY_PAIR_GEN``."""
DIGESTS = ("outside", "inside")
"""Where the SHA-256 of an RSA signature is made: here (``CKM_RSA_PKCS``) or there (``CKM_SHA256_RSA_PKCS``)."""
MODIFIABLE = ("no", "yes")
"""Whether new keys may be modified: ``no`` is asked of the token, ``yes`` is left to one that knows nothing else."""
MAY_BE_UNREPORTED = ("sensitive", "always-sensitive", "never-extractable", "local", "sign")
"""What a vendor's token may have no word for. CKA_EXTRACTABLE is not among them: all have it since PKCS#11 1.0."""
WAIT_S = 5
MOST_WAIT_S = 60
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}")
_WHY = {
    "slot-id": "a slot's number changes when a token is made; name the token by token= or serial=",
    "pin-value": "a PIN never stands in a URI; put it into a file of mode 0600 and name that: pin-source=<path>",
    "module-name": "name the module by its whole path: module-path=<path>",
}


@dataclass(frozen=True, slots=True)
class TokenUri:
    """Where a token is and which key in it. token, serial, label, id: empty when the URI does not say.

    module: the PKCS#11 library. pin_source: an absolute path or ``credential:<name>``. rw: read-write session.
    unreported: attributes that the token has no word for. keygen: one of KEYGENS. digest: one of DIGESTS. modifiable:
    make keys that may be modified. wait_s: seconds before a call that has not come back is a token that is lost.
    """

    module: Path
    pin_source: str
    token: str = ""
    serial: str = ""
    label: str = ""
    id: bytes = b""
    rw: bool = False
    unreported: tuple[str, ...] = ()
    keygen: str = KEYGENS[0]
    digest: str = DIGESTS[0]
    modifiable: bool = False
    wait_s: int = WAIT_S

    @property
    def token_name(self) -> str:
        """How people call the token."""
        return repr(self.token) if self.token else f"with serial {self.serial!r}"

    @property
    def key_name(self) -> str:
        """How people call the key."""
        return repr(self.label) if self.label else f"with id {self.id.hex()}"


def read_uri(text: str, base: Path | None = None) -> TokenUri:
    """Read a URI strictly. base: folder that a relative ``pin-source`` starts from.

    Raises:
        KeyUnavailable: with the attribute that is wrong, never with the text, in which a PIN might stand.
    """
    if not text.startswith(SCHEME):
        raise KeyUnavailable(f"not a {SCHEME} URI")
    path, _, query = text.removeprefix(SCHEME).partition("?")
    names = _attributes(path.split(";"), _PATH)
    options = _attributes(query.split("&"), _QUERY)
    if not (names.keys() & {"token", "serial"}):
        raise _wrong("token", "missing; name the token by token= or serial=")
    return TokenUri(
        module=_module(options.get("module-path", b"")),
        pin_source=_pin_source(_text("pin-source", options.get("pin-source", b"")), base),
        token=_text("token", names.get("token", b"")),
        serial=_text("serial", names.get("serial", b"")),
        label=_text("object", names.get("object", b"")),
        id=names.get("id", b""),
        rw=_one_of("fleetward-session", options, SESSIONS) == "rw",
        unreported=_unreported(_text("fleetward-unreported", options.get("fleetward-unreported", b""))),
        keygen=_one_of("fleetward-keygen", options, KEYGENS),
        digest=_one_of("fleetward-digest", options, DIGESTS),
        modifiable=_one_of("fleetward-modifiable", options, MODIFIABLE) == "yes",
        wait_s=_wait(_text("fleetward-wait", options.get("fleetward-wait", b"%d" % WAIT_S))),
    )


def token_alone(text: str, base: Path | None = None) -> TokenUri:
    """Read the URI of a token in which keys get names of their own; see ``read_uri``.

    Raises:
        KeyUnavailable: as ``read_uri``, or it names a key.
    """
    uri = read_uri(text, base)
    if uri.label or uri.id:
        raise _wrong("object, id", "name the token alone; the keys get their own names")
    return uri


def show_uri(uri: TokenUri) -> str:
    """Return the URI as text; it holds no secret."""
    texts = (uri.token, uri.serial, uri.label)
    named = zip(_PATH, (*(text.encode() for text in texts), uri.id), strict=True)
    path = ";".join(f"{name}={quote(value, safe='')}" for name, value in named if value)
    ours = "&fleetward-session=rw" if uri.rw else ""
    ours += f"&fleetward-unreported={','.join(uri.unreported)}" if uri.unreported else ""
    ours += f"&fleetward-keygen={uri.keygen}" if uri.keygen != KEYGENS[0] else ""
    ours += f"&fleetward-digest={uri.digest}" if uri.digest != DIGESTS[0] else ""
    ours += "&fleetward-modifiable=yes" if uri.modifiable else ""
    ours += f"&fleetward-wait={uri.wait_s}" if uri.wait_s != WAIT_S else ""
    module, pin = quote(str(uri.module), safe="/"), quote(uri.pin_source, safe="/:")
    return f"{SCHEME}{path}?module-path={module}&pin-source={pin}{ours}"


def is_software(uri: TokenUri) -> bool:
    """Say whether the module is SoftHSM, which keeps its keys in files of the host: for trying and for tests."""
    return "softhsm" in uri.module.name.lower()


def _attributes(parts: list[str], known: tuple[str, ...]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for part in filter(None, parts):
        name, _, value = part.partition("=")
        if name not in known:
            raise _wrong(name, _WHY.get(name, f"not known here; known: {', '.join(known)}"))
        if name in found or not value:
            raise _wrong(name, "twice" if name in found else "empty")
        if re.search(r"%(?![0-9A-Fa-f]{2})", value):
            raise _wrong(name, "a % without two hexadecimal digits")
        found[name] = unquote_to_bytes(value)
    return found


def _text(name: str, raw: bytes) -> str:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise _wrong(name, "not UTF-8") from None
    if not text.isprintable():
        raise _wrong(name, "holds what cannot be printed")
    return text


def _module(raw: bytes) -> Path:
    path = Path(_text("module-path", raw))
    if not path.is_absolute():
        raise _wrong("module-path", "missing, or not a whole path")
    return path


def _pin_source(text: str, base: Path | None) -> str:
    if text.startswith(CREDENTIAL):
        if not _NAME.fullmatch(text.removeprefix(CREDENTIAL)):
            raise _wrong("pin-source", "a credential's name has letters, digits and _ . - only")
        return text
    if not text or text.startswith("|"):
        raise _wrong("pin-source", "missing, or a command; name a file of mode 0600 or credential:<name>")
    path = Path(text.removeprefix("file://").removeprefix("file:"))
    return str(path if path.is_absolute() or base is None else (base / path).absolute())


def _one_of(name: str, options: dict[str, bytes], words: tuple[str, ...]) -> str:
    """Return the word that was chosen, the first when none was."""
    word = _text(name, options.get(name, words[0].encode()))
    if word not in words:
        raise _wrong(name, f"expected {' or '.join(words)}")
    return word


def _unreported(text: str) -> tuple[str, ...]:
    names = tuple(filter(None, text.split(",")))
    if set(names) - set(MAY_BE_UNREPORTED) or len(set(names)) != len(names):
        raise _wrong("fleetward-unreported", f"expected names once each, with commas: {', '.join(MAY_BE_UNREPORTED)}")
    return names


def _wait(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 4 and 1 <= int(text) <= MOST_WAIT_S):
        raise _wrong("fleetward-wait", f"expected whole seconds, 1..{MOST_WAIT_S}")
    return int(text)


def _wrong(name: str, why: str) -> KeyUnavailable:
    shown = name if all(_NAME.fullmatch(word) for word in name.split(", ")) else "an attribute"
    return KeyUnavailable(f"pkcs11 URI: {shown}: {why}")
