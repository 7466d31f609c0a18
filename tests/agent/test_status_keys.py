"""What ``fleetward-agent status`` says of keys that change hands."""

from dataclasses import replace

import pytest

from fleetward_agent.state import Kept, KeyOrder, Pair
from fleetward_agent.status import keys_of
from fleetward_schemas.commands import ResultState, Verb

PAIR = Pair("device-a", "transport-a", (), (), "")
ORDER = KeyOrder("id", Verb.ROTATE_KEY, 0)


@pytest.mark.parametrize(
    ("kept", "word"),
    [
        (Kept(), "none"),
        (Kept(pair=PAIR), "in use"),
        (Kept(pair=PAIR, order=ORDER), "rotating"),
        (Kept(pair=PAIR, previous=PAIR, order=ORDER), "rotating, both pairs held"),
        (Kept(pair=PAIR, order=replace(ORDER, outcome=ResultState.FAILED)), "in use"),
        (Kept(pair=PAIR, order=replace(ORDER, verb=Verb.RETIRE)), "retiring"),
    ],
)
def test_a_word_for_what_happens_to_the_keys(kept: Kept, word: str) -> None:
    assert keys_of(kept) == word
