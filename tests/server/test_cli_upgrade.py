"""``fleetward upgrade``: counted, asked, told; what would be and why not; how far each device got."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetward_schemas.enrol import State
from fleetward_schemas.moment import to_ms
from fleetward_schemas.upgrade import Phase
from fleetward_server.changes import AddReport
from fleetward_server.mass import MassOperator
from fleetward_server.mass_state import Action, MassWish, Tally
from fleetward_server.state import Report
from fleetward_server.store import AuditFilter, Store
from fleetward_server.upgrade_state import Committed, PutUpgrade, TookAssignment, Upgrade
from tests.server import test_cli
from tests.server.assigned import progress
from tests.server.register import FIRST, NOW, device, identity, kept, made
from tests.server.repository import Repository, target
from tests.server.test_cli import Fleetward
from tests.server.test_mass import Broken, Clock
from tests.server.test_operator import CONFIG

ACME, OTHER = ["Acme/Slap-4"], ["Acme/Iris-1"]
SLAP = "fw/slap-7.bin"
fleetward = test_cli.fleetward
own_logging = test_cli._own_logging


@pytest.fixture(scope="module")
def released() -> Repository:
    repository = Repository()
    repository.release(
        target(SLAP, models=ACME),
        target("fw/slap-8.bin", models=ACME, counter=8, version="1.5.0"),
        target("fw/iris-9.bin", models=OTHER, counter=9, version="2.0"),
        target("agent.whl", name="agent", counter=3, version="0.3"),
    )
    return repository


@pytest.fixture
def store(tmp_path: Path, released: Repository) -> Iterator[Store]:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    released.write(tmp_path)
    with made(tmp_path) as fresh:
        yield kept(fresh, device(), device(2, identity=identity(2)))


def runs(store: Store, counter: int, phase: Phase = Phase.COMMITTED) -> None:
    """Have the first device run a version."""
    held = Committed(counter, f"1.{counter}", "A" * 43, NOW)
    with store.unit() as unit:
        unit.apply([PutUpgrade(Upgrade(FIRST, "firmware", phase, None, 1, NOW, 1, "word", held))])


def counting(store: Store) -> dict[str, list[str]]:
    ids = store.device_ids(MassOperator(store.path.parent, "eve").selection(""))
    return {name: [one.target for one in made.wanted] for name, made in store.assignments_of(ids).items()}


def test_a_device_is_told_what_to_run(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("upgrade", "assign", FIRST, "--target", SLAP, "--reason", "fix", "--actor", "ann", "--json")

    assert done.code == 0
    assert counting(store) == {FIRST: [SLAP]}
    (entry,) = [one.entry for one in store.audit_links(0, 9, AuditFilter(subject=FIRST))]
    assert (entry.actor, entry.action, entry.reason) == ("operator:ann", "upgrade-assigned", "fix")
    assert entry.detail.endswith(": firmware 1.4.2 (7)")
    assert json.loads(done.out)["version"] == store.assignments_of([FIRST])[FIRST].version


def test_a_second_piece_of_software_stands_beside_the_first(fleetward: Fleetward, store: Store) -> None:
    fleetward("upgrade", "assign", FIRST, "--target", SLAP)
    first = store.assignments_of([FIRST])[FIRST].version
    fleetward("upgrade", "assign", FIRST, "--name", "agent")

    assert counting(store) == {FIRST: ["agent.whl", SLAP]}
    assert store.assignments_of([FIRST])[FIRST].version > first


def test_the_newest_of_a_name_goes_to_each_model(fleetward: Fleetward, store: Store) -> None:
    iris = identity(3, model="Iris-1", type="Iris", deviceSubType="Single")
    third = device(3, identity=iris)
    kept(store, third)

    done = fleetward("upgrade", "assign", "state:registered", "--name", "firmware", "--yes", "--json")

    assert done.code == 0
    assert sorted(counting(store).values()) == [["fw/iris-9.bin"], ["fw/slap-8.bin"], ["fw/slap-8.bin"]]
    assert counting(store)[third.id] == ["fw/iris-9.bin"]


def test_a_downgrade_is_refused_and_both_are_named(fleetward: Fleetward, store: Store) -> None:
    runs(store, 8)

    done = fleetward("upgrade", "assign", FIRST, "--target", SLAP)

    assert done.code == 5
    assert "firmware 1.4.2 has counter 7: the device runs 1.8, counter 8, and never goes back" in done.err
    assert counting(store) == {}


def test_many_are_counted_and_asked_for(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("upgrade", "assign", "model:Slap-4", "--target", SLAP)

    assert done.code == 6
    assert "assign-upgrade: 2 devices (model:Slap-4)" in done.err
    assert counting(store) == {}


def test_of_many_those_that_cannot_are_named_and_the_others_told(fleetward: Fleetward, store: Store) -> None:
    runs(store, 8)

    done = fleetward("upgrade", "assign", "model:Slap-4", "--target", SLAP, "--yes", "--json")

    assert done.code == 5
    document = json.loads(done.out)
    assert (document["done"], document["failed"]) == (1, 1)
    assert document["failures"][0]["device_id"] == FIRST
    assert counting(store) == {device(2).id: [SLAP]}


def test_a_dry_run_shows_each_and_why_not_and_changes_nothing(fleetward: Fleetward, store: Store) -> None:
    runs(store, 8)
    kept(store, device(3, state=State.QUARANTINED))

    done = fleetward("upgrade", "assign", "model:Slap-4", "--target", SLAP, "--dry-run", "--json")

    rows: list[dict[str, Any]] = json.loads(done.out)
    assert done.code == 0
    assert {one["device_id"]: one["outcome"] for one in rows} == {
        FIRST: "refused",
        device(2).id: "would-assign",
        device(3).id: "refused",
    }
    whys = {one["device_id"]: one["detail"] for one in rows}
    assert "never goes back" in whys[FIRST]
    assert "quarantined" in whys[device(3).id]
    assert counting(store) == {}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--target", "fw/slap-77.bin"], 3, "did you mean 'fw/slap-7.bin'"),
        (["--name", "firmwar"], 3, "did you mean 'firmware'"),
        ([], 2, "either --target PATH or --name NAME"),
        (["--target", SLAP, "--name", "firmware"], 2, "either --target PATH or --name NAME"),
        (["--target", SLAP, "--from", "2026-05-01T00:00:00Z"], 2, "needs --to"),
        (["--target", SLAP, "--to", "2020-01-01T00:00:00Z"], 2, "must be after"),
        (["--target", SLAP, "--force"], 2, "--force"),
    ],
)
def test_what_cannot_be_wished_is_refused(
    fleetward: Fleetward, store: Store, words: list[str], code: int, said: str
) -> None:
    done = fleetward("upgrade", "assign", FIRST, *words)
    assert done.code == code
    assert said in done.err
    assert counting(store) == {}


def test_without_a_repository_the_command_that_makes_one_is_named(fleetward: Fleetward, tmp_path: Path) -> None:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    with made(tmp_path) as bare:
        kept(bare, device())
    done = fleetward("upgrade", "assign", FIRST, "--target", SLAP)
    assert done.code == 3
    assert "fleetward release init" in done.err


def test_a_cancel_leaves_nothing_to_run_and_done_again_changes_nothing(fleetward: Fleetward, store: Store) -> None:
    fleetward("upgrade", "assign", FIRST, "--target", SLAP)
    before = store.assignments_of([FIRST])[FIRST].version

    fleetward("upgrade", "cancel", FIRST, "--reason", "wrong one")
    after = store.assignments_of([FIRST])[FIRST]
    again = fleetward("upgrade", "cancel", FIRST)

    assert (after.wanted, after.version > before) == ((), True)
    assert "nothing is assigned" in again.err
    assert store.assignments_of([FIRST])[FIRST] == after


def test_a_window_is_kept(fleetward: Fleetward, store: Store) -> None:
    night = ("--from", "2098-05-01T22:00:00Z", "--to", "2098-05-02T04:00:00Z")
    assert fleetward("upgrade", "assign", FIRST, "--target", SLAP, *night).code == 0

    window = store.assignments_of([FIRST])[FIRST].window
    assert window is not None
    assert window[1] - window[0] == timedelta(hours=6)


def test_an_unlock_is_an_order_with_its_name(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("upgrade", "unlock", FIRST, "--name", "firmware", "--json")

    assert done.code == 0
    (command,) = store.commands(FIRST)
    assert (command.verb, command.params) == ("unlock-upgrade", '{"name":"firmware"}')


def test_status_tells_what_runs_what_shall_run_and_how_far_it_is(fleetward: Fleetward, store: Store) -> None:
    runs(store, 6)
    fleetward("upgrade", "assign", "model:Slap-4", "--target", SLAP, "--yes")
    before = json.loads(fleetward("upgrade", "status", "--json").out)
    version = store.assignments_of([FIRST])[FIRST].version
    held = Committed(6, "1.6", "A" * 43, NOW)
    with store.unit() as unit:
        unit.apply([PutUpgrade(Upgrade(FIRST, "firmware", Phase.INSTALLING, None, 2, NOW, version, "word", held))])
        unit.apply([TookAssignment(FIRST, version, NOW, behind=False)])
    (after,) = json.loads(fleetward("upgrade", "status", f"id:{FIRST}", "--name", "firmware", "--json").out)
    plain = fleetward("upgrade", "status").out

    assert [one["phase"] for one in before] == ["waiting", "waiting"]
    assert (after["running"], after["assigned"], after["phase"], after["attempt"]) == ("1.6", "1.4.2", "installing", 2)
    assert fleetward("upgrade", "status", "--name", "agent", "--json").json == []
    assert "installing" in plain
    assert plain.startswith("DEVICE_ID")


def test_show_tells_every_word_of_a_device(fleetward: Fleetward, store: Store) -> None:
    fleetward("upgrade", "assign", FIRST, "--target", SLAP)
    version = store.assignments_of([FIRST])[FIRST].version
    for number, phase in enumerate((Phase.ASSIGNED, Phase.DOWNLOADING)):
        text = f"01900000-0000-7000-8000-{number:012d}"
        body = progress(version, phase).json()
        with store.unit() as unit:
            unit.apply([AddReport(Report(FIRST, text, "progress", NOW, NOW, body))])

    shown = json.loads(fleetward("upgrade", "show", FIRST, "--json").out)

    assert [(one["state"], one["version"]) for one in shown["history"]] == [
        ("assigned", "1.4.2"),
        ("downloading", "1.4.2"),
    ]
    assert shown["software"][0]["assigned"] == "1.4.2"
    assert "downloading" in fleetward("upgrade", "show", FIRST).out


def test_a_device_shows_its_software(fleetward: Fleetward, store: Store) -> None:
    runs(store, 6)
    shown = json.loads(fleetward("device", "show", FIRST, "--json").out)
    assert [(one["name"], one["running"]) for one in shown["software"]] == [("firmware", "1.6")]
    assert "\nsoftware\n" in fleetward("device", "show", FIRST).out


def test_watching_needs_a_terminal(fleetward: Fleetward, store: Store) -> None:
    del store
    assert fleetward("upgrade", "status", "--watch").code == 2


def test_a_broken_act_goes_on_and_gives_each_device_one_assignment(store: Store, tmp_path: Path) -> None:
    kept(store, *(device(number) for number in range(3, 60)))
    clock = Clock()
    operator = MassOperator(tmp_path, "eve", clock)
    devices = operator.device_ids(operator.selection("model:Slap-4"))
    wish = operator.wish(SLAP, "", devices, None)
    act = operator.begin_mass(MassWish(Action.ASSIGN_UPGRADE, wish.params(), "model:Slap-4", "fix"), devices)
    clock.left = clock.asked + 60
    with pytest.raises(Broken):
        operator.continue_mass(act.id)
    some = store.assignments_of(devices)
    clock.left = None

    assert 0 < len(some) < len(devices)
    assert operator.continue_mass(act.id) == Tally(done=len(devices))
    every = store.assignments_of(devices)
    assert {name: every[name] for name in some} == some
    assert len(every) == len(devices)
    operator.close()


def test_versions_of_one_millisecond_and_of_a_clock_set_back_still_rise(store: Store, tmp_path: Path) -> None:
    moments = [NOW, NOW, NOW - timedelta(seconds=20)]

    def assigned(at: datetime, path: str) -> int:
        with MassOperator(tmp_path, "eve", lambda: at) as operator:
            found = operator.assign(FIRST, operator.wish(path, "", [FIRST], None), "")
        assert found is not None
        return found.version

    versions = [assigned(at, path) for at, path in zip(moments, (SLAP, "fw/slap-8.bin", "agent.whl"), strict=True)]

    assert versions == [to_ms(NOW), to_ms(NOW) + 1, to_ms(NOW) + 2]
    assert store.assignments_of([FIRST])[FIRST].version == versions[-1]


@pytest.mark.parametrize(
    ("phase", "health"), [(Phase.COMMITTED, "ok"), (Phase.FAILED, "warning"), (Phase.LOCKED, "warning")]
)
def test_the_doctor_tells_of_upgrades_that_wait_for_somebody(
    fleetward: Fleetward, store: Store, phase: Phase, health: str
) -> None:
    parts = {one["part"]: one for one in json.loads(fleetward("doctor", "--json").out)}
    assert "upgrades" not in parts

    runs(store, 6, phase)

    parts = {one["part"]: one for one in json.loads(fleetward("doctor", "--json").out)}
    assert parts["upgrades"]["health"] == health
    assert f"firmware {phase} 1" in parts["upgrades"]["detail"]


def test_devices_are_found_by_what_they_run_and_by_how_far_they_are(fleetward: Fleetward, store: Store) -> None:
    runs(store, 6, Phase.FAILED)
    for text in ("runs:firmware@6", "runs:firmware@1.*", "upgrade:failed,locked", "-upgrade:committed runs:firm*"):
        assert [one["id"] for one in json.loads(fleetward("device", "list", text, "--json").out)] == [FIRST], text
