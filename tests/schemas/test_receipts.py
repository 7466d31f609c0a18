"""Promises of receipts and alarms."""

import pytest

from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.receipts import Ack, Alert, AlertCode
from fleetward_schemas.shapes import MAX_IDS

ID = "0195514e-6c00-7000-8000-000000000000"
AT = "2026-03-01T12:00:00.000Z"
ALERT = {"code": "replayed", "count": 1, "first": AT, "last": AT}


def test_an_ack_names_what_was_stored_and_what_was_not():
    ack = Ack.read({"ids": [ID], "refused": [{"id": ID, "code": "bad-body"}], "new": 1})
    assert (ack.ids, ack.refused[0].code) == ([ID], "bad-body")
    assert Ack.read({"ids": []}).refused == []


@pytest.mark.parametrize(
    "body", [{"ids": [ID] * (MAX_IDS + 1)}, {"ids": ["x"]}, {}, {"ids": [], "refused": [{"id": ID}]}]
)
def test_an_ack_is_bounded_and_whole(body):
    with pytest.raises(Refused):
        Ack.read(body)


@pytest.mark.parametrize("code", list(AlertCode))
def test_an_alert_is_read(code):
    assert Alert.read(ALERT | {"code": str(code)}).code is code


@pytest.mark.parametrize(
    "change", [{"code": "curious"}, {"count": 0}, {"count": 2**53}, {"first": "now"}, {"note": "x"}]
)
def test_an_alert_says_nothing_else(change):
    with pytest.raises(Refused):
        Alert.read(ALERT | change)


def test_an_alert_speaks_of_refusal_codes_and_two_of_its_own():
    assert {code.value for code in AlertCode} - {code.value for code in Code} == {"outbox-full", "report-refused"}
