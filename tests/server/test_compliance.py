"""The report for auditors: nothing is green that a test of this very commit did not show; all it names is there."""

import ast
import hashlib
import html
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import typer

from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Environment
from fleetward_server import compliance_results as results
from fleetward_server.changes import CountRefusal
from fleetward_server.cli.app import GROUP, build, run
from fleetward_server.compliance_clauses import IDS, Clause, clauses, sources
from fleetward_server.compliance_report import commit_of, compose, page
from fleetward_server.compliance_results import Outcome, Results, Standing, read_results, standing
from fleetward_server.init import Wish, make_provider
from fleetward_server.mosip.encryption import EncryptionCertificate
from fleetward_server.mosip.queue import Act, new_task
from fleetward_server.mosip.settings import Profile
from fleetward_server.problem import OperatorProblem
from fleetward_server.pulse import Pulse, read_pulse, write_pulse
from fleetward_server.store import open_store
from tests.chains import Recipe, chain
from tests.server.register import device, kept

HOUSE = Path(__file__).parents[2]
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
COMMIT, OTHER = "a" * 40, "b" * 40
ALL = (*clauses().clause, *clauses().layer)


def defined(path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text()))
    return {node.name for node in tree if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))}


def absent(house: Path, clause: Clause) -> list[str]:
    """Return what a clause names and the house does not have."""
    gone = [module for module in clause.implemented if not sources(house, module)]
    for test in clause.tests:
        file, _, name = test.partition("::")
        if not (house / file).is_file() or (name and name not in defined(house / file)):
            gone.append(test)
    return gone


def test_every_clause_of_the_specification_stands_once() -> None:
    assert [one.id for one in clauses().clause] == list(IDS)
    assert [one.id for one in clauses().layer] == ["1", "2", "3", "4", "5"]


@pytest.mark.parametrize("clause", ALL, ids=lambda one: one.id)
def test_every_module_and_test_that_is_named_exists(clause: Clause) -> None:
    assert absent(HOUSE, clause) == []


@pytest.mark.parametrize("clause", ALL, ids=lambda one: one.id)
def test_a_clause_is_shown_by_tests_or_says_what_is_missing(clause: Clause) -> None:
    assert (clause.implemented and clause.tests) or clause.missing


def test_a_name_of_nothing_would_be_found() -> None:
    wrong = Clause(
        id="X",
        asks="x",
        implemented=("server/nothing", "*/clock"),
        tests=("tests/none/test_x.py", "tests/test_kinds.py::test_nothing", "tests/test_kinds.py"),
    )
    assert absent(HOUSE, wrong) == ["server/nothing", "tests/none/test_x.py", "tests/test_kinds.py::test_nothing"]


@pytest.mark.parametrize(
    "wrong", [{"tests": ("test_x.py",)}, {"implemented": ("server/../x",)}, {"results": "green"}, {"asks": None}]
)
def test_data_of_another_shape_is_refused(wrong: dict[str, Any]) -> None:
    lawful = {"id": "X", "asks": "x", "implemented": ("server/run",), "tests": ("tests/test_kinds.py",)}
    assert Clause.read(lawful)
    with pytest.raises(Refused):
        Clause.read(lawful | wrong)


def junit(path: Path, *cases: str, commit: str = COMMIT) -> Path:
    """Write a JUnit file as pytest does. cases: ``a.test_b::test_c`` or the same with a tag of an outcome behind."""
    lines = []
    for case in cases:
        where, _, rest = case.partition("::")
        name, _, tag = rest.partition(" ")
        lines.append(f'<testcase classname="{where}" name="{name}">{f"<{tag}/>" if tag else ""}</testcase>')
    said = f'<properties><property name="commit" value="{commit}"/></properties>' if commit else ""
    path.write_text(f"<testsuites><testsuite>{said}{''.join(lines)}</testsuite></testsuites>")
    return path


def all_passed(path: Path, *, without: str = "", commit: str = COMMIT, spoil: str = "") -> Path:
    """Write a file in which every test passed, but for one, or one file of them, left out or spoilt by a tag."""
    names = dict.fromkeys(test if "::" in test else f"{test}::test_any" for one in ALL for test in one.tests)
    cases = []
    for name in names:
        file, _, test = name.partition("::")
        chosen = without in {name, file}
        if chosen and not spoil:
            continue
        tag = f" {spoil}" if chosen else ""
        cases.append(f"{file.removesuffix('.py').replace('/', '.')}::{test}[a.b]{tag}")
    return junit(path, *cases, commit=commit)


def stands(path: Path, commit: str = COMMIT) -> dict[str, str]:
    return {one.id: one.standing for one in compose(read_results(path), commit, None, NOW).clauses}


def test_a_clause_whose_tests_all_passed_holds_and_one_that_lacks_something_does_not(tmp_path: Path) -> None:
    found = stands(all_passed(tmp_path / "j.xml"))
    for clause in clauses().clause:
        lacking = Standing.PARTLY if clause.implemented else Standing.OPEN
        assert found[clause.id] == (lacking if clause.missing else Standing.HOLDS)


@pytest.mark.parametrize("clause", [one for one in clauses().clause if not one.missing], ids=lambda one: one.id)
@pytest.mark.parametrize(
    ("spoil", "expected"),
    [("", Standing.UNKNOWN), ("failure", Standing.FAILS), ("error", Standing.FAILS), ("skipped", Standing.UNKNOWN)],
)
def test_without_one_of_its_tests_no_clause_is_green(
    tmp_path: Path, clause: Clause, spoil: str, expected: Standing
) -> None:
    for test in clause.tests:
        assert stands(all_passed(tmp_path / "j.xml", without=test, spoil=spoil))[clause.id] == expected


@pytest.mark.parametrize(
    ("said", "asked", "why"),
    [
        (OTHER, COMMIT, "another commit"),
        ("", COMMIT, "does not say"),
        (COMMIT, "", "not known"),
        (COMMIT + "+changes", COMMIT + "+changes", "changes"),
        (COMMIT + "+changes", COMMIT, "another commit"),
    ],
)
def test_results_of_anything_but_this_very_commit_are_grey(tmp_path: Path, said: str, asked: str, why: str) -> None:
    made = compose(read_results(all_passed(tmp_path / "j.xml", commit=said)), asked, None, NOW)
    assert why in made.doubt
    assert made.tally["holds"] == 0
    assert {shown.outcome for one in made.clauses for shown in one.tests} == {Outcome.UNKNOWN}


def test_without_results_all_is_grey() -> None:
    made = compose(None, COMMIT, None, NOW)
    assert made.doubt
    assert made.tally["holds"] == 0


def test_the_commit_may_stand_beside_the_file(tmp_path: Path) -> None:
    path = all_passed(tmp_path / "j.xml", commit="")
    (tmp_path / "j.xml.commit").write_text(f"{COMMIT}\n")
    assert read_results(path).commit == COMMIT
    assert compose(read_results(path), COMMIT, None, NOW).doubt == ""


def test_two_commits_in_one_file_are_none(tmp_path: Path) -> None:
    path = tmp_path / "j.xml"
    path.write_text(
        f'<testsuites><property name="commit" value="{COMMIT}"/><property name="commit" value="{OTHER}"/></testsuites>'
    )
    assert read_results(path).commit == ""


def test_every_case_of_a_test_counts(tmp_path: Path) -> None:
    found = read_results(junit(tmp_path / "j.xml", "tests.a.test_b::test_c[1]", "tests.a.test_b::test_c[2] failure"))
    assert found.of("tests/a/test_b.py::test_c") == (Outcome.FAILED, 2)
    assert found.of("tests/a/test_b.py") == (Outcome.FAILED, 2)
    assert found.of("tests/a/test_b.py::test_d") == (Outcome.UNKNOWN, 0)
    assert found.of("tests/a/test") == (Outcome.UNKNOWN, 0)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not xml",
        "<html/>",
        '<!DOCTYPE x [<!ENTITY a "aa">]><testsuites>&a;</testsuites>',
        '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuites>&a;</testsuites>',
    ],
)
def test_what_is_no_junit_file_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "j.xml"
    path.write_text(text)
    with pytest.raises(OperatorProblem, match="--junit"):
        read_results(path)


def test_a_file_that_is_too_large_or_away_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OperatorProblem, match=r"none\.xml"):
        read_results(tmp_path / "none.xml")
    monkeypatch.setattr(results, "MOST_BYTES", 10)
    with pytest.raises(OperatorProblem, match="over"):
        read_results(all_passed(tmp_path / "j.xml"))


def test_a_clause_without_tests_never_holds() -> None:
    bare = Clause(id="X", asks="x", implemented=("server/run",), tests=())
    assert standing(bare, ()) == Standing.UNKNOWN


class Tags(HTMLParser):
    """Collects what a page holds."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.outside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            elif name == "href":
                self.links.append(str(value))
            elif name in {"src", "action", "data"} or name.startswith("on"):
                self.outside.append(str(value))


def test_the_page_is_one_file_without_a_script_and_every_link_leads_into_it(tmp_path: Path) -> None:
    text = page(compose(read_results(all_passed(tmp_path / "j.xml")), COMMIT, None, NOW))
    found = Tags(text)
    assert not {"script", "link", "img", "iframe", "object"} & set(found.tags)
    assert found.outside == []
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert len(found.links) == 2 * len(IDS), "to each clause, and back"
    assert "default-src 'none'" in html.unescape(text)
    assert not re.search(r"https?://|@import|url\(", text)


def test_what_stands_in_the_page_is_text(tmp_path: Path) -> None:
    made = compose(Results("<script>alert(1)</script>" + COMMIT), COMMIT, None, NOW)
    text = page(made)
    assert "&lt;script&gt;" in text
    assert "<script" not in text


@pytest.fixture
def provider(tmp_path: Path) -> Path:
    folder = tmp_path / "p"
    make_provider(folder, Wish(port=0, name="Acme <b>Ltd</b>"), datetime.now(UTC))
    with open_store(folder / "server.db", create=True) as store:
        kept(store, device(1), device(2, state=State.REVOKED))
        with store.unit() as unit:
            unit.apply([CountRefusal("unknown", Code.MALFORMED, NOW)] * 3)
    return folder


def test_live_figures_are_those_of_the_provider(provider: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pulse(provider, Pulse(NOW, "thumb", NOW + timedelta(days=7)))
    assert run(["compliance", "report", "--dir", str(provider), "--json"]) == 0
    live = json.loads(capsys.readouterr().out)["live"]
    assert (live["devices"], live["states"]) == (2, {"registered": 1, "revoked": 1})
    assert live["refused"] == {"malformed": 3}
    assert live["pulse"]["signer_ends"] == "2026-05-08T12:00:00.000Z"
    assert (live["serving"], live["audit_broken"]) == (False, None)
    assert {one["name"] for one in live["keys"]} >= {"keys.root", "keys.device_ca"}
    assert [one["state"] for one in live["lists"]] == ["current"] * len(live["lists"]) != []


def test_a_report_says_what_mosip_was_told_and_what_biometrics_are_encrypted_for(
    provider: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["compliance", "report", "--dir", str(provider), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["live"]["mosip"] is None
    with (provider / "fleetward.toml").open("a") as file:
        file.write('[mosip]\nurl = "https://m"\nclient_id = "us"\nanchors = "a.pem"\n')
        file.write('domain_uris = ["https://a", "https://b"]\n')
    (leaf,) = chain(Recipe("FIR", "rsa2048 fir"))
    end = NOW + timedelta(days=99_999)
    kept_one = EncryptionCertificate(Environment.DEVELOPER, "https://a", NOW, "ida", leaf.der, end)
    with open_store(provider / "server.db") as store, store.unit() as unit:
        unit.put_encryption_certificate(kept_one)
        unit.put_mosip_task(new_task(device(1).id, Profile.CRYPTO_ONLY, Act.HOTLIST, NOW))
    asked = {"at": "2026-05-01T12:00:00.000Z", "asked": 2, "lacking": ["sbi <2>: x"]}
    (provider / "mosip-approvals.json").write_text(json.dumps(asked))
    out = tmp_path / "r.html"
    assert run(["compliance", "report", "--dir", str(provider), "--json", "--out", str(out)]) == 0
    capsys.readouterr()
    assert run(["compliance", "report", "--dir", str(provider), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["live"]["mosip"]
    assert (said["profile"], said["reached"], said["tasks"]) == ("crypto-only", None, {"hotlist waiting": 1})
    assert said["not_approved"] == ["sbi <2>: x"]
    assert [(one["domain"], one["state"]) for one in said["encryption"]] == [
        ("https://a", "valid"),
        ("https://b", "not fetched yet"),
    ]
    page = out.read_text()
    assert said["encryption"][0]["thumbprint"] in page
    assert "Not approved there: sbi &lt;2&gt;: x." in page


def test_the_report_is_written_and_a_failure_is_an_exit_code(
    provider: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, first = tmp_path / "r.html", clauses().clause[0].tests[0]
    good, bad = all_passed(tmp_path / "j.xml"), all_passed(tmp_path / "k.xml", without=first, spoil="failure")
    common = ["compliance", "report", "--dir", str(provider), "--out", str(out), "--commit", COMMIT, "--junit"]
    assert run([*common, str(good)]) == 0
    assert "Acme &lt;b&gt;Ltd" in out.read_text()
    assert run([*common, str(bad)]) == 7
    assert 'class="tag fails"' in out.read_text()
    capsys.readouterr()


def test_without_a_place_to_write_to_it_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compliance", "report", "--dir", str(tmp_path)]) == 2
    assert "--out" in capsys.readouterr().err


def test_a_folder_without_a_provider_has_no_live_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compliance", "report", "--dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["live"] is None


def test_outside_of_a_checkout_no_commit_is_known(tmp_path: Path) -> None:
    assert commit_of(tmp_path) == ""
    assert commit_of(tmp_path / "none") == ""


def test_a_pulse_comes_back_and_a_broken_one_is_none(tmp_path: Path) -> None:
    assert read_pulse(tmp_path) is None
    write_pulse(tmp_path, Pulse(NOW, "thumb", NOW))
    assert read_pulse(tmp_path) == Pulse(NOW, "thumb", NOW)
    (tmp_path / "pulse.json").write_text('{"beaconAt": "yesterday"}')
    assert read_pulse(tmp_path) is None
    write_pulse(tmp_path / "none", Pulse(NOW, "thumb", NOW))


CAPTURES = re.compile(r"r?capture|biovalue|bdb|minutiae|sessionkey", re.IGNORECASE)


def spoken(command: Any) -> str:
    """Return every name of commands, options and arguments below one."""
    names = [str(command.name), *(option for param in command.params for option in (param.name, *param.opts))]
    return " ".join([*names, *map(spoken, getattr(command, "commands", {}).values())])


def test_no_command_speaks_of_a_capture() -> None:
    tree = spoken(typer.main.get_command(build(list(entry_points(group=GROUP)))))
    assert "compliance" in tree
    assert CAPTURES.search(tree) is None
    assert CAPTURES.search(tree + " --capture")


def test_the_page_says_which_results_it_stands_on(tmp_path: Path) -> None:
    path = all_passed(tmp_path / "j.xml")
    made = compose(read_results(path), COMMIT, None, NOW)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert (made.results_sha256, made.results_cases) == (digest, path.read_text().count("<testcase"))
    assert made.results_cases >= len(IDS)
    assert digest in page(made)
    assert digest not in page(compose(None, COMMIT, None, NOW))
