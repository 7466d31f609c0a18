"""Private keys that never leave their token, as the cryptography library's own key classes.

Certificate, CSR and CRL builders and our envelope take them as they are. A key is looked at when it is opened: made in
the token, sensitive and not extractable ever since, allowed to sign, and its public half its own. Source: S6.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
from pkcs11 import DEFAULT, Attribute, KeyType, Mechanism, MechanismFlag, ObjectClass, Session
from pkcs11 import exceptions as said

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11 import Token, module_at
from fleetward_broker.pkcs11_uri import TokenUri, read_uri
from fleetward_broker.token_objects import HALVES, find, search, the_only, writing
from fleetward_schemas.errors import LocalMistake, Refused
from fleetward_schemas.jws import MIN_RSA_BITS, Alg, PrivateKey, PublicKey, alg_of, sign, verify

MUST_BE = {
    Attribute.SENSITIVE: True,
    Attribute.ALWAYS_SENSITIVE: True,
    Attribute.NEVER_EXTRACTABLE: True,
    Attribute.LOCAL: True,
    Attribute.EXTRACTABLE: False,
    Attribute.SIGN: True,
}
TEMPLATE = {
    Attribute.TOKEN: True,
    Attribute.PRIVATE: True,
    Attribute.SENSITIVE: True,
    Attribute.EXTRACTABLE: False,
    Attribute.MODIFIABLE: False,
    Attribute.SIGN: True,
    Attribute.DECRYPT: False,
    Attribute.UNWRAP: False,
    Attribute.DERIVE: False,
}
# What the public half may do protects nothing, and a TPM shares its flags with the private half: the token says it.
PUBLIC_TEMPLATE = {Attribute.MODIFIABLE: False, Attribute.ENCRYPT: DEFAULT, Attribute.VERIFY: DEFAULT}
GENERATE = {"pkcs": Mechanism.RSA_PKCS_KEY_PAIR_GEN, "x9.31": Mechanism.RSA_X9_31_KEY_PAIR_GEN}
MAKE_WITHIN_S = 600
"""Making a long RSA key takes a small token minutes."""
ID_BYTES = 16
PROBE_BYTES = 32
# RFC 8017 section 9.2, note 1: what stands before a SHA-256 digest under PKCS#1 v1.5.
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")
ED25519_OID = bytes.fromhex("06032b6570")
ED25519_BYTES = 32


class TokenKey:
    """A key in a token: what both kinds share."""

    def __init__(self, token: Token, uri: TokenUri) -> None:
        """Bind to a key; nothing is asked of the token."""
        self._token = token
        self._uri = uri

    def require(self) -> None:
        """Ask the token whether it is there and has the key.

        Raises:
            KeyUnavailable: neither.
        """
        self._token.use(lambda session: find(session, self._uri, ObjectClass.PRIVATE_KEY))

    def __copy__(self) -> Self:
        """Return itself: the key is one, wherever it is named."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself."""
        return self

    def __repr__(self) -> str:
        """Return its name."""
        return f"<{type(self).__name__} {self._uri.key_name} in {self._token}>"


class TokenRsaKey(TokenKey, rsa.RSAPrivateKey):
    """RSA in a token; signs RS256 and nothing else."""

    def __init__(self, token: Token, uri: TokenUri, public: rsa.RSAPublicKey) -> None:
        """Bind to a key."""
        super().__init__(token, uri)
        self._public = public

    def public_key(self) -> rsa.RSAPublicKey:
        """Return the public half."""
        return self._public

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return self._public.key_size

    def sign(self, data: Any, padding: AsymmetricPadding, algorithm: Any) -> bytes:
        """Sign. The digest is made here, so that a CRL of any length costs the token 51 bytes; or in a TPM."""
        if not _is_rs256(padding, algorithm):
            raise UnsupportedAlgorithm("a key in a token signs PKCS#1 v1.5 with SHA-256, nothing else")
        if self._uri.digest == "inside":
            return self._token.sign(self._uri, bytes(data), Mechanism.SHA256_RSA_PKCS)
        return self._token.sign(self._uri, SHA256_INFO + hashlib.sha256(data).digest(), Mechanism.RSA_PKCS)

    def decrypt(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the key only signs."""
        raise _never(self)

    def private_numbers(self) -> NoReturn:
        """Refuse: the key never leaves its token."""
        raise _never(self)

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the key never leaves its token."""
        raise _never(self)


class TokenEd25519Key(TokenKey, ed25519.Ed25519PrivateKey):
    """Ed25519 in a token."""

    def __init__(self, token: Token, uri: TokenUri, public: ed25519.Ed25519PublicKey) -> None:
        """Bind to a key."""
        super().__init__(token, uri)
        self._public = public

    def public_key(self) -> ed25519.Ed25519PublicKey:
        """Return the public half."""
        return self._public

    def sign(self, data: Any) -> bytes:
        """Sign; Ed25519 takes the whole message into the token."""
        return self._token.sign(self._uri, bytes(data), Mechanism.EDDSA)

    def private_bytes_raw(self) -> NoReturn:
        """Refuse: the key never leaves its token."""
        raise _never(self)

    def private_bytes(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the key never leaves its token."""
        raise _never(self)


def open_token_key(text: str, base: Path | None = None) -> PrivateKey:
    """Open the key that a URI names, and look at it.

    Raises:
        KeyUnavailable: the URI is wrong, the key is not there, or is not one that never left its token.
    """
    uri = _of_key(text, base)
    token = module_at(uri.module).token(uri)
    public = token.use(lambda session: _examined(session, uri))
    key = _bound(token, uri, public)
    probe = b"fleetward key probe " + secrets.token_bytes(PROBE_BYTES)
    try:
        alg_of(key)
        verify(public, probe, sign(key, probe))
    except Refused as refusal:
        raise KeyUnavailable(f"{token}: key {uri.key_name}: {refusal.detail}, tried with its public key") from None
    return key


def make_token_key(text: str, alg: Alg, bits: int = MIN_RSA_BITS, base: Path | None = None) -> PrivateKey:
    """Have the token make a key pair under the URI's label, and open it.

    Raises:
        KeyUnavailable: the label is taken, or see ``open_token_key``.
    """
    uri = _of_key(text, base)
    if not uri.label:
        raise KeyUnavailable("pkcs11 URI: object: missing; a new key needs a label")
    module_at(uri.module).token(uri).use(lambda session: _make(session, uri, alg, bits), MAKE_WITHIN_S)
    return open_token_key(text, base)


def has_token_key(text: str, base: Path | None = None) -> bool:
    """Say whether the token holds any key under the URI's name."""
    uri = _of_key(text, base)
    return module_at(uri.module).token(uri).use(lambda session: _taken(session, uri))


def _of_key(text: str, base: Path | None) -> TokenUri:
    uri = read_uri(text, base)
    if not uri.label and not uri.id:
        raise KeyUnavailable("pkcs11 URI: object: missing; name the key by object= or id=")
    return uri


def _taken(session: Session, uri: TokenUri) -> bool:
    return any(search(session, uri, kind) for kind in HALVES)


def _make(session: Session, uri: TokenUri, alg: Alg, bits: int) -> None:
    if _taken(session, uri):
        raise KeyUnavailable(f"token {uri.token_name}: holds a key {uri.key_name} already; nothing was made")
    with writing(session) as able:
        _generate(able, uri, alg, bits)


def _generate(session: Session, uri: TokenUri, alg: Alg, bits: int) -> None:
    unasked = {Attribute.MODIFIABLE: DEFAULT} if uri.modifiable else {}
    wish: dict[str, Any] = {
        "id": uri.id or secrets.token_bytes(ID_BYTES),
        "label": uri.label,
        "store": True,
        "capabilities": MechanismFlag.SIGN | MechanismFlag.VERIFY,
        "public_template": PUBLIC_TEMPLATE | unasked,
        "private_template": TEMPLATE | unasked,
    }
    if alg is Alg.RS256:
        session.generate_keypair(KeyType.RSA, bits, mechanism=GENERATE[uri.keygen], **wish)
        return
    curve = session.create_domain_parameters(KeyType.EC_EDWARDS, {Attribute.EC_PARAMS: ED25519_OID}, local=True)
    curve.generate_keypair(**wish)


def _examined(session: Session, uri: TokenUri) -> PublicKey:
    private = find(session, uri, ObjectClass.PRIVATE_KEY)
    for attribute, must in MUST_BE.items():
        _holds(private, attribute, must, uri)
    return _public_half(session, private, uri)


def said_of(key: Mapping[Attribute, Any], attribute: Attribute) -> bool | None:
    """Return what the token says of an attribute; None: it has no word for it."""
    try:
        return bool(key[attribute])
    except said.AttributeTypeInvalid:
        return None


def word_of(attribute: Attribute) -> str:
    """Return an attribute's name as a URI spells it."""
    return attribute.name.lower().replace("_", "-")


def _holds(key: Mapping[Attribute, Any], attribute: Attribute, must: bool, uri: TokenUri) -> None:
    """S6: a key that ever was outside, or may go there, is not a key in an HSM; silence is excused by name alone."""
    has = said_of(key, attribute)
    if has is None and word_of(attribute) in uri.unreported:
        return
    if has is not must:
        raise KeyUnavailable(
            f"token {uri.token_name}: key {uri.key_name}: CKA_{attribute.name} is "
            f"{'unknown to the token' if has is None else has}, must be {must}; "
            "only a key made in the token that can never leave it is taken"
        )


def _public_half(session: Session, private: Any, uri: TokenUri) -> PublicKey:
    """Return the public key, wherever a vendor's tool put it; the probe signature tells whether it is the one."""
    key_id = bytes(private[Attribute.ID] or b"")
    for label, other in ((uri.label, key_id), ("", key_id), (uri.label, b"")):
        wanted = replace(uri, label=label, id=other)
        if (label or other) and (found := search(session, wanted, ObjectClass.PUBLIC_KEY)):
            return _public(the_only(found, wanted, ObjectClass.PUBLIC_KEY), uri)
    if said_of(private, Attribute.MODULUS) and said_of(private, Attribute.PUBLIC_EXPONENT):
        return _public(private, uri)
    raise said.NoSuchKey(f"no public key {uri.key_name}")


def _public(found: Any, uri: TokenUri) -> PublicKey:
    try:
        kind = found[Attribute.KEY_TYPE]
        if kind is KeyType.RSA:
            modulus, exponent = (
                int.from_bytes(found[one], "big") for one in (Attribute.MODULUS, Attribute.PUBLIC_EXPONENT)
            )
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if kind is KeyType.EC_EDWARDS:
            # Some tokens give the point as it is, some in a DER OCTET STRING; it ends the same.
            return ed25519.Ed25519PublicKey.from_public_bytes(found[Attribute.EC_POINT][-ED25519_BYTES:])
    except ValueError:
        raise KeyUnavailable(f"token {uri.token_name}: key {uri.key_name}: the public key is not readable") from None
    raise KeyUnavailable(f"token {uri.token_name}: key {uri.key_name}: only RSA and Ed25519 are approved")


def _bound(token: Token, uri: TokenUri, public: PublicKey) -> PrivateKey:
    if isinstance(public, ed25519.Ed25519PublicKey):
        return TokenEd25519Key(token, uri, public)
    return TokenRsaKey(token, uri, public)


def _is_rs256(scheme: AsymmetricPadding, algorithm: Any) -> bool:
    return isinstance(scheme, padding.PKCS1v15) and isinstance(algorithm, hashes.SHA256)


def _never(key: TokenKey) -> LocalMistake:
    return LocalMistake(f"{key!r}: never leaves its token, and only signs")
