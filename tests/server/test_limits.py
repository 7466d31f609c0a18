"""How much one device may say, and that beyond it nothing is lost."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.errors import Code, Refused
from fleetward_server.limits import DAY_S, Buckets, Rule, rules_of
from fleetward_server.settings import LimitsTable
from tests.server.test_worker import Bench

RULE, OTHER = Rule(5, 1, "one a second"), Rule(5, 1, "another")


@given(st.lists(st.floats(0, 100), max_size=200))
def test_never_more_than_the_burst_and_what_filled_since(waits: list[float]) -> None:
    bucket, now, taken = Buckets((RULE.most,), 0.0), 0.0, 0
    for wait in waits:
        now += wait
        bucket = bucket.at((RULE,), now)
        try:
            bucket = bucket.drawn((RULE,), (1,))
        except Refused:
            continue
        taken += 1
    assert taken <= RULE.most + now * RULE.per_s + 1e-6


def test_a_clock_that_ran_backwards_fills_nothing() -> None:
    assert Buckets((1.0,), 10.0).at((RULE,), 5.0) == Buckets((1.0,), 5.0)


def test_what_one_rule_refuses_costs_by_no_other() -> None:
    with pytest.raises(Refused, match=f"{Code.TOO_OFTEN}: one a second"):
        Buckets((5.0, 0.5), 0.0).drawn((OTHER, RULE), (1, 1))
    assert Buckets((5.0, 5.0), 0.0).drawn((OTHER, RULE), (1, 5)) == Buckets((4.0, 0.0), 0.0)


def test_a_days_quota_fills_within_a_day() -> None:
    rules = rules_of(LimitsTable())
    assert Buckets((0, 0, 0), 0.0).at(rules, DAY_S).left == pytest.approx([rule.most for rule in rules])


def allowed(bench: Bench, **table: int) -> None:
    limits = replace(LimitsTable(), **table)
    bench.worker.policy = replace(bench.worker.policy, limits=limits)


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        ({"reports_burst": 3, "reports_per_s": 1}, "1 reports a second"),
        ({"reports_per_day": 3}, "3 reports a day"),
    ],
)
def test_reports_beyond_the_limit_are_refused_told_counted_and_taken_later(
    bench: Bench,
    table: dict[str, int],
    rule: str,
) -> None:
    device = bench.enrolled(bench.l1)
    allowed(bench, **table)
    reports = [device.telemetry(bench.now, uptimeS=float(number)) for number in range(4)]
    acks = [answer["body"] for kind, answer in bench.hear(*reports) if kind == "ack"]

    stored = [one for ack in acks for one in ack["ids"]]  # type: ignore[index]
    refused = [one["code"] for ack in acks for one in ack["refused"]]  # type: ignore[index]
    assert (len(stored), refused) == (3, ["too-often"])
    assert bench.refusals(device.id) == {"too-often": 1}

    bench.now += timedelta(days=1)
    bench.monotonic += DAY_S
    again = bench.hear(device.telemetry(bench.now, uptimeS=9.0))
    assert [len(answer["body"]["ids"]) for kind, answer in again if kind == "ack"] == [1]  # type: ignore[index]


def test_a_days_bytes_are_a_limit_of_their_own(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    allowed(bench, mib_per_day=1)
    sent = [device.telemetry(bench.now, uptimeS=float(number)) for number in range(600)]
    acks = [answer["body"] for kind, answer in bench.hear(*sent) if kind == "ack"]
    stored = sum(len(ack["ids"]) for ack in acks)  # type: ignore[index]

    assert 0 < stored < 600
    size = max(len(raw) for _, raw in sent)
    assert stored <= 1024 * 1024 // (size - 200)


def test_one_device_uses_up_nothing_of_anothers(bench: Bench) -> None:
    first, second = bench.enrolled(bench.l1), bench.enrolled(bench.l0)
    allowed(bench, reports_burst=1, reports_per_s=1)
    bench.hear(first.telemetry(bench.now), first.telemetry(bench.now))
    bench.hear(second.telemetry(bench.now))

    assert bench.refusals(first.id) == {"too-often": 1}
    assert bench.refusals(second.id) == {}


def test_what_came_by_hand_is_not_counted(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    allowed(bench, reports_burst=1, reports_per_s=1)
    bench.worker.policy = replace(bench.worker.policy, by_hand=True)
    bench.hear(*(device.telemetry(bench.now, uptimeS=float(number)) for number in range(5)))

    assert bench.refusals(device.id) == {}
