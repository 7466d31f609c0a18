"""What operators and the worker ask. Source: S5; protocol section 5."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.replay import ReplayWindow
from fleetward_server.changes import AddReport, Change, PutChallenge, PutCommand, PutWindow
from fleetward_server.state import Device, Presence
from fleetward_server.store import ReportFilter, Store
from tests.server.register import FIRST, HOUR, NOW, challenge, command, device, kept, made, report

LATER = NOW + timedelta(minutes=1)
ONLINE = device(digital_id="a.b.c", presence=Presence.ONLINE)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with made(tmp_path) as fresh:
        yield fresh


def applied(store: Store, *changes: Change) -> Store:
    with store.unit() as unit:
        unit.apply(changes)
    return store


def test_devices_come_in_pages_that_miss_none(store: Store) -> None:
    kept(store, *(device(number) for number in range(1, 8)))
    found: list[str] = []
    while page := store.devices(after=found[-1] if found else "", limit=3):
        found += [one.id for one in page]
    assert found == sorted(device(number).id for number in range(1, 8))


def test_wildcards_in_a_name_mean_themselves(store: Store) -> None:
    kept(store, device())
    assert store.named("_" * 26) == ()


def test_a_device_is_named_by_the_beginning_of_its_id_or_by_its_serial(store: Store) -> None:
    kept(store, device(1), device(2))
    assert store.named(device(2).id[:4]) == (device(2),)
    assert store.named("SN-0001") == (device(1),)


def test_reports_come_in_the_order_of_the_outbox(store: Store) -> None:
    kept(store, device(1), device(2))
    applied(store, *(AddReport(report(number)) for number in (3, 1, 2)), AddReport(report(9, 2)))
    found = store.reports(ReportFilter(device_id=FIRST, kind="telemetry", since=NOW))
    assert [one.id[-1] for one in found] == ["1", "2", "3"]
    assert [one.id[-1] for one in store.stream_reports()] == ["3", "1", "2", "9"]


def test_reports_are_found_by_kind_and_age(store: Store) -> None:
    kept(store, device())
    applied(store, AddReport(report(1)), AddReport(report(2, kind="info", received_at=LATER)))
    assert store.reports(ReportFilter(since=LATER)) == store.reports(ReportFilter(kind="info"))
    assert list(store.stream_reports(ReportFilter(since=LATER + HOUR))) == []


def test_old_reports_go_a_few_at_a_time_and_young_ones_stay(store: Store) -> None:
    kept(store, device())
    applied(store, *(AddReport(report(number)) for number in range(5)), AddReport(report(7, received_at=LATER)))
    gone = [store.prune_reports(LATER, "telemetry", limit=3) for _ in range(3)]
    assert gone == [3, 2, 0]
    assert [one.received_at for one in store.reports()] == [LATER]


def test_a_queued_command_waits_for_a_device_that_was_ever_there(store: Store) -> None:
    applied(kept(store, device()), PutCommand(command()))
    assert store.queued_commands(NOW) == ()
    kept(store, device(digital_id="a.b.c"))
    assert store.queued_commands(NOW) == (command(),)


def test_an_unanswered_command_is_sent_again_to_a_device_that_is_online(store: Store) -> None:
    sent = command(step=Step.SENT, sent_at=NOW)
    applied(kept(store, ONLINE), PutCommand(sent))
    assert store.queued_commands(NOW + timedelta(seconds=29)) == ()
    assert store.queued_commands(NOW + timedelta(seconds=30)) == (sent,)
    kept(store, device(digital_id="a.b.c", presence=Presence.OFFLINE))
    assert store.queued_commands(NOW + timedelta(seconds=30)) == ()


@pytest.mark.parametrize("step", [Step.SUCCEEDED, Step.FAILED, Step.REFUSED, Step.EXPIRED])
def test_a_closed_command_is_neither_sent_nor_given_up(store: Store, step: Step) -> None:
    applied(kept(store, ONLINE), PutCommand(command(step=step, sent_at=NOW)))
    assert store.queued_commands(LATER) == ()
    assert store.overdue_commands(NOW + 2 * HOUR) == ()
    assert store.commands(open_only=True) == ()


def test_an_overdue_command_is_given_up_and_no_more_sent(store: Store) -> None:
    applied(kept(store, ONLINE), PutCommand(command()))
    assert store.overdue_commands(NOW) == ()
    assert store.overdue_commands(NOW + HOUR) == (command(),)
    assert store.queued_commands(NOW + HOUR) == ()


def waiting(**changes: object) -> Device:
    held = {"asking_key": "k", "hello_digital_id": "a.b.c", "reason": Reason.AWAITING_APPROVAL}
    return device(**(held | changes))


@pytest.mark.parametrize(
    "approved",
    [
        waiting(state=State.APPROVED, approved_key="k"),
        waiting(state=State.REGISTERED, approved_key="k"),
        waiting(state=State.APPROVED, listed=True, reason=Reason.NOT_LISTED),
    ],
)
def test_a_device_approved_while_it_waits_is_told(store: Store, approved: Device) -> None:
    kept(store, approved)
    assert store.approved_waiting() == (approved,)


@pytest.mark.parametrize(
    "held",
    [
        waiting(state=State.PENDING),
        waiting(state=State.APPROVED, approved_key="another"),
        waiting(state=State.REGISTERED),
        waiting(state=State.APPROVED, approved_key="k", reason=None),
        waiting(state=State.APPROVED, approved_key="k", hello_digital_id=None),
    ],
)
def test_a_device_that_is_not_approved_or_asked_again_is_not_told(store: Store, held: Device) -> None:
    kept(store, held)
    assert store.approved_waiting() == ()


def test_a_silent_device_is_one_said_to_be_online(store: Store) -> None:
    kept(store, device(1, presence=Presence.ONLINE, seen_at=NOW), device(2, presence=Presence.OFFLINE, seen_at=NOW))
    assert [one.id for one in store.silent_devices(LATER)] == [FIRST]
    assert store.silent_devices(NOW) == ()


def test_ended_windows_and_challenges_are_forgotten_and_live_ones_kept(store: Store) -> None:
    windows = [PutWindow("s", str(n), ReplayWindow(1, 1), NOW + n * HOUR) for n in range(2)]
    applied(store, *windows, PutChallenge(challenge(expires_at=NOW)))
    assert (store.forget_windows(LATER), store.forget_challenges(LATER)) == (1, 1)
    assert (store.forget_windows(LATER), store.forget_challenges(LATER)) == (0, 0)
    with store.unit() as unit:
        assert unit.window("s", "1") == ReplayWindow(1, 1)


def test_counts_tell_the_fleet_in_numbers(store: Store) -> None:
    kept(store, device(1), device(2, state=State.PENDING, presence=Presence.ONLINE))
    applied(store, PutCommand(command()))
    counts = store.counts()
    assert counts.devices == 2
    assert counts.states == {"pending": 1, "registered": 1}
    assert counts.presences == {"never": 1, "online": 1}
    assert counts.steps == {"queued": 1}
