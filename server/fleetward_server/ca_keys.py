"""Where ``init`` makes the keys of the root and the issuing authorities: in a token, or in files.

In a token they are made inside and never leave it; the configuration names them and where the PIN is, never the PIN.
Source: S6.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from fleetward_broker.durable import write_private
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import SCHEME, TokenUri, is_software, read_uri, show_uri
from fleetward_broker.signers import file_of, key_pem, make_key, needing_hsm
from fleetward_schemas.jws import Alg, PrivateKey

WARNING = (
    "The keys of this provider are FILES, and files are no HSM: whoever copies this folder can issue devices. "
    "Good for trying, demos and tests; never for production."
)
SOFT_WARNING = (
    "The keys of this provider are in SoftHSM, which keeps them in files of this host: good for tests, and no HSM."
)
ROOT_BITS = 3072
NAMES = ("root", "device-ca", "factory-ca", "service-ca")
IN_FILES = """\
# FILES ARE NO HSM. Relative paths start from this file's folder.
# root = "file:pki/root.key.pem"
# device_ca = "file:pki/device-ca.key.pem"
# factory_ca = "file:pki/factory-ca.key.pem"
# service_ca = "file:pki/service-ca.key.pem"
"""
NOTE = "# Made in the token, and never out of it. The PIN is where pin-source says; it stands in no URI.\n"


class Keys(Protocol):
    """A place for keys. table: what the configuration says of them; warning: what a person must be told."""

    @property
    def table(self) -> str:
        """The lines below ``[keys]``."""
        ...

    @property
    def warning(self) -> str:
        """What must be said, or nothing."""
        ...

    def prepare(self) -> None:
        """Look before anything is made. Raises KeyUnavailable: they cannot be made here."""
        ...

    def uri(self, name: str) -> str:
        """Return the URI of one."""
        ...

    def holds(self, name: str) -> bool:
        """Say whether one of this name is there. Raises KeyUnavailable."""
        ...

    def make(self, name: str, bits: int) -> PrivateKey:
        """Make one. Raises KeyUnavailable, OSError."""
        ...


@dataclass(frozen=True, slots=True)
class InFiles:
    """Unencrypted PEM files of mode 0600. before: what comes before a file's name in its URI."""

    pki: Path
    before: str = "file:pki/"
    table: str = IN_FILES
    warning: str = WARNING

    def prepare(self) -> None:
        """There is nothing to look at."""

    def uri(self, name: str) -> str:
        """Return the URI of one."""
        return f"{self.before}{name}.key.pem"

    def holds(self, name: str) -> bool:
        """Say whether there is such a file."""
        return (self.pki / f"{name}.key.pem").exists()

    def make(self, name: str, bits: int) -> PrivateKey:
        """Make one and write it down."""
        key = make_key(Alg.RS256, bits)
        write_private(self.pki / f"{name}.key.pem", key_pem(key))
        return key


@dataclass(frozen=True, slots=True)
class InToken:
    """Keys of a PKCS#11 token, each under its name as label."""

    token: TokenUri

    @property
    def table(self) -> str:
        """One URI each."""
        return NOTE + "".join(f'{name.replace("-", "_")} = "{self.uri(name)}"\n' for name in NAMES)

    @property
    def warning(self) -> str:
        """SoftHSM is for tests."""
        return SOFT_WARNING if is_software(self.token) else ""

    def uri(self, name: str) -> str:
        """Return the URI of one key."""
        return show_uri(replace(self.token, label=name))

    def prepare(self) -> None:
        """Refuse a token that holds one of the names: nothing in a token is ever replaced."""
        taken = [name for name in NAMES if self.holds(name)]
        if taken:
            raise KeyUnavailable(
                f"token {self.token.token_name}: holds keys named {', '.join(taken)} already; nothing was made: "
                "take another token, or delete them with the vendor's tool if no provider uses them"
            )

    def holds(self, name: str) -> bool:
        """Say whether the token has a key of this name."""
        with needing_hsm():
            from fleetward_broker.token_keys import has_token_key

            return has_token_key(self.uri(name))

    def make(self, name: str, bits: int) -> PrivateKey:
        """Have the token make one."""
        from fleetward_broker.token_keys import make_token_key

        return make_token_key(self.uri(name), Alg.RS256, bits)


def keys_of(hsm: str, pki: Path) -> Keys:
    """Return where keys go. hsm: a token's URI, a relative ``pin-source`` starting here; empty: files in ``pki``.

    Raises:
        KeyUnavailable: the URI is wrong, or names a key.
    """
    if not hsm:
        return InFiles(pki)
    token = read_uri(hsm, Path.cwd())
    if token.label or token.id:
        raise KeyUnavailable("pkcs11 URI: object, id: name the token alone; the keys get their own names")
    return InToken(token)


def beside(uri: str, base: Path) -> Keys:
    """Return the place where a key is, for another one: its token, or its folder.

    Raises:
        KeyUnavailable: the URI is wrong.
    """
    if uri.startswith(SCHEME):
        return InToken(replace(read_uri(uri, base), label="", id=b""))
    head, slash, _ = uri.rpartition("/")
    return InFiles(file_of(uri, base).parent, head + slash or "file:")


def name_in(uri: str) -> str:
    """Return how its place calls a key, empty if that cannot be told."""
    if uri.startswith(SCHEME):
        return read_uri(uri, Path()).label
    return file_of(uri).name.removesuffix(".key.pem")
