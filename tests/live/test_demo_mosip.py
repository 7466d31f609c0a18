"""The demo beside a MOSIP of each age, all three at once: a retirement counts after a minute, lived through once."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fleetward_sandbox.counts import CODES, USURPED, Counts
from fleetward_sandbox.demo_mosip import PROFILES

pytestmark = pytest.mark.live
DEVICES = 4
MOST_S = 900.0
TOLD = {
    "pms-1.1": {"register": DEVICES, "deregister": 2},
    "masterdata-1.1": {"register": DEVICES, "deregister": 2},
    "crypto-only": {"hotlist": 2},
}


def begun(folder: Path, *options: str) -> subprocess.Popen[str]:
    demo = [sys.executable, "-m", "fleetward_server", "demo"]
    command = [*demo, "--once", "--devices", str(DEVICES), "--dir", str(folder), *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.timeout(MOST_S + 30)
def test_each_is_registered_once_new_keys_are_no_news_and_who_left_is_taken_off(tmp_path: Path) -> None:
    demos = {profile: begun(tmp_path / profile, "--mosip", profile) for profile in PROFILES}
    try:
        said = {profile: demo.communicate(timeout=MOST_S) for profile, demo in demos.items()}
    finally:
        for demo in demos.values():
            demo.terminate()

    for profile, demo in demos.items():
        out, story = said[profile]
        assert demo.returncode == 0, story
        counts = json.loads(out.splitlines()[-1])
        assert counts["ok"] is True
        assert (counts["registered"], counts["rotated"], counts["left"]) == (DEVICES, DEVICES, 2)
        assert (counts["mosip"], counts["mosip_known"], counts["mosip_told"]) == (profile, DEVICES, TOLD[profile])


def well(profile: str) -> Counts:
    walks = ("registered", "reported", "commands_answered", "rotated", "upgraded", "caught_up")
    walked = dict.fromkeys(walks, DEVICES)
    told = dict(TOLD.get(profile, {}))
    refused = dict.fromkeys(CODES, 1)
    known = DEVICES if profile else 0
    counts = Counts(DEVICES, **walked, hostile_sent=6, hostile_refused=refused, to_leave=2, left=2)
    counts = replace(counts, rolled_back=1, usurper_refused=dict.fromkeys(USURPED, 1))
    return replace(counts, mosip=profile, mosip_known=known, mosip_told=told)


@pytest.mark.parametrize("profile", ["", *PROFILES])
def test_a_demo_that_went_well_is_judged_so(profile: str) -> None:
    assert well(profile).judge()
    assert any(name.startswith("mosip") for name in well(profile).plain()) is bool(profile)


@pytest.mark.parametrize(
    "ill",
    [{"upgraded": DEVICES - 1}, {"rolled_back": 0}, {"usurper_refused": {"not-released": 1}}],
    ids=["not all upgraded", "stays ill", "a downgrade not refused"],
)
def test_an_upgrade_that_went_otherwise_is_a_failure(ill: dict[str, Any]) -> None:
    assert not replace(well(""), **ill).judge()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("act", ["register", "deregister", "hotlist"])
def test_one_too_many_told_to_mosip_is_a_failure(profile: str, act: str) -> None:
    told = TOLD[profile]

    assert not replace(well(profile), mosip_told=told | {act: told.get(act, 0) + 1}).judge()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_device_or_a_departure_that_mosip_does_not_know_is_a_failure(profile: str) -> None:
    assert not replace(well(profile), mosip_known=DEVICES - 1).judge()
    assert not replace(well(profile), mosip_told={act: n - 1 for act, n in TOLD[profile].items()}).judge()


def test_another_profile_is_refused_by_name(tmp_path: Path) -> None:
    demo = begun(tmp_path / "demo", "--mosip", "pms-1.2")
    _, story = demo.communicate(timeout=180)

    assert demo.returncode == 2
    assert "pms-1.2" in story
    assert "did you mean 'pms-1.1'?" in story
    assert not (tmp_path / "demo").exists()
