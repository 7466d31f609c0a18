"""The command line: data on stdout, words on stderr, one exit code per kind of trouble, never a traceback."""

import json
import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import Reason, State
from fleetward_server.changes import AddReport, PutCommand
from fleetward_server.cli.app import run
from fleetward_server.listing import REQUIRED
from fleetward_server.store import Store
from tests.server.register import FIRST, command, device, identity, kept, made, report
from tests.server.test_listing import row
from tests.server.test_operator import CONFIG, root_pem

WAITING = device(state=State.PENDING, asking_key="k", reason=Reason.AWAITING_APPROVAL)


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> object:
        return json.loads(self.out)


Fleetward = Callable[..., Ended]


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    with made(tmp_path) as fresh:
        yield kept(fresh, device())


@pytest.fixture
def fleetward(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Fleetward:
    def call(*words: str, folder: Path = tmp_path) -> Ended:
        code = run([*words, "--dir", str(folder)])
        said = capsys.readouterr()
        return Ended(int(code), said.out, said.err)

    return call


def test_a_list_is_one_json_document(fleetward: Fleetward, store: Store) -> None:
    kept(store, device(2))
    done = fleetward("device", "list", "--json")
    assert done.code == 0
    assert isinstance(done.json, list)
    assert {one["serial"] for one in done.json} == {"SN-0001", "SN-0002"}


def test_a_list_that_goes_on_says_where(fleetward: Fleetward, store: Store) -> None:
    kept(store, device(2))
    first = fleetward("device", "list", "--limit", "1")
    after = first.err.split("--after ")[1].strip()
    second = fleetward("device", "list", "--after", after)
    ids = {line.split()[0] for line in (first.out + second.out).splitlines() if not line.startswith("ID")}
    assert ids == {FIRST, device(2).id}


def test_plain_text_is_aligned_and_holds_no_colour(fleetward: Fleetward, store: Store) -> None:
    kept(store, device(2, tags=("north",)))
    header, *lines = fleetward("device", "list").out.splitlines()
    assert header.startswith("ID")
    assert all(line[header.index("SERIAL") :].startswith("SN-") for line in lines)
    assert "\x1b" not in header + "".join(lines)


def test_a_list_takes_a_filter_in_one_word_or_in_many(fleetward: Fleetward, store: Store) -> None:
    kept(store, device(2, tags=("north",)))
    for words in (["tag:north"], ["SN-", "-tag:south", "not", "serial:SN-0001"], ["SN- not serial:SN-0001"]):
        done = fleetward("device", "list", *words, "--json")
        assert isinstance(done.json, list)
        assert [one["serial"] for one in done.json] == ["SN-0002"]


def test_a_filter_that_is_no_word_offers_the_nearest(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("device", "list", "state:pendin")
    assert (done.code, done.out) == (2, "")
    assert "did you mean 'pending'" in done.err


def test_a_device_is_shown_by_serial_or_by_the_beginning_of_its_id(fleetward: Fleetward, store: Store) -> None:
    by_serial, by_id = (
        fleetward("device", "show", "SN-0001", "--json"),
        fleetward("device", "show", FIRST[:4], "--json"),
    )
    assert by_serial.json == by_id.json
    assert isinstance(by_id.json, dict)
    assert by_id.json["id"] == FIRST


def test_an_unknown_device_is_not_found(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("device", "show", "zzzzzz", "--json")
    assert (done.code, done.out) == (3, "")
    assert json.loads(done.err)["error"] == {"kind": "not-found", "message": "no device 'zzzzzz'"}


def test_an_approval_is_done_once(fleetward: Fleetward, store: Store) -> None:
    kept(store, WAITING)
    assert fleetward("device", "approve", FIRST, "--reason", "seen", "--actor", "eve").code == 0
    assert fleetward("device", "approve", FIRST).code == 5
    assert [link.entry.actor for link in store.history(FIRST)] == ["operator:eve"]


def test_a_refusal_is_done_once(fleetward: Fleetward, store: Store) -> None:
    kept(store, WAITING)
    assert [fleetward("device", "refuse", FIRST).code for _ in range(2)] == [0, 5]


def test_tags_are_put_on_and_taken_off(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("device", "tag", FIRST, "+north", "+gate", "-old", "--json")
    assert isinstance(done.json, dict)
    assert done.json["tags"] == ["gate", "north"]
    assert fleetward("device", "tag", FIRST, "+No Tag").code == 2


def test_many_are_tagged_by_a_filter_and_counted_first(fleetward: Fleetward, store: Store) -> None:
    kept(store, device(2, tags=("north",)))
    asked = fleetward("device", "tag", "model:Slap-4", "+north", "--reason", "moved")
    assert (asked.code, asked.out) == (6, "")
    assert "tag: 2 devices (model:Slap-4): nothing was done; say --yes" in asked.err
    assert store.mass_acts(9) == ()
    done = fleetward("device", "tag", "model:Slap-4", "+north", "--reason", "moved", "--yes", "--json")
    assert done.code == 0
    assert isinstance(done.json, dict)
    assert {name: done.json[name] for name in ("total", "done", "unchanged", "failed", "left", "failures")} == {
        "total": 2, "done": 1, "unchanged": 1, "failed": 0, "left": 0, "failures": []
    }  # fmt: skip
    assert fleetward("device", "tag", "model:Nobody", "+north", "--yes").code == 3
    assert fleetward("device", "tag", "model:Slap-4", "north").code == 2


def test_what_could_not_be_done_to_all_is_told_by_code_and_name(fleetward: Fleetward, store: Store) -> None:
    kept(store, device(2, state=State.PENDING))
    done = fleetward("command", "send", "model:Slap-4", "sync-time", "--yes")
    assert done.code == 5
    assert f"{device(2).id}  {device(2).id} is pending" in done.out
    (act,) = store.mass_acts(9)
    listed, shown = fleetward("mass", "list", "--json").json, fleetward("mass", "show", act.id, "--json").json
    assert isinstance(listed, list)
    assert isinstance(shown, dict)
    assert listed[0]["id"] == shown["id"] == act.id
    assert [one["device_id"] for one in shown["failures"]] == [device(2).id]
    assert fleetward("mass", "resume", act.id).code == 5
    assert fleetward("mass", "show", "nothing").code == 3


def test_a_decision_takes_one_device_or_a_filter(fleetward: Fleetward, store: Store) -> None:
    kept(store, device(2))
    assert fleetward("device", "quarantine", FIRST, "--reason", "odd").code == 0
    assert fleetward("device", "quarantine", "state:registered", "--reason", "odd").code == 6
    assert fleetward("device", "quarantine", "state:registered", "--reason", "odd", "--yes").code == 0
    assert {one.state for one in store.devices()} == {State.QUARANTINED}
    assert fleetward("device", "release", "state:quarantined", "--yes").code == 0
    assert {one.state for one in store.devices()} == {State.REGISTERED}


def test_a_filter_may_begin_with_a_minus_and_a_wrong_option_is_still_one(fleetward: Fleetward, store: Store) -> None:
    kept(store, device(2, tags=("gate",)))
    assert fleetward("device", "quarantine", "-tag:gate", "--reason", "odd", "--yes").code == 0
    assert [one.id for one in store.devices() if one.state is State.QUARANTINED] == [FIRST]
    for words in (["--yess", "tag:gate"], ["tag:gate", "--yess"], ["--reson", "tag:gate"], ["--yess"]):
        done = fleetward("device", "quarantine", *words, "--reason", "odd", "--json")
        assert (done.code, json.loads(done.err)["error"]["kind"]) == (2, "usage")
    assert fleetward("command", "send", "tag:gate", "--yess", "--yes").code == 2
    assert store.device(device(2).id) == device(2, tags=("gate",))
    assert store.commands() == ()


def test_waiting_is_for_one_device(fleetward: Fleetward, store: Store) -> None:
    assert fleetward("command", "send", "model:Slap-4", "sync-time", "--wait", "1", "--yes").code == 2
    assert store.commands() == ()


def test_one_device_is_named_whole_or_by_its_beginning_and_never_by_chance(fleetward: Fleetward, store: Store) -> None:
    odd = replace(device(7), identity=identity(7, serialNo="SN:7 b"))
    kept(store, odd)
    assert fleetward("device", "tag", "SN:7 b", "+gate").code == 0
    assert fleetward("device", "tag", '"SN-0001"', "+gate").code == 0
    assert fleetward("device", "tag", "SN-", "+gate").code == 3
    assert fleetward("device", "tag", "SN:8", "+gate").code == 2
    assert {one.id for one in store.devices() if one.tags == ("gate",)} == {odd.id, FIRST}


def test_an_import_tells_first_and_does_then(fleetward: Fleetward, store: Store, tmp_path: Path) -> None:
    (tmp_path / "list.json").write_text(json.dumps([row(2)]))
    dry = fleetward("device", "import", str(tmp_path / "list.json"), "--dry-run", "--json")
    assert store.device(device(2).id) is None
    wet = fleetward("device", "import", str(tmp_path / "list.json"), "--json")
    assert store.device(device(2).id) is not None
    assert dry.json == {"dry_run": True, "added": [device(2).id], "changed": [], "unchanged": 0, "errors": []}
    assert wet.code == 0


@pytest.mark.parametrize("words", [[], ["--dry-run"]])
def test_a_wrong_list_names_file_line_and_column(
    fleetward: Fleetward, store: Store, tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "list.json").write_text("[\n" + json.dumps(row(2, purpose="Fun")) + "\n]")
    done = fleetward("device", "import", str(tmp_path / "list.json"), *words)
    assert done.code == 2
    assert f"{tmp_path}/list.json:2: purpose: 'Fun'" in done.out + done.err


def test_a_missing_list_is_wrong_usage(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("device", "import", "/nowhere.csv")
    assert (done.code, done.err) == (2, "fleetward: /nowhere.csv: No such file or directory\n")


def test_a_command_is_sent_and_shown(fleetward: Fleetward, store: Store) -> None:
    sent = fleetward("command", "send", FIRST, "sync-time", "--json").json
    assert isinstance(sent, dict)
    assert fleetward("command", "show", str(sent["id"]), "--json").json == sent
    assert isinstance(listed := fleetward("command", "list", "--device", FIRST, "--open", "--json").json, list)
    assert [one["id"] for one in listed] == [sent["id"]]


def test_an_unknown_command_offers_the_nearest(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("command", "send", FIRST, "sync-tme")
    assert done.code == 2
    assert "did you mean 'sync-time'" in done.err


def test_a_command_to_a_pending_device_awaits_approval(fleetward: Fleetward, store: Store) -> None:
    kept(store, WAITING)
    assert fleetward("command", "send", FIRST, "sync-time").code == 6


def test_waiting_ends_with_a_code_of_its_own_when_nobody_answers(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("command", "send", FIRST, "sync-time", "--wait", "0.3", "--json")
    assert done.code == 8
    assert isinstance(done.json, dict)
    assert done.json["step"] == "queued"


def test_a_name_nobody_gave_a_command_is_not_found(fleetward: Fleetward, store: Store) -> None:
    assert fleetward("command", "show", "no-such-id").code == 3


def test_models_are_added_listed_and_revoked(fleetward: Fleetward, store: Store) -> None:
    kind = ["--make", "Acme", "--model", "Slap-4", "--type", "Finger", "--sub-type", "Slap"]
    assert fleetward("model", "add", *kind).code == 0
    assert fleetward("model", "revoke", *kind).code == 0
    assert fleetward("model", "revoke", *kind).code == 3
    assert isinstance(listed := fleetward("model", "list", "--json").json, list)
    assert [one["approved"] for one in listed] == [False]


def test_a_model_that_mosip_does_not_know_is_refused(fleetward: Fleetward, store: Store) -> None:
    kind = ["--make", "Acme", "--model", "Slap-4", "--type", "Finger", "--sub-type", "Double"]
    done = fleetward("model", "add", *kind)
    assert done.code == 2
    assert "Slap, Single, Touchless" in done.err


def test_a_root_shows_what_people_compare(fleetward: Fleetward, store: Store, tmp_path: Path) -> None:
    (tmp_path / "chips.pem").write_bytes(root_pem())
    added = fleetward("ftm-root", "add", str(tmp_path / "chips.pem"), "--json").json
    assert isinstance(added, dict)
    assert {"name", "subject", "thumbprint", "not_after"} < set(added)
    assert fleetward("ftm-root", "add", str(tmp_path / "chips.pem")).code == 5
    assert fleetward("ftm-root", "revoke", "chips").code == 0
    assert isinstance(listed := fleetward("ftm-root", "list", "--json").json, list)
    assert [one["trusted"] for one in listed] == [False]


def test_reports_are_listed_and_exported(fleetward: Fleetward, store: Store, tmp_path: Path) -> None:
    body = '{"readings":[{"metrics":{"uptimeS":5},"observedAt":"2026-05-01T12:00:00.000Z","uncertaintyMs":9}]}'
    with store.unit() as unit:
        unit.apply([AddReport(replace(report(number), body=body)) for number in range(3)])
    assert isinstance(listed := fleetward("telemetry", "list", "--json").json, list)
    assert len(listed) == 3
    assert len(fleetward("telemetry", "export", "--format", "csv").out.splitlines()) == 4
    done = fleetward("telemetry", "export", "--out", str(tmp_path / "out.jsonl"), "--json")
    assert done.json == {"file": str(tmp_path / "out.jsonl"), "format": "jsonl", "lines": 3}
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert [json.loads(line)["body"] for line in lines] == [json.loads(body)] * 3


@pytest.mark.parametrize(
    "words",
    [
        ["--format", "xml"],
        ["--format", "cvs"],
        ["--since", "yesterday"],
        ["--kind", "fingerprints"],
        ["--json"],
        ["--out", "/no/where"],
    ],
)
def test_an_export_nobody_can_make_is_wrong_usage(fleetward: Fleetward, store: Store, words: list[str]) -> None:
    done = fleetward("telemetry", "export", *words)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err


def test_the_audit_is_listed_and_verified(fleetward: Fleetward, store: Store) -> None:
    fleetward("device", "tag", FIRST, "+north", "--actor", "eve")
    assert isinstance(
        listed := fleetward("audit", "list", "--by", "operator:eve", "--since", "1h", "--json").json, list
    )
    verified = fleetward("audit", "verify", "--json").json
    assert [one["action"] for one in listed] == ["tagged"]
    assert verified == {"rows": 1, "broken": None, "head": listed[0]["hash"]}


def test_an_altered_audit_fails_verification(fleetward: Fleetward, store: Store) -> None:
    fleetward("device", "tag", FIRST, "+north")
    connection = sqlite3.connect(store.path)
    with connection:
        connection.execute("DROP TRIGGER audit_no_update")
        connection.execute("UPDATE audit SET actor = 'operator:nobody'")
    connection.close()
    assert fleetward("audit", "verify").code == 7


def test_the_configuration_is_shown_and_checked(fleetward: Fleetward, store: Store) -> None:
    shown = fleetward("config", "show", "--json").json
    assert isinstance(shown, dict)
    assert shown["provider"]["id"] == "acme"
    assert fleetward("config", "check").code == 0


@pytest.mark.parametrize("words", [("config", "check"), ("device", "list"), ("device", "import", "list.csv")])
def test_an_unknown_key_in_the_configuration_offers_the_nearest(
    fleetward: Fleetward, store: Store, words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text(",".join(REQUIRED))
    (tmp_path / "fleetward.toml").write_text(CONFIG + "[broker]\nprot = 1\n")
    done = fleetward(*words[:2], *(str(tmp_path / word) for word in words[2:]))
    assert done.code == 2
    assert "did you mean 'port'" in done.err


@pytest.mark.parametrize(
    "words",
    [("device", "list"), ("audit", "verify"), ("down",), ("up",), ("doctor",), ("topic", "tail"), ("config", "show")],
)
def test_a_folder_without_a_provider_is_said_in_one_line(fleetward: Fleetward, words: tuple[str, ...]) -> None:
    done = fleetward(*words, folder=Path("/nowhere"))
    assert done.code in {2, 3, 5}
    assert len((done.err or done.out).splitlines()) <= 2
    assert "/nowhere" in done.err + done.out
    assert "Traceback" not in done.err


def test_a_provider_without_its_store_names_the_file(fleetward: Fleetward, tmp_path: Path) -> None:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    done = fleetward("device", "list")
    assert done.code == 2
    assert "server.db: not there; restore it from a backup, or run: fleetward init" in done.err


def test_a_store_that_is_none_is_named(fleetward: Fleetward, tmp_path: Path) -> None:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    (tmp_path / "server.db").write_bytes(b"no database " * 100)
    assert "server.db: is not a database" in fleetward("device", "list").err


@pytest.mark.parametrize(
    ("step", "code"), [(Step.SUCCEEDED, 0), (Step.REFUSED, 6), (Step.FAILED, 1), (Step.EXPIRED, 8)]
)
def test_waiting_ends_as_the_command_does(store: Store, step: Step, code: int) -> None:
    from fleetward_server.cli.command import ENDS, answered
    from fleetward_server.operator import LocalOperator

    with store.unit() as unit:
        unit.apply([PutCommand(command(step=step))])
    with LocalOperator(store.path.parent, "eve") as operator:
        assert ENDS[answered(operator, command(), 5).step] == code


def test_a_wrong_option_is_wrong_usage_and_json_if_asked(fleetward: Fleetward, store: Store) -> None:
    assert fleetward("device", "list", "--nonsense").code == 2
    done = fleetward("device", "list", "--nonsense", "--json")
    assert (done.code, done.out) == (2, "")
    assert json.loads(done.err)["error"]["kind"] == "usage"


def test_init_refuses_a_folder_that_holds_a_provider(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("init")
    assert done.code == 2
    assert "nothing was changed" in done.err


@pytest.mark.parametrize(
    "words",
    [["--name", 'a"b'], ["--host", ""], ["--provider-id", "ä"], ["--environment", "Prod"], ["--policy", "shut"]],
)
def test_init_refuses_what_no_certificate_could_hold(fleetward: Fleetward, tmp_path: Path, words: list[str]) -> None:
    done = fleetward("init", *words, folder=tmp_path / "new")
    assert done.code == 2
    assert not (tmp_path / "new").exists()


def test_init_makes_a_provider_that_the_doctor_finds_well(fleetward: Fleetward, tmp_path: Path) -> None:
    made_one = fleetward("init", "--json", folder=tmp_path / "new")
    assert made_one.json == {"folder": f"{tmp_path}/new", "config": f"{tmp_path}/new/fleetward.toml"}
    assert "FILES" in made_one.err
    assert fleetward("doctor", folder=tmp_path / "new").code == 0
    (tmp_path / "new" / "pki" / "device-ca.key.pem").chmod(0o644)
    done = fleetward("doctor", "--json", folder=tmp_path / "new")
    assert done.code == 5
    assert isinstance(done.json, list)
    assert [one["part"] for one in done.json if one["health"] == "failure"] == ["key of device-ca"]


def test_a_reader_who_has_seen_enough_ends_it_quietly(store: Store) -> None:
    kept(store, *(device(number) for number in range(1, 2000)))
    command_line = [sys.executable, "-m", "fleetward_server", "device", "list", "--limit", "2000", "--dir"]
    with subprocess.Popen(
        [*command_line, str(store.path.parent)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
