"""The command line: exit codes are promises, and so is what doctor says of each thing that can be wrong."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_agent.__main__ import main
from fleetward_agent.assembly import assemble, origin_of
from fleetward_agent.config import ConfigProblem, from_folder, load_site
from fleetward_agent.doctor import Finding, examine_plugs
from fleetward_agent.origin import Credential
from fleetward_agent.plug import Plugged
from fleetward_agent.run import Host
from fleetward_agent.serve import Exit, ended
from fleetward_agent.status import software_of
from fleetward_agent.upgrade_state import Committed, Software, Upgrade
from fleetward_agent.walk import Stage as At
from fleetward_agent.world import tls_context
from fleetward_broker.durable import write_private
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.signers import key_pem
from fleetward_schemas.identity import Certification
from fleetward_schemas.upgrade import Phase, Why
from tests.repository import Repository
from tests.world import START, Provider, Stage

LEVELS = list(Certification)


def provisioned(folder: Path, provider: Provider, level: Certification = Certification.L1) -> Path:
    origin = provider.origin("SN-9", level)
    papers = origin.digital_id.document() | {"certification": level, "purpose": "Registration"}
    (folder / "identity.json").write_text(json.dumps(papers))
    # Nothing listens on port 1 of any machine the tests run on.
    (folder / "connection.json").write_text(json.dumps({"host": "127.0.0.1", "port": 1, "serverName": "localhost"}))
    (folder / "provider-root.pem").write_bytes(provider.root.certificate.public_bytes(Encoding.PEM))
    for name, credential in (("factory", origin.factory), ("ftm", origin.ftm)):
        if credential is not None:
            write_private(folder / f"{name}.key.pem", key_pem(credential.key))
            pem = b"".join(x509.load_der_x509_certificate(c).public_bytes(Encoding.PEM) for c in credential.chain)
            (folder / f"{name}.chain.pem").write_bytes(pem)
    return folder


@pytest.fixture(params=LEVELS)
def folder(tmp_path: Path, provider: Provider, request: pytest.FixtureRequest) -> Path:
    return provisioned(tmp_path, provider, request.param)


def enrolled(folder: Path, provider: Provider, level: Certification) -> Stage:
    """Run the assembled device in the in-memory world until it works."""
    stage = Stage(provider, level, serial="SN-9")
    stage.device = assemble(from_folder(folder))
    stage.host = Host(stage.link, [stage.device], stage.world())
    stage.until(lambda: stage.device.stage is At.WORKING, 60)
    return stage


def upgrade(phase: Phase, why: Why | None, attempts: int) -> Upgrade:
    return Upgrade("firmware", "acme/fw-3.bin", 3, "A" * 43, 4, "https://x.example/", phase, why, attempts=attempts)


def findings(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, tuple[bool, str]]:
    main(["doctor", "--device", str(folder), "--json"])
    return {one["check"]: (one["ok"], one["detail"]) for one in json.loads(capsys.readouterr().out)}


def test_a_provisioned_folder_is_a_whole_device(folder: Path, provider: Provider) -> None:
    level = from_folder(folder).identity.certification
    stage = enrolled(folder, provider, level)

    assert stage.server.said("telemetry") or stage.server.said("status")
    assert len(list((folder / "state" / "keys").iterdir())) == 2


def test_status_of_a_device_that_never_ran_is_not_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--device", str(folder)]) == 3
    assert "no state yet; run: fleetward-agent run" in capsys.readouterr().err


def test_status_says_where_the_device_stands(
    tmp_path: Path, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = enrolled(provisioned(tmp_path, provider), provider, Certification.L1)
    assert main(["status", "--device", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert (found["device_id"], found["phase"], found["clock"]) == (stage.device.id, "registered", "floor")
    assert found["certificate_until"].startswith("2026-07-01")


def test_status_of_a_damaged_state_is_a_failed_verification(
    tmp_path: Path, provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    enrolled(provisioned(tmp_path, provider), provider, Certification.L1)
    for file in ("state.json", "state.json.bak"):
        (tmp_path / "state" / file).write_bytes(b"torn")

    assert main(["status", "--device", str(tmp_path)]) == 7


@pytest.mark.parametrize("arguments", [["--device", "nowhere"], ["--config", "nowhere.toml"], []])
def test_a_missing_configuration_is_a_usage_error(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert main(["status", *arguments]) == 2
    finally:
        os.chdir(before)
    assert "not there" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["fly"], ["run", "--log-level", "loud"]])
def test_an_unknown_command_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2


def test_doctor_finds_nothing_but_the_missing_broker(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = findings(folder, capsys)

    assert {check for check, (ok, _) in found.items() if not ok} == {"broker"}
    assert "is the broker running?" in found["broker"][1]
    assert main(["doctor", "--device", str(folder)]) == 1


def test_doctor_names_a_key_that_others_can_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "factory.key.pem").chmod(0o644)

    ok, detail = findings(folder, capsys)["factory-key"]
    assert (ok, "run: chmod 600" in detail) == (False, True)


def test_doctor_says_of_the_release_root_whether_it_is_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert findings(folder, capsys)["release-root"] == (True, "none: no software is taken")
    repository = Repository(START, threshold=2)
    root = folder / "release-root.json"
    root.write_bytes(repository.first)
    assert findings(folder, capsys)["release-root"] == (True, "version 1, 2 of 2 keys")
    repository.publish()
    for wrong in (b"", b"{}", repository.files["timestamp"], unsigned(repository.first)):
        root.write_bytes(wrong)
        ok, detail = findings(folder, capsys)["release-root"]
        assert not ok
        assert f"{root}: expected a TUF root" in detail


def unsigned(root: bytes) -> bytes:
    """Return it with one signature of two."""
    found = json.loads(root)
    found["signatures"] = found["signatures"][:1]
    return json.dumps(found).encode()


@pytest.mark.parametrize(
    ("software", "line"),
    [
        (Software(committed=(Committed("firmware", 2, "A" * 43, "2.0"),)), "firmware: committed 2 (2.0)"),
        (
            Software(upgrades=(upgrade(Phase.LOCKED, Why.ATTEMPTS, 10),)),
            "firmware: nothing committed; 3 is locked, attempts, attempts 10",
        ),
        (
            Software(
                committed=(Committed("firmware", 2, "A" * 43, "2.0"),), upgrades=(upgrade(Phase.DOWNLOADING, None, 0),)
            ),
            "firmware: committed 2 (2.0); 3 is downloading, attempts 0",
        ),
    ],
)
def test_status_says_what_runs_and_how_far_an_upgrade_got(software: Software, line: str) -> None:
    assert software_of(software) == (line,)


def test_doctor_names_an_open_state_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "state").mkdir(mode=0o755)

    assert "run: chmod 700" in findings(folder, capsys)["state"][1]


def test_doctor_names_a_root_that_did_not_issue_the_factory_key(
    tmp_path: Path, provider: Provider, other_provider: Provider, capsys: pytest.CaptureFixture[str]
) -> None:
    provisioned(tmp_path, provider)
    (tmp_path / "provider-root.pem").write_bytes(other_provider.root.certificate.public_bytes(Encoding.PEM))

    ok, detail = findings(tmp_path, capsys)["factory-key"]
    assert (ok, detail.startswith("unknown-signer")) == (False, True)


def test_a_factory_certificate_of_another_device_is_refused(tmp_path: Path, provider: Provider) -> None:
    provisioned(tmp_path, provider)
    papers = json.loads((tmp_path / "identity.json").read_bytes())
    (tmp_path / "identity.json").write_text(json.dumps(papers | {"serialNo": "SN-10"}))

    with pytest.raises(ConfigProblem, match="the identity is f-"):
        origin_of(from_folder(tmp_path))


def test_a_chain_of_another_key_is_refused(tmp_path: Path, provider: Provider) -> None:
    provisioned(tmp_path, provider)
    (tmp_path / "ftm.key.pem").write_bytes((tmp_path / "factory.key.pem").read_bytes())

    with pytest.raises(ConfigProblem, match=r"for another key than file:ftm\.key\.pem"):
        origin_of(from_folder(tmp_path))


def test_a_key_is_shown_to_tls_without_touching_a_disk(tmp_path: Path, provider: Provider) -> None:
    origin = provider.origin()
    context = tls_context(origin.roots, origin.factory, True)

    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] == 1
    assert list(tmp_path.iterdir()) == []


def test_a_key_that_does_not_fit_its_certificate_opens_no_line(provider: Provider) -> None:
    origin, other = provider.origin(), provider.origin("SN-2")

    with pytest.raises(KeyUnavailable, match="what TLS shows"):
        tls_context(origin.roots, Credential(other.factory.key, origin.factory.chain), True)


def plug(serial: str, model: str = "0b10") -> Plugged:
    found = {"SUBSYSTEM": "usb", "DEVTYPE": "usb_device", "ID_MODEL_ID": model, "ID_SERIAL_SHORT": serial}
    return Plugged(f"/sys/{serial}", tuple(sorted(found.items())))


def of_plugs(home: Path, *things: Plugged) -> dict[str, Finding]:
    fields = 'folder = "{serialNo}"\nfields = { serialNo = "{ID_SERIAL_SHORT}" }\n'
    table = f'[[driver]]\nname = "table"\nproduct = "0b10"\n{fields}'
    table += f'[[driver]]\nname = "asking"\nproduct = "0b20"\n{fields}program = ["/no/such/driver"]\n'
    (home / "agent.toml").write_text(table)
    return {one.check: one for one in examine_plugs(load_site(home / "agent.toml"), frozenset(things))}


def test_doctor_examines_each_scanner_that_is_plugged_in(tmp_path: Path, provider: Provider) -> None:
    (tmp_path / "SN-9").mkdir()
    provisioned(tmp_path / "SN-9", provider)
    found = of_plugs(tmp_path, plug("SN-9"), plug("SN-8"), plug("X", "ffff"))

    assert (found["SN-9 identity"].ok, found["SN-9 ftm-key"].ok, found["SN-9 broker"].ok) == (True, True, False)
    assert (found["scanner table"].ok, "was not provisioned here" in found["scanner table"].detail) == (False, True)
    assert not [check for check in found if "X" in check]


def test_doctor_names_a_program_that_cannot_be_run(tmp_path: Path) -> None:
    found = of_plugs(tmp_path)

    assert (found["driver table"].ok, found["driver asking"].ok) == (True, False)
    assert "/no/such/driver: cannot be run" in found["driver asking"].detail


def test_doctor_looks_at_the_bus_where_drivers_stand(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_plugs(tmp_path)

    assert main(["doctor", "--config", str(tmp_path / "agent.toml")]) == 1
    assert capsys.readouterr().out.splitlines()[0].startswith("ok    driver table")


def test_status_of_a_host_with_drivers_wants_one_scanner(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_plugs(tmp_path)

    assert main(["status", "--config", str(tmp_path / "agent.toml")]) == 2
    assert "name one scanner's own folder by --device" in capsys.readouterr().err


def test_ctrl_c_is_an_interruption_and_no_traceback() -> None:
    def broken_off() -> Exit:
        raise KeyboardInterrupt

    assert ended(broken_off) is Exit.INTERRUPTED


@pytest.mark.parametrize("words", [["doctor"], ["doctor", "--json"]])
def test_nobody_who_reads_is_no_trouble(tmp_path: Path, provider: Provider, words: list[str]) -> None:
    folder = provisioned(tmp_path, provider)
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "fleetward_agent", *words, "--device", str(folder)]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
