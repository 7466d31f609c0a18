"""What an operator decides is done whole, and stands in the audit with actor and reason. Source: S5."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Subject
from fleetward_broker.signers import make_key
from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.jws import Alg
from fleetward_server.commands import MOST_OPEN
from fleetward_server.operations import Operator
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import Device, Model
from fleetward_server.store import AuditFilter, Store, open_store
from tests.server import provider
from tests.server.register import FIRST, NOW, device, identity, kept, made

CONFIG = '[provider]\nname = "Acme Ltd"\nid = "acme"\nenvironment = "Developer"\n'
WAITING = device(state=State.PENDING, asking_key="k", reason=Reason.AWAITING_APPROVAL)
AGAIN = device(asking_key="k", reason=Reason.AWAITING_APPROVAL)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    (tmp_path / "fleetward.toml").write_text(CONFIG)
    with made(tmp_path) as fresh:
        yield fresh


@pytest.fixture
def operator(store: Store) -> Iterator[LocalOperator]:
    with LocalOperator(store.path.parent, "eve", lambda: NOW) as eve:
        yield eve


def last_word(store: Store) -> tuple[str, str, str, str]:
    said = store.audit_links(store.audit_length() - 1, 1)[0].entry
    return said.actor, said.action, said.subject, said.reason


def kind_of(problem: pytest.ExceptionInfo[OperatorProblem]) -> Kind:
    return problem.value.kind


def test_the_local_operator_has_all_the_seams(operator: LocalOperator) -> None:
    seams: Operator = operator
    assert seams.counts().devices == 0


@pytest.mark.parametrize("waiting", [WAITING, AGAIN, replace(WAITING, state=State.REFUSED)])
def test_an_approval_is_of_the_key_that_asked(operator: LocalOperator, store: Store, waiting: Device) -> None:
    kept(store, waiting)
    approved = operator.approve(FIRST, "seen it", key="k")
    assert approved.approved_key == "k"
    assert approved.state is (State.REGISTERED if waiting is AGAIN else State.APPROVED)
    assert store.device(FIRST) == approved
    assert last_word(store) == ("operator:eve", "approved", FIRST, "seen it")


@pytest.mark.parametrize(
    "other",
    [
        device(),
        device(state=State.APPROVED),
        replace(AGAIN, approved_key="k"),
        replace(AGAIN, state=State.RETIRED),
        replace(WAITING, state=State.REVOKED),
        replace(WAITING, asking_key=None, reason=Reason.MODEL_NOT_APPROVED),
    ],
)
def test_what_does_not_wait_cannot_be_approved(operator: LocalOperator, store: Store, other: Device) -> None:
    kept(store, other)
    with pytest.raises(OperatorProblem) as problem:
        operator.approve(FIRST, "")
    assert kind_of(problem) is Kind.CONFLICT
    assert store.device(FIRST) == other
    assert store.audit_length() == 0


def test_an_approval_for_one_key_is_none_for_another(operator: LocalOperator, store: Store) -> None:
    kept(store, WAITING)
    with pytest.raises(OperatorProblem, match="not other") as problem:
        operator.approve(FIRST, "", key="other")
    assert kind_of(problem) is Kind.CONFLICT


def test_a_second_key_of_an_approved_device_is_approved_by_itself(operator: LocalOperator, store: Store) -> None:
    kept(store, replace(WAITING, state=State.APPROVED, approved_key="first", asking_key="second"))
    assert operator.approve(FIRST, "").approved_key == "second"


def test_a_waiting_device_is_refused(operator: LocalOperator, store: Store) -> None:
    kept(store, WAITING)
    refused = operator.refuse(FIRST, "stolen")
    assert (refused.state, refused.reason) == (State.REFUSED, Reason.REFUSED_BY_OPERATOR)
    assert last_word(store) == ("operator:eve", "refused", FIRST, "stolen")


def test_refusing_a_new_key_leaves_the_registered_device_alone(operator: LocalOperator, store: Store) -> None:
    kept(store, AGAIN)
    after = operator.refuse(FIRST, "not ours")
    assert (after.state, after.asking_key, after.reason) == (State.REGISTERED, None, None)


@pytest.mark.parametrize("state", [State.REGISTERED, State.REFUSED, State.RETIRED])
def test_what_does_not_wait_cannot_be_refused(operator: LocalOperator, store: Store, state: State) -> None:
    kept(store, device(state=state))
    with pytest.raises(OperatorProblem) as problem:
        operator.refuse(FIRST, "")
    assert kind_of(problem) is Kind.CONFLICT


def test_tags_are_put_on_and_taken_off(operator: LocalOperator, store: Store) -> None:
    kept(store, device(tags=("old",)))
    operator.tag(FIRST, ("north", "gate-2"), ("old",))
    found = store.device(FIRST)
    assert found is not None
    assert found.tags == ("gate-2", "north")
    assert operator.devices(operator.selection("tag:north")) == (found,)


@pytest.mark.parametrize("tag", ["", "North", "a;b", "-a", "x" * 65])
def test_what_is_no_tag_is_refused(operator: LocalOperator, store: Store, tag: str) -> None:
    kept(store, device())
    with pytest.raises(OperatorProblem) as problem:
        operator.tag(FIRST, (tag,), ())
    assert kind_of(problem) is Kind.INVALID


def test_a_command_is_queued_for_a_registered_device(operator: LocalOperator, store: Store) -> None:
    kept(store, device())
    command = operator.send_command(FIRST, "sync-time", {}, 60, "drift")
    assert store.command(command.id) == command
    assert (command.step, command.expires_at) == (Step.QUEUED, NOW + timedelta(seconds=60))
    assert last_word(store) == ("operator:eve", "command-sync-time", FIRST, "drift")


def test_commands_of_one_instant_keep_their_order(operator: LocalOperator, store: Store) -> None:
    kept(store, device())
    ids = [operator.send_command(FIRST, "sync-time", {}, 60, "").id for _ in range(5)]
    assert [one.id for one in operator.commands(FIRST, open_only=True, limit=9)] == ids == sorted(ids)


def test_one_command_too_many_is_refused_and_a_change_of_keys_is_not(operator: LocalOperator, store: Store) -> None:
    kept(store, device())
    for _ in range(MOST_OPEN):
        operator.send_command(FIRST, "sync-time", {}, 60, "")
    with pytest.raises(OperatorProblem, match=f"{MOST_OPEN} open commands") as problem:
        operator.send_command(FIRST, "sync-time", {}, 60, "")
    assert kind_of(problem) is Kind.CONFLICT
    assert len(store.commands(limit=1000)) == MOST_OPEN
    operator.send_command(FIRST, "retire", {}, 60, "")


@pytest.mark.parametrize(
    ("state", "kind"),
    [(State.PENDING, Kind.HELD), (State.APPROVED, Kind.HELD), (State.RETIRED, Kind.CONFLICT)],
)
def test_a_device_that_is_not_registered_takes_no_command(
    operator: LocalOperator, store: Store, state: State, kind: Kind
) -> None:
    kept(store, device(state=state))
    with pytest.raises(OperatorProblem) as problem:
        operator.send_command(FIRST, "sync-time", {}, 60, "")
    assert kind_of(problem) is kind
    assert store.commands() == ()


@pytest.mark.parametrize(
    ("verb", "params", "expires_in_s", "said"),
    [
        ("sync-tim", {}, 60, "did you mean 'sync-time'"),
        ("sync-time", {"now": "1"}, 60, "it takes none"),
        ("unlock-upgrade", {}, 60, "needs --param name=VALUE"),
        ("unlock-upgrade", {"name": "firmware", "force": "1"}, 60, "it takes name"),
        ("unlock-upgrade", {"name": "Two words"}, 60, "expected words for name"),
        ("sync-time", {}, 0, "expected 1"),
        ("sync-time", {}, 10**9, "expected 1"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    operator: LocalOperator, store: Store, verb: str, params: dict[str, object], expires_in_s: int, said: str
) -> None:
    kept(store, device())
    with pytest.raises(OperatorProblem, match=said) as problem:
        operator.send_command(FIRST, verb, params, expires_in_s, "")
    assert kind_of(problem) is Kind.INVALID


def test_a_model_is_approved_and_revoked(operator: LocalOperator, store: Store) -> None:
    model = Model("acme", "Acme", "Slap-4", "Finger", "Slap", approved=True)
    assert operator.add_model(identity(), "tested") == model
    assert operator.revoke_model(identity(), "recalled") == replace(model, approved=False)
    assert last_word(store)[1:] == ("model-revoked", "acme", "recalled")
    with pytest.raises(OperatorProblem) as problem:
        operator.revoke_model(identity(), "")
    assert kind_of(problem) is Kind.NOT_FOUND


@cache
def root_pem(name: str = "chips") -> bytes:
    key = make_key(Alg.RS256)
    made_root = profiles.self_signed(Subject(name, "Chips Ltd"), key, NOW - timedelta(days=1))
    return made_root.public_bytes(Encoding.PEM)


def test_a_root_is_trusted_until_it_is_revoked(operator: LocalOperator, store: Store) -> None:
    root = operator.add_ftm_root(root_pem(), "Chips", "contract 7")
    before = store.epochs()
    assert operator.revoke_ftm_root(root.thumbprint[:6], "leaked") == replace(root, trusted=False)
    assert store.epochs()[0] > before[0]
    assert operator.ftm_roots() == (replace(root, trusted=False),)
    assert last_word(store)[1:] == ("ftm-root-revoked", root.thumbprint, "leaked")


def test_a_root_is_trusted_once_and_unknown_ones_are_not_revoked(operator: LocalOperator) -> None:
    operator.add_ftm_root(root_pem(), "Chips", "")
    with pytest.raises(OperatorProblem) as again:
        operator.add_ftm_root(root_pem(), "Chips", "")
    with pytest.raises(OperatorProblem) as unknown:
        operator.revoke_ftm_root("nobody", "")
    assert (kind_of(again), kind_of(unknown)) == (Kind.CONFLICT, Kind.NOT_FOUND)


def leaf_pem() -> bytes:
    return read_certificate(provider.leaf("chip", "ftm")).public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("pem", "name", "said"),
    [
        (lambda: b"", "Chips", "one certificate in PEM"),
        (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "Chips", "one certificate"),
        (lambda: root_pem() + root_pem("more"), "Chips", "one certificate"),
        (leaf_pem, "Chips", "a leaf"),
        (root_pem, "", "a root's name"),
        (root_pem, "a\nb", "a root's name"),
    ],
)
def test_what_is_no_root_is_refused(operator: LocalOperator, pem: object, name: str, said: str) -> None:
    with pytest.raises(OperatorProblem, match=said) as problem:
        operator.add_ftm_root(pem(), name, "")  # type: ignore[operator]
    assert kind_of(problem) is Kind.INVALID
    assert operator.ftm_roots() == ()


def test_a_root_that_is_not_valid_now_is_refused(store: Store) -> None:
    late = NOW + timedelta(days=365 * 40)
    with (
        LocalOperator(store.path.parent, "eve", lambda: late) as operator,
        pytest.raises(OperatorProblem, match="not now"),
    ):
        operator.add_ftm_root(root_pem(), "Chips", "")


def test_a_name_that_means_two_devices_is_told_with_both(operator: LocalOperator, store: Store) -> None:
    twin = device(2)
    kept(store, device(), replace(twin, identity=identity(2, serialNo="SN-0001")))
    with pytest.raises(OperatorProblem, match="more than one") as problem:
        operator.device("SN-0001")
    assert kind_of(problem) is Kind.INVALID
    assert operator.device(twin.id[:8]).id == twin.id


@pytest.mark.parametrize("text", ["zzzz", "abc", "", FIRST[:3]])
def test_a_name_that_means_nobody_is_not_found(operator: LocalOperator, store: Store, text: str) -> None:
    kept(store, device())
    with pytest.raises(OperatorProblem) as problem:
        operator.device(text)
    assert kind_of(problem) is Kind.NOT_FOUND


def test_papers_hold_all_there_is_about_a_device(operator: LocalOperator, store: Store) -> None:
    kept(store, device())
    operator.send_command(FIRST, "sync-time", {}, 60, "drift")
    papers = operator.papers(FIRST[:4])
    assert papers.device.id == FIRST
    assert [command.verb for command in papers.commands] == ["sync-time"]
    assert [link.entry.reason for link in papers.history] == ["drift"]
    assert operator.audit_links(AuditFilter(actor="operator:eve"), 0, 9) == list(papers.history)


def test_a_folder_without_a_provider_names_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(OperatorProblem, match="fleetward init") as problem:
        LocalOperator(tmp_path, "eve").counts()
    assert kind_of(problem) is Kind.INVALID


def test_a_store_held_by_another_is_a_conflict(store: Store, operator: LocalOperator) -> None:
    kept(store, WAITING)
    operator.counts()
    operator._store = open_store(store.path, patience_s=0)
    with store.unit(), pytest.raises(OperatorProblem, match="another process") as problem:
        operator.approve(FIRST, "")
    assert kind_of(problem) is Kind.CONFLICT
