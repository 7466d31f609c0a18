"""Birth and will of a session, and the moment new keys take over. Source: protocol section 5 "Operation"."""

from datetime import timedelta

import pytest

from fleetward_schemas.enrol import State
from fleetward_schemas.presence import Status
from fleetward_schemas.telemetry import Reading, Telemetry
from fleetward_server.changes import AddAudit, PutDevice, TakeCertificates
from fleetward_server.presence import on_status
from fleetward_server.state import CertificateState, Presence
from fleetward_server.telemetry import on_telemetry
from fleetward_server.turn import Turn
from fleetward_server.upgrade_state import AssignmentWanted
from tests.server.provider import DEVICE_ID, ID, NOW, POLICY, Voice, device, device_speaker, known, said

SESSION, OTHER = "A" * 22, "B" * 21 + "A"


def status(
    state: str, session: str = SESSION, *, certificate: CertificateState = CertificateState.CURRENT, **row: object
) -> Turn:
    voice = Voice(device_speaker(state=certificate))
    message = said("status", Status(state=state, session=session), voice)  # type: ignore[arg-type]
    return on_status(message, known(device=device(state=State.REGISTERED, **row)), POLICY)


def test_online_is_believed_and_acknowledged() -> None:
    turn = status("online")

    (put,) = [c for c in turn.changes if isinstance(c, PutDevice)]
    assert (put.device.presence, put.device.session) == (Presence.ONLINE, SESSION)
    assert turn.acks == (ID,)


def test_the_first_online_under_new_keys_ends_the_old_ones() -> None:
    turn = status("online", certificate=CertificateState.ISSUED, reissue=True, approved_key="K" * 43)

    assert TakeCertificates(DEVICE_ID, ID) in turn.changes
    (put,) = [c for c in turn.changes if isinstance(c, PutDevice)]
    assert (put.device.enrolments, put.device.reissue, put.device.approved_key) == (1, False, None)
    assert [c.entry.action for c in turn.changes if isinstance(c, AddAudit)] == ["took-keys"]


def test_a_later_online_under_the_same_keys_ends_nothing() -> None:
    turn = status("online", enrolments=1)

    assert [type(c) for c in turn.changes] == [PutDevice, AssignmentWanted]


def test_the_digital_id_before_is_remembered() -> None:
    turn = status("online", digital_id="older.digital.id")

    (put,) = [c for c in turn.changes if isinstance(c, PutDevice)]
    assert (put.device.digital_id, put.device.previous_digital_id) == ("signed.digital.id", "older.digital.id")


def will(session: str, **row: object) -> Turn:
    message = said("status", Status(state="offline", session=session), Voice(device_speaker()))
    return on_status(message, known(device=device(state=State.REGISTERED, session=SESSION, **row)), POLICY)


def test_a_will_that_was_believed_is_not_believed_again() -> None:
    assert will(SESSION, presence=Presence.OFFLINE) == Turn()


def test_the_will_of_the_session_that_is_online_takes_it_offline() -> None:
    turn = will(SESSION, presence=Presence.ONLINE)

    (put,) = [c for c in turn.changes if isinstance(c, PutDevice)]
    assert put.device.presence is Presence.OFFLINE


def test_the_late_will_of_an_older_session_changes_nothing() -> None:
    assert will(OTHER, presence=Presence.ONLINE) == Turn()


@pytest.mark.parametrize(("seconds", "presence"), [(-1, Presence.ONLINE), (0, None), (1, None)])
def test_a_device_given_up_as_silent_that_speaks_again_is_there(seconds: int, presence: Presence | None) -> None:
    reading = Reading(observedAt="2026-05-01T12:00:00.000Z", uncertaintyMs=1, metrics={"uptimeS": 1})
    message = said("telemetry", Telemetry(readings=[reading]), Voice(device_speaker()))
    row = device(presence=Presence.OFFLINE, presence_at=NOW + timedelta(seconds=seconds))

    turn = on_telemetry(message, known(device=row), POLICY)

    assert [c.device.presence for c in turn.changes if isinstance(c, PutDevice)] == ([presence] if presence else [])
