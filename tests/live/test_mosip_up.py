"""The whole way: real agents, broker, server and connector as processes, and a sandbox MOSIP over TLS."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256
from typer.testing import CliRunner

from fleetward_agent.config import from_folder
from fleetward_agent.status import status_of
from fleetward_sandbox.mosip.serve import Served, onboard, open_sandbox, settings
from fleetward_sandbox.provision import Made
from fleetward_schemas.commands import Step
from fleetward_schemas.identity import Certification
from fleetward_schemas.topics import DeviceId
from fleetward_server.authority import BACKDATE
from fleetward_server.cli.app import build
from fleetward_server.config import load
from fleetward_server.generations import open_issuer
from fleetward_server.mosip.profiles import info_of
from fleetward_server.mosip.settings import Profile
from tests.live.house import House

pytestmark = pytest.mark.live
DOMAIN = "https://id.example.org"


@contextmanager
def running(folder: Path, profile: Profile) -> Iterator[tuple[House, Served]]:
    began = datetime.now(UTC) - timedelta(hours=1)
    mosip = open_sandbox(folder / "mosip", began, began)
    with Served(mosip) as served, House(folder, serve=False) as house:
        onboard(mosip, open_issuer(load(house.folder), "device-ca").certificate, datetime.now(UTC) - BACKDATE)
        with (house.folder / "fleetward.toml").open("a") as file:
            file.write(settings(folder / "mosip", served.port, profile) + f'domain_uris = ["{DOMAIN}"]\n')
        house.serve()
        yield house, served


def code(house: House, made: Made) -> str | None:
    row = house.device(made.id)
    return None if row is None else row.device_code


def knows_its_code(house: House, made: Made) -> bool:
    """Have it describe itself once more, and look what it calls itself."""
    house.operator.send_command(DeviceId(made.id), "collect-info", {}, 60, "look")
    row = house.device(made.id)
    return row is not None and row.device_info is not None and info_of(row.device_info).deviceCode == row.device_code


def encrypts_for(made: Made) -> tuple[str, ...]:
    """Return what a device's own status says of encryption certificates."""
    return status_of(from_folder(made.folder)).encryption


def succeeded(house: House, command_id: str) -> bool:
    return house.operator.command(command_id).step is Step.SUCCEEDED


def told(house: House, *words: str) -> Any:
    shown = CliRunner().invoke(build(), ["mosip", *words, "--dir", str(house.folder), "--json"])
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.stdout)


PROFILES = [Profile.PMS, Profile.MASTERDATA, Profile.CRYPTO_ONLY]


@pytest.mark.parametrize("profile", PROFILES)
def test_devices_that_nobody_touched_are_known_to_mosip_until_they_are_revoked(
    tmp_path: Path, profile: Profile
) -> None:
    with running(tmp_path, profile) as (house, served):
        made = [
            *house.provision(1, Certification.L1, milliseconds=True),
            *house.provision(1, Certification.L0, milliseconds=True),
        ]
        for one in made:
            house.start_agent(one.folder)
        house.wait(lambda: all(code(house, one) for one in made), "both have MOSIP's code")
        for one in made:
            house.wait(partial(knows_its_code, house, one), "a device knows its code itself")
            house.wait(partial(encrypts_for, one), "a device has MOSIP's encryption certificate")
        own = served.mosip.pki.leaf("encryption").certificate.fingerprint(SHA256()).hex().upper()
        assert [encrypts_for(one)[0].split()[:2] for one in made] == [[DOMAIN, own]] * 2
        order = house.operator.send_command(DeviceId(made[0].id), "rotate-key", {}, 600, "test")
        house.wait(partial(succeeded, house, order.id), "a device has new keys, which is no news to MOSIP")
        house.operator.revoke(DeviceId(made[0].id), "lost")
        gone = "hotlist" if profile is Profile.CRYPTO_ONLY else "deregister"
        house.wait(lambda: told(house, "status")["tasks"] == {"register done": 2, f"{gone} done": 1}, "all is told")

        acts = [act for act, _ in served.mosip.done]
        assert acts == ([gone] if gone == "hotlist" else ["register", "register", gone])
        assert code(house, made[0]) is None
        status = told(house, "status")
        assert (status["profile"], status["reached"], status["code"]) == (profile, True, None)
        assert [task["act"] for task in told(house, "queue", "--device", made[0].id)] == [gone, "register"]
        assert told(house, "queue") == []


def test_a_connector_that_is_killed_is_started_again(tmp_path: Path) -> None:
    with running(tmp_path, Profile.PMS) as (house, _):
        house.kill("mosip")
        (made,) = house.provision(1, Certification.L0, milliseconds=True)
        house.start_agent(made.folder)
        house.wait(lambda: code(house, made), "it has MOSIP's code")
