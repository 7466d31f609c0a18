"""Whose word a device takes: the server's alone, proven by certificates up to the provider's root, in trusted time.

A chain is verified once and remembered by its exact bytes; its validity is judged at every use. While the time is
unknown only a time answer is opened, and its chain is judged at the moment it states (the clock then bounds that).
Source: C6; protocol sections 1, 3 and 5 "Time".
"""

import hashlib
from collections import OrderedDict
from datetime import datetime

from fleetward_schemas.certificates import Anchors, Chain, server_signer, thumbprint
from fleetward_schemas.clock import Clock, accept_signer
from fleetward_schemas.envelope import Members
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.header import Header
from fleetward_schemas.identity import Environment, ServerId
from fleetward_schemas.jws import PublicKey, header_alg, split, verify
from fleetward_schemas.moment import parse
from fleetward_schemas.strict import b64_der, read_object
from fleetward_schemas.topics import Principal

MOST_CHAINS = 32


class Chains:
    """Verified chains, bounded; shared by all devices of one anchor in a process."""

    def __init__(self, anchors: Anchors) -> None:
        """Verify against ``anchors``."""
        self._anchors = anchors
        self._kept: OrderedDict[bytes, Chain] = OrderedDict()

    def server(self, ders: tuple[bytes, ...], at: datetime) -> Chain:
        """Return the chain of a server signing certificate, valid at ``at``.

        Raises:
            Refused: ``wrong-server``, or what is wrong with the certificates' form.
        """
        digest = hashlib.sha256(b"".join(len(der).to_bytes(4, "big") + der for der in ders)).digest()
        chain = self._kept.get(digest)
        if chain is None or not chain.valid_at(at):
            chain = server_signer(self._verified(ders, at))
        self._kept[digest] = chain
        self._kept.move_to_end(digest)
        if len(self._kept) > MOST_CHAINS:
            self._kept.popitem(last=False)
        return chain

    def _verified(self, ders: tuple[bytes, ...], at: datetime) -> Chain:
        try:
            return self._anchors.verify(ders, at)
        except Refused as refusal:
            code = Code.WRONG_SERVER if refusal.code is Code.UNKNOWN_SIGNER else refusal.code
            raise Refused(code, refusal.detail) from None


class Downlink:
    """The device's ``Trust`` for one message; ``chain`` tells afterwards whose key it was."""

    def __init__(self, chains: Chains, clock: Clock, now: datetime | None) -> None:
        """Judge at ``now``; None while the time is unknown."""
        self._chains = chains
        self._clock = clock
        self._now = now
        self.chain: Chain | None = None

    def signer(self, header: Header, _: Principal | None, members: Members) -> PublicKey:
        """Return the server's signing key.

        Raises:
            Refused: ``wrong-server``.
        """
        at = parse(members.timestamp) if self._now is None else self._now
        chain = self._chains.server(header.x5c or (), at)
        # A leaf over 7 days older than the newest seen is an old key come back.
        accept_signer(self._clock, chain.leaf.not_valid_before_utc)
        self.chain = chain
        return chain.key


def check_server_identity(text: str, chain: Chain, env: Environment) -> None:
    """Check who a message to the whole fleet says it is from: signed by the same key, of our own environment.

    Raises:
        Refused: ``wrong-server``.
    """
    try:
        token = split(text.encode("ascii"))
        header_alg(token.header)
        x5c = token.header.get("x5c")
        if not isinstance(x5c, list) or not x5c or not isinstance(x5c[0], str):
            raise Refused(Code.WRONG_SERVER, "the server's identity carries no certificate")
        if thumbprint(b64_der(x5c[0])) != chain.thumbprint:
            raise Refused(Code.WRONG_SERVER, "the server's identity is signed by another key than the message")
        verify(chain.key, token.signed, token.signature)
        identity = ServerId.read(read_object(token.payload))
    except (Refused, UnicodeEncodeError) as error:
        raise Refused(Code.WRONG_SERVER, f"the server's identity: {type(error).__name__}") from None
    if identity.env is not env:
        raise Refused(Code.WRONG_SERVER, f"the server is of {identity.env}: this device of {env}")
