"""Whether MOSIP approved our models and services: asked over TLS, by the command that operators use."""

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_sandbox.mosip.serve import Served, open_sandbox, settings
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import DigitalId
from fleetward_server.cli.app import build
from fleetward_server.init import Wish, make_provider
from fleetward_server.operator import LocalOperator
from fleetward_server.state import PutDevice
from fleetward_server.store import open_store
from tests.mosip import Scanner

pytestmark = pytest.mark.live
OURS = {"deviceProviderId": "acme", "make": "Acme", "model": "Slap-4"}
GOOD = OURS | {"deviceTypeCode": "Finger", "deviceSubTypeCode": "Slap", "approvalStatus": "approved", "isActive": True}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    began = datetime.now(UTC) - timedelta(hours=1)
    with Served(open_sandbox(tmp_path_factory.mktemp("mosip"), began, began)) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, served: Served) -> Path:
    home = tmp_path_factory.mktemp("models") / "provider"
    make_provider(home, Wish(name="Acme", provider_id="acme"), datetime.now(UTC))
    table = settings(served.mosip.pki.folder, served.port, "crypto-only")
    with (home / "fleetward.toml").open("a") as file:
        file.write("\n".join(line for line in table.splitlines() if not line.startswith("certificate")) + "\n")
    identity = DigitalId(
        serialNo="any",
        make="Acme",
        model="Slap-4",
        type="Finger",
        deviceSubType="Slap",
        deviceProvider="Acme",
        deviceProviderId="acme",
        dateTime="2026-01-01T00:00:00Z",
    )
    with LocalOperator(home, "test") as operator:
        operator.add_model(identity, "certified")
    return home


def asked(folder: Path, served: Served, *rows: dict[str, Any]) -> Result:
    served.mosip.quirks.clear()
    served.mosip.approval_rows = list(rows)
    return CliRunner().invoke(build(), ["mosip", "approvals", "--dir", str(folder), "--json"])


def test_a_model_that_mosip_approved_is_good(folder: Path, served: Served) -> None:
    said = asked(folder, served, GOOD | {"approvalStatus": "rejected", "id": "an earlier one"}, GOOD)
    assert said.exit_code == 0, said.output
    assert json.loads(said.stdout) == [{"kind": "model", "name": "Acme Slap-4 (Finger, Slap)", "state": "approved"}]


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (None, "not-there"),
        (GOOD | {"approvalStatus": "pending"}, "pending"),
        (GOOD | {"approvalStatus": "rejected", "isActive": False}, "rejected"),
        (GOOD | {"isActive": False}, "inactive"),
        (GOOD | {"deviceProviderId": "another"}, "not-there"),
        (GOOD | {"deviceProviderId": "ACME"}, "not-there"),
        (GOOD | {"make": "ACME"}, "not-there"),
        (GOOD | {"model": "Slap-5"}, "not-there"),
        (GOOD | {"deviceTypeCode": "Iris"}, "not-there"),
        (GOOD | {"deviceSubTypeCode": "Single"}, "not-there"),
    ],
)
def test_any_other_row_is_not_and_the_command_says_so(
    folder: Path, served: Served, row: dict[str, Any] | None, state: str
) -> None:
    said = asked(folder, served, *([row] if row else []))
    assert said.exit_code == 7
    assert [one["state"] for one in json.loads(said.stdout)] == [state]
    assert f"Acme Slap-4 (Finger, Slap): {state}" in said.stderr


@pytest.mark.parametrize(
    ("quirk", "why"),
    [(Quirk.UNKNOWN_CODE, "Slap): "), (Quirk.HTML, "not-json"), (Quirk.DROP_TOKEN, "KER-ATH-401")],
)
def test_a_mosip_that_does_not_answer_is_no_approval_and_no_refusal(
    folder: Path, served: Served, quirk: Quirk, why: str
) -> None:
    assert asked(folder, served, GOOD).exit_code == 0
    served.mosip.quirks.set(quirk)
    said = CliRunner().invoke(build(), ["mosip", "approvals", "--dir", str(folder), "--json"])
    served.mosip.quirks.clear()
    assert said.exit_code == 1
    assert why in said.stderr


SBI = {"providerId": "acme", "swVersion": "1.0.0", "approvalStatus": "approved", "isActive": True}
LATER, EARLIER = "2099-01-01T00:00:00.000Z", "2020-01-01T00:00:00.000Z"


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (SBI | {"swExpiryDateTime": LATER}, "approved"),
        (SBI | {"swExpiryDateTime": EARLIER}, "expired"),
        (SBI | {"approvalStatus": "pending"}, "pending"),
        (SBI | {"isActive": False}, "inactive"),
        (SBI | {"swVersion": "1.0.1"}, "not-there"),
        (SBI | {"providerId": "another"}, "not-there"),
    ],
)
def test_the_version_that_devices_run_is_asked_for_as_well(
    folder: Path, served: Served, tmp_path: Path, row: dict[str, Any], state: str
) -> None:
    home = tmp_path / "provider"
    shutil.copytree(folder, home)
    now = datetime.now(UTC)
    with open_store(home / "server.db") as store, store.unit() as unit:
        unit.apply([PutDevice(Scanner(1).row(device_info=Scanner(1).info(now)))])
        unit.apply(
            [PutDevice(Scanner(2).row(state=State.REVOKED, device_info=Scanner(2).info(now, serviceVersion="9")))]
        )
    said = asked(home, served, GOOD, row)
    assert [(one["kind"], one["name"], one["state"]) for one in json.loads(said.stdout)][1:] == [
        ("sbi", "1.0.0", state)
    ]
    assert said.exit_code == (0 if state == "approved" else 7)
