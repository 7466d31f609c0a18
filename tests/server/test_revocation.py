"""A revoked device is out for good: in the register, in the audit, in the list that the broker reads. Source: S5."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from fleetward_broker.mosquitto_admin import NotTold
from fleetward_schemas.enrol import Event, Reason, State, may_advance
from fleetward_server import revocation
from fleetward_server.brokers import RUNNERS, Runner
from fleetward_server.changes import AddCertificates, TakeCertificates
from fleetward_server.cli.app import run
from fleetward_server.config import Config, load
from fleetward_server.init import Wish
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.running import RUN, locked
from fleetward_server.state import Certificate, CertificateState, Presence, Use
from fleetward_server.store import Store, open_store
from fleetward_server.supervise import Up
from tests.ready import ready_provider
from tests.server.register import FIRST, certificate, device, kept

NOW = datetime.now(UTC).replace(microsecond=0)
LATER = NOW + timedelta(days=1)
MANY = [state for state in State if not may_advance(state, Event.REVOKE) and state is not State.REVOKED]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    ready_provider(tmp_path, Wish(), NOW)
    with open_store(tmp_path / "server.db") as opened:
        yield opened


@pytest.fixture
def operator(store: Store) -> Iterator[LocalOperator]:
    with LocalOperator(store.path.parent, "eve", lambda: NOW) as eve:
        yield eve


def pair(name: str, serial: int, *, until: datetime = LATER) -> tuple[Certificate, Certificate]:
    return (
        certificate(f"device {name}", name, serial=serial, not_after=until),
        certificate(f"transport {name}", name, Use.TRANSPORT, serial=serial + 1, not_after=until),
    )


def certified(store: Store) -> None:
    """Give the first device an old pair, a current one and one that ended by itself."""
    kept(store, device(presence=Presence.ONLINE))
    for changes in (pair("ended", 10, until=NOW - timedelta(days=1)), pair("old", 20), pair("current", 30)):
        with store.unit() as unit:
            unit.apply([AddCertificates(changes), TakeCertificates(FIRST, changes[0].pair)])


def listed(store: Store, name: str = "device-ca") -> dict[int, datetime]:
    crl = x509.load_pem_x509_crl((store.path.parent / "pki" / "crl" / f"{name}.pem").read_bytes())
    return {entry.serial_number: entry.revocation_date_utc for entry in crl}


def test_a_revoked_device_is_out_with_all_its_certificates(operator: LocalOperator, store: Store) -> None:
    certified(store)
    before = store.epochs()
    revoked = operator.revoke(FIRST, "stolen")
    assert (revoked.state, revoked.reason, revoked.presence) == (State.REVOKED, Reason.REVOKED, Presence.OFFLINE)
    assert {one.state for one in store.certificates(FIRST)} == {CertificateState.REVOKED}
    assert store.epochs()[1] > before[1]
    assert [(link.entry.actor, link.entry.action, link.entry.reason) for link in store.history(FIRST)] == [
        ("operator:eve", "revoked", "stolen")
    ]


def test_the_list_names_what_has_not_ended_by_itself(operator: LocalOperator, store: Store) -> None:
    certified(store)
    assert listed(store) == {}
    operator.revoke(FIRST, "stolen")
    assert set(listed(store)) == {20, 21, 30, 31}
    assert listed(store, "factory-ca") == {}
    whole = (store.path.parent / "pki" / "crl" / "all.pem").read_bytes()
    assert whole.count(b"BEGIN X509 CRL") == 3


def test_a_list_written_again_keeps_when(operator: LocalOperator, store: Store) -> None:
    certified(store)
    operator.revoke(FIRST, "stolen")
    revocation.publish(load(store.path.parent), store, NOW + timedelta(hours=2))
    assert set(listed(store).values()) == {NOW}


def test_revoking_again_tells_the_broker_again_and_changes_nothing(operator: LocalOperator, store: Store) -> None:
    certified(store)
    first = operator.revoke(FIRST, "stolen")
    (store.path.parent / "pki" / "crl" / "device-ca.pem").write_text("lost")
    assert operator.revoke(FIRST, "once more") == first
    assert set(listed(store)) == {20, 21, 30, 31}
    assert len(store.history(FIRST)) == 1


@pytest.mark.parametrize("state", MANY)
def test_what_has_nothing_to_revoke_is_left_alone(operator: LocalOperator, store: Store, state: State) -> None:
    kept(store, device(state=state))
    with pytest.raises(OperatorProblem) as problem:
        operator.revoke(FIRST, "")
    assert problem.value.kind is Kind.CONFLICT
    assert store.history(FIRST) == ()


def test_an_approved_device_is_revoked_before_it_enrols(operator: LocalOperator, store: Store) -> None:
    kept(store, device(state=State.APPROVED))
    assert operator.revoke(FIRST, "lost").state is State.REVOKED


def test_an_authority_that_is_away_is_told_and_made_up_for(operator: LocalOperator, store: Store) -> None:
    certified(store)
    key = store.path.parent / "pki" / "device-ca.key.pem"
    key.rename(key.with_suffix(".away"))
    with pytest.raises(OperatorProblem, match="run the command again") as problem:
        operator.revoke(FIRST, "stolen")
    assert problem.value.kind is Kind.FAILED
    key.with_suffix(".away").rename(key)
    assert operator.revoke(FIRST, "stolen").state is State.REVOKED
    assert set(listed(store)) == {20, 21, 30, 31}


def test_nothing_that_serves_is_nobody_to_tell(store: Store) -> None:
    assert revocation.reload_and_kick(load(store.path.parent), [FIRST]) is False


@dataclass
class Falls:
    """A kind of broker whose first ends as it is told; ``run.json`` names the second then. there: it took the word."""

    folder: Path
    parts: tuple[int, int]
    there: bool
    told: list[int] = field(default_factory=list)

    def enforce(self, _: Config, pid: int, __: Sequence[str]) -> None:
        self.told.append(pid)
        if pid == self.parts[0]:
            self.runs(self.parts[1])
            raise NotTold("no answer") if self.there else ProcessLookupError

    def runs(self, broker: int) -> None:
        found = {"pid": os.getpid(), "broker": broker, "broker_kind": "falls"}
        (self.folder / RUN).write_text(json.dumps(found))


@pytest.mark.parametrize("there", [True, False])
def test_the_successor_of_a_broker_that_heard_and_fell_knows_by_itself_and_of_one_that_did_not_is_told(
    store: Store, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Told again, a Mosquitto may fall again, and again, for as long as somebody has patience."""
    folder, waits = store.path.parent, ["sleep", "600"]
    with subprocess.Popen(waits) as first, subprocess.Popen(waits) as second, locked(folder):
        falls = Falls(folder, (first.pid, second.pid), there)
        monkeypatch.setitem(RUNNERS, "falls", Runner(lambda *_: 0, falls.enforce, rereads_roots=False))
        falls.runs(first.pid)
        try:
            told = revocation.reload_and_kick(load(folder), [FIRST])
        finally:
            first.kill()
            second.kill()
    assert told is True
    assert falls.told == ([first.pid] if there else [first.pid, second.pid])


def test_the_lists_are_renewed_and_a_day_without_a_key_is_survived(store: Store) -> None:
    folder = store.path.parent
    whole = Up(load(folder))
    before = (folder / "pki" / "crl" / "all.pem").read_bytes()
    key = folder / "pki" / "device-ca.key.pem"
    away = key.rename(key.with_suffix(".away"))
    whole.renew_lists()
    assert (folder / "pki" / "crl" / "all.pem").read_bytes() == before
    away.rename(key)
    whole.renew_lists()
    assert (folder / "pki" / "crl" / "all.pem").read_bytes() != before


def test_the_command_wants_a_reason(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    certified(store)
    words = ["device", "revoke", FIRST, "--dir", str(store.path.parent)]
    assert run(words) == 2
    assert store.device(FIRST) == kept(store).device(FIRST)
    assert run([*words, "--reason", "stolen"]) == 0
    assert "revoked" in capsys.readouterr().out
