"""What lies in a token, as one session sees it: keys found by name, counted, destroyed. ``pkcs11.py`` has the sessions.

A destroyed key is looked for again: a token that says yes and keeps the key is found out. Source: S4a; PKCS#11 2.40
sections 4.4 (token objects), 5.7 (object management).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pkcs11 import Attribute, ObjectClass, Session
from pkcs11 import exceptions as said

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import TokenUri

HALVES = (ObjectClass.PRIVATE_KEY, ObjectClass.PUBLIC_KEY)
"""Of a key pair; the half that matters is destroyed first."""


def find(session: Session, uri: TokenUri, kind: ObjectClass) -> Any:
    """Return the one key that a URI names.

    Raises:
        NoSuchKey: it is not there, or its token is not. KeyUnavailable: there is more than one.
    """
    return the_only(search(session, uri, kind), uri, kind)


def the_only(found: list[Any], uri: TokenUri, kind: ObjectClass) -> Any:
    """Return the one that was found; raises as ``find``."""
    word = "private" if kind is ObjectClass.PRIVATE_KEY else "public"
    if not found:
        raise said.NoSuchKey(f"no {word} key {uri.key_name}")
    if len(found) > 1:
        raise KeyUnavailable(f"token {uri.token_name}: {len(found)} {word} keys {uri.key_name}; add id= to the URI")
    return found[0]


def search(session: Session, uri: TokenUri, kind: ObjectClass) -> list[Any]:
    """Return every key of a kind that a URI names; read to the end, since a search left open blocks its session."""
    wanted: dict[Attribute, Any] = {Attribute.CLASS: kind}
    if uri.label:
        wanted[Attribute.LABEL] = uri.label
    if uri.id:
        wanted[Attribute.ID] = uri.id
    return list(session.get_objects(wanted))


def labels(session: Session) -> frozenset[str]:
    """Return the label of every key that has one, a half of a pair too."""
    found = [one for kind in HALVES for one in session.get_objects({Attribute.CLASS: kind})]
    return frozenset(filter(None, map(_label, found)))


def destroy(session: Session, uri: TokenUri) -> None:
    """Destroy every key under a name and look again.

    Raises:
        KeyUnavailable: the token kept one.
    """
    with writing(session) as able:
        for kind in HALVES:
            for found in search(able, uri, kind):
                found.destroy()
    if any(search(session, uri, kind) for kind in HALVES):
        raise KeyUnavailable(f"token {uri.token_name}: key {uri.key_name}: destroyed, and still there")


@contextmanager
def writing(session: Session) -> Iterator[Session]:
    """Yield a session that may change the token: this one, or one opened for it.

    Without a PIN: the login is the process's, and a session that did not log in logs nobody out when it closes.
    """
    if session.rw:
        yield session
        return
    with session.token.open(rw=True) as made:
        yield made


def _label(found: Any) -> str:
    try:
        return str(found[Attribute.LABEL] or "")
    except (said.AttributeTypeInvalid, UnicodeDecodeError):
        # Another program's key, named in its own manner.
        return ""
