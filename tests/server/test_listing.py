"""The provider's list comes in whole or not at all, and never changes what a record says. Source: S5, K1."""

import csv
import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.identity import Certification, Purpose
from fleetward_server.admission import Moved
from fleetward_server.changes import BindFtm
from fleetward_server.listing import REQUIRED, read_sheet
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import OperatorProblem
from fleetward_server.store import Store
from tests.server.register import FIRST, NOW, device, identity, kept, made
from tests.server.test_operator import CONFIG

KEY = "A" * 43


def row(number: int = 1, **changes: object) -> dict[str, object]:
    named = identity(number).document()
    del named["dateTime"]
    return named | {"certification": "L1", "purpose": "Registration"} | changes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    with made(tmp_path) as fresh:
        yield fresh


@pytest.fixture
def operator(store: Store) -> Iterator[LocalOperator]:
    with LocalOperator(store.path.parent, "eve", lambda: NOW) as eve:
        yield eve


def test_a_new_row_becomes_an_approved_record(operator: LocalOperator, store: Store) -> None:
    diff = operator.import_list([row(ftmKey=KEY, tags="north;gate")], dry_run=False)
    found = store.device(FIRST)
    assert found is not None
    assert diff.added == (FIRST,)
    assert (found.state, found.listed, found.ftm_key, found.tags) == (State.APPROVED, True, KEY, ("gate", "north"))
    assert [link.entry.action for link in store.history(FIRST)] == ["listed"]


def test_the_same_list_twice_changes_nothing(operator: LocalOperator, store: Store) -> None:
    rows = [row(number, tags=["north"]) for number in range(1, 4)]
    operator.import_list(rows, dry_run=False)
    length = store.audit_length()
    diff = operator.import_list(rows, dry_run=False)
    assert (diff.added, diff.changed, diff.unchanged) == ((), (), 3)
    assert store.audit_length() == length


def test_a_dry_run_tells_and_does_nothing(operator: LocalOperator, store: Store) -> None:
    diff = operator.import_list([row(), row(2, purpose="Auth", certification="L0")], dry_run=True)
    assert diff.added == (FIRST,)
    assert [str(flaw) for flaw in diff.errors] == ["row 2: purpose: Auth needs L1, the row says L0"]
    assert store.devices() == ()


def test_one_wrong_row_keeps_all_the_others_out(operator: LocalOperator, store: Store) -> None:
    with pytest.raises(OperatorProblem, match="row 2: make: missing"):
        operator.import_list([row(), {k: v for k, v in row(2).items() if k != "make"}], dry_run=False)
    assert store.devices() == ()


def test_a_pending_device_on_the_list_becomes_approved(operator: LocalOperator, store: Store) -> None:
    kept(store, device(state=State.PENDING, asking_key="k", hello_digital_id="a.b.c", reason=Reason.NOT_LISTED))
    diff = operator.import_list([row()], dry_run=False)
    found = store.device(FIRST)
    assert found is not None
    assert diff.changed == (Moved(FIRST, ("listed", "state")),)
    assert (found.state, found.listed, found.approved_key) == (State.APPROVED, True, None)
    assert store.approved_waiting() == (found,)


def test_the_list_wins_over_a_strangers_claim(operator: LocalOperator, store: Store) -> None:
    claimed = device(state=State.PENDING, certification=Certification.L0, purpose=Purpose.REGISTRATION)
    kept(store, replace(claimed, identity=identity(deviceSubType="Single")))
    operator.import_list([row(purpose="Auth")], dry_run=False)
    found = store.device(FIRST)
    assert found is not None
    assert (found.certification, found.purpose) == (Certification.L1, Purpose.AUTH)
    assert found.identity.deviceSubType == "Slap"


@pytest.mark.parametrize(
    ("column", "value"),
    [("certification", "L0"), ("purpose", "Auth"), ("deviceSubType", "Single"), ("ftmKey", "B" * 42 + "A")],
)
def test_a_row_that_contradicts_a_record_is_an_error(
    operator: LocalOperator, store: Store, column: str, value: str
) -> None:
    kept(store, device(listed=True, ftm_key=KEY))
    with pytest.raises(OperatorProblem, match=rf"row 1: {column}: .*never changes"):
        operator.import_list([row(**{column: value})], dry_run=False)


def test_a_refused_device_stays_refused_though_listed(operator: LocalOperator, store: Store) -> None:
    kept(store, device(state=State.REFUSED))
    operator.import_list([row()], dry_run=False)
    found = store.device(FIRST)
    assert found is not None
    assert (found.state, found.listed) == (State.REFUSED, True)


def test_an_ftm_key_of_another_device_is_an_error(operator: LocalOperator, store: Store) -> None:
    kept(store, device(2))
    with store.unit() as unit:
        unit.apply([BindFtm(KEY, device(2).id)])
    with pytest.raises(OperatorProblem, match=f"ftmKey: is bound to device {device(2).id}"):
        operator.import_list([row(ftmKey=KEY)], dry_run=False)


@pytest.mark.parametrize("twin", [row(), row(2, ftmKey=KEY)])
def test_a_row_that_stands_twice_is_an_error(operator: LocalOperator, twin: dict[str, object]) -> None:
    with pytest.raises(OperatorProblem, match="the same as in row 1"):
        operator.import_list([row(ftmKey=KEY), twin], dry_run=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"serialNr": "x"}, "serialNr: unknown column; did you mean 'serialNo'"),
        ({"type": "Voice"}, "type: 'Voice'"),
        ({"deviceSubType": "Double"}, "deviceSubType: 'Double'"),
        ({"serialNo": ""}, "serialNo: ''"),
        ({"serialNo": "ä"}, "serialNo: 'ä'"),
        ({"serialNo": 7}, "serialNo: 7"),
        ({"serialNo": "SN-0001 "}, "serialNo: 'SN-0001 ': begins or ends with a space"),
        ({"tags": [7]}, "tags: expected at most"),
        ({"certification": "L2"}, "certification: 'L2': expected L0 or L1"),
        ({"purpose": "auth"}, "purpose: 'auth': expected Auth or Registration"),
        ({"ftmKey": "short"}, "ftmKey: 'short': expected 43"),
        ({"certification": "L0", "ftmKey": KEY}, "ftmKey: an L0 has no FTM"),
        ({"tags": "North"}, "tags: tag 'North'"),
        ({"tags": {"a": 1}}, "tags: expected at most"),
        ({"deviceProviderId": "other"}, "deviceProviderId: 'other': this provider is 'acme'"),
    ],
)
def test_a_cell_that_does_not_hold_is_named(operator: LocalOperator, changes: dict[str, object], said: str) -> None:
    diff = operator.import_list([row(**changes)], dry_run=True)
    assert [str(flaw).startswith(f"row 1: {said}") for flaw in diff.errors] == [True]


def as_csv(rows: list[dict[str, object]]) -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def test_json_and_csv_say_the_same(tmp_path: Path) -> None:
    rows = [row(number, ftmKey=KEY, tags="a;b") for number in (1, 2)]
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "a.csv").write_text("\ufeff" + as_csv(rows))
    assert read_sheet(tmp_path / "a.json").rows == read_sheet(tmp_path / "a.csv").rows == tuple(rows)


def test_an_error_names_file_line_and_column(tmp_path: Path, operator: LocalOperator) -> None:
    rows = [row(1), row(2, purpose="Fun")]
    (tmp_path / "a.json").write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]")
    (tmp_path / "a.csv").write_text(as_csv(rows))
    for name, line in (("a.json", 3), ("a.csv", 3)):
        sheet = read_sheet(tmp_path / name)
        diff = operator.import_list(sheet.rows, dry_run=True, places=sheet.places)
        assert [str(flaw).split(": ")[:2] for flaw in diff.errors] == [[f"{tmp_path / name}:{line}", "purpose"]]


def test_an_empty_cell_is_a_missing_one(tmp_path: Path, operator: LocalOperator) -> None:
    (tmp_path / "a.csv").write_text(as_csv([row(ftmKey="", tags="", make="")]))
    sheet = read_sheet(tmp_path / "a.csv")
    diff = operator.import_list(sheet.rows, dry_run=True, places=sheet.places)
    assert [(flaw.column, flaw.message) for flaw in diff.errors] == [("make", "missing")]


HEADER = ",".join(REQUIRED).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[{]", r"list:1: not JSON"),
        (b'[\n{"a": 1},\n7]', r"list:3: expected an object"),
        (b"[" * 100_000, "list: nested too deep|not JSON"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (HEADER + b"\nonly-one\n", "list:2: not as many cells"),
        (HEADER + b'\n"a\n', "list:.*not CSV"),
        (b"", "list: empty"),
        (b"\n\n", "list: empty"),
        (b'{"devices": []}', "list: expected a JSON array"),
        (b"[" + b"9" * 5000 + b"]", "list: a number of more digits"),
        (b'[\n{"make": "a", "make": "b"}]', "list:2: make: stands twice"),
    ],
)
def test_a_file_that_is_no_list_is_refused_by_line(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "list").write_bytes(content)
    with pytest.raises(OperatorProblem, match=said):
        read_sheet(tmp_path / "list")


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (HEADER.replace(b",", b";"), "list:1: columns are parted by ';': expected commas"),
        (HEADER.replace(b",", b"\t"), r"list:1: columns are parted by '\\t'"),
        (HEADER.lower(), "list:1: serialno: unknown column; did you mean 'serialNo'"),
        (HEADER.replace(b",purpose", b""), "list:1: purpose: missing; columns: serialNo,"),
        (HEADER + b",purpose", "list:1: purpose: stands twice"),
    ],
)
def test_a_header_that_does_not_hold_is_told_once_and_not_by_each_row(tmp_path: Path, header: bytes, said: str) -> None:
    (tmp_path / "list").write_bytes(header + b"\n" + header + b"\n" + header)
    with pytest.raises(OperatorProblem, match=said) as problem:
        read_sheet(tmp_path / "list")
    assert "\n" not in problem.value.message


def test_a_list_of_nobody_is_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b" []")
    (tmp_path / "a.csv").write_bytes(HEADER)
    assert read_sheet(tmp_path / "a.json").rows == read_sheet(tmp_path / "a.csv").rows == ()


def test_no_more_of_a_file_is_read_than_a_list_may_have() -> None:
    with pytest.raises(OperatorProblem, match="/dev/zero: over 64 MiB"):
        read_sheet(Path("/dev/zero"))


def test_of_many_errors_the_first_are_told_and_the_others_counted(operator: LocalOperator) -> None:
    with pytest.raises(OperatorProblem) as problem:
        operator.import_list([row(number, purpose="Fun") for number in range(1, 31)], dry_run=False)
    lines = problem.value.message.splitlines()
    assert (len(lines), lines[-1]) == (21, "and 10 more: --dry-run --json shows all")


def test_a_long_list_is_read_line_by_line_once(tmp_path: Path) -> None:
    """Counting each row's line from the first on took half an hour for a hundred thousand of them."""
    (tmp_path / "a.json").write_text(json.dumps([row(tags=["a" * 60] * 32)] * 12_000, indent=1))
    begun = time.process_time()
    json.loads((tmp_path / "a.json").read_bytes())
    once = time.process_time() - begun
    assert read_sheet(tmp_path / "a.json").places[-1] == f"{tmp_path}/a.json:{2 + 11_999 * 45}"
    assert time.process_time() - begun - once < 20 * once


def test_a_dry_run_waits_for_nobody_who_writes(operator: LocalOperator, store: Store) -> None:
    with store.unit():
        assert operator.import_list([row()], dry_run=True).added == (FIRST,)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(OperatorProblem, match="nowhere: No such file"):
        read_sheet(tmp_path / "nowhere")
