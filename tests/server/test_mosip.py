"""What MOSIP is to be told: a task's table, what is due, and whom the store finds for it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward_schemas.enrol import State
from fleetward_schemas.errors import LocalMistake
from fleetward_server.changes import PutDevice
from fleetward_server.mosip import queue
from fleetward_server.mosip.queue import NEXT, Act, Due, TaskEvent, TaskState, due
from fleetward_server.mosip.settings import Profile
from fleetward_server.store import Store, open_store
from tests.mosip import NOW, Scanner, task

TABLE: dict[tuple[TaskState, TaskEvent], TaskState] = {
    (TaskState.WAITING, TaskEvent.ASK): TaskState.ASKING,
    (TaskState.WAITING, TaskEvent.AGAIN): TaskState.WAITING,
    (TaskState.WAITING, TaskEvent.DONE): TaskState.DONE,
    (TaskState.WAITING, TaskEvent.REFUSE): TaskState.DEAD,
    (TaskState.WAITING, TaskEvent.DROP): TaskState.DROPPED,
    (TaskState.ASKING, TaskEvent.ASK): TaskState.ASKING,
    (TaskState.ASKING, TaskEvent.AGAIN): TaskState.WAITING,
    (TaskState.ASKING, TaskEvent.DONE): TaskState.DONE,
    (TaskState.ASKING, TaskEvent.REFUSE): TaskState.DEAD,
    (TaskState.ASKING, TaskEvent.DROP): TaskState.DROPPED,
    (TaskState.DEAD, TaskEvent.RETRY): TaskState.WAITING,
    (TaskState.DEAD, TaskEvent.DROP): TaskState.DROPPED,
}


@pytest.mark.parametrize("state", TaskState)
@pytest.mark.parametrize("event", TaskEvent)
def test_a_task_moves_as_the_table_says_and_no_other_way(state, event):
    if (state, event) in TABLE:
        assert queue.advance(task(state=state), event, NOW).state is TABLE[state, event]
    else:
        with pytest.raises(LocalMistake, match=f"{event} while {state}"):
            queue.advance(task(state=state), event, NOW)
    assert NEXT.keys() == set(TaskState)


REGISTER, DEREGISTER, HOTLIST = Due(act=Act.REGISTER), Due(act=Act.DEREGISTER), Due(act=Act.HOTLIST)
WHAT_IS_DUE = [
    # state, last task, due in 1.1, due in crypto-only
    (State.PENDING, None, Due(), Due()),
    (State.APPROVED, None, Due(), Due()),
    (State.REFUSED, None, Due(), Due()),
    (State.REGISTERED, None, REGISTER, REGISTER),
    (State.REGISTERED, task(), Due(), Due()),
    (State.REGISTERED, task(state=TaskState.DONE), Due(), Due()),
    (State.REGISTERED, task(state=TaskState.DEAD), Due(), Due()),
    (State.REGISTERED, task(Act.DEREGISTER), Due(), Due()),
    (State.REGISTERED, task(Act.DEREGISTER, TaskState.DONE), REGISTER, REGISTER),
    (State.REGISTERED, task(Act.HOTLIST, TaskState.DONE), Due(act=Act.UNBLOCK), Due(act=Act.UNBLOCK)),
    (State.REGISTERED, task(Act.HOTLIST), Due(), Due()),
    (State.REGISTERED, task(Act.UNBLOCK, TaskState.DONE), Due(), Due()),
    (State.QUARANTINED, None, Due(), Due()),
    (State.QUARANTINED, task(state=TaskState.DONE), Due(), Due()),
    (State.REVOKED, task(Act.UNBLOCK, TaskState.DONE), Due(), HOTLIST),
    (State.REVOKED, None, Due(), HOTLIST),
    (State.RETIRED, task(), Due(drop=True), Due(drop=True, act=Act.HOTLIST)),
    (State.RETIRED, task(attempts=1), Due(drop=True, act=Act.DEREGISTER), Due(drop=True, act=Act.HOTLIST)),
    (State.RETIRED, task(state=TaskState.ASKING), Due(drop=True), Due(drop=True, act=Act.HOTLIST)),
    (State.REVOKED, task(state=TaskState.DONE), DEREGISTER, HOTLIST),
    (State.REVOKED, task(state=TaskState.DEAD, attempts=1), Due(), HOTLIST),
    (State.REVOKED, task(state=TaskState.DROPPED), Due(), HOTLIST),
    (State.REVOKED, task(Act.DEREGISTER), Due(), Due(drop=True, act=Act.HOTLIST)),
    (State.REVOKED, task(Act.DEREGISTER, TaskState.DONE), Due(), HOTLIST),
    (State.REVOKED, task(Act.HOTLIST), Due(), Due()),
    (State.REVOKED, task(Act.HOTLIST, TaskState.DONE), Due(), Due()),
    (State.REVOKED, task(Act.HOTLIST, TaskState.DEAD), Due(), Due()),
]


@pytest.mark.parametrize(("state", "last", "in_1_1", "crypto_only"), WHAT_IS_DUE)
def test_what_is_due_follows_from_the_register_and_the_last_thing_told(state, last, in_1_1, crypto_only):
    assert due(state, last, Profile.PMS) == in_1_1
    assert due(state, last, Profile.MASTERDATA) == in_1_1
    assert due(state, last, Profile.CRYPTO_ONLY) == crypto_only


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "server.db", create=True) as made:
        yield made


@pytest.mark.parametrize("profile", [Profile.PMS, Profile.MASTERDATA, Profile.CRYPTO_ONLY])
def test_the_store_finds_whom_a_task_is_lacking_for_and_nobody_else(store, profile):
    for number, (state, last, *_) in enumerate(WHAT_IS_DUE, 1):
        row = Scanner(number).row(state=state)
        with store.unit() as unit:
            unit.apply([PutDevice(row)])
            if last is not None:
                unit.put_mosip_task(replace(last, device_id=row.id, profile=profile))
    wanted = 3 if profile is Profile.CRYPTO_ONLY else 2
    lacking = {Scanner(number).id for number, case in enumerate(WHAT_IS_DUE, 1) if case[wanted] != Due()}
    assert {one.device_id for one in store.mosip_unlike(profile)} == lacking
    assert {one.device_id for one in store.mosip_unlike(profile, whole=False)} == lacking
    assert len(lacking) > 2


def test_a_quick_look_leaves_out_whoever_has_a_code_and_is_not_gone(store):
    rows = [Scanner(1).row(device_code="c"), Scanner(2).row(device_code="c", state=State.REVOKED)]
    with store.unit() as unit:
        unit.apply([PutDevice(row) for row in rows])
        unit.put_mosip_task(replace(task(state=TaskState.DONE), device_id=rows[1].id))
    assert {one.device_id for one in store.mosip_unlike(Profile.PMS)} == {row.id for row in rows}
    assert [one.device_id for one in store.mosip_unlike(Profile.PMS, whole=False)] == [rows[1].id]


@pytest.mark.parametrize("whole", [True, False])
def test_a_look_is_served_by_indices(store, whole):
    from sqlalchemy import text

    seen: list[str] = []
    with store._engine.connect() as connection:
        for statement in store.mosip_looks(Profile.PMS, whole=whole):
            compiled = statement.compile(connection, compile_kwargs={"literal_binds": True})
            seen += [str(row[-1]) for row in connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}"))]
    assert not [line for line in seen if line.startswith("SCAN devices") and "INDEX" not in line]
    assert any("devices_without_code" in line for line in seen) is not whole


def test_another_profiles_tasks_are_not_ours(store):
    row = Scanner(1).row()
    with store.unit() as unit:
        unit.apply([PutDevice(row)])
        unit.put_mosip_task(replace(task(state=TaskState.DONE), device_id=row.id, profile=Profile.CRYPTO_ONLY))
    assert [one.last for one in store.mosip_unlike(Profile.PMS)] == [None]


def test_a_task_comes_back_as_it_was_kept(store):
    row = Scanner(1).row()
    full = task(device_id=row.id, attempts=3, refusals=2, asked="x", code="PMS_AUT_032", detail="y", device_code="z")
    with store.unit() as unit:
        unit.apply([PutDevice(row)])
        unit.put_mosip_task(full)
    assert store.mosip_tasks() == (replace(full, number=1),)
    assert store.mosip_task(1) == replace(full, number=1)
    assert store.mosip_task(2) is None
    assert store.mosip_counts() == (("pms-1.1", "register", "waiting", 1),)
