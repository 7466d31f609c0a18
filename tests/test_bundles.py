"""A device that no network reaches is ordered, heard and acknowledged by files; both ends are real."""

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from fleetward_agent.device import Device, Options
from fleetward_agent.visit import Visit
from fleetward_agent.walk import Stage as At
from fleetward_schemas.bundle import read_bundle, write_bundle
from fleetward_schemas.commands import Step
from fleetward_schemas.encryption import Encryption
from fleetward_schemas.enrol import State
from fleetward_schemas.errors import Refused
from fleetward_schemas.jws import Alg
from fleetward_server.audit import verify
from fleetward_server.bundle import BundleOperator
from fleetward_server.cli.app import run
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.state import Command, Presence
from fleetward_server.store import ReportFilter, Store
from tests.agent.test_encryption import FIR, IDA, ROOT, body
from tests.chains import chain
from tests.joined import Joined


class Remote(Joined):
    """Somebody goes there and back."""

    def bring(self, whole: bytes) -> bytes:
        device = Device(self.origin, self.parts, Options(device_alg=Alg.EDDSA))
        visit = Visit(device, self.boot_id, self.world().instant())
        visit.apply(whole, self.world().instant())
        return visit.answers(self.world().instant())[0]

    def order(self, verb: str) -> Command:
        with self.operator() as operator:
            return operator.send_command(self.device.id, verb, {}, 6 * 86_400, "")

    def create(self) -> bytes:
        with self.operator() as operator:
            return operator.create_bundle([self.device.id], "")[0]

    def take(self, answers: bytes) -> tuple[str, ...]:
        with self.operator() as operator:
            return operator.take_bundle(answers).refused

    def step_of(self, command: Command) -> Step | None:
        found = self.store.command(command.id)
        return None if found is None else found.step

    def kinds(self) -> set[str]:
        return {one.kind for one in self.store.reports(ReportFilter(self.device.id, None), limit=1000)}


@pytest.fixture
def remote(tmp_path: Path) -> Iterator[Remote]:
    """A device that was enrolled, and then taken to where there is no line; its reports wait."""
    joined = Remote(tmp_path)
    joined.until(lambda: joined.device.stage is At.WORKING)
    joined.pass_s(5)
    joined.link.deaf = True
    joined.pass_s(300, 15)
    joined.host.shut()
    joined.link.published.clear()
    yield joined
    joined.store.close()


def test_an_order_goes_out_and_its_result_comes_back_and_is_acknowledged(remote: Remote) -> None:
    order = remote.order("collect-info")
    answers = remote.bring(remote.create())
    assert remote.take(answers) == ()
    assert remote.step_of(order) is Step.SUCCEEDED
    assert remote.kinds() == {"telemetry", "info", "result"}
    assert remote.parts.outbox.depth > 0

    last = remote.bring(remote.create())
    assert remote.parts.outbox.depth == 0
    assert [one.topic.rpartition("/")[2] for one in read_bundle(last)] == ["time"]


def test_answers_taken_twice_are_stored_once(remote: Remote) -> None:
    answers = remote.bring(remote.create())
    remote.take(answers)
    before = remote.store.reports(ReportFilter(remote.device.id, None), limit=1000)
    assert remote.take(answers) == ()
    assert remote.store.reports(ReportFilter(remote.device.id, None), limit=1000) == before
    remote.bring(remote.create())
    assert remote.parts.outbox.depth == 0


def test_nobody_is_online_for_what_was_carried(remote: Remote) -> None:
    remote.clock.pass_s(1000)
    remote.worker.miss(remote.clock.now)
    remote.take(remote.bring(remote.create()))
    device = remote.store.device(remote.device.id)
    assert device is not None
    assert device.presence is Presence.OFFLINE


def test_after_a_reboot_the_time_is_told_by_hand_before_anything_is_done(remote: Remote) -> None:
    remote.boot_id, remote.clock.boot_us = "boot-2", 5_000_000
    order = remote.order("collect-info")
    remote.clock.pass_s(86_400)
    first = remote.bring(remote.create())
    remote.clock.pass_s(3600)
    assert remote.take(first) == ()
    assert remote.step_of(order) is Step.SENT
    remote.clock.pass_s(3600)
    second = remote.bring(remote.create())
    remote.take(second)
    assert remote.step_of(order) is Step.SUCCEEDED


def test_a_device_is_retired_by_hand(remote: Remote) -> None:
    remote.order("retire")
    remote.take(remote.bring(remote.create()))
    remote.clock.pass_s(61)
    remote.serve()
    device = remote.store.device(remote.device.id)
    assert device is not None
    assert device.state is State.RETIRED

    assert read_bundle(remote.bring(remote.create())) == ()
    assert not remote.parts.keys.names()


def test_what_only_the_line_can_do_is_named_and_left_out(remote: Remote) -> None:
    order = remote.order("rotate-key")
    with remote.operator() as operator:
        whole, packed = operator.create_bundle([remote.device.id], "")
    assert packed.left == (f"{remote.device.id} {order.id} rotate-key",)
    assert [one.topic.rpartition("/")[2] for one in read_bundle(whole)] == ["beacon", "ack"]


def test_altered_answers_are_refused_by_name_and_the_others_taken(remote: Remote) -> None:
    order = remote.order("collect-info")
    good = read_bundle(remote.bring(remote.create()))
    worse = [replace(one, raw=_altered(one.raw)) if one.topic.endswith("/info") else one for one in good]
    (refused,) = remote.take(write_bundle(worse))
    assert refused.startswith(f"fw/v1/d/{remote.device.id}/up/info: bad-signature")
    assert remote.step_of(order) is Step.SUCCEEDED
    assert "info" not in remote.kinds()


def test_answers_that_come_too_late_are_refused_by_name_and_carried_again(remote: Remote) -> None:
    late = remote.bring(remote.create())
    remote.clock.pass_s(7 * 86_400 + 60)
    refused = remote.take(late)
    assert refused
    assert all(": stale" in one for one in refused)

    assert remote.take(remote.bring(remote.create())) == ()
    remote.bring(remote.create())
    assert remote.parts.outbox.depth == 0


def test_a_damaged_file_is_refused_whole(remote: Remote) -> None:
    answers = bytearray(remote.bring(remote.create()))
    answers[len(answers) // 2] ^= 1
    with pytest.raises(OperatorProblem, match="malformed") as problem:
        remote.take(bytes(answers))
    assert problem.value.kind is Kind.UNVERIFIED
    with pytest.raises(OperatorProblem, match="not-allowed"):
        remote.take(remote.create())


def test_a_bundle_of_eight_days_ago_is_refused_by_name(remote: Remote) -> None:
    old = remote.create()
    remote.clock.pass_s(8 * 86_400)
    remote.bring(remote.create())
    with pytest.raises(Refused, match="wrong-server"):
        remote.bring(old)


def test_no_bundle_without_a_time_and_none_for_strangers(remote: Remote) -> None:
    with remote.operator() as operator, pytest.raises(OperatorProblem, match="no device"):
        operator.create_bundle([type(remote.device.id)("x" * 26)], "")
    path = remote.folder / "fleetward.toml"
    path.write_text(path.read_text().replace('source = "assumed"', 'source = "chrony"'))
    with remote.operator() as operator, pytest.raises(OperatorProblem, match="our own clock"):
        operator.create_bundle([remote.device.id], "")


def test_each_bundle_stands_in_the_audit(remote: Remote) -> None:
    remote.take(remote.bring(remote.create()))
    said = [link.entry for link in remote.store.audit_links(0, 1000)]
    assert [one.action for one in said if one.action.startswith("bundle")] == ["bundle-created", "bundle-taken"]
    assert verify(remote.store)[1] is None


def _altered(raw: bytes) -> bytes:
    return raw[:-3] + (b"A" if raw[-3:-2] != b"A" else b"B") + raw[-2:]


def test_the_command_line_writes_a_bundle_and_names_what_it_refuses(
    remote: Remote, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, folder = tmp_path / "stick", str(remote.folder)
    assert run(["bundle", "create", remote.device.id, "--out", str(out), "--dir", folder, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["devices"] == 1
    assert read_bundle(out.read_bytes())[0].topic == "fw/v1/fleet/beacon"
    assert run(["bundle", "create", "model:none", "--out", str(out), "--dir", folder]) == 3
    out.write_bytes(out.read_bytes()[:-2])
    assert run(["bundle", "take", str(out), "--dir", folder]) == 7
    assert "malformed" in capsys.readouterr().err


def test_what_was_carried_is_not_too_often(remote: Remote) -> None:
    path = remote.folder / "fleetward.toml"
    path.write_text(path.read_text().replace("# reports_burst = 2000", "reports_burst = 1"))
    remote.order("collect-info")
    answers = remote.bring(remote.create())
    assert len(read_bundle(answers)) > 3
    assert remote.take(answers) == ()


class Told(BundleOperator):
    """An operator whose provider has an encryption certificate to tell of."""

    def _encryption(self, store: Store, now: datetime) -> tuple[Encryption, ...]:
        return (body(chain(FIR, IDA, ROOT)),)


def test_encryption_certificates_travel_in_bundles(remote: Remote) -> None:
    with Told(remote.folder, "eve", lambda: remote.clock.now) as operator:
        whole, _ = operator.create_bundle([remote.device.id], "")
    device = Device(remote.origin, remote.parts, Options(device_alg=Alg.EDDSA))
    visit = Visit(device, remote.boot_id, remote.world().instant())
    done = visit.apply(whole, remote.world().instant())
    assert (done.taken["encryption"], done.left) == (1, ())
