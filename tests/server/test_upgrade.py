"""What a device says of an upgrade moves its state by the order in which it was said, whatever order it comes in.

Source: S7, C8; wire, section "Upgrades" 4 and 8; C10.
"""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.ids import next_id
from fleetward_schemas.moment import to_ms
from fleetward_schemas.upgrade import AHEAD_MS, Phase, Why
from fleetward_schemas.upgrade import Assignment as AssignmentBody
from fleetward_server import upgrade
from fleetward_server.changes import AddAudit, AddReport, CountRefusal
from fleetward_server.state import Presence
from fleetward_server.turn import Turn
from fleetward_server.upgrade import could_be_taken, next_version, on_progress
from fleetward_server.upgrade_state import Assignment, AssignmentSent, PutUpgrade, TookAssignment, Upgrade
from tests.server.assigned import assignment, progress, wanted
from tests.server.provider import DEVICE_ID, NOW, POLICY, Voice, device, device_speaker, known, said

MADE = assignment(DEVICE_ID, NOW)
VERSION = MADE.version
NEWER = assignment(DEVICE_ID, NOW, wanted(8), version=VERSION + 9)
HERE = device(state=State.REGISTERED, presence=Presence.ONLINE, digital_id="its.digital.id")


def heard(
    body: object, made: Assignment | None, before: Upgrade | None = None, number: int = 1, counts: int = 0
) -> Turn:
    """Let one word arrive. number: the place of its id among others."""
    message_id = next_id(NOW + timedelta(seconds=number), None, bytes(8))
    message = said("progress", body, Voice(device_speaker(), message_id=message_id))  # type: ignore[arg-type]
    return on_progress(message, known(assignment=made, upgrade=before, counts=counts or VERSION), POLICY)


def moved(turn: Turn) -> Upgrade | None:
    return next((one.upgrade for one in turn.changes if isinstance(one, PutUpgrade)), None)


def actions(turn: Turn) -> list[tuple[str, str]]:
    return [(one.entry.action, one.entry.reason) for one in turn.changes if isinstance(one, AddAudit)]


@pytest.mark.parametrize("phase", list(Phase))
def test_each_word_of_an_assignment_is_kept_and_moves_its_state(phase: Phase) -> None:
    turn = heard(progress(VERSION, phase), MADE)

    now = moved(turn)
    assert now is not None
    assert (now.phase, now.assignment, now.attempt) == (phase, VERSION, 1)
    assert [one.report.kind for one in turn.changes if isinstance(one, AddReport)] == ["progress"]
    assert len(turn.acks) == 1
    told = {Phase.COMMITTED, Phase.FAILED, Phase.REFUSED, Phase.LOCKED}
    assert actions(turn) == ([(f"upgrade-{phase}", "")] if phase in told else [])


@pytest.mark.parametrize(
    ("body", "made"),
    [
        (progress(VERSION, Phase.FAILED), None),
        (progress(VERSION, Phase.FAILED, name="canary"), MADE),
        (progress(1, Phase.COMMITTED), None),
        (progress(2**53 - 1, Phase.COMMITTED), None),
        (progress(VERSION + 3_600_000, Phase.COMMITTED), None),
    ],
)
def test_a_word_of_an_assignment_or_a_name_that_was_never_made_is_bad(body: object, made: Assignment | None) -> None:
    with pytest.raises(Refused) as refused:
        heard(body, made)
    assert refused.value.code is Code.BAD_BODY


def test_a_newer_version_than_ours_is_refused_and_its_number_remembered() -> None:
    turn = heard(progress(VERSION + 5, Phase.FAILED, name="canary"), None)

    assert turn.refused[0][1] is Code.BAD_BODY
    assert turn.acks == ()
    assert TookAssignment(DEVICE_ID, VERSION + 5, NOW, behind=True) in turn.changes
    assert CountRefusal(DEVICE_ID, Code.BAD_BODY, NOW) in turn.changes
    assert "canary" not in repr(turn)


def test_a_late_word_of_an_older_assignment_is_kept_and_moves_nothing() -> None:
    before = moved(heard(progress(NEWER.version, Phase.DOWNLOADING), NEWER, number=1))

    turn = heard(progress(VERSION, Phase.FAILED), MADE, before, number=5, counts=NEWER.version)

    assert [type(one) for one in turn.changes if isinstance(one, AddReport)] == [AddReport]
    assert moved(turn) is None
    assert actions(turn) == []


def test_a_late_commit_of_an_older_assignment_raises_the_counter_and_leaves_the_phase() -> None:
    before = moved(heard(progress(NEWER.version, Phase.DOWNLOADING), NEWER, number=1))

    after = moved(heard(progress(VERSION, Phase.COMMITTED), MADE, before, number=5, counts=NEWER.version))

    assert after is not None
    assert after.committed is not None
    assert (after.phase, after.assignment, after.committed.counter) == (Phase.DOWNLOADING, NEWER.version, 7)


def test_the_counter_committed_never_falls() -> None:
    high = moved(heard(progress(NEWER.version, Phase.COMMITTED), NEWER, number=1))

    low = moved(heard(progress(VERSION, Phase.COMMITTED), MADE, high, number=2))

    assert high is not None
    assert high.committed is not None
    assert high.committed.counter == 8
    assert low is None


def test_the_same_word_of_an_assignment_that_comes_again_is_no_news() -> None:
    before = moved(heard(progress(VERSION, Phase.FAILED, reason=Why.INSTALL), MADE, number=1))

    turn = heard(progress(VERSION, Phase.FAILED, reason=Why.INSTALL), MADE, before, number=2)

    assert actions(turn) == []
    after = moved(turn)
    assert (before and before.since) == (after and after.since)


def test_the_devices_own_reason_stands_in_the_audit() -> None:
    turn = heard(progress(VERSION, Phase.FAILED, reason=Why.WRONG_HASH, attempt=3), MADE)

    (entry,) = [one.entry for one in turn.changes if isinstance(one, AddAudit)]
    assert (entry.actor, entry.action, entry.reason) == (f"device:{DEVICE_ID}", "upgrade-failed", "wrong-hash")
    assert entry.detail == "firmware 1.7 (7), attempt 3"


WORDS = st.lists(
    st.tuples(st.sampled_from([MADE, NEWER]), st.sampled_from(list(Phase)), st.integers(0, 10)), min_size=1, max_size=9
)


@given(words=WORDS, data=st.data())
def test_any_order_and_any_repetition_of_words_ends_in_the_same_state(
    words: list[tuple[Assignment, Phase, int]], data: st.DataObject
) -> None:
    numbered = list(enumerate(sorted(words, key=lambda one: one[0].version), 1))
    mixed = data.draw(st.permutations(numbered + data.draw(st.lists(st.sampled_from(numbered), max_size=5))))

    assert _ended(mixed) == _ended(numbered)


def _ended(words: list[tuple[int, tuple[Assignment, Phase, int]]]) -> tuple[object, ...]:
    state: Upgrade | None = None
    for number, (made, phase, attempt) in words:
        state = moved(heard(progress(made.version, phase, attempt=attempt), made, state, number)) or state
    assert state is not None
    return state.phase, state.attempt, state.assignment, state.word, state.committed


@pytest.mark.parametrize(
    ("taken", "made", "ms", "version"),
    [
        (0, 0, 1000, 1000),
        (0, 1000, 1000, 1001),
        (0, 5000, 1000, 5001),
        (5000, 0, 1000, 5001),
        (5000, 9000, 1000, 9001),
        (9000, 5000, 20_000, 20_000),
    ],
)
def test_a_version_is_of_now_and_above_all_that_a_device_may_have(taken: int, made: int, ms: int, version: int) -> None:
    now = datetime.fromtimestamp(ms / 1000, tz=NOW.tzinfo)

    assert next_version(now, taken, made) == version


def test_what_lies_further_ahead_than_a_device_takes_cannot_have_been_taken() -> None:
    assert could_be_taken(to_ms(NOW) + AHEAD_MS, NOW)
    assert not could_be_taken(to_ms(NOW) + AHEAD_MS + 1, NOW)


def test_a_device_that_is_there_is_sent_its_assignment_under_its_digital_id() -> None:
    window = (NOW, NOW + timedelta(hours=4))
    turn = upgrade.send(replace(MADE, window=window), HERE, NOW)

    (reply,) = turn.replies
    assert (reply.topic, reply.digital_id) == (f"fw/v1/d/{DEVICE_ID}/down/assignment", "its.digital.id")
    assert isinstance(reply.body, AssignmentBody)
    assert reply.body.version == VERSION
    assert [(one.name, one.counter, one.hashes.sha256) for one in reply.body.releases] == [
        ("firmware", 7, wanted().sha256)
    ]
    assert reply.body.window is not None
    assert turn.changes == (AssignmentSent(DEVICE_ID, VERSION, NOW, NOW + upgrade.AGAIN),)


@pytest.mark.parametrize(
    ("changes", "again"),
    [
        ({"presence": Presence.OFFLINE}, None),
        ({"presence": Presence.NEVER}, None),
        ({"state": State.QUARANTINED}, NOW + upgrade.HELD),
        ({"state": State.REVOKED}, NOW + upgrade.HELD),
        ({"state": State.RETIRED}, NOW + upgrade.HELD),
        ({"digital_id": None}, NOW + upgrade.HELD),
    ],
)
def test_nobody_else_is_sent_one(changes: dict[str, object], again: datetime | None) -> None:
    turn = upgrade.send(MADE, replace(HERE, **changes), NOW)  # type: ignore[arg-type]

    assert turn.replies == ()
    assert turn.changes == (AssignmentSent(DEVICE_ID, VERSION, None, again),)


def test_one_that_wants_nothing_has_no_answer_to_wait_for() -> None:
    turn = upgrade.send(replace(MADE, wanted=()), HERE, NOW)

    assert len(turn.replies) == 1
    assert turn.changes == (AssignmentSent(DEVICE_ID, VERSION, NOW, None),)


def test_the_first_word_says_that_the_device_has_its_assignment() -> None:
    turn = heard(progress(VERSION, Phase.ASSIGNED), MADE)

    assert TookAssignment(DEVICE_ID, VERSION, NOW, behind=False) in turn.changes
