"""The devices' clocks as the server sees them, from their last readings."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas.moment import show
from fleetward_schemas.telemetry import Reading, Telemetry
from fleetward_server.changes import AddReport
from fleetward_server.clocks import BAR_CHARS, EDGES_MS, drawn, histogram, quantiles, view_of, views_of
from fleetward_server.state import Report
from fleetward_server.store import Store
from tests.server.register import NOW, device, kept, made, report
from tests.server.test_cli import CONFIG, Fleetward, fleetward  # noqa: F401

TOLD: dict[str, float] = {"clockWidthMs": 40, "clockAgeS": 600, "clockRefused": 2, "clockDriftPpm": 200}


def telling(number: int, device_number: int = 1, **metrics: float) -> Report:
    """Return a report that was half a second on its way. metrics: those of its last reading."""
    old = Reading(observedAt=show(NOW - timedelta(minutes=1)), uncertaintyMs=1, metrics={"clockWidthMs": 9})
    last = Reading(observedAt=show(NOW), uncertaintyMs=20, metrics=metrics or TOLD)
    body = Telemetry(readings=[old, last]).json()
    made_ = replace(report(number, device_number), body=body)
    return replace(made_, received_at=made_.at + timedelta(milliseconds=500))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    with made(tmp_path) as fresh:
        yield kept(fresh, *(device(number) for number in (1, 2, 3)))


def keep(store: Store, *reports: Report) -> None:
    with store.unit() as unit:
        unit.apply([AddReport(one) for one in reports])


def test_the_last_reading_is_what_counts() -> None:
    view = view_of(telling(1))

    assert view is not None
    assert (view.width_ms, view.offset_ms, view.refused, view.drift_ppm) == (40, 500, 2, 200)
    assert show(view.observed_at) == show(NOW)
    assert view.synced_at == view.observed_at - timedelta(minutes=10)


def test_an_agent_that_tells_its_width_alone_is_shown_with_that() -> None:
    view = view_of(telling(1, clockWidthMs=7))

    assert view is not None
    assert (view.width_ms, view.synced_at, view.refused, view.drift_ppm) == (7, None, None, None)


@pytest.mark.parametrize("body", ['{"readings":[]}', '{"readings":[{"metrics":{"later":1}}]}'])
def test_what_this_version_cannot_read_says_nothing(body: str) -> None:
    assert view_of(replace(report(1), body=body)) is None
    assert view_of(telling(1, uptimeS=1)) is None


def test_the_widest_come_first() -> None:
    views = views_of([telling(1, 1, clockWidthMs=5), telling(2, 2, clockWidthMs=500), report(3, 3)])

    assert [view.width_ms for view in views] == [500, 5]


def test_of_each_device_the_newest_report_is_taken_in_whatever_order_they_came(store: Store) -> None:
    keep(store, telling(5, 1, clockWidthMs=55), telling(2, 1, clockWidthMs=22), telling(3, 2, clockWidthMs=33))
    keep(store, replace(telling(9, 2), kind="info"))

    found = store.latest_reports("telemetry")
    assert {one.device_id: one.id[-1] for one in found} == {device(1).id: "5", device(2).id: "3"}
    latest = store.latest_report(device(1).id, "telemetry")
    assert latest is not None
    assert latest.id.endswith("5")
    assert store.latest_report(device(3).id, "telemetry") is None


@pytest.mark.parametrize(
    ("values", "found"),
    [([], (None, None, None)), ([3], (3, 3, 3)), (range(1, 101), (50, 99, 100)), ([1, 1000], (1, 1000, 1000))],
)
def test_quantiles_are_values_that_were_there(values: list[float], found: tuple[float | None, ...]) -> None:
    assert tuple(quantiles(values).values()) == found


@given(st.lists(st.floats(0, 1e9)))
def test_every_value_is_in_one_bar(values: list[float]) -> None:
    assert sum(count for _, count in histogram(values)) == len(values)


def test_a_value_at_an_edge_is_below_it_and_a_bar_is_as_long_as_its_share() -> None:
    bars = histogram([EDGES_MS[0], EDGES_MS[0] + 1, EDGES_MS[-1] + 1, EDGES_MS[-1] + 1])
    lines = drawn(bars)

    assert (bars[0], bars[1], bars[-1]) == (("<= 10 ms", 1), ("<= 50 ms", 1), ("> 20000 ms", 2))
    assert [lines[at].count("#") for at in (0, 1, 2, -1)] == [BAR_CHARS // 2, BAR_CHARS // 2, 0, BAR_CHARS]


def test_one_command_shows_the_servers_clock_and_the_fleets(fleetward: Fleetward, store: Store) -> None:  # noqa: F811
    keep(store, telling(1, 1), telling(2, 2, clockWidthMs=900))
    said = fleetward("time", "status", "--json").json

    assert isinstance(said, dict)
    assert (said["devices"], said["untold"], said["refused"]) == (3, 1, 2)
    assert said["server"]["source"] == "assumed"
    assert said["width_ms"] == {"median": 40, "p99": 900, "max": 900}
    assert [one["width_ms"] for one in said["widest"]] == [900, 40]
    assert "# " in fleetward("time", "status").out


def test_a_filter_and_no_reports_are_fine(fleetward: Fleetward, store: Store) -> None:  # noqa: F811
    keep(store, telling(1, 1), telling(2, 2))
    one = fleetward("time", "status", "serial:SN-0001", "--json").json

    assert isinstance(one, dict)
    assert (one["devices"], one["untold"]) == (1, 0)
    assert "no device has told" in fleetward("time", "status", "serial:SN-0003").out


def test_the_clock_stands_with_the_device(fleetward: Fleetward, store: Store) -> None:  # noqa: F811
    keep(store, telling(1, 1))
    said = fleetward("device", "show", "SN-0001", "--json").json
    other = fleetward("device", "show", "SN-0002", "--json").json

    assert isinstance(said, dict)
    assert isinstance(other, dict)
    assert (said["clock"]["width_ms"], said["clock"]["refused"], other["clock"]) == (40, 2, None)
    assert "width_ms=40" in fleetward("device", "show", "SN-0001").out
