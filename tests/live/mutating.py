"""Packets that were lawful before somebody changed a few of their bytes."""

from random import Random

from tests.live.brokerhouse import SUFFIX, down, up
from tests.live.rawmqtt import DISCONNECT, PINGREQ, WillOf, connect, puback, publish, subscribe, unsubscribe


def mutated(chance: Random, name: str) -> bytes:
    """Return a lawful packet with a few bytes changed, cut out, put in or doubled."""
    lawful = (
        connect(f"{name}-{SUFFIX}", will=WillOf(up(name, "status"))),
        publish(up(name), b"payload"),
        publish(up(name), qos=0),
        subscribe(down(name), "fw/v1/fleet/#"),
        unsubscribe(down(name)),
        puback(1),
        PINGREQ,
        DISCONNECT,
    )
    raw = bytearray(chance.choice(lawful))
    for _ in range(chance.randint(1, 4)):
        at, width = chance.randrange(len(raw) + 1), chance.randint(1, 4)
        patch = chance.choice((chance.randbytes(width), raw[at : at + width] * 2, b""))
        raw[at : at + chance.randint(0, width)] = patch
    return bytes(raw)
