"""A provider that is lost under load and comes back from a backup: every device goes on, nothing is used twice."""

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from fleetward_sandbox.provision import Made
from tests.live.house import House
from tests.live.test_up import fleetward

pytestmark = [pytest.mark.live, pytest.mark.timeout(900)]


def save(house: House) -> dict[str, object]:
    """Back the serving provider up; return what the command said."""
    secret = house.home / "secret"
    secret.write_text("a passphrase nobody guesses")
    secret.chmod(0o600)
    words = ("backup", "create", "--dir", str(house.folder), "--out", str(house.home / "b.tar"), "--json")
    done = fleetward(*words, "--passphrase-file", str(secret))
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def lose(house: House) -> tuple[int, Path]:
    """Kill the provider and destroy its folder but for the journal, which was shipped; return port and journal."""
    port, shipped = house.port, house.home / "shipped.log"
    house.stop()
    house.store.close()
    shutil.copy(house.folder / "issued.log", shipped)
    shutil.rmtree(house.folder)
    return port, shipped


def bring_back(house: House, port: int, *more: str) -> str:
    """Restore into a new folder and serve it; return what was said of the loss."""
    words = ("backup", "restore", str(house.home / "b.tar"), "--dir", str(house.home / "new"))
    done = fleetward(*words, "--passphrase-file", str(house.home / "secret"), *more)
    assert done.returncode == 0, done.stderr
    house.move(house.home / "new", port)
    return done.stderr


def reporting(house: House, count: int) -> list[Made]:
    """Start so many new devices, and wait until each reports."""
    made = house.provision(count)
    for one in made:
        house.start_agent(one.folder)
    house.wait(lambda: all(house.reports(one.id) for one in made), "all report")
    return made


def column(house: House, sql: str) -> list[object]:
    """Ask the database itself."""
    with sqlite3.connect(house.folder / "server.db") as raw:
        found = [row[0] for row in raw.execute(sql)]
    raw.close()
    return found


def test_a_lost_provider_comes_back_and_every_device_goes_on(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        before = reporting(house, 3)
        manifest = save(house)
        after = reporting(house, 1)
        lines = {device.id: device.enrolments for device in house.all_devices()}
        port, shipped = lose(house)

        said = bring_back(house, port, "--issued", str(shipped))

        known = {one.id: {report.id for report in house.reports(one.id)} for one in (*before, *after)}
        house.wait(
            lambda: all({r.id for r in house.reports(one)} - known[one] for one in known), "all report again", 400
        )
        assert f"lost: what the server learnt since {str(manifest['created'])[:19]}" in said
        assert {device.id: device.enrolments for device in house.all_devices()} == lines
        serials = column(house, "select serial from certificates")
        assert len(serials) == len(set(serials)) == 2 * len(known)


def test_a_restored_provider_enrols_new_devices(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        reporting(house, 1)
        save(house)
        port, _ = lose(house)

        said = bring_back(house, port)

        assert "no --issued was given" in said
        assert reporting(house, 1)
        assert fleetward("audit", "verify", "--dir", str(house.folder)).returncode == 0
