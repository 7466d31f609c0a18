"""What the host's software is told: MOSIP's words for where a device really stands, in both spellings."""

import json
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fleetward_agent.config import ConfigProblem, load
from fleetward_agent.local import Local
from fleetward_agent.local_table import LocalTable
from fleetward_agent.local_words import Looked, answer, code_of, document, ends_at
from fleetward_agent.ports import Sighting
from fleetward_agent.session import Session
from fleetward_agent.state import EncryptFor, Gone, KeyOrder
from fleetward_agent.walk import Stage as At
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.certificates import public_key, read_certificate
from fleetward_schemas.commands import Verb
from fleetward_schemas.identity import Certification, Purpose, read_identity
from fleetward_schemas.inventory import DeviceStatus
from fleetward_schemas.jws import Alg, split, verify
from fleetward_schemas.sbi import DeviceError
from fleetward_schemas.strict import b64_der, b64url_decode, show_der
from tests.agent.test_config import IDENTITY
from tests.world import FakeScanner, Provider, Stage

HOUR = timedelta(hours=1)


def local(stage: Stage, folder: Path, **table: Any) -> Local:
    made = Local(LocalTable(**({"file": "info.json"} | table)), folder, lambda: stage.host.devices, stage.world())
    made.turn()
    return made


def written(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "info.json").read_bytes())
    return found


def only(folder: Path) -> dict[str, Any]:
    (one,) = written(folder)["devices"]
    found: dict[str, Any] = one
    return found


def payload(text: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(b64url_decode((text.split(".")[1] if "." in text else text).encode()))
    return found


def looked(stage: Stage, session: Session | None = None, sighting: Sighting | None = None) -> Looked:
    seen = sighting or stage.scanner.read()
    return Looked(session or stage.device.session, seen, stage.clock.boot_us)


def test_a_device_at_work_is_ready_and_signs_what_is_told_of_it(working: Stage, tmp_path: Path) -> None:
    local(working, tmp_path)
    one = only(tmp_path)
    pair = working.device.session.pair
    assert pair is not None
    assert (one["deviceStatus"], one["error"]) == ("Ready", {"errorCode": "0", "errorInfo": "Success"})
    for version in ("0.9.5", "1.0.0"):
        token = split(one["info"][version]["deviceInfo"].encode())
        leaf = b64_der(token.header["x5c"][0])
        assert leaf == b64_der(pair.device_chain[0])
        verify(public_key(read_certificate(leaf)), token.signed, token.signature)
        assert payload(one["info"][version]["deviceInfo"])["digitalId"] == pair.digital_id
        # In discovery the digital ID is never signed.
        assert payload(one["discovery"][version]["digitalId"])["serialNo"] == "SN-1"


def test_both_spellings_say_the_same_of_a_device(working: Stage, tmp_path: Path) -> None:
    local(working, tmp_path)
    first, second = (payload(only(tmp_path)["info"][version]["deviceInfo"]) for version in ("0.9.5", "1.0.0"))
    assert (first["deviceId"], first["deviceCode"]) == (working.id, "SN-1")
    assert (first["certification"], second["certification"]) == ("L1", "SBI 2.0")
    assert (first["specVersion"], second["specVersion"]) == (["0.9.5"], ["1.0.0"])
    assert second["serialNo"] == "SN-1"
    same = first.keys() & second.keys() - {"certification", "specVersion"}
    assert {name: first[name] for name in same} == {name: second[name] for name in same}
    assert not {"deviceId", "deviceCode"} & second.keys()


def test_a_digital_id_is_told_in_seconds_and_the_moment_in_milliseconds(working: Stage, tmp_path: Path) -> None:
    local(working, tmp_path)
    assert len(payload(payload(only(tmp_path)["info"]["0.9.5"]["deviceInfo"])["digitalId"])["dateTime"]) == 20
    assert len(written(tmp_path)["at"]) == 24


@pytest.mark.parametrize("level", list(Certification))
def test_a_device_that_is_not_registered_says_so_and_signs_nothing_but_an_l1_its_identity(
    provider: Provider, tmp_path: Path, level: Certification
) -> None:
    stage = Stage(provider, level)
    local(stage, tmp_path)
    before = only(tmp_path)
    assert written(tmp_path)["at"] is None
    assert (before["deviceStatus"], before["error"]["errorCode"]) == ("Not Registered", "100")
    info = payload(before["info"]["0.9.5"]["deviceInfo"])
    assert "." not in before["info"]["0.9.5"]["deviceInfo"] + info["digitalId"]
    assert (info["purpose"], info["env"], info["deviceCode"]) == ("", "None", None)

    stage.until(lambda: stage.device.session.clock.synced(stage.clock.boot_us), 60)
    local(stage, tmp_path)
    digital_id = payload(only(tmp_path)["info"]["0.9.5"]["deviceInfo"])["digitalId"]
    assert ("." in digital_id) is (level is Certification.L1)
    if level is Certification.L1:
        assert stage.origin.ftm is not None
        assert read_identity(digital_id).leaf == stage.origin.ftm.chain[0]


SEEN = Sighting(DeviceStatus.READY)


def of(session: Session, **kept: Any) -> Session:
    return replace(session, kept=replace(session.kept, **kept))


CASES: Mapping[str, tuple[Callable[[Stage, Session], Looked], DeviceError]] = {
    "at work": (lambda stage, s: looked(stage, s), DeviceError.SUCCESS),
    "not enrolled": (lambda stage, s: looked(stage, of(s, pair=None)), DeviceError.NOT_REGISTERED),
    "gone": (lambda stage, s: looked(stage, of(s, gone=Gone("retired", 1))), DeviceError.NOT_REGISTERED),
    "retiring": (
        lambda stage, s: looked(stage, of(s, order=KeyOrder("id", Verb.RETIRE, 1))),
        DeviceError.NOT_REGISTERED,
    ),
    "rotating": (lambda stage, s: looked(stage, of(s, order=KeyOrder("id", Verb.ROTATE_KEY, 1))), DeviceError.SUCCESS),
    "scanner away": (lambda stage, s: Looked(s, None, stage.clock.boot_us), DeviceError.NOT_FOUND),
    "scanner busy": (lambda stage, s: looked(stage, s, Sighting(DeviceStatus.BUSY)), DeviceError.BUSY),
    "scanner not ready": (lambda stage, s: looked(stage, s, Sighting(DeviceStatus.NOT_READY)), DeviceError.NOT_READY),
    "no time, no line": (
        lambda stage, s: Looked(replace(s, connected=False), SEEN, stage.clock.boot_us + 10**13),
        DeviceError.NO_MANAGEMENT_SERVER,
    ),
    "no time on a line": (
        lambda stage, s: Looked(replace(s, connected=True), SEEN, stage.clock.boot_us + 10**13),
        DeviceError.NOT_READY,
    ),
    "no line": (lambda stage, s: looked(stage, replace(s, connected=False)), DeviceError.SUCCESS),
}


@pytest.mark.parametrize("case", CASES)
def test_each_state_has_its_code(working: Stage, case: str) -> None:
    make, code = CASES[case]
    assert code_of(make(working, working.device.session)) is code


def test_a_certificate_that_ended_is_told_as_an_expired_key(working: Stage) -> None:
    session = working.device.session
    assert session.pair is not None
    ended = ends_at(session.pair.device_chain) + HOUR
    shift_us = int((ended - session.clock.now(working.clock.boot_us)).total_seconds() * 10**6)
    clock = session.clock
    moved = replace(clock, earliest_us=clock.earliest_us + shift_us, latest_us=clock.latest_us + shift_us)
    assert code_of(looked(working, replace(session, clock=moved))) is DeviceError.DEVICE_KEY_EXPIRED


def test_a_device_for_authentication_without_a_domains_key_says_so(working: Stage, provider: Provider) -> None:
    session = working.device.session
    # Any anchors do: what is asked is whether it was given some.
    anchors: Any = object()
    wanting = replace(session, facts=replace(session.facts, mosip=anchors, purpose=Purpose.AUTH))
    assert session.pair is not None
    held = EncryptFor("https://id.example", session.pair.device_chain[0])
    assert code_of(looked(working, wanting)) is DeviceError.DOMAIN_KEY_MISSING
    assert code_of(looked(working, of(wanting, encryption=(held,)))) is DeviceError.SUCCESS
    late = replace(held, certificate=show_der(_ended(provider)))
    assert code_of(looked(working, of(wanting, encryption=(late,)))) is DeviceError.DOMAIN_KEY_MISSING
    registration = replace(wanting, facts=replace(wanting.facts, purpose=Purpose.REGISTRATION))
    assert code_of(looked(working, registration)) is DeviceError.SUCCESS


def _ended(provider: Provider) -> bytes:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding

    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ended")])
    key = Ed25519PrivateKey.generate()
    begin = provider.root.certificate.not_valid_before_utc - HOUR
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin - HOUR, begin)
    return builder.sign(key, None).public_bytes(Encoding.DER)


class Absent(FakeScanner):
    """A scanner that was pulled out."""

    def present(self) -> tuple[Any, ...]:
        return ()


def test_a_scanner_that_is_away_is_told_in_the_file(working: Stage, tmp_path: Path) -> None:
    working.device.parts = replace(working.device.parts, scanner=Absent(working.origin.digital_id))
    local(working, tmp_path)
    assert (only(tmp_path)["deviceStatus"], only(tmp_path)["error"]["errorCode"]) == ("Not Ready", "106")


def test_a_key_that_is_away_leaves_device_info_unsaid_and_comes_back(working: Stage, tmp_path: Path) -> None:
    keys = working.keys
    made = local(working, tmp_path)
    opened, asked = keys.open, []

    def away(name: str) -> Any:
        asked.append(name)
        raise KeyUnavailable("the token is away")

    keys.open = away  # type: ignore[method-assign]
    working.scanner.sighting = Sighting(DeviceStatus.READY, firmware="3")
    for _ in range(2):
        working.clock.pass_s(1)
        made.turn()
    assert len(asked) == 2
    assert len(working.events("local-unsigned")) == 1
    assert (only(tmp_path)["error"]["errorCode"], only(tmp_path)["info"]["0.9.5"]["deviceInfo"]) == ("110", None)

    keys.open = opened  # type: ignore[method-assign]
    working.clock.pass_s(1)
    made.turn()
    assert only(tmp_path)["error"]["errorCode"] == "0"


def test_a_signature_is_made_when_something_changes_and_not_for_being_asked(working: Stage, tmp_path: Path) -> None:
    made = local(working, tmp_path)
    first = only(tmp_path)
    for _ in range(100):
        working.clock.pass_s(1)
        made.turn()
    assert only(tmp_path) == first
    working.scanner.sighting = Sighting(DeviceStatus.BUSY, firmware="2.4.1", service_version="1.0.0")
    working.clock.pass_s(1)
    made.turn()
    assert only(tmp_path)["deviceStatus"] == "Busy"


def test_the_file_is_replaced_whole_with_its_mode_and_tells_at_the_end_that_nobody_is_here(
    working: Stage, tmp_path: Path
) -> None:
    made = local(working, tmp_path, mode="0640")
    before = (tmp_path / "info.json").stat()
    assert stat.S_IMODE(before.st_mode) == 0o640
    working.clock.pass_s(61)
    made.turn()
    assert (tmp_path / "info.json").stat().st_ino != before.st_ino
    made.close()
    assert (written(tmp_path)["devices"], written(tmp_path)["error"]["errorCode"]) == ([], "106")
    assert os.listdir(tmp_path) == ["info.json"]  # noqa: PTH208


def test_a_place_that_cannot_be_written_is_told_once_and_stops_nothing(working: Stage, tmp_path: Path) -> None:
    made = local(working, tmp_path, file="none/info.json")
    working.clock.pass_s(61)
    made.turn()
    assert len(working.events("local-not-written")) == 1
    (tmp_path / "none").mkdir()
    working.clock.pass_s(61)
    made.turn()
    assert (tmp_path / "none" / "info.json").exists()


def test_a_link_in_the_files_place_is_replaced_and_never_followed(working: Stage, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("untouched")
    (tmp_path / "info.json").symlink_to(tmp_path / "other")
    local(working, tmp_path)
    assert (tmp_path / "other").read_text() == "untouched"
    assert only(tmp_path)["deviceStatus"] == "Ready"


WHOLE = document((), None)


@pytest.mark.parametrize("asked", ["status", "discovery", "info", "info 0.9.5", "info 1.0.0", "discovery 1.0.0"])
def test_what_may_be_asked_is_answered(asked: str) -> None:
    assert answer(WHOLE, asked)["error"]["errorCode"] == "106"


@pytest.mark.parametrize(
    "asked",
    ["", "CAPTURE", "RCAPTURE", "STREAM", "capture {}", "info 2.0", "status 0.9.5", "INFO", "info  0.9.5", "get\x00"],
)
def test_every_other_word_is_answered_alike_and_not_repeated(asked: str) -> None:
    found = answer(WHOLE, asked)
    assert found["error"]["errorCode"] == "500"
    assert found == answer(WHOLE, "anything")


def toml(folder: Path, text: str) -> Path:
    (folder / "identity.json").write_text(json.dumps(IDENTITY))
    (folder / "agent.toml").write_text('[server]\nhost = "h"\n[local]\n' + text)
    return folder / "agent.toml"


def test_agent_toml_says_where(tmp_path: Path) -> None:
    found = load(toml(tmp_path, 'file = "a"\nsocket = "b"\nmode = "600"\nusers = ["root"]\n')).local
    assert (found.file, found.socket, found.mode, found.users) == ("a", "b", "600", ["root"])
    assert load(toml(tmp_path, "")).local == LocalTable()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('mode = "0644"', "mode"),
        ('mode = "0777"', "mode"),
        ('mode = "rw"', "mode"),
        ("mode = 640", "mode"),
        ("users = [1]", "users"),
        ('users = "root"', "users"),
        ('callback = ""', "callback"),
        ('sockets = "x"', "did you mean 'socket'"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigProblem, match=said):
        load(toml(tmp_path, text))


def test_a_user_nobody_knows_is_named(working: Stage, tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="nobody-here"):
        local(working, tmp_path, socket="s", users=["nobody-here"])


def test_the_algorithm_is_the_keys_own(working: Stage, tmp_path: Path) -> None:
    local(working, tmp_path)
    assert split(only(tmp_path)["info"]["0.9.5"]["deviceInfo"].encode()).header["alg"] == Alg.EDDSA
    assert working.device.stage is At.WORKING
