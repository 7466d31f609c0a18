"""Chains from elsewhere at the server: what an operator allows a root, is told of a chain, and sees of a device."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from alembic.command import upgrade
from alembic.config import Config
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import create_engine

from fleetward_schemas.certificates import Anchors
from fleetward_schemas.errors import Refused
from fleetward_schemas.foreign import Leniency, Place
from fleetward_server.cli.app import run
from fleetward_server.ftm_check import examine
from fleetward_server.ftm_root import read_leniencies
from fleetward_server.intake import anchored
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import Check, FtmRoot, Item
from fleetward_server.store import AuditFilter, Store, open_store
from fleetward_server.store.engine import MIGRATIONS
from tests.chains import LEAF, MIDDLE, ROOT, Made, Recipe, chain
from tests.server.provider import Voice, ftm_speaker, known
from tests.server.register import FIRST, NOW, device, kept, made
from tests.server.test_enrol import device_after, hello, say
from tests.server.test_operator import CONFIG

BARE = Leniency.NO_EXTENSIONS
LOOSE = Leniency.LOOSE_CONSTRAINTS


def lasting(recipe: Recipe, **changes: object) -> Recipe:
    ends = {"start": datetime(2020, 1, 1, tzinfo=UTC), "end": datetime(2049, 1, 1, tzinfo=UTC)}
    return replace(recipe, **{**ends, **changes})  # type: ignore[arg-type]


def foreign() -> tuple[Made, ...]:
    """Return a chain as makers have it: a bare leaf, and a root whose constraints are not critical."""
    return chain(lasting(LEAF, bare=True), lasting(MIDDLE), lasting(ROOT, critical=False))


def pem(*certificates: Made) -> bytes:
    return b"".join(one.certificate.public_bytes(Encoding.PEM) for one in certificates)


def root_of(found: tuple[Made, ...], *allowed: Leniency, trusted: bool = True) -> FtmRoot:
    return FtmRoot("t", "Chips", found[-1].der, trusted, allowed)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    with made(tmp_path) as fresh:
        yield fresh


@pytest.fixture
def operator(store: Store) -> Iterator[LocalOperator]:
    with LocalOperator(store.path.parent, "eve", lambda: NOW) as eve:
        yield eve


def test_a_root_is_kept_with_what_it_allows(operator: LocalOperator, store: Store) -> None:
    root = operator.add_ftm_root(pem(foreign()[-1]), "Chips", "", (LOOSE, BARE))
    assert operator.ftm_roots() == (root,)
    assert root.leniencies == (LOOSE, BARE)
    assert store.audit_links(0, 9, AuditFilter(root.thumbprint))[-1].entry.detail == f"Chips {LOOSE} {BARE}"


def test_a_root_that_lacks_what_is_not_allowed_is_refused_with_the_word(operator: LocalOperator) -> None:
    with pytest.raises(OperatorProblem, match=r"--allow.*loose-constraints.*not critical") as problem:
        operator.add_ftm_root(pem(foreign()[-1]), "Chips", "", (BARE,))
    assert problem.value.kind is Kind.INVALID
    assert operator.ftm_roots() == ()


def test_a_root_said_again_with_other_leniencies_is_replaced(operator: LocalOperator) -> None:
    operator.add_ftm_root(pem(foreign()[-1]), "Chips", "", (LOOSE,))
    with pytest.raises(OperatorProblem, match="already"):
        operator.add_ftm_root(pem(foreign()[-1]), "Chips", "", (LOOSE,))
    operator.add_ftm_root(pem(foreign()[-1]), "Chips", "", (LOOSE, BARE))
    assert [one.leniencies for one in operator.ftm_roots()] == [(LOOSE, BARE)]


@pytest.mark.parametrize(
    "changes", [{"key": "p256 root"}, {"key": "ed25519 root"}, {"key": "rsa1024 root"}, {"usage": frozenset[str]()}]
)
def test_no_leniency_makes_a_root_of_everything(operator: LocalOperator, changes: dict[str, object]) -> None:
    weak = chain(lasting(ROOT, **changes))
    with pytest.raises(OperatorProblem) as problem:
        operator.add_ftm_root(pem(*weak), "Chips", "", tuple(Leniency))
    assert problem.value.kind is Kind.INVALID


def test_a_bare_leaf_is_no_root(operator: LocalOperator) -> None:
    with pytest.raises(OperatorProblem, match="perhaps a leaf"):
        operator.add_ftm_root(pem(chain(lasting(LEAF, bare=True, key="rsa2048 chip"), ROOT)[0]), "x", "", (BARE,))
    operator.add_ftm_root(pem(*chain(lasting(ROOT, bare=True))), "Chips", "", (BARE,))


def test_words_are_read_once_each_and_a_wrong_one_is_told_with_the_nearest() -> None:
    assert read_leniencies("") == ()
    assert read_leniencies(" no-extensions,loose-constraints, no-extensions") == (LOOSE, BARE)
    with pytest.raises(OperatorProblem, match="did you mean 'no-extensions'"):
        read_leniencies("no-extension")


def test_intake_believes_what_a_trusted_root_allows_and_nothing_else() -> None:
    own, found = Anchors(()), foreign()
    ders = tuple(one.der for one in found[:-1])
    believed = anchored(own, [root_of(found, LOOSE, BARE)], 1).ftm.verify(ders, NOW)
    assert believed.leniencies == (LOOSE, BARE)
    for root in (root_of(found, LOOSE), root_of(found), root_of(found, LOOSE, BARE, trusted=False)):
        with pytest.raises(Refused):
            anchored(own, [root], 1).ftm.verify(ders, NOW)


def test_a_device_shows_what_its_chip_was_excused() -> None:
    speaker = replace(ftm_speaker(), leniencies=(LOOSE, BARE))
    checks = device_after(say(hello(), known(), Voice(speaker))).checklist
    assert {check.item: check.excused for check in checks if check.excused} == {Item.FTM: (LOOSE, BARE)}


def test_what_was_excused_is_kept_with_the_device(store: Store) -> None:
    excused = (Check(Item.IDENTITY, held=True), Check(Item.FTM, held=True, excused=(LOOSE, BARE)))
    found = kept(store, device(checklist=excused)).device(FIRST)
    assert found is not None
    assert found.checklist == excused


def older(path: Path, revision: str) -> None:
    """Make a store as an older version did."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        upgrade(config, revision)
        connection.exec_driver_sql("INSERT INTO ftm_roots (thumbprint, name, der, trusted) VALUES ('t', 'C', x'00', 1)")
    engine.dispose()


def test_roots_of_an_older_store_allow_nothing(tmp_path: Path) -> None:
    older(tmp_path / "server.db", "0001")
    with open_store(tmp_path / "server.db", create=True) as store:
        assert store.ftm_roots() == (FtmRoot("t", "C", b"\0", trusted=True, leniencies=()),)


def test_a_check_accepts_what_intake_would() -> None:
    found = foreign()
    verdict = examine(pem(*found[:-1]), [root_of(found, LOOSE, BARE)], NOW)
    assert (verdict.accepted, verdict.root, verdict.needs) == (True, "Chips", (LOOSE, BARE))
    assert [one.place for one in verdict.certificates] == [Place.LEAF, Place.BETWEEN, Place.ANCHOR]
    assert [one.needs for one in verdict.certificates] == [(BARE,), (), (LOOSE,)]


def test_a_check_names_what_the_root_does_not_allow() -> None:
    found = foreign()
    verdict = examine(pem(*found), [root_of(found, LOOSE)], NOW)
    assert not verdict.accepted
    assert verdict.said == "its root 'Chips' does not allow no-extensions"


def test_a_check_tells_how_to_trust_the_root_in_the_file() -> None:
    found = foreign()
    for roots in ([], [root_of(found, LOOSE, BARE, trusted=False)]):
        verdict = examine(pem(*found), roots, NOW)
        assert (verdict.accepted, verdict.root) == (False, None)
        assert verdict.said.endswith("ftm-root add ROOT --allow loose-constraints,no-extensions")


def test_a_check_asks_for_the_root_that_is_missing() -> None:
    verdict = examine(pem(*foreign()[:-1]), [], NOW)
    assert not verdict.accepted
    assert "CN=Chip root" in verdict.said


def test_a_check_points_at_the_certificate_that_nothing_excuses() -> None:
    found = chain(lasting(LEAF, hash="sha256"), lasting(MIDDLE, ca=False), lasting(ROOT))
    verdict = examine(pem(*found), [root_of(found, *Leniency)], NOW)
    assert not verdict.accepted
    assert [bool(one.problem) for one in verdict.certificates] == [False, True, False]


def test_a_check_of_no_certificates_is_invalid() -> None:
    with pytest.raises(OperatorProblem, match="expected certificates in PEM"):
        examine(b"hello", [], NOW)


def test_the_command_allows_checks_and_lists(store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "chips.pem").write_bytes(pem(foreign()[-1]))
    (tmp_path / "chain.pem").write_bytes(pem(*foreign()))

    def told(*words: str) -> tuple[int, object]:
        code = run(["ftm-root", *words, "--json", "--dir", str(tmp_path)])
        said = capsys.readouterr()
        return int(code), json.loads(said.out or said.err)

    asked = ("check", "--chain", str(tmp_path / "chain.pem"), "--at", "2026-03-01T12:00:00Z")
    assert told(*asked)[0] == 7
    assert told("add", str(tmp_path / "chips.pem"), "--allow", "loose-constraints,no-extensions")[0] == 0
    code, verdict = told(*asked)
    assert (code, isinstance(verdict, dict) and verdict["needs"]) == (0, ["loose-constraints", "no-extensions"])
    listed = told("list")[1]
    assert isinstance(listed, list)
    assert listed[0]["allows"] == ["loose-constraints", "no-extensions"]
    assert told(*asked[:3], "--at", "yesterday")[0] == 2
