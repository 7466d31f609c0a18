"""Assignments over the worker: sent until the device speaks of them, never to another, and mended after a restore.

Source: S7, C8; wire, section "Upgrades" 4.
"""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetward_schemas.moment import to_ms
from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase
from fleetward_server.authority import Authority
from fleetward_server.chores import AHEAD_FOR
from fleetward_server.config import load
from fleetward_server.generations import own_anchors
from fleetward_server.operator import LocalOperator
from fleetward_server.store import AuditFilter, ReportFilter, Store, open_store
from fleetward_server.store.snapshot import copy_database
from fleetward_server.upgrade import AGAIN
from fleetward_server.upgrade_state import Assignment, Upgrade
from fleetward_server.worker import Worker
from tests.device import TestDevice
from tests.server.assigned import assign, assignment, progress, wanted
from tests.server.test_worker import LINE, Bench, payload


def sent(bench: Bench, worker: Worker | None = None, **after: float) -> list[dict[str, Any]]:
    """Let the worker do its chores; return the assignments that went out."""
    bench.now += timedelta(**after)
    bench.link.sent.clear()
    worker = worker or bench.worker
    worker.send(worker.chores(bench.now), LINE, bench.now)
    return [payload(raw)["body"] for topic, raw in bench.link.sent if topic.endswith("/assignment")]  # type: ignore[misc]


def upgrades(store: Store, device: TestDevice) -> tuple[Upgrade, ...]:
    return store.upgrades_of((device.id,))


def counting(store: Store, device: TestDevice) -> Assignment | None:
    return store.assignments_of((device.id,)).get(device.id)


def assigned(bench: Bench, device: TestDevice) -> Assignment:
    return assign(bench.store, assignment(device.id, bench.now), bench.now)


def test_a_device_that_is_there_is_sent_its_assignment_at_once_and_once(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    made = assigned(bench, device)

    (body,) = sent(bench)

    assert (body["version"], body["window"]) == (made.version, None)
    assert [one["target"] for one in body["releases"]] == ["firmware/scanner-1.7.bin"]
    assert sent(bench, seconds=1) == []


@pytest.mark.parametrize("end", [Phase.COMMITTED, Phase.REFUSED])
def test_it_is_sent_again_each_time_the_device_comes_until_it_is_at_its_end(bench: Bench, end: Phase) -> None:
    device = bench.enrolled(bench.l1)
    made = assigned(bench, device)
    assert len(sent(bench)) == 1
    for _ in range(2):
        bench.hear(device.online(bench.now))
        assert len(sent(bench)) == 1

    ((kind, _),) = bench.hear(device.say("progress", progress(made.version, Phase.ASSIGNED), bench.now))
    assert kind == "ack"
    assert sent(bench, seconds=AGAIN.total_seconds()) == []
    bench.hear(device.online(bench.now))
    assert len(sent(bench)) == 1

    bench.hear(device.say("progress", progress(made.version, end), bench.now))
    bench.hear(device.online(bench.now))

    assert sent(bench) == []
    assert sent(bench, days=1) == []


def test_all_that_come_in_one_batch_are_sent_theirs(bench: Bench) -> None:
    devices = [bench.enrolled(bench.l1), bench.enrolled(bench.l0)]
    bench.worker.miss(bench.now + timedelta(hours=1))
    made = {assigned(bench, device).device_id for device in devices}

    bench.hear(*(device.online(bench.now) for device in devices))

    assert len(made) == len(sent(bench)) == 2


def test_a_device_that_is_there_and_silent_is_sent_it_again_after_a_while(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    assigned(bench, device)
    assert len(sent(bench)) == 1

    assert sent(bench, seconds=AGAIN.total_seconds() - 1) == []
    assert len(sent(bench, seconds=2)) == 1


def test_a_device_that_is_away_is_sent_it_when_it_comes(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    bench.worker.miss(bench.now + timedelta(hours=1))
    assigned(bench, device)
    assert sent(bench) == []

    bench.hear(device.online(bench.now))

    assert len(sent(bench)) == 1


def test_a_device_in_quarantine_is_sent_it_once_it_is_released(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    operator = LocalOperator(bench.store.path.parent, "ann", lambda: bench.now)
    operator.quarantine(DeviceId(device.id), "odd")
    assigned(bench, device)
    bench.hear(device.online(bench.now))
    assert sent(bench) == []

    operator.release(DeviceId(device.id), "fine")

    assert len(sent(bench, seconds=61)) == 1
    operator.close()


def test_what_a_device_says_is_kept_once_and_moves_its_own_upgrade_alone(bench: Bench) -> None:
    device, other = bench.enrolled(bench.l1), bench.enrolled(bench.l0)
    made = assigned(bench, device)
    assign(bench.store, assignment(other.id, bench.now, version=made.version + 1), bench.now)
    words = [device.say("progress", progress(made.version, phase), bench.now) for phase in _TO_COMMITTED]

    bench.hear(*words)
    bench.hear(*reversed(words))

    (upgrade,) = upgrades(bench.store, device)
    assert (upgrade.phase, upgrade.committed and upgrade.committed.counter) == (Phase.COMMITTED, 7)
    assert upgrades(bench.store, other) == ()
    assert len(bench.store.reports(ReportFilter(device.id, "progress"), limit=99)) == len(_TO_COMMITTED)
    history = bench.store.audit_links(0, 999, AuditFilter(subject=device.id))
    assert [one.entry.action for one in history].count("upgrade-committed") == 1


_TO_COMMITTED = (
    Phase.ASSIGNED,
    Phase.DOWNLOADING,
    Phase.STAGED,
    Phase.INSTALLING,
    Phase.ACTIVATING,
    Phase.CHECKING,
    Phase.COMMITTED,
)


@pytest.mark.parametrize("name", ["firmware", "canary"])
def test_progress_of_anothers_assignment_or_of_another_name_changes_nothing(bench: Bench, name: str) -> None:
    device, other = bench.enrolled(bench.l1), bench.enrolled(bench.l0)
    made = assigned(bench, device)
    mine = assign(bench.store, assignment(other.id, bench.now, version=made.version + 1), bench.now)
    version = made.version if name == "firmware" else mine.version

    ((kind, answer),) = bench.hear(other.say("progress", progress(version, Phase.COMMITTED, name=name), bench.now))

    assert kind == "ack"
    assert answer["body"]["refused"] == [{"id": other.last_id, "code": "bad-body"}]  # type: ignore[index]
    assert upgrades(bench.store, device) == upgrades(bench.store, other) == ()
    assert bench.store.reports(ReportFilter(other.id, "progress"), limit=9) == ()
    assert bench.refusals(other.id) == {"bad-body": 1}


def test_an_older_assignments_words_are_kept_after_a_newer_one(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    old = assigned(bench, device)
    assign(bench.store, assignment(device.id, bench.now, wanted(8), version=old.version + 5), bench.now)

    bench.hear(device.say("progress", progress(old.version, Phase.COMMITTED), bench.now))

    (upgrade,) = upgrades(bench.store, device)
    assert (upgrade.assignment, upgrade.phase) == (old.version, Phase.COMMITTED)
    assert [body["version"] for body in sent(bench)] == [old.version + 5]


def test_a_restored_register_says_what_it_knows_above_what_the_device_has(bench: Bench, tmp_path: Path) -> None:
    """The backup is older than the device's assignment: its words are refused once, then both hold the same again."""
    device = bench.enrolled(bench.l1)
    first = assigned(bench, device)
    sent(bench)
    bench.hear(device.say("progress", progress(first.version, Phase.STAGED), bench.now))
    copy_database(bench.store.path, tmp_path / "server.db")
    forgotten = assign(bench.store, assignment(device.id, bench.now, wanted(8)), bench.now)
    bench.hear(device.say("progress", progress(forgotten.version, Phase.ASSIGNED, attempt=0), bench.now))

    with open_store(tmp_path / "server.db") as restored:
        config = load(bench.store.path.parent)
        bench.worker = Worker(
            restored, bench.link, Authority(config), bench.worker.policy, own_anchors(config), bench.now
        )
        ((_, answer),) = bench.hear(device.say("progress", progress(forgotten.version, Phase.STAGED), bench.now))
        assert answer["body"]["refused"][0]["code"] == "bad-body"  # type: ignore[index]
        assert sent(bench, seconds=1) == []
        assert sent(bench, seconds=AGAIN.total_seconds() + AHEAD_FOR.total_seconds()) == []
        (body,) = sent(bench)
        bench.hear(device.say("progress", progress(body["version"], Phase.STAGED), bench.now))

        assert body["version"] > forgotten.version
        assert [one["counter"] for one in body["releases"]] == [7]
        assert sent(bench, days=1) == sent(bench) == []
        made = counting(restored, device)
        assert made is not None
        assert (made.version, made.seen, made.actor) == (body["version"], True, "server")
        history = restored.audit_links(0, 999, AuditFilter(subject=device.id))
        assert [one.entry.action for one in history].count("upgrade-assigned-again") == 1


def test_old_assignments_are_forgotten_and_the_one_that_counts_stays(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    old = assigned(bench, device)
    new = assign(bench.store, assignment(device.id, bench.now, wanted(8), version=old.version + 1), bench.now)

    gone = bench.store.forget_assignments(bench.now + timedelta(days=1))

    assert gone == 1
    assert counting(bench.store, device) == replace(new, seen=False)
    with bench.store.unit() as rows:
        assert rows.assignment(device.id, old.version) is None
        assert rows.made_version(device.id, to_ms(bench.now) + 99_000) == new.version


def test_a_clock_that_ran_ahead_binds_nobody(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    far = to_ms(bench.now + timedelta(days=365))
    assign(bench.store, assignment(device.id, bench.now, version=far), bench.now)

    with bench.store.unit() as rows:
        assert rows.made_version(device.id, to_ms(bench.now)) == 0
        assert rows.made_version(device.id, far) == far


def test_nothing_is_assigned_while_devices_could_not_read_what_is_released(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    assigned(bench, device)
    bench.link.sent.clear()

    bench.worker.send(bench.worker.chores(bench.now, assigns=False), LINE, bench.now)

    assert bench.link.sent == []
    assert len(sent(bench)) == 1
