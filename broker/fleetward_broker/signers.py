"""Keys by URI: ``file:`` here, ``pkcs11:`` in token_keys.py. A key is a cryptography private key or a subclass.

Certificate, CSR and CRL builders and our envelope all take such an object, so nothing else changes with the hardware.
Source: S6; RFC 8089 (file URIs); secrets come from a callback and never stand in a URI.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, runtime_checkable
from urllib.parse import unquote, urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.errors import Refused
from fleetward_schemas.jws import MIN_RSA_BITS, RSA_EXPONENT, Alg, PrivateKey, alg_of


@runtime_checkable
class HeldElsewhere(Protocol):
    """A key that can go away while we run."""

    def require(self) -> None:
        """Ask for it. Raises KeyUnavailable: it is not there."""
        ...


def open_key(uri: str, base: Path | None = None) -> PrivateKey:
    """Open a private key. base: folder that relative ``file:`` paths start from.

    Raises:
        KeyUnavailable: unknown scheme, missing or unreadable file, open to others, or a key that is not approved;
            TokenLost and WrongPin are two of it.
    """
    scheme, _, rest = uri.partition(":")
    if scheme == "file":
        return _open_file(file_of(uri, base))
    if scheme == "pkcs11":
        with needing_hsm():
            from fleetward_broker.token_keys import open_token_key

            return open_token_key(uri, base)
    known = "file:<path> or pkcs11:token=<label>;object=<label>?module-path=<path>&pin-source=<path>"
    raise KeyUnavailable(f"{scheme}:{'...' if rest else ''}: unknown key scheme, expected {known}")


@contextmanager
def needing_hsm() -> Iterator[None]:
    """Say what to install where the part for tokens is missing.

    Raises:
        KeyUnavailable: it is.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "pkcs11":
            raise
        raise KeyUnavailable("keys in tokens need python-pkcs11; run: pip install 'fleetward[hsm]'") from None


def require(key: PrivateKey) -> None:
    """Ask for a key that can go away; one in a file was read and stays.

    Raises:
        KeyUnavailable: it is away.
    """
    if isinstance(key, HeldElsewhere):
        key.require()


def file_of(uri: str, base: Path | None = None) -> Path:
    """Return the path of a ``file:`` URI."""
    path = Path(unquote(urlsplit(uri).path))
    return path if path.is_absolute() or base is None else base / path


def _open_file(path: Path) -> PrivateKey:
    try:
        raw = path.read_bytes()
        mode = path.stat().st_mode
    except OSError as error:
        raise KeyUnavailable(f"{path}: {error.strerror}") from None
    if mode & 0o077:
        raise KeyUnavailable(f"{path}: readable by others; run: chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(raw, password=None)
        alg_of(key)
    except (ValueError, TypeError, Refused):
        raise KeyUnavailable(f"{path}: not an unencrypted PEM key of RSA 2048..4096 or Ed25519") from None
    if not isinstance(key, (rsa.RSAPrivateKey, ed25519.Ed25519PrivateKey)):
        raise KeyUnavailable(f"{path}: not an approved key")
    return key


def make_key(alg: Alg, bits: int = MIN_RSA_BITS) -> PrivateKey:
    """Make a key in memory: Ed25519 for EdDSA, RSA of ``bits`` for RS256."""
    if alg is Alg.EDDSA:
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(RSA_EXPONENT, bits)


def key_pem(key: PrivateKey) -> bytes:
    """Return the unencrypted PKCS#8 PEM of a software key."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
