"""Keys change hands and devices retire for real, on both brokers: nobody locked out, nobody left in.

The figures are printed: from the order to the first report under the new keys, and until an old key is refused.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Certification
from fleetward_server.state import Certificate, CertificateState, Use
from tests.live.house import BROKERS, House
from tests.live.test_revocation import gets_in, is_out, stolen, thief

pytestmark = pytest.mark.live
OLD_KEY_OUT_S = 60.0


def current(house: House, device_id: str) -> dict[Use, Certificate]:
    found = house.store.certificates(device_id)  # type: ignore[arg-type]
    return {one.use: one for one in found if one.state is CertificateState.CURRENT}


def step(house: House, command_id: str) -> Step:
    command = house.store.command(command_id)
    assert command is not None
    return command.step


@pytest.mark.parametrize("broker", BROKERS)
def test_keys_change_hands_and_the_old_ones_open_nothing(
    tmp_path: Path, broker: str, figure: Callable[[str], None]
) -> None:
    with House(tmp_path, broker=broker) as house:
        made = [*house.provision(2), *house.provision(1, Certification.L0)]
        for one in made:
            house.start_agent(one.folder)
        house.wait(lambda: all(house.reports(one.id) for one in made), "all report")
        before = {one.id: current(house, one.id) for one in made}
        old = {one.id: stolen(house, one.folder) for one in made}
        began = time.monotonic()
        orders = [house.operator.send_command(one.id, "rotate-key", {}, 600, "test") for one in made]
        house.wait(lambda: all(step(house, one.id) is Step.SUCCEEDED for one in orders), "all have rotated")
        rotated_s = time.monotonic() - began
        house.wait(lambda: all(is_out(house, old[one.id], one.id) for one in made), "old keys open nothing")
        out_s = time.monotonic() - began

        for one in made:
            new, known = current(house, one.id), len(house.reports(one.id))
            assert new[Use.DEVICE].thumbprint != before[one.id][Use.DEVICE].thumbprint
            assert new[Use.DEVICE].not_before >= before[one.id][Use.DEVICE].not_before
            assert "O=Live Devices Ltd" in read_certificate(new[Use.DEVICE].der).subject.rfc4514_string()
            keys = one.folder / "state" / "keys"
            house.wait(lambda keys=keys: len(list(keys.iterdir())) == 2, "its old keys are gone")
            house.wait(lambda one=one, known=known: len(house.reports(one.id)) > known, "it goes on reporting")
            gets_in(house, stolen(house, one.folder, new[Use.TRANSPORT]), one.id)
        assert out_s < OLD_KEY_OUT_S
    figure(f"{broker}: 3 devices rotated {rotated_s:.1f} s after the order, old keys refused after {out_s:.1f} s")


@pytest.mark.part
def test_a_retired_device_has_no_key_and_no_way_in(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """On both brokers side by side, since a minute passes between the last word and the end."""
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        houses = [stack.enter_context(House(tmp_path / kind, broker=kind)) for kind in ("embedded", "mosquitto")]
        figures = list(pool.map(_retires, houses))
    figure("\n".join(figures))


def _retires(house: House) -> str:
    bad, good = house.provision(2)
    for one in (bad, good):
        house.start_agent(one.folder)
    house.wait(lambda: all(house.reports(one.id) for one in (bad, good)), "both report")
    context = stolen(house, bad.folder)
    order = house.operator.send_command(bad.id, "retire", {}, 600, "worn out")
    house.wait(lambda: step(house, order.id) is Step.SUCCEEDED, "its last word is heard")
    house.wait(lambda: not list((bad.folder / "state" / "keys").iterdir()), "its keys are gone")
    with thief(house, context, bad.id) as line:
        house.wait(lambda: house.device(bad.id).state is State.RETIRED, "it is out")  # type: ignore[union-attr]
        out = time.monotonic()
        assert line.is_closed(60)
        cut_s = time.monotonic() - out
    house.wait(lambda: is_out(house, context, bad.id), "its old key opens nothing")
    known = len(house.reports(good.id))
    house.wait(lambda: len(house.reports(good.id)) > known + 1, "the other one goes on")
    return f"{house.broker}: a retired device's stolen key was cut {cut_s * 1000:.0f} ms after the device was put out"
