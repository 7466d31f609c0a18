"""Promises of enrolment's shapes and of a device's life."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.enrol import NEXT, Challenge, Enrol, Enrolled, Event, Hello, State, advance, may_advance
from fleetward_schemas.errors import LocalMistake, Refused

NONCE = "A" * 43
HELLO = {
    "nonce": NONCE,
    "certification": "L1",
    "purpose": "Auth",
    "protocol": [1],
    "agentVersion": "0.1.0",
    "current": None,
}
EDGES = {
    ("pending", "approve"): "approved",
    ("pending", "refuse"): "refused",
    ("approved", "certify"): "registered",
    ("approved", "refuse"): "refused",
    ("approved", "revoke"): "revoked",
    ("registered", "certify"): "registered",
    ("registered", "approve"): "registered",
    ("registered", "revoke"): "revoked",
    ("registered", "retire"): "retired",
    ("registered", "quarantine"): "quarantined",
    ("quarantined", "release"): "registered",
    ("quarantined", "revoke"): "revoked",
    ("quarantined", "retire"): "retired",
    ("revoked", "reinstate"): "approved",
    ("retired", "reinstate"): "approved",
    ("refused", "approve"): "approved",
}
ALL = [(state, event) for state in State for event in Event]


@pytest.mark.parametrize(("state", "event"), [pair for pair in ALL if pair in EDGES])
def test_every_edge_leads_where_it_should(state, event):
    assert may_advance(state, event)
    assert advance(state, event) == EDGES[state, event]


@pytest.mark.parametrize(("state", "event"), [pair for pair in ALL if pair not in EDGES])
def test_every_other_step_is_our_own_mistake(state, event):
    assert not may_advance(state, event)
    with pytest.raises(LocalMistake):
        advance(state, event)


@given(st.lists(st.sampled_from(Event)))
def test_only_an_operator_brings_back_and_nobody_is_registered_unapproved(events):
    state, approved = State.PENDING, False
    for event in events:
        if may_advance(state, event):
            assert state not in {State.REVOKED, State.RETIRED} or event is Event.REINSTATE
            state, approved = advance(state, event), approved or event is Event.APPROVE
        assert approved or state is not State.REGISTERED


def test_every_state_has_its_line():
    assert set(NEXT) == set(State)


def test_a_first_word_is_read():
    assert Hello.read(HELLO).current is None
    assert Hello.read(HELLO | {"current": NONCE}).current == NONCE


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "A" * 42},
        {"certification": "L2"},
        {"purpose": "auth"},
        {"protocol": []},
        {"protocol": [0]},
        {"protocol": [1] * 9},
        {"protocol": [True]},
        {"agentVersion": ""},
        {"current": "none"},
        {"template": "x"},
    ],
)
def test_a_first_word_says_nothing_else(change):
    with pytest.raises(Refused):
        Hello.read(HELLO | change)


CHALLENGE = {"nonce": NONCE, "serverNonce": NONCE, "settings": {"telemetryS": 60, "timeS": 600}}


def test_a_challenge_is_read_with_its_settings():
    assert Challenge.read(CHALLENGE | {"new": 1}).settings.timeS == 600


@pytest.mark.parametrize("settings", [{"telemetryS": 0, "timeS": 600}, {"telemetryS": 60, "timeS": 9}, {"timeS": 600}])
def test_settings_stay_inside_their_bounds(settings):
    with pytest.raises(Refused):
        Challenge.read(CHALLENGE | {"settings": settings})


def test_an_enrolment_brings_two_requests():
    assert Enrol.read({"serverNonce": NONCE, "deviceCsr": "MAA=", "transportCsr": "MAA="})
    with pytest.raises(Refused):
        Enrol.read({"serverNonce": NONCE, "deviceCsr": "MAA="})


REGISTERED = {"status": "registered", "deviceChain": ["MAA="], "transportChain": ["MAA="], "env": "Staging"}
REFUSED = {"status": "refused", "reason": "clone", "retryAfterS": 60, "env": "Staging"}


@pytest.mark.parametrize("body", [REGISTERED, REFUSED, REFUSED | {"status": "pending"}, REFUSED | {"reason": "new"}])
def test_an_answer_is_whole(body):
    assert Enrolled.read(body).status == body["status"]


@pytest.mark.parametrize(
    "body",
    [
        REGISTERED | {"deviceChain": None},
        REGISTERED | {"transportChain": None},
        REGISTERED | {"reason": "clone"},
        REGISTERED | {"deviceChain": ["MAA="] * 4},
        REGISTERED | {"env": "staging"},
        REFUSED | {"reason": None},
        REFUSED | {"deviceChain": ["MAA="]},
        REFUSED | {"transportChain": ["MAA="]},
        REFUSED | {"status": "maybe"},
    ],
)
def test_half_an_answer_is_none(body):
    with pytest.raises(Refused):
        Enrolled.read(body)
