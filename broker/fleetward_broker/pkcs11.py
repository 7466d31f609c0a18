"""Tokens through PKCS#11: one login for the life of the process, and a token that was away comes back by itself.

Every call into a module is made under that module's one lock, since python-pkcs11 initialises modules without locking
of their own and releases the interpreter's. A wrong PIN is tried once, ever. After a loss the module is begun anew,
once a call and less and less often while that does not help: handles from before a loss are dead for good.
Source: S6; PKCS#11 2.40 sections 5.4 (fork), 5.6 (sessions).
"""

import hashlib
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pkcs11
from pkcs11 import Attribute, Mechanism, ObjectClass, Session, TokenFlag
from pkcs11 import exceptions as said

from fleetward_broker.pkcs11_uri import CREDENTIAL, TokenUri
from fleetward_broker.signers import KeyUnavailable, TokenLost, WrongPin

log = logging.getLogger("fleetward.keys")

T = TypeVar("T")
FIRST_REST_S = 0.5
MOST_REST_S = 10.0
PIN_TROUBLES = (said.PinIncorrect, said.PinLocked, said.PinExpired, said.PinInvalid, said.PinLenRange)
# A token that answers so is there; asking it again would give the same answer.
ANSWERS = (
    said.ArgumentsBad,
    said.AttributeReadOnly,
    said.AttributeSensitive,
    said.AttributeTypeInvalid,
    said.AttributeValueInvalid,
    said.DataInvalid,
    said.DataLenRange,
    said.FunctionNotSupported,
    said.KeySizeRange,
    said.KeyTypeInconsistent,
    said.MechanismInvalid,
    said.MechanismParamInvalid,
    said.SessionReadOnly,
    said.TemplateIncomplete,
    said.TemplateInconsistent,
    said.TokenWriteProtected,
    said.UserPinNotInitialized,
)


def read_pin(source: str) -> str:
    """Read the PIN anew from its file or systemd credential.

    Raises:
        KeyUnavailable: missing, empty, or a file that others may read.
    """
    if source.startswith(CREDENTIAL):
        folder = os.environ.get("CREDENTIALS_DIRECTORY")
        if folder is None:
            raise KeyUnavailable(f"{source}: this process was given no credentials (systemd: LoadCredential=)")
        path = Path(folder) / source.removeprefix(CREDENTIAL)
    else:
        path = Path(source)
    try:
        # systemd guards its credentials by an access list, which shows in the mode as the group's.
        if path.stat().st_mode & 0o077 and not source.startswith(CREDENTIAL):
            raise KeyUnavailable(f"{path}: readable by others; run: chmod 600 {path}")
        pin = path.read_bytes().decode().removesuffix("\n")
    except OSError as error:
        raise KeyUnavailable(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KeyUnavailable(f"{path}: not UTF-8") from None
    if not pin:
        raise KeyUnavailable(f"{path}: holds no PIN")
    return pin


class Module:
    """One PKCS#11 library in this process. generation: rises when it is begun anew; older handles are dead."""

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Prepare; the library is loaded by the first call, in the process that makes it."""
        self.path = path
        self.lock = threading.RLock()
        self.generation = 0
        self.monotonic = monotonic
        self._library: Any = None
        self._inherited = False
        self._tokens: dict[tuple[str, str, str, bool], Token] = {}
        os.register_at_fork(after_in_child=self._forked)

    def token(self, uri: TokenUri) -> "Token":
        """Return the one object for the token that a URI names."""
        key = (uri.token, uri.serial, uri.pin_source, uri.rw)
        return self._tokens.setdefault(key, Token(self, uri))

    def library(self) -> Any:
        """Return the library, initialised in this process."""
        if self._library is None:
            if not self.path.exists():
                raise KeyUnavailable(f"{self.path}: no such PKCS#11 module")
            self._library = pkcs11.lib(str(self.path))
            self.generation += 1
        elif self._inherited:
            self.restart()
        return self._library

    def restart(self) -> None:
        """Finalise and initialise: the one way back to a token that was away."""
        self._inherited = False
        self.generation += 1
        if self._library is None:
            return
        with suppress(said.PKCS11Error):
            self._library.finalize()
        self._library.initialize()

    def _forked(self) -> None:
        """In a child: the lock may be held by a thread that is not here, and the handles are the parent's."""
        self.lock = threading.RLock()
        self._inherited = self._library is not None


@cache
def module_at(path: Path) -> Module:
    """Return this process's module: PKCS#11 keeps its state, logins too, once per process, and so do we."""
    return Module(path)


class Token:
    """One token, logged in once. logins: how often a PIN was sent to it by this process."""

    def __init__(self, module: Module, uri: TokenUri) -> None:
        """Prepare; nothing is opened before the first use."""
        self._module = module
        self._uri = uri
        self._session: Session | None = None
        self._generation = 0
        self._keys: dict[tuple[str, bytes], Any] = {}
        self._refused: bytes | None = None
        self._failures = 0
        self._rest_until = 0.0
        self._missing: dict[str, float] = {}
        self._trouble = ""
        self.logins = 0

    def __str__(self) -> str:
        """Return how people call it."""
        return f"token {self._uri.token_name}"

    def use(self, act: Callable[[Session], T]) -> T:
        """Do ``act`` in the session that is logged in; after a loss begin anew, once, and do it again.

        Raises:
            TokenLost: it is away, or was a moment ago. WrongPin: it wants another PIN. KeyUnavailable: it says no.
        """
        with self._module.lock:
            if self._failures and self._module.monotonic() < self._rest_until:
                raise TokenLost(self._trouble)
            try:
                done = self._attempt(act)
            except said.NoSuchKey as error:
                done = self._look_again(act, error)
            except said.PKCS11Error:
                done = self._again(act)
            if self._failures:
                log.warning("token is back", extra={"token": self._uri.token_name})
                self._missing.clear()
            self._failures = 0
            return done

    def sign(self, uri: TokenUri, data: bytes, mechanism: Mechanism) -> bytes:
        """Sign with the private key that ``uri`` names."""
        return self.use(lambda session: bytes(self._private(session, uri).sign(data, mechanism=mechanism)))

    def _attempt(self, act: Callable[[Session], T]) -> T:
        try:
            return act(self._open())
        except ANSWERS as error:
            raise KeyUnavailable(f"{self}: the token refuses: {type(error).__name__} {error}".rstrip()) from None

    def _look_again(self, act: Callable[[Session], T], error: said.NoSuchKey) -> T:
        """A token that is gone has no keys either; but a key that is not there must not cost a login each time."""
        if self._module.monotonic() < self._missing.get(str(error), 0.0):
            raise KeyUnavailable(f"{self}: {error}")
        return self._again(act)

    def _again(self, act: Callable[[Session], T]) -> T:
        try:
            self._module.restart()
            return self._attempt(act)
        except said.NoSuchKey as error:
            self._missing[str(error)] = self._module.monotonic() + MOST_REST_S
            raise KeyUnavailable(f"{self}: {error}") from None
        except said.NoSuchToken:
            raise self._rest(f"{self}: lost, or never there in {self._module.path}") from None
        except said.PKCS11Error as error:
            raise self._rest(f"{self}: lost: {type(error).__name__} {error}".rstrip()) from None

    def _rest(self, trouble: str) -> TokenLost:
        """Leave the token alone for a while; every call until then is told the same."""
        rest_s = min(MOST_REST_S, FIRST_REST_S * 2 ** min(self._failures, 16))
        self._rest_until = self._module.monotonic() + rest_s
        self._failures += 1
        if self._failures == 1:
            log.error("token lost", extra={"detail": trouble})
        self._trouble = trouble
        return TokenLost(trouble)

    def _open(self) -> Session:
        library = self._module.library()
        if self._session is None or self._generation != self._module.generation:
            self._keys.clear()
            self._session = self._login(_the_one(library, self._uri))
            self._generation = self._module.generation
        return self._session

    def _login(self, token: pkcs11.Token) -> Session:
        """Log in, for the life of the process: closing this session would log out every other."""
        pin = read_pin(self._uri.pin_source)
        digest = hashlib.sha256(pin.encode()).digest()
        if digest == self._refused:
            raise WrongPin(f"{self}: refused the PIN in {self._uri.pin_source}; not tried again until that changes")
        if token.flags & (TokenFlag.USER_PIN_LOCKED | TokenFlag.USER_PIN_FINAL_TRY):
            raise WrongPin(f"{self}: PIN locked, or one try left, which only a person should take")
        try:
            self.logins += 1
            return token.open(rw=self._uri.rw, user_pin=pin)
        except said.UserAlreadyLoggedIn:
            return token.open(rw=self._uri.rw)
        except PIN_TROUBLES as error:
            self._refused = digest
            raise WrongPin(f"{self}: {type(error).__name__}: the PIN in {self._uri.pin_source}") from None

    def _private(self, session: Session, uri: TokenUri) -> Any:
        key = (uri.label, uri.id)
        if key not in self._keys:
            self._keys[key] = find(session, uri, ObjectClass.PRIVATE_KEY)
        return self._keys[key]


def find(session: Session, uri: TokenUri, kind: ObjectClass, key_id: bytes = b"") -> Any:
    """Return the one key that a URI names. key_id: of its other half.

    Raises:
        NoSuchKey: it is not there, or its token is not. KeyUnavailable: there is more than one.
    """
    found = search(session, uri, kind, key_id)
    word = "private" if kind is ObjectClass.PRIVATE_KEY else "public"
    if not found:
        raise said.NoSuchKey(f"no {word} key {uri.key_name}")
    if len(found) > 1:
        raise KeyUnavailable(f"token {uri.token_name}: {len(found)} {word} keys {uri.key_name}; add id= to the URI")
    return found[0]


def search(session: Session, uri: TokenUri, kind: ObjectClass, key_id: bytes = b"") -> list[Any]:
    """Return every key of a kind that a URI names; read to the end, since a search left open blocks its session."""
    wanted: dict[Attribute, Any] = {Attribute.CLASS: kind}
    if uri.label:
        wanted[Attribute.LABEL] = uri.label
    if uri.id or key_id:
        wanted[Attribute.ID] = uri.id or key_id
    return list(session.get_objects(wanted))


def _the_one(library: Any, uri: TokenUri) -> pkcs11.Token:
    found = [token for token in _tokens(library) if _is(token, uri)]
    if not found:
        raise said.NoSuchToken
    if len(found) > 1:
        raise KeyUnavailable(f"{uri.module}: {len(found)} tokens {uri.token_name}; add serial= to the URI")
    return found[0]


def _is(token: pkcs11.Token, uri: TokenUri) -> bool:
    serial = token.serial.decode(errors="replace").strip()
    return uri.token in {"", token.label} and uri.serial in {"", serial}


def _tokens(library: Any) -> Iterator[pkcs11.Token]:
    for slot in library.get_slots(token_present=True):
        # A slot that cannot be read is another token's trouble.
        with suppress(said.PKCS11Error):
            yield slot.get_token()
