"""The journal: what is issued stands on the disk before it is committed, and a torn line costs itself alone."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward_schemas.enrol import State
from fleetward_server.changes import AddCertificates
from fleetward_server.store import Store, StoreProblem, journal
from fleetward_server.store.journal import FILE, Entry, JournalDamaged
from tests.server.register import FIRST, both, device, half_done, kept, made


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with kept(made(tmp_path), device()) as store:
        yield store


def path(store: Store) -> Path:
    return store.path.with_name(FILE)


def entries(store: Store) -> list[Entry]:
    return [journal.read(line) for line in journal.lines(path(store).read_bytes().splitlines())]


def issue(store: Store, pair: str) -> None:
    with store.unit() as unit:
        unit.apply([AddCertificates(both(pair))])


@contextmanager
def no_more_than(size: int) -> Iterator[None]:
    """Let no file grow beyond ``size``, as a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_pair_is_one_line_with_its_device(store: Store) -> None:
    issue(store, "a")

    (entry,) = entries(store)
    assert entry.device.id == FIRST
    assert entry.device.identity == device().identity
    assert [(leaf.use, leaf.pair, leaf.der) for leaf in entry.leaves] == [(c.use, "a", c.der) for c in both("a")]


def test_it_is_the_owners_alone(store: Store) -> None:
    issue(store, "a")
    assert path(store).stat().st_mode & 0o777 == 0o600


def test_what_does_not_concern_certificates_is_not_in_it(store: Store) -> None:
    kept(store, device(tags=("a",)))
    assert not path(store).exists()


def test_a_device_that_is_silenced_is_in_it_and_one_that_comes_back_too(store: Store) -> None:
    kept(store, device(state=State.REVOKED))
    kept(store, device(state=State.REGISTERED))
    assert [entry.device.state for entry in entries(store)] == [State.REVOKED, State.REGISTERED]


def test_what_was_rolled_back_was_never_written(store: Store) -> None:
    with pytest.raises(ValueError, match="halfway"):
        half_done(store, AddCertificates(both("a")))
    assert not path(store).exists()


def test_a_journal_that_cannot_be_written_stops_the_commit(store: Store) -> None:
    path(store).mkdir()
    with pytest.raises(StoreProblem, match=FILE):
        issue(store, "a")
    assert store.certificates(FIRST) == ()


def test_a_line_that_did_not_fit_leaves_nothing_of_itself(tmp_path: Path) -> None:
    log = tmp_path / FILE
    journal.append(log, b"whole\n")
    with no_more_than(10), pytest.raises(OSError, match="large"):
        journal.append(log, b"too long for it\n")
    assert log.read_bytes() == b"whole\n"


def test_a_line_torn_by_a_crash_spoils_no_other(store: Store) -> None:
    path(store).write_bytes(b'{"v":1,"to')
    issue(store, "a")

    torn, whole = journal.lines(path(store).read_bytes().splitlines())
    with pytest.raises(JournalDamaged):
        journal.read(torn)
    assert journal.read(whole).device.id == FIRST


@pytest.mark.parametrize("line", [b"[]", b"7", b"{}", b"\xff", b'{"v":2}', b'{"v":1,"id":"x"}'])
def test_what_is_no_line_of_ours_is_damaged(line: bytes) -> None:
    with pytest.raises(JournalDamaged):
        journal.read(line)


def test_a_line_reads_back_as_it_was_written() -> None:
    row = device(ftm_key="key", listed=True, enrolments=3)
    read = journal.read(journal.show(row, both("a")))
    assert read.device == replace(row, created_at=None)
