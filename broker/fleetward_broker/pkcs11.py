"""Tokens through PKCS#11: one login for the life of the process, and a token that was away comes back by itself.

Every call into a module is made under that module's one lock, since python-pkcs11 initialises modules without locking
of their own and releases the interpreter's; and in one thread, so that a token that hangs is a token that is lost. A
wrong PIN is tried once, ever. After a loss the module is begun anew, once a call and less and less often while that
does not help: handles from before a loss are dead for good.
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
from pkcs11 import Mechanism, ObjectClass, Session, TokenFlag
from pkcs11 import exceptions as said

from fleetward_broker.key_problems import KeyUnavailable, TokenLost, WrongPin
from fleetward_broker.lane import Hangs, Lane
from fleetward_broker.pins import read_pin
from fleetward_broker.pkcs11_uri import TokenUri
from fleetward_broker.token_objects import destroy, find

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


class Module:
    """One PKCS#11 library in this process. generation: rises when it is begun anew; older handles are dead."""

    def __init__(self, path: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Prepare; the library is loaded by the first call, in the process that makes it."""
        self.path = path
        self.lock = threading.RLock()
        self.generation = 0
        self.monotonic = monotonic
        self._library: Any = None
        self._lane = Lane()
        self._inherited = False
        self._tokens: dict[tuple[str, str, str, bool, int], Token] = {}
        os.register_at_fork(after_in_child=self._forked)

    def token(self, uri: TokenUri) -> "Token":
        """Return the one object for the token that a URI names."""
        key = (uri.token, uri.serial, uri.pin_source, uri.rw, uri.wait_s)
        return self._tokens.setdefault(key, Token(self, uri))

    def wait(self, act: Callable[[], T], within_s: float) -> T:
        """Do ``act``, which calls into the library, and wait at most so long; under the lock. Raises Hangs."""
        return self._lane.call(act, within_s)

    def look(self, uri: TokenUri, act: Callable[[pkcs11.Token], T]) -> T:
        """Look at a token from outside, without a PIN.

        Raises:
            TokenLost: it is not there, or does not answer. KeyUnavailable: there are two.
        """
        with self.lock:
            try:
                return self.wait(lambda: act(_the_one(self.library(), uri)), uri.wait_s)
            except Hangs:
                raise TokenLost(f"token {uri.token_name}: does not answer within {uri.wait_s} s") from None
            except said.PKCS11Error as error:
                raise TokenLost(f"token {uri.token_name}: {type(error).__name__} in {self.path}") from None

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
        """In a child: whoever holds the lock is not here, nor is our thread; and the handles are the parent's."""
        self.lock = threading.RLock()
        self._lane = Lane()
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

    def use(self, act: Callable[[Session], T], within_s: float = 0) -> T:
        """Do ``act`` in the session that is logged in; after a loss begin anew, once, and do it again.

        within_s: how long to wait for all of it; 0: as the URI says. ``act`` calls no ``use``.

        Raises:
            TokenLost: it is away, or hangs. WrongPin: it wants another PIN. KeyUnavailable: it says no.
        """
        with self._module.lock:
            if self._failures and self._module.monotonic() < self._rest_until:
                raise TokenLost(self._trouble)
            longest_s = within_s or self._uri.wait_s
            try:
                done = self._module.wait(lambda: self._whole(act), longest_s)
            except Hangs:
                raise self._rest(f"{self}: does not answer within {longest_s} s") from None
            if self._failures:
                log.warning("token is back", extra={"token": self._uri.token_name})
                self._missing.clear()
            self._failures = 0
            return done

    def sign(self, uri: TokenUri, data: bytes, mechanism: Mechanism) -> bytes:
        """Sign with the private key that ``uri`` names."""
        return self.use(lambda session: bytes(self._private(session, uri).sign(data, mechanism=mechanism)))

    def destroy(self, uri: TokenUri) -> None:
        """Destroy every key under the name in ``uri``, and look again; none there is no mistake.

        Raises:
            KeyUnavailable: a key is still there, or as ``use``.
        """

        def act(session: Session) -> None:
            self._keys.pop((uri.label, uri.id), None)
            destroy(session, uri)

        self.use(act)

    def _whole(self, act: Callable[[Session], T]) -> T:
        try:
            return self._attempt(act)
        except said.NoSuchKey as error:
            return self._look_again(act, error)
        except said.PKCS11Error:
            return self._again(act)

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
