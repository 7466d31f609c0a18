"""Whether MOSIP approved our models and services: asked over TLS, by the command that operators use."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fleetward_sandbox.mosip.approvals import Approvals, read_approvals
from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_sandbox.mosip.serve import Served, open_sandbox, settings
from fleetward_sandbox.mosip.words import Complaint
from fleetward_schemas.enrol import State
from fleetward_server.changes import PutDevice
from fleetward_server.cli.app import build
from fleetward_server.config import load
from fleetward_server.init import Wish, make_provider
from fleetward_server.mosip.checking import checked
from fleetward_server.mosip.operating import status
from fleetward_server.mosip.run import opened_wire
from fleetward_server.mosip.tokens import Tokens
from fleetward_server.mosip.watching import Watching
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import OperatorProblem
from fleetward_server.store import Store, open_store
from tests.mosip import Scanner
from tests.server.provider import IDENTITY

pytestmark = pytest.mark.live
OURS = {"id": "model-1", "deviceProviderId": "acme", "make": "Acme", "model": "Slap-4"}
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
    with LocalOperator(home, "test") as operator:
        operator.add_model(IDENTITY, "certified")
    return home


def asked(folder: Path, served: Served, *rows: dict[str, Any], mapped: Sequence[tuple[str, str]] = ()) -> Result:
    served.mosip.quirks.clear()
    models = [row for row in rows if "make" in row]
    served.mosip.approvals = Approvals(models, [row for row in rows if "make" not in row], list(mapped))
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


HASH = "0123456789abcdef" * 4
SBI = {"id": "sbi-1", "providerId": "acme", "swVersion": "1.0.0", "approvalStatus": "approved", "isActive": True}
LATER, EARLIER = "2099-01-01T00:00:00.000Z", "2020-01-01T00:00:00.000Z"
PAIR = [("model-1", "sbi-1")]
NAME = "Acme Slap-4 (Finger, Slap)"


@pytest.fixture(scope="module")
def running(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A provider with a registered device that runs 1.0.0, and a revoked one that runs something else."""
    home = tmp_path_factory.mktemp("running") / "provider"
    shutil.copytree(folder, home)
    now = datetime.now(UTC)
    gone = Scanner(2).row(state=State.REVOKED, device_info=Scanner(2).info(now, serviceVersion="9"))
    with open_store(home / "server.db") as store, store.unit() as unit:
        unit.apply([PutDevice(Scanner(1).row(device_info=Scanner(1).info(now))), PutDevice(gone)])
    return home


def states(said: Result) -> dict[tuple[str, str], str]:
    return {(one["kind"], one["name"]): one["state"] for one in json.loads(said.stdout)}


@pytest.mark.parametrize(
    ("row", "state"),
    [
        (SBI | {"swExpiryDateTime": LATER}, "approved"),
        (SBI | {"swExpiryDateTime": EARLIER}, "expired"),
        (SBI | {"approvalStatus": "pending_approval"}, "pending_approval"),
        (SBI | {"isActive": False}, "inactive"),
        (SBI | {"swVersion": "1.0.1"}, "not-there"),
        (SBI | {"providerId": "another"}, "not-there"),
    ],
)
def test_the_version_that_devices_run_is_asked_for_as_well(
    running: Path, served: Served, row: dict[str, Any], state: str
) -> None:
    said = asked(running, served, GOOD, row, mapped=PAIR)
    assert states(said)["sbi", "1.0.0"] == state
    assert ("sbi", "9") not in states(said)
    assert said.exit_code == (0 if state == "approved" else 7)


OTHER_SBI = SBI | {"id": "sbi-2", "swVersion": "1.0.1"}
OTHER_MODEL = GOOD | {"id": "model-2", "model": "Slap-5"}


@pytest.mark.parametrize(
    ("mapped", "state"),
    [
        (PAIR, "mapped"),
        ([("model-2", "sbi-1"), ("model-1", "sbi-2"), *PAIR], "mapped"),
        ([], "not-mapped"),
        ([("model-2", "sbi-1"), ("model-1", "sbi-2")], "not-mapped"),
    ],
)
def test_a_model_that_is_not_mapped_to_the_version_it_runs_is_told(
    running: Path, served: Served, mapped: list[tuple[str, str]], state: str
) -> None:
    said = asked(running, served, GOOD, SBI, OTHER_SBI, OTHER_MODEL, mapped=mapped)
    assert states(said)["mapping", f"{NAME} with 1.0.0"] == state
    assert said.exit_code == (0 if state == "mapped" else 7)
    assert (f"mapping {NAME} with 1.0.0: not-mapped" in said.stderr) is (state != "mapped")


@pytest.mark.parametrize(
    ("declared", "held", "state"),
    [
        (HASH, HASH[:36], "agrees"),
        (HASH.upper(), HASH[:32], "agrees"),
        ("build 17", "build 17", "agrees"),
        (None, HASH[:36], "not-declared"),
        (HASH, HASH[:31], "differs"),
        (HASH, HASH[1:37], "differs"),
        ("build 17", "build 1", "differs"),
        ("build 17", "BUILD 17", "differs"),
        (HASH, "", "differs"),
    ],
)
def test_the_hash_that_mosip_was_told_is_held_against_the_declared_one(
    running: Path, served: Served, tmp_path: Path, declared: str | None, held: str, state: str
) -> None:
    home = tmp_path / "provider"
    shutil.copytree(running, home)
    if declared is not None:
        with (home / "fleetward.toml").open("a") as file:
            file.write(f'sbi_hashes = {{ "1.0.0" = "{declared}" }}\n')
    said = asked(home, served, GOOD, SBI | {"swBinaryHash": held}, mapped=PAIR)
    assert states(said)["hash", "1.0.0"] == state
    assert said.exit_code == (7 if state == "differs" else 0)


def test_partner_management_looks_for_its_own_columns_alone() -> None:
    approvals = Approvals([GOOD], [SBI], PAIR)
    by_sbi = {"filters": [{"columnName": "sbiId", "value": "sbi-1", "type": "equals"}]}
    with pytest.raises(Complaint) as complaint:
        approvals.search_mappings(by_sbi)
    assert complaint.value.errors == (("PMS-MSD-310", "Invalid column received : sbiId"),)
    nothing = approvals.search_services({"filters": [{"columnName": "providerId", "value": "another"}]})
    assert (nothing["totalRecord"], nothing["data"]) == (0, None)
    assert approvals.search_mappings({})["data"][0]["sbiId"] == "sbi-1"


def test_a_file_says_what_the_sandbox_approved_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    file = tmp_path / "approved.json"
    file.write_text(json.dumps({"models": [GOOD], "services": [SBI], "mappings": [["model-1", "sbi-1"]]}))
    assert read_approvals(file) == Approvals([GOOD], [SBI], PAIR)
    for wrong in ("[]", "{", '{"mappings": [["a"]]}', '{"mappings": [["model-1", "sbi-1"]]}'):
        file.write_text(wrong)
        with pytest.raises(OperatorProblem, match="expected JSON"):
            read_approvals(file)


def test_it_is_asked_for_each_day_and_hourly_while_something_is_lacking(
    running: Path, served: Served, tmp_path: Path
) -> None:
    home = tmp_path / "provider"
    shutil.copytree(running, home)
    served.mosip.quirks.clear()
    served.mosip.approvals = Approvals([GOOD], [SBI])
    config, now = load(home), datetime.now(UTC)

    def looked_at(store: Store) -> tuple[bool | None, str]:
        return next((one.well, one.detail) for one in checked(config, store, now) if one.part == "mosip: approvals")

    with open_store(home / "server.db") as store, opened_wire(config) as wire:
        watching = Watching(config, store, Tokens(config.mosip, config.folder, wire))

        def at(*hours: float) -> list[bool]:
            return [watching.step(now + timedelta(hours=hour)) for hour in hours]

        assert looked_at(store)[0] is None
        assert at(0, 0, 0.9) == [True, False, False]
        assert status(config, store)["not_approved"] == [f"mapping {NAME} with 1.0.0: not-mapped"]
        assert looked_at(store)[0] is None
        assert "not-mapped" in looked_at(store)[1]
        served.mosip.approvals = Approvals([GOOD], [SBI], PAIR)
        assert at(1.1, 2.2, 24, 25.2) == [True, False, False, True]
        assert (status(config, store)["not_approved"], looked_at(store)[0]) == ([], True)
        # What devices run changes: that is asked for within the hour.
        with store.unit() as unit:
            unit.apply([PutDevice(Scanner(3).row(device_info=Scanner(3).info(now, serviceVersion="2")))])
        assert at(25.5, 26.3) == [False, True]
        assert status(config, store)["not_approved"] == ["sbi 2: not-there"]
        served.mosip.quirks.set(Quirk.HTML)
        assert at(28, 28, 29.1) == [True, False, True]
        served.mosip.quirks.clear()
        assert status(config, store)["not_approved"] == ["sbi 2: not-there"]


def test_while_there_is_nothing_to_ask_it_looks_each_minute_and_asks_nothing(folder: Path, served: Served) -> None:
    served.mosip.asked.clear()
    config, now = load(folder), datetime.now(UTC)
    with open_store(folder / "empty.db", create=True) as store, opened_wire(config) as wire:
        watching = Watching(config, store, Tokens(config.mosip, config.folder, wire))
        assert not watching.step(now)
        with store.unit() as unit:
            unit.apply([PutDevice(Scanner(1).row(device_info=Scanner(1).info(now)))])
        assert [watching.step(now + timedelta(seconds=late)) for late in (59, 61)] == [False, True]


def test_a_register_of_1_1_is_not_asked_what_it_approves(running: Path, served: Served) -> None:
    served.mosip.asked.clear()
    config = load(running)
    older = replace(config, mosip=replace(config.mosip, profile="masterdata-1.1"))
    with open_store(running / "server.db") as store, opened_wire(config) as wire:
        assert not Watching(older, store, Tokens(config.mosip, config.folder, wire)).step(datetime.now(UTC))
    assert served.mosip.asked == {}
