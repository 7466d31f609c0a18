"""Promises of presence: a state, a session, a reason of the list."""

import pytest

from fleetward_schemas.errors import Refused
from fleetward_schemas.presence import Status, StatusReason

GOOD = {"state": "online", "session": "A" * 22, "reason": "started"}


@pytest.mark.parametrize("reason", [None, *StatusReason])
@pytest.mark.parametrize("state", ["online", "offline"])
def test_a_status_is_read(state, reason):
    assert Status.read(GOOD | {"state": state, "reason": reason}).reason is reason


@pytest.mark.parametrize(
    "change", [{"state": "asleep"}, {"session": "A" * 23}, {"session": ""}, {"reason": "the cat"}, {"note": "x"}]
)
def test_a_status_says_nothing_else(change):
    with pytest.raises(Refused):
        Status.read(GOOD | change)
