"""Installers: the new version runs or the old one does, whenever the process dies, and neither in part."""

import contextlib
import itertools
from pathlib import Path

import pytest

from fleetward_agent.installers import Broken
from tests.agent.benches import STEPS, Bench, anchors, itself, module, one_file, slots
from tests.agent.packages import dies_at

KINDS = {"slots": slots, "file": one_file, "anchors": anchors, "module": module, "agent": itself}


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    return KINDS[request.param](tmp_path)


def benches(tmp_path: Path, kind: str) -> "itertools.count[int]":
    """Yield a new bench and its number, again and again."""
    # A module's many programs make it slow: every third point of it.
    for number in itertools.count(0, 3 if kind == "module" else 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = KINDS[kind](folder)
        made.upgrade(made.package("old", 1))
        (folder / "phase").write_text(STEPS[0])
        yield number, made  # type: ignore[misc]


def test_a_version_takes_the_place_of_the_one_before(bench: Bench) -> None:
    for version, counter in (("old", 1), ("new", 2), ("old", 3), ("new", 4)):
        bench.upgrade(bench.package(version, counter))

        assert bench.runs() == version


def test_what_runs_is_not_touched_before_it_is_activated(bench: Bench) -> None:
    bench.upgrade(bench.package("old", 1))
    bench.do("install", bench.package("new", 2))

    assert bench.runs() == "old"


def test_it_goes_back_and_may_be_tried_again(bench: Bench) -> None:
    bench.upgrade(bench.package("old", 1))
    release = bench.package("new", 2)
    for _ in range(3):
        bench.do("install", release)
        bench.do("activate", release)
        assert bench.runs() == "new"
        bench.do("roll_back", release)
        assert bench.runs() == "old"

    bench.upgrade(release)
    assert bench.runs() == "new"


def test_the_first_version_of_all_leaves_nothing_when_it_goes_back(bench: Bench) -> None:
    release = bench.package("new", 1)
    bench.do("install", release)
    bench.do("activate", release)
    bench.do("roll_back", release)

    assert bench.runs() == ""


def test_steps_may_come_again(bench: Bench) -> None:
    bench.upgrade(bench.package("old", 1))
    release = bench.package("new", 2)
    for step in STEPS:
        bench.do(step, release)
        bench.do(step, release)
    assert bench.runs() == "new"

    newer = bench.package("old", 3)
    bench.do("install", newer)
    bench.do("activate", newer)
    for _ in range(2):
        bench.do("roll_back", newer)
    assert bench.runs() == "new"


def test_what_was_never_installed_cannot_be_activated_nor_checked(bench: Bench) -> None:
    bench.upgrade(bench.package("old", 1))
    for step in ("activate", "check"):
        with pytest.raises(Broken):
            bench.do(step, bench.package("new", 2))
    bench.do("roll_back", bench.package("new", 2))

    assert bench.runs() == "old"


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_dies_anywhere_comes_to_the_same_end(tmp_path: Path, kind: str) -> None:
    for number, made in benches(tmp_path, kind):
        release = made.package("new", 2)
        died = dies_at(number, lambda made=made, release=release: made.upgrade(release))
        made.go_on(release)
        # A module that was cut off in the middle of a state has failed, and goes back.
        assert made.runs() == "new" or (kind == "module" and made.runs() == "old"), f"dead at {number}"
        if not died:
            assert number > 5
            return


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_dies_anywhere_can_go_back(tmp_path: Path, kind: str) -> None:
    for number, made in benches(tmp_path, kind):
        release = made.package("new", 2)
        steps = [lambda step=step, made=made, release=release: made.do(step, release) for step in STEPS[:3]]
        died = dies_at(number, lambda steps=steps: [step() for step in steps])
        made.restart()
        made.do("roll_back", release)
        assert made.runs() == "old", f"dead at {number}"
        made.upgrade(release)
        assert made.runs() == "new"
        if not died:
            return


@pytest.mark.parametrize("kind", KINDS)
def test_going_back_may_be_cut_off_anywhere(tmp_path: Path, kind: str) -> None:
    for number, made in benches(tmp_path, kind):
        release = made.package("new", 2)
        for step in STEPS[:2]:
            made.do(step, release)
        died = dies_at(number, lambda made=made, release=release: made.do("roll_back", release))
        if died and (made.folder / "phase").read_text() != "roll_back":
            (made.folder / "phase").write_text("roll_back")
        # A module whose rollback a crash cut off says that it cannot: nobody knows how far it came.
        with contextlib.suppress(Broken) if kind == "module" else contextlib.nullcontext():
            made.go_on(release)
        made.restart()
        assert made.runs() == "old" or kind == "module", f"dead at {number}"
        if not died:
            assert made.runs() == "old"
            return
