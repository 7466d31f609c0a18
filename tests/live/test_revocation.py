"""``device revoke`` while the device is on the line: cut at once, refused ever after, and nobody else notices.

The figures are printed: how long from the operator's word to the end of the connection.
"""

import ssl
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.enrol import State
from fleetward_server.state import Certificate, Use
from tests.live.house import BROKERS, House
from tests.live.rawmqtt import Closed, RawClient

pytestmark = pytest.mark.live
AT_ONCE_S = 20.0


def stolen(house: House, folder: Path, own: Certificate | None = None) -> ssl.SSLContext:
    """Return what a thief of the device's transport key dials with. own: its certificate, where there are several."""
    if own is None:
        found = house.store.certificates(folder.name)  # type: ignore[arg-type]
        (own,) = [one for one in found if one.use is Use.TRANSPORT]
    chain = folder / "stolen.pem"
    chain.write_bytes(b"".join(read_certificate(der).public_bytes(Encoding.PEM) for der in (own.der, own.authority)))
    context = ssl.create_default_context(cafile=str(folder / "provider-root.pem"))
    (key,) = (folder / "state" / "keys").glob("transport-*.pem")
    context.load_cert_chain(chain, key)
    return context


def thief(house: House, context: ssl.SSLContext, name: str) -> RawClient:
    client = RawClient(house.port, context)
    assert client.enter(f"{name}-{'thief' * 4}")[0] == 0
    return client


def is_out(house: House, context: ssl.SSLContext, name: str) -> bool:
    """Say whether the broker turns it away; one that is just being started again says neither, and is waited for."""
    said: list[bool] = []

    def asked() -> bool:
        with suppress(ConnectionRefusedError):
            said.append(_is_turned_away(house, context, name))
        return bool(said)

    house.wait(asked, "a broker listens")
    return said[0]


def _is_turned_away(house: House, context: ssl.SSLContext, name: str) -> bool:
    try:
        with RawClient(house.port, context) as client:
            client.enter(f"{name}-{'thief' * 4}")
    except ConnectionRefusedError:
        raise
    except (Closed, OSError):
        return True
    return False


def gets_in(house: House, context: ssl.SSLContext, name: str) -> None:
    """Wait until it is let in: a broker may fall, and end any line, as it reads its lists again."""
    house.wait(lambda: not is_out(house, context, name), f"{name} gets in")


@pytest.mark.parametrize("broker", BROKERS)
def test_a_revoked_device_is_cut_at_once_and_stays_out(
    tmp_path: Path, broker: str, figure: Callable[[str], None]
) -> None:
    with House(tmp_path, broker=broker) as house:
        bad, good = house.provision(2)
        agents = [house.start_agent(made.folder) for made in (bad, good)]
        house.wait(lambda: all(house.reports(made.id) for made in (bad, good)), "both report")
        context = stolen(house, bad.folder)
        with thief(house, context, bad.id) as line:
            began = time.monotonic()
            house.operator.revoke(bad.id, "stolen")
            told_s = time.monotonic() - began
            assert line.is_closed(AT_ONCE_S)
            cut_s = time.monotonic() - began
        assert is_out(house, context, bad.id)
        gets_in(house, stolen(house, good.folder), good.id)
        known = len(house.reports(good.id))
        house.wait(lambda: len(house.reports(good.id)) > known + 1, "the other one goes on")
        revoked = house.device(bad.id)
        assert revoked is not None
        assert revoked.state is State.REVOKED
        assert all(agent.poll() is None for agent in agents)
    figure(f"{broker}: cut {cut_s * 1000:.0f} ms after the operator's word (command done after {told_s * 1000:.0f})")


@pytest.mark.parametrize("broker", BROKERS)
def test_two_revoked_within_a_second_are_both_out(tmp_path: Path, broker: str) -> None:
    with House(tmp_path, broker=broker) as house:
        made = house.provision(2)
        for one in made:
            house.start_agent(one.folder)
        house.wait(lambda: all(house.reports(one.id) for one in made), "both report")
        for one in made:
            house.operator.revoke(one.id, "stolen")
        assert all(is_out(house, stolen(house, one.folder), one.id) for one in made)
