"""``topic tail`` beside a serving provider: it explains what comes by, and takes nothing from the server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.live.house import House

pytestmark = pytest.mark.live


@contextmanager
def tail(house: House, *words: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, "-m", "fleetward_server", "topic", "tail", *words, "--dir", str(house.folder), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "listening" in process.stderr.readline()
        yield process
        process.terminate()


def test_every_envelope_of_a_first_contact_is_explained_and_none_is_taken(tmp_path: Path) -> None:
    with House(tmp_path) as house, tail(house, "--count", "12") as process:
        (made,) = house.provision(1)
        house.start_agent(made.folder)
        told = [json.loads(line) for line in process.stdout or ()]

        house.wait(lambda: house.reports(made.id), "the server still stores reports")

    assert {one["verdict"] for one in told} == {"ok"}
    assert {"hello", "challenge", "enrol", "enrolled", "status"} <= {one["kind"] for one in told}
    assert all(one["signer"] and one["id"] for one in told)
    # A device that has no time yet stamps its question with what it knows for certain, long ago.
    assert all(one["age_s"] < 30 for one in told if one["kind"] != "time")


def test_what_does_not_hold_is_told_by_its_code_alone(tmp_path: Path) -> None:
    with House(tmp_path) as house, tail(house, "fw/v1/d/+/up/#", "--count", "1") as process:
        (made,) = house.provision(1)
        house.operator.revoke_ftm_root("sandbox", "nobody vouches for this chip")
        house.start_agent(made.folder)
        (told,) = [json.loads(line) for line in process.stdout or ()]

    assert told["verdict"] == "unknown-signer"
    assert (told["kind"], told["id"], told["seq"], told["signer"]) == (None, None, None, None)
    assert set(told) == {"at", "topic", "size_bytes", "retained", "verdict", "kind", "id", "seq", "age_s", "signer"}
