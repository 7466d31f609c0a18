"""What the host's software is told fits the schemas of MOSIP's compliance toolkit, in each of its states."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from fleetward_agent.local import Local
from fleetward_agent.local_table import LocalTable
from fleetward_agent.ports import Sighting
from fleetward_agent.walk import Stage as At
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.strict import b64url_decode
from tests.conftest import MOSIP_VECTORS
from tests.world import Provider, Stage


def schema(name: str) -> jsonschema.Draft201909Validator:
    path = MOSIP_VECTORS / "ctk-schemas-0.9.5" / f"{name}ResponseSchema.json"
    return jsonschema.Draft201909Validator(json.loads(path.read_text()))


def payload(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b64url_decode((text.split(".")[1] if "." in text else text).encode()))
    return found


def told(stage: Stage, folder: Path) -> dict[str, Any]:
    Local(LocalTable(file="info.json"), folder, lambda: stage.host.devices, stage.world()).turn()
    (one,) = json.loads((folder / "info.json").read_bytes())["devices"]
    found: dict[str, Any] = one
    return found


def decoded(one: dict[str, Any]) -> list[dict[str, Any]]:
    """Return info as the toolkit looks at it: beside what came, what is inside."""
    item = one["info"]["0.9.5"]
    inside = payload(item["deviceInfo"])
    inside["digitalIdDecoded"] = payload(inside["digitalId"])
    return [item | {"deviceInfoDecoded": inside}]


@pytest.fixture
def stage() -> Stage:
    return Stage(Provider())


@pytest.mark.parametrize("status", [DeviceStatus.READY, DeviceStatus.BUSY, DeviceStatus.NOT_READY])
def test_info_of_a_registered_device_fits(stage: Stage, tmp_path: Path, status: DeviceStatus) -> None:
    stage.until(lambda: stage.device.stage is At.WORKING, 60)
    stage.scanner.sighting = Sighting(status, firmware="2.4.1", service_version="1.0.0")
    info = decoded(told(stage, tmp_path))
    schema(f"DeviceInfo{status.replace(' ', '')}").validate(info)
    assert not schema("DeviceInfoNotRegistered").is_valid(info)


def test_info_of_a_device_that_is_not_registered_fits(stage: Stage, tmp_path: Path) -> None:
    info = decoded(told(stage, tmp_path))
    schema("DeviceInfoNotRegistered").validate(info)
    assert not schema("DeviceInfoReady").is_valid(info)


def test_discovery_fits(stage: Stage, tmp_path: Path) -> None:
    before = told(stage, tmp_path)["discovery"]["0.9.5"]
    stage.until(lambda: stage.device.stage is At.WORKING, 60)
    found = told(stage, tmp_path)["discovery"]["0.9.5"]
    schema("Discover").validate([found | {"digitalIdDecoded": payload(found["digitalId"])}])
    assert not schema("Discover").is_valid([before])
