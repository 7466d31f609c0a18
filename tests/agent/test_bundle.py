"""A bundle brings what the line would have brought, and nothing that the line would not."""

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleetward_agent.__main__ import main
from fleetward_agent.device import Device, Options
from fleetward_agent.lock import alone
from fleetward_agent.origin import Credential
from fleetward_agent.status import NotRegistered
from fleetward_agent.turn import AddReport
from fleetward_agent.visit import Visit
from fleetward_agent.walk import Stage as At
from fleetward_schemas.bundle import Carried, read_bundle, write_bundle
from fleetward_schemas.clock import FAR_FUTURE_US, Beacon, TimeAnswer, TimeQuestion
from fleetward_schemas.commands import Command, Result, ResultState
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.envelope import Opened, open_sealed, read_body, seal
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Certification
from fleetward_schemas.jws import Alg
from fleetward_schemas.moment import show, to_ms
from fleetward_schemas.receipts import Ack
from fleetward_schemas.shapes import Body
from fleetward_schemas.topics import fleet
from tests.agent.test_encryption import FIR, IDA, ROOT, THIEF, body
from tests.agent.test_main import enrolled, provisioned
from tests.chains import chain
from tests.world import Provider, Stage
from tests.world_server import _Trust


@dataclass
class Office:
    """The server's end, where somebody makes bundles; the stage is the device, its agent stopped."""

    stage: Stage
    signer: Credential | None = None
    messages: list[Carried] = field(default_factory=list)
    name: str = ""

    def write(self, *bodies: Body, minutes: int = 600, at: datetime | None = None) -> bytes:
        """Return a bundle with a beacon, these bodies and an ack."""
        messages = [self.sealed("beacon", Beacon(), at)]
        for one in bodies:
            kind = type(one).__name__.lower().replace("timeanswer", "time")
            ends = (at or self.stage.clock.now) + timedelta(minutes=minutes) if kind == "command" else None
            messages.append(self.sealed(kind, one, at, expires=ends))
        return write_bundle([*messages, self.sealed("ack", Ack(ids=[]), at)])

    def sealed(self, kind: str, body: Body, at: datetime | None = None, **changes: object) -> Carried:
        server, signer = self.stage.server, self.signer or self.stage.server.signer
        if kind == "beacon":
            changes = {"topic": fleet("beacon"), "digital_id": server.server_identity(signer)}
        made = server.draft(self.name or self.stage.id, kind, body, **changes)
        return Carried(made.topic, seal(made, signer.by_chain(), at or self.stage.clock.now))

    def order(self, verb: str = "collect-info") -> Command:
        return Command(commandId=self.stage.server.draft("x", "ack", Ack(ids=[])).id, command=verb, params={})

    def opened(self, answers: bytes) -> list[Opened]:
        """Open what was carried back, as the server does."""
        server = self.stage.server
        return [open_sealed(one.raw, one.topic, _Trust(server), self.stage.clock.now) for one in read_bundle(answers)]

    def states(self, answers: bytes, command: Command) -> list[ResultState]:
        bodies = [read_body(one) for one in self.opened(answers)]
        return [body.state for body in bodies if isinstance(body, Result) and body.commandId == command.commandId]

    def told(self, answers: bytes) -> Ack:
        """Return the receipt for everything carried back."""
        return Ack(ids=[one.id for one in self.opened(answers) if one.kind.report])

    def answer(self, answers: bytes) -> TimeAnswer:
        """Answer the carried question, now."""
        question = next(read_body(one) for one in self.opened(answers) if one.kind.name == "time")
        assert isinstance(question, TimeQuestion)
        now = show(self.stage.clock.now)
        return TimeAnswer(nonce=question.nonce, received=now, sent=now, radiusMs=50)


def visit(stage: Stage) -> Visit:
    device = Device(stage.origin, stage.parts, Options(device_alg=Alg.EDDSA))
    return Visit(device, stage.boot_id, stage.world().instant())


def bring(stage: Stage, whole: bytes) -> bytes:
    """Bring a bundle to the device; return what is carried back."""
    one = visit(stage)
    one.apply(whole, stage.world().instant())
    return one.answers(stage.world().instant())[0]


def reboot(stage: Stage) -> None:
    stage.boot_id += "+"
    stage.clock.boot_us = 1_000_000


def code(stage: Stage, whole: bytes) -> Code:
    """Bring a bundle that is refused; nothing of it may have happened."""
    before = (stage.parts.state.load(), stage.parts.outbox.waiting(100), stage.parts.outbox.windows())
    with pytest.raises(Refused) as refusal:
        bring(stage, whole)
    assert (stage.parts.state.load(), stage.parts.outbox.waiting(100), stage.parts.outbox.windows()) == before
    return refusal.value.code


@pytest.fixture
def office(working: Stage) -> Office:
    working.host.shut()
    return Office(working)


def test_an_order_is_done_and_its_result_carried_back(office: Office) -> None:
    order = office.order()
    answers = bring(office.stage, office.write(order))

    assert office.states(answers, order) == [ResultState.ACCEPTED, ResultState.SUCCEEDED]
    assert "info" in {one.kind.name for one in office.opened(answers)}


def test_what_was_carried_back_is_kept_until_a_bundle_acknowledges_it(office: Office) -> None:
    answers = bring(office.stage, office.write(office.order()))
    again = bring(office.stage, office.write())
    assert {one.id for one in office.opened(answers) if one.kind.report} <= {one.id for one in office.opened(again)}

    empty = bring(office.stage, office.write(office.told(again)))
    assert [one.kind.name for one in office.opened(empty)] == ["time"]
    assert office.stage.parts.outbox.depth == 0


def test_a_bundle_brought_twice_is_done_once(office: Office) -> None:
    order = office.order()
    whole = office.write(order)
    bring(office.stage, whole)
    answers = bring(office.stage, whole)

    assert office.states(answers, order).count(ResultState.ACCEPTED) == 1
    assert sum(one.kind.name == "info" for one in office.opened(answers)) == 1


def test_the_agent_goes_on_where_the_visit_ended(office: Office) -> None:
    stage, order = office.stage, office.order()
    bring(stage, office.write(order))
    stage.start()
    stage.until(lambda: stage.device.stage is At.WORKING and stage.parts.outbox.depth == 0, 300)

    assert [h.body.state for h in stage.server.said("result")] == [ResultState.ACCEPTED, ResultState.SUCCEEDED]  # type: ignore[attr-defined]


def test_a_device_retires_by_bundles_alone(office: Office) -> None:
    stage, order = office.stage, office.order("retire")
    answers = bring(stage, office.write(order))
    assert [one.kind.name for one in office.opened(answers)] == ["time", "result"]

    assert read_bundle(bring(stage, office.write(office.told(answers)))) == ()
    assert not stage.keys.kept
    with pytest.raises(NotRegistered):
        bring(stage, office.write())


def test_the_time_floor_is_raised_and_no_more(office: Office) -> None:
    stage = office.stage
    reboot(stage)
    stage.clock.pass_s(40 * 3600)
    bring(stage, office.write())
    kept = stage.parts.state.load().clock
    assert kept is not None
    told_us = int((stage.clock.now - timedelta(seconds=1)).timestamp()) * 1_000_000
    assert told_us <= kept.earliest_us <= told_us + 2_000_000
    assert kept.latest_us == FAR_FUTURE_US


def test_after_a_reboot_orders_wait_until_a_carried_answer_has_told_the_time(office: Office) -> None:
    stage, order = office.stage, office.order()
    reboot(stage)
    first = bring(stage, office.write(order))
    assert office.states(first, order) == []

    stage.clock.pass_s(3600)
    answer = office.answer(first)
    stage.clock.pass_s(3600)
    second = bring(stage, office.write(answer, order))
    assert office.states(second, order) == [ResultState.ACCEPTED, ResultState.SUCCEEDED]
    kept = stage.parts.state.load().clock
    assert kept is not None
    assert kept.earliest_us <= to_ms(stage.clock.now) * 1000 <= kept.latest_us


def test_an_answer_from_before_a_reboot_tells_nothing(office: Office) -> None:
    stage, order = office.stage, office.order()
    reboot(stage)
    first = bring(stage, office.write())
    answer = office.answer(first)
    reboot(stage)
    one = visit(stage)
    done = one.apply(office.write(answer, order), stage.world().instant())

    assert (done.held, len(done.left)) == (1, 1)
    assert "time: bad-nonce" in done.left[0]


def test_an_answer_from_before_a_suspend_tells_nothing(office: Office) -> None:
    stage, order = office.stage, office.order()
    reboot(stage)
    first = bring(stage, office.write())
    answer = office.answer(first)
    stage.clock.suspend(3600, 1.0)
    one = visit(stage)
    done = one.apply(office.write(answer, order), stage.world().instant())

    assert (done.held, len(done.left)) == (1, 1)
    assert "time: bad-nonce" in done.left[0]


@pytest.mark.parametrize("days", [29, 31])
def test_an_answer_may_be_thirty_days_on_its_way(office: Office, days: int) -> None:
    stage = office.stage
    reboot(stage)
    first = bring(stage, office.write())
    stage.clock.pass_s(days * 86_400)
    fresh = Office(stage, stage.provider.server_signer(stage.clock.now - timedelta(hours=1)))
    answer = TimeAnswer.read(office_answer(office, first) | {"sent": show(stage.clock.now)})
    answer = answer.changed(received=answer.sent)
    done = visit(stage).apply(fresh.write(answer), stage.world().instant())
    assert done.taken["time"] == (1 if days < 30 else 0)


def office_answer(office: Office, answers: bytes) -> dict[str, object]:
    """Answer a question that came some time ago."""
    question = next(one for one in read_bundle(answers) if one.topic.endswith("/time"))
    opened = open_sealed(question.raw, question.topic, _Trust(office.stage.server), None)
    return {"nonce": opened.members.body["nonce"], "received": show(office.stage.clock.now), "radiusMs": 50}


def test_an_expired_order_is_left_out_by_name_and_the_rest_is_taken(office: Office) -> None:
    stage, late, good = office.stage, office.order(), office.order()
    sealed = office.sealed("command", late, expires=stage.clock.now + timedelta(minutes=1))
    stage.clock.pass_s(120)
    whole = read_bundle(office.write(good))
    one = visit(stage)
    done = one.apply(write_bundle([whole[0], sealed, *whole[1:]]), stage.world().instant())
    answers = one.answers(stage.world().instant())[0]

    assert done.left == ("line 3: command: stale: expired",)
    assert office.states(answers, late) == []
    assert office.states(answers, good) == [ResultState.ACCEPTED, ResultState.SUCCEEDED]


def test_an_order_that_may_have_expired_has_expired(office: Office) -> None:
    stage, order = office.stage, office.order()
    reboot(stage)
    first = bring(stage, office.write())
    stage.clock.pass_s(3600)
    answer = office.answer(first)
    # The question was an hour on its way: for all the device knows, the answer was.
    answers = bring(stage, office.write(answer, order, minutes=30))
    assert office.states(answers, order) == [ResultState.ACCEPTED, ResultState.EXPIRED]


@pytest.mark.parametrize(("days", "refused"), [(0, None), (6, None), (8, Code.WRONG_SERVER)])
def test_an_old_bundle_is_refused_by_name(office: Office, days: int, refused: Code | None) -> None:
    stage = office.stage
    old = office.write()
    stage.clock.pass_s(days * 86_400)
    if refused is None:
        assert bring(stage, old)
        return
    newer = Office(stage, stage.provider.server_signer(stage.clock.now - timedelta(hours=1)))
    bring(stage, newer.write())
    assert code(stage, old) is refused


def test_a_bundle_of_a_digital_id_that_is_no_more_is_refused(office: Office) -> None:
    office.stage.server.digital_id += "x"
    assert code(office.stage, office.write()) is Code.BAD_DIGITAL_ID


def test_a_bundle_for_another_device_is_refused(office: Office, provider: Provider) -> None:
    other = replace(office, name=Stage(provider, serial="SN-2").id)
    assert code(office.stage, other.write(other.order())) is Code.WRONG_TOPIC


def test_one_file_may_serve_many(office: Office, provider: Provider) -> None:
    other = replace(office, name=Stage(provider, serial="SN-2").id)
    theirs, ours = read_bundle(other.write(other.order())), read_bundle(office.write(order := office.order()))
    answers = bring(office.stage, write_bundle([*theirs, *ours[1:]]))
    assert office.states(answers, order) == [ResultState.ACCEPTED, ResultState.SUCCEEDED]


def test_another_provider_bundle_is_refused(office: Office, other_provider: Provider) -> None:
    forged = Office(office.stage, other_provider.server_signer())
    assert code(office.stage, forged.write()) is Code.WRONG_SERVER


def test_a_bundle_without_a_beacon_at_its_head_is_refused(office: Office) -> None:
    beacon, *rest = read_bundle(office.write(office.order()))
    assert code(office.stage, write_bundle([*rest, beacon])) is Code.MALFORMED
    assert code(office.stage, write_bundle([])) is Code.MALFORMED


def test_a_device_that_never_enrolled_takes_none(factory: object, office: Office, provider: Provider) -> None:
    with pytest.raises(NotRegistered, match="enrol"):
        visit(Stage(provider, serial="SN-3"))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), by=st.integers(1, 255))
def test_any_byte_altered_under_a_new_sum_is_refused(office: Office, place: int, by: int) -> None:
    whole = office.write(office.order())
    carried = read_bundle(whole)
    lines = bytearray(b"\n".join(one.topic.encode() + b" " + one.raw for one in carried))
    lines[place % len(lines)] ^= by
    try:
        altered = write_bundle(
            Carried(line.partition(b" ")[0].decode("ascii"), line.partition(b" ")[2])
            for line in bytes(lines).split(b"\n")
        )
        done = visit(office.stage).apply(altered, office.stage.world().instant())
    except (Refused, UnicodeDecodeError):
        return
    # Only the name of another device makes a line somebody else's, as it would on the line.
    assert done.others == 1


@pytest.fixture
def folder(tmp_path: Path, provider: Provider) -> Path:
    return provisioned(tmp_path, provider)


def test_the_command_line_takes_a_bundle_and_writes_answers(
    folder: Path, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = enrolled(folder, provider, Certification.L1)
    office = Office(stage)
    stick, answers = folder / "stick", folder / "answers"
    stick.write_bytes(office.write(office.order()))
    words = ["bundle", "apply", str(stick), "--answers", str(answers), "--device", str(folder)]

    with alone(folder / "state"):
        assert main(words) == 1
    assert "another agent is running" in capsys.readouterr().err
    assert not answers.exists()

    # This machine was never told the time in this boot, so the order waits.
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["taken"], said["held"]) == ({"beacon": 1, "ack": 1}, 1)
    assert read_bundle(answers.read_bytes())[0].topic.endswith("/up/time")

    stick.write_bytes(stick.read_bytes()[:-9])
    assert main(words) == 7
    assert "malformed" in capsys.readouterr().err


def test_an_encryption_certificate_is_believed_under_mosips_anchors_alone(office: Office) -> None:
    stage = office.stage
    stage.origin = replace(stage.origin, mosip=MosipAnchors([chain(ROOT)[0].certificate]))
    good, bad = body(chain(FIR, IDA, ROOT)), body(chain(FIR, IDA, THIEF), "https://thief.example.org")
    one = visit(stage)
    done = one.apply(office.write(good, bad), stage.world().instant())

    assert [kept.domain_uri for kept in stage.parts.state.load().encryption] == [good.domainUri]
    assert (done.taken["encryption"], len(done.left)) == (1, 1)
    assert "encryption: bad-body" in done.left[0]


def test_numbers_go_on_where_the_time_does_not(office: Office) -> None:
    stage = office.stage
    reading = '{"readings":[{"observedAt":"2026-06-01T12:00:00.000Z","uncertaintyMs":1,"metrics":{"uptimeS":1}}]}'
    made = [office.stage.server.draft("x", "ack", Ack(ids=[])).id for _ in range(5)]
    stage.parts.outbox.commit([AddReport(one, "telemetry", reading, 3, 0) for one in made])
    reboot(stage)
    whole = office.write()
    first = bring(stage, whole)
    reboot(stage)
    second = bring(stage, whole)

    assert min(numbers(office, second)) > max(numbers(office, first))


def numbers(office: Office, answers: bytes) -> list[int]:
    return [one.members.seq for one in office.opened(answers) if one.kind.report]
