"""Keys of one device in a PKCS#11 token or a TPM: made there, never out of it, destroyed there.

Several devices and other programs may share a token: a key is ours by its label, ``fleetward/<device id>/<name>``, and
its id follows from that. Transport keys stay files, since TLS of this Python opens files alone. Imported only where a
configuration names a token. Source: S1, S4a; protocol sections 1 (two keys per device) and 5 (rotation, retirement).
"""

import hashlib
from dataclasses import replace

from pkcs11 import ObjectClass

from fleetward_broker.pkcs11 import module_at
from fleetward_broker.pkcs11_uri import TokenUri, show_uri
from fleetward_broker.token_keys import ID_BYTES, make_token_key, open_token_key
from fleetward_broker.token_objects import labels, search
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_schemas.topics import DeviceId


class TokenKeys:
    """The keys of one device in a token."""

    def __init__(self, token: TokenUri, device_id: DeviceId) -> None:
        """Hold keys in ``token``, whose URI names no key; nothing is asked of it yet."""
        self._uri = token
        self._token = module_at(token.module).token(token)
        self._prefix = f"fleetward/{device_id}/"
        self._opened: dict[str, PrivateKey] = {}

    def make(self, name: str, alg: Alg) -> PrivateKey:
        """Have the token make a key, or return the one that has this name.

        Half a pair, which a crash left and nothing can have used, makes room.

        Raises:
            KeyUnavailable: see ``make_token_key``.
        """
        if name in self._opened:
            return self._opened[name]
        uri = self._key(name)
        if not self._token.use(lambda session: search(session, uri, ObjectClass.PRIVATE_KEY)):
            self.destroy(name)
            self._opened[name] = make_token_key(show_uri(uri), alg)
        return self.open(name)

    def open(self, name: str) -> PrivateKey:
        """Open a key and look at it.

        Raises:
            KeyUnavailable: see ``open_token_key``.
        """
        if name not in self._opened:
            self._opened[name] = open_token_key(show_uri(self._key(name)))
        return self._opened[name]

    def destroy(self, name: str) -> None:
        """Destroy both halves and look again.

        Raises:
            KeyUnavailable: the token is away, refuses, or kept it.
        """
        self._opened.pop(name, None)
        self._token.destroy(self._key(name))

    def names(self) -> frozenset[str]:
        """Return the names of this device's keys, halves too.

        Raises:
            KeyUnavailable: the token is away.
        """
        ours = (one for one in self._token.use(labels) if one.startswith(self._prefix))
        return frozenset(one.removeprefix(self._prefix) for one in ours)

    def _key(self, name: str) -> TokenUri:
        label = f"{self._prefix}{name}"
        return replace(self._uri, label=label, id=hashlib.sha256(label.encode()).digest()[:ID_BYTES])
