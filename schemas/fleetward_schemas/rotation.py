"""Rotation: new keys for a device that has some, only when the server orders it.

The command ``rotate-key`` is answered by ``csr`` with two new keys, ``certificate`` brings their two chains. Repeating
is harmless on both sides: the same two keys get the same certificates. Source: S4a, C5; protocol section 5 "Rotation".
"""

from fleetward_schemas.shapes import ChainOfDer, Der, DownBody, MessageId, UpBody


class Csr(UpBody, frozen=True):
    """Two certification requests (PKCS#10, base64 DER) over keys that are new to the fleet and differ.

    commandId: the ``rotate-key`` that ordered it. Signed by the device key that is still in office.
    """

    commandId: MessageId  # noqa: N815
    deviceCsr: Der  # noqa: N815
    transportCsr: Der  # noqa: N815


class Certificate(DownBody, frozen=True):
    """The two chains, leaf first, root left out, for the keys of the ``csr`` that ``inReplyTo`` names."""

    commandId: MessageId  # noqa: N815
    deviceChain: ChainOfDer  # noqa: N815
    transportChain: ChainOfDer  # noqa: N815
