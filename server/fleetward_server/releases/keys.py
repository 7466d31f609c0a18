"""The keys: the offline ones in a folder that belongs on another machine, the two online ones where the server is.

The offline folder holds root and release keys as encrypted PKCS#8, or URIs of keys in tokens, and what they have
signed: a copy of the repository and a history, by which it knows what may follow, whatever anybody carries to it.
Source: S6, S7; TUF 1.0 section 6.1.
"""

import json
from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from fleetward_broker.durable import write_durably, write_private
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import SCHEME
from fleetward_broker.signers import file_of, key_pem, make_key, open_key
from fleetward_schemas.errors import Refused
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_schemas.shapes import UpBody, read_json
from fleetward_schemas.upgrade import Custom
from fleetward_server.ca_keys import ROOT_BITS, InFiles, Keys, beside, keys_of, name_in
from fleetward_server.config import Config
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.releases.making import public_of
from fleetward_server.releases.settings import ONLINE_KEYS

KEYS, HISTORY, COPY = "keys.json", "history.json", "repository"
RELEASE, ROOT = "release", "root"
WARNING = (
    "{}: WHOEVER HAS THIS FOLDER AND ITS PASSPHRASE CAN SHIP CODE. Move it to a machine that is on no network, with a"
    " copy in a safe, and remove it here; only then is it true that a stolen server ships nothing."
)


class Uris(UpBody, frozen=True):
    """keys.json: where the keys are, relative ``file:`` URIs from its folder. release: empty where it is elsewhere."""

    root: list[str]
    release: str = ""


class Signed(UpBody, frozen=True):
    """One entry of the history: what was once released."""

    path: str
    sha256: str
    custom: Custom


class _History(UpBody, frozen=True):
    signed: list[Signed]


@dataclass(frozen=True, slots=True)
class OfflineKeys:
    """The folder, its keys opened. release: None where it is kept elsewhere."""

    folder: Path
    root: tuple[PrivateKey, ...]
    release: PrivateKey | None
    uris: Uris

    @property
    def copy(self) -> Path:
        """What was signed here: the newest of each file, and every root."""
        return self.folder / COPY

    @property
    def history(self) -> list[Signed]:
        """All that was ever released.

        Raises:
            OperatorProblem: ``invalid``.
        """
        path = self.folder / HISTORY
        if not path.exists():
            return []
        try:
            return read_json(_History, path.read_bytes()).signed
        except Refused as refusal:
            raise OperatorProblem(Kind.INVALID, f"{path}: {refusal.detail}") from None

    def remember(self, signed: list[Signed]) -> None:
        """Write the history down. Raises: OSError."""
        write_durably(self.folder / HISTORY, _shown(_History(signed=signed)))

    def named(self) -> dict[str, PrivateKey]:
        """Return the keys by their names: of their files, or their labels in a token."""
        names = map(name_in, self.uris.root)
        release = {} if self.release is None else {name_in(self.uris.release): self.release}
        return dict(zip(names, self.root, strict=True)) | release

    def write(self) -> None:
        """Write down where the keys are. Raises: OSError."""
        write_durably(self.folder / KEYS, _shown(self.uris))

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Put files into the copy, durably; then what they replace goes, roots never. Raises: OSError."""
        keep(self.copy, files)
        for name in files:
            number, _, role = name.partition(".")
            for path in () if role == ROOT else self.copy.glob(f"*.{role}.json"):
                if path.name.partition(".")[0] != number:
                    path.unlink()


def _shown(shape: UpBody) -> bytes:
    return json.dumps(shape.document(), indent=1).encode()


def keep(folder: Path, files: Mapping[str, bytes]) -> None:
    """Put metadata into a folder, in this order and durably. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, raw in files.items():
        write_durably(folder / f"{name}.json", raw)


def make_offline(folder: Path, count: int, threshold: int, secret: bytes, hsm: str = "") -> OfflineKeys:
    """Make root keys and the release key. hsm: a token's URI that makes and keeps them; empty: files.

    Raises:
        OperatorProblem: ``conflict``: the folder holds keys. ``invalid``: the threshold. KeyUnavailable, OSError.
    """
    if not 1 <= threshold <= count <= 16:
        raise OperatorProblem(
            Kind.INVALID, f"--threshold {threshold}, --root-keys {count}: 1 <= threshold <= keys <= 16"
        )
    if (folder / KEYS).exists():
        raise OperatorProblem(Kind.CONFLICT, f"{folder / KEYS}: already there; nothing was changed")
    place: Keys = keys_of(hsm, folder) if hsm else InFiles(folder, "file:")
    names = [f"root-{number + 1}" for number in range(count)]
    taken = [_label(name) for name in (*names, RELEASE) if hsm and place.holds(_label(name))]
    if taken:
        raise KeyUnavailable(f"--hsm: the token holds {', '.join(taken)} already; nothing was made: take another token")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    *roots, release = (_make(folder, place, name, secret) for name in (*names, RELEASE))
    uris = Uris(root=[_uri(place, name) for name in names], release=_uri(place, RELEASE))
    made = OfflineKeys(folder, tuple(roots), release, uris)
    made.write()
    return made


@dataclass(frozen=True, slots=True)
class Successors:
    """A folder's keys after some were replaced; nothing is written down but the new keys. made: new root keys."""

    keys: OfflineKeys
    made: tuple[PrivateKey, ...]


def succeed(old: OfflineKeys, away: Set[str], more: int, mark: str, secret: bytes) -> Successors:
    """Leave out the keys with these ids, and make ``more`` root keys, and a release key where it is one of them.

    mark: goes into the names of the new. Raises: KeyUnavailable, OSError.
    """
    stay = [one for one in zip(old.uris.root, old.root, strict=True) if _id(one[1]) not in away]
    release, uri = old.release, old.uris.release
    place = _beside(old)
    if release is not None and _id(release) in away:
        release, uri = _make(old.folder, place, f"{RELEASE}-{mark}", secret), _uri(place, f"{RELEASE}-{mark}")
    names = [f"root-{mark}-{number + 1}" for number in range(more)]
    made = tuple(_make(old.folder, place, name, secret) for name in names)
    uris = Uris(root=[*(one for one, _ in stay), *(_uri(place, name) for name in names)], release=uri)
    return Successors(OfflineKeys(old.folder, (*(key for _, key in stay), *made), release, uris), made)


def _beside(old: OfflineKeys) -> Keys:
    uri = (old.uris.root or [old.uris.release])[0]
    return beside(uri, old.folder) if uri.startswith(SCHEME) else InFiles(old.folder, "file:")


def _id(key: PrivateKey) -> str:
    return public_of(key.public_key()).keyid


def _make(folder: Path, place: Keys, name: str, secret: bytes) -> PrivateKey:
    if not isinstance(place, InFiles):
        return place.make(_label(name), ROOT_BITS)
    key = make_key(Alg.EDDSA)
    write_private(folder / f"{name}.key.pem", encrypted(key, secret))
    return key


def _uri(place: Keys, name: str) -> str:
    return place.uri(name if isinstance(place, InFiles) else _label(name))


def _label(name: str) -> str:
    """Return how a token calls one of them."""
    return name if name.startswith(RELEASE) else f"release-{name}"


def encrypted(key: PrivateKey, secret: bytes) -> bytes:
    """Return a key as PKCS#8 PEM under a passphrase."""
    form = serialization.BestAvailableEncryption(secret)
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, form)


def open_offline(folder: Path, secret: bytes) -> OfflineKeys:
    """Open the keys of an offline folder.

    Raises:
        OperatorProblem: ``not-found``, ``invalid``: no such folder. KeyUnavailable: a wrong passphrase, or a key away.
    """
    path = folder / KEYS
    try:
        named = read_json(Uris, path.read_bytes())
    except FileNotFoundError:
        raise OperatorProblem(Kind.NOT_FOUND, f"{path}: not there; expected a folder of offline keys") from None
    except Refused as refusal:
        raise OperatorProblem(Kind.INVALID, f"{path}: {refusal.detail}") from None
    roots = tuple(_open(uri, folder, secret) for uri in named.root)
    release = _open(named.release, folder, secret) if named.release else None
    return OfflineKeys(folder, roots, release, named)


def _open(uri: str, folder: Path, secret: bytes) -> PrivateKey:
    if uri.startswith(SCHEME):
        return open_key(uri, folder)
    path = file_of(uri, folder)
    try:
        found = serialization.load_pem_private_key(path.read_bytes(), secret)
    except OSError as error:
        raise KeyUnavailable(f"{path}: {error.strerror}") from None
    except (ValueError, TypeError):
        raise KeyUnavailable(f"{path}: not an encrypted PEM key, or another passphrase") from None
    if not isinstance(found, (ed25519.Ed25519PrivateKey, rsa.RSAPrivateKey)):
        raise KeyUnavailable(f"{path}: not an approved key")
    return found


def needs_secret(folder: Path) -> bool:
    """Say whether a folder has keys under a passphrase. Raises: as ``open_offline``."""
    try:
        named = read_json(Uris, (folder / KEYS).read_bytes())
    except (FileNotFoundError, Refused):
        return True
    return not all(uri.startswith(SCHEME) for uri in (*named.root, named.release) if uri)


def make_online(config: Config, mark: str = "") -> dict[str, str]:
    """Make the two online keys: in the token where the service CA's key is, in files otherwise.

    mark: goes into their names, for those that follow others. Returns what ``[releases]`` must say of them. Keys that
    are there from an attempt before are taken.

    Raises:
        KeyUnavailable, OSError.
    """
    uris = {}
    for name in ONLINE_KEYS:
        called = f"{name.removesuffix('_key')}{mark}"
        uris[name] = (
            _in_token(config, called) if config.keys.service_ca.startswith(SCHEME) else _in_file(config, called)
        )
    return uris


def _in_token(config: Config, called: str) -> str:
    place, label = beside(config.keys.service_ca, config.folder), f"release-{called}"
    if not place.holds(label):
        place.make(label, ROOT_BITS)
    return place.uri(label)


def _in_file(config: Config, called: str) -> str:
    uri = f"file:releases/keys/{called}.key.pem"
    path = file_of(uri, config.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_private(path, key_pem(make_key(Alg.EDDSA)))
    return uri


def open_online(config: Config) -> dict[str, PrivateKey]:
    """Open the keys of ``snapshot`` and ``timestamp``. Raises: KeyUnavailable."""
    return {name.removesuffix("_key"): open_key(getattr(config.releases, name), config.folder) for name in ONLINE_KEYS}
