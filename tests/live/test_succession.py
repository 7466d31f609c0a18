"""The provider's keys change hands while its fleet is at work: nobody is locked out, and nobody comes back in.

Each end of every line is made to connect anew after it, so that what holds is not yesterday's handshake.
"""

import json
import os
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker.tls import read_crls
from fleetward_broker.token_keys import has_token_key, make_token_key
from fleetward_sandbox.provision import Made
from fleetward_sandbox.softhsm import SoftToken
from fleetward_schemas.certificates import thumbprint
from fleetward_schemas.commands import Step
from fleetward_schemas.jws import Alg
from fleetward_server.cli.app import run
from fleetward_server.config import load
from fleetward_server.generations import AUTHORITIES, in_office
from fleetward_server.lines import alone
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import OperatorProblem
from fleetward_server.standing import LINES
from fleetward_server.state import Use
from fleetward_server.succession import Making
from tests.live.house import BROKERS, House
from tests.live.test_ceremony import held, hold, plan_of, provider
from tests.live.test_revocation import gets_in, is_out, stolen
from tests.live.test_rotation import step

pytestmark = pytest.mark.live


def report_anew(house: House, made: Iterable[Made], what: str) -> None:
    """Wait until each has reported more than once from now on."""
    known = {one.id: len(house.reports(one.id)) for one in made}
    house.wait(lambda: all(len(house.reports(name)) > count + 1 for name, count in known.items()), what)


def authority_of(house: House, made: Made) -> str:
    """Return who issued a device's own certificate."""
    (own,) = [one for one in house.store.certificates(made.id) if one.use is Use.DEVICE]  # type: ignore[arg-type]
    return thumbprint(own.authority)


def in_office_now(house: House, office: str) -> str:
    return thumbprint(in_office(load(house.folder), office)[0].certificate.public_bytes(Encoding.DER))


def all_connect_anew(house: House, made: Iterable[Made]) -> None:
    """End the broker: its successor shows its present certificate to everybody."""
    before = house.kill("broker")
    house.wait(lambda: house.found().get("broker", before) != before, "another broker")
    report_anew(house, made, "all report to the next broker")


@pytest.mark.parametrize("broker", BROKERS)
def test_authorities_and_lines_change_hands_under_a_fleet_at_work(
    tmp_path: Path, broker: str, figure: Callable[[str], None]
) -> None:
    spent: dict[str, float] = {}
    with House(tmp_path, broker=broker) as house:
        fleet = house.provision(3)
        agents = [house.start_agent(made.folder) for made in fleet]
        report_anew(house, fleet, "all report")
        old, serving = in_office_now(house, "device-ca"), house.found()
        for office in (*AUTHORITIES, *LINES):
            began = time.monotonic()
            house.operator.rotate_authority(office, "yearly")
            spent[office] = time.monotonic() - began
            report_anew(house, fleet, f"all report after {office}")
        assert house.found()["pid"] == serving["pid"]
        # Mosquitto 2.0.11 may fall over a reload (SIGSEGV); it is then started again, and nobody above missed a report.
        assert broker == "mosquitto" or house.found()["broker"] == serving["broker"]
        all_connect_anew(house, fleet)
        (late,) = house.provision(1)
        agents.append(house.start_agent(late.folder))
        report_anew(house, [late], "one that comes later reports")
        assert {authority_of(house, made) for made in fleet} == {old}
        assert authority_of(house, late) == in_office_now(house, "device-ca") != old
        bad, *good = (*fleet, late)
        house.operator.revoke(bad.id, "stolen")
        assert is_out(house, stolen(house, bad.folder), bad.id)
        for made in (good[0], late):
            gets_in(house, stolen(house, made.folder), made.id)
        report_anew(house, good, "the others go on")
        assert all(agent.poll() is None for agent in agents)
    figure(f"{broker}: taken up within " + ", ".join(f"{name} {took:.1f} s" for name, took in spent.items()))


def test_a_broker_that_fell_is_started_while_another_changes_keys(tmp_path: Path) -> None:
    """Who changes an authority's key holds the keys and waits for the broker: what serves must not wait for him."""
    with House(tmp_path) as house:
        before = house.found()["broker"]
        with alone(load(house.folder)):
            house.kill("broker")
            house.wait(lambda: house.found().get("broker", before) != before, "another broker")


@pytest.mark.parametrize("broker", BROKERS)
def test_a_root_is_followed_once_devices_know_its_successor(tmp_path: Path, broker: str) -> None:
    with House(tmp_path, broker=broker) as house:
        old, operator = house.provision(3), house.operator
        agents = [house.start_agent(made.folder) for made in old]
        report_anew(house, old, "all report")
        operator.rotate_authority("root", "every ten years")
        report_anew(house, old, "all report under the former root")
        for made, agent in zip(old, agents, strict=True):
            (made.folder / "provider-root.pem").write_bytes((house.folder / "pki" / "root.pem").read_bytes())
            agent.terminate()
            agent.wait(30)
            house.start_agent(made.folder)
        for office in (*AUTHORITIES, *LINES):
            operator.rotate_authority(office, "every ten years", root_delivered=True)
        all_connect_anew(house, old)
        (new,) = house.provision(1)
        house.start_agent(new.folder)
        report_anew(house, [*old, new], "devices of either root report side by side")
        left, *moved = old
        orders = [operator.send_command(made.id, "rotate-key", {}, 600, "to the new root") for made in moved]
        house.wait(lambda: all(step(house, one.id) is Step.SUCCEEDED for one in orders), "two have rotated")
        with pytest.raises(OperatorProblem, match=r"2 certificates of devices .* they would be locked out"):
            operator.forget_root("")
        operator.forget_root("the former one is not to be trusted", leave_behind=True)
        assert is_out(house, stolen(house, left.folder), left.id)
        # What it had said by then was kept for the server before what these say now.
        report_anew(house, [*moved, new], "the others go on")
        known = len(house.reports(left.id))
        all_connect_anew(house, [*moved, new])
        assert len(house.reports(left.id)) == known


def test_a_configuration_that_cannot_be_used_is_not_taken_up(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        (made,) = house.provision(1)
        house.start_agent(made.folder)
        report_anew(house, [made], "it reports")
        path, serving = house.folder / "fleetward.toml", house.found()
        good = path.read_text()
        path.write_text("[provider\n")
        os.kill(serving["pid"], signal.SIGHUP)
        house.wait(lambda: "not reloaded" in (tmp_path / "up.log").read_text(), "it is told")
        report_anew(house, [made], "it goes on")
        assert house.found() == serving
        path.write_text(good)
        os.kill(serving["pid"], signal.SIGHUP)
        house.wait(lambda: house.found()["server"] != serving["server"], "another server")
        report_anew(house, [made], "it goes on under another")


def test_an_up_that_hears_nothing_is_told_of(tmp_path: Path) -> None:
    with House(tmp_path) as house:
        path = house.folder / "run.json"
        path.write_text(path.read_text().replace('"hears": true', '"hears": false'))
        with pytest.raises(OperatorProblem, match="end it and start it again"):
            house.operator.rotate_authority("server", "")


@pytest.mark.part
@pytest.mark.parametrize("began", ["in the token", "in files"])
def test_a_successor_is_made_in_the_token_and_is_the_one_that_issues(
    tmp_path: Path, tokens: Callable[[str], SoftToken], began: str
) -> None:
    token = tokens(f"succession {began}")
    where = token.uri if began == "in the token" else ""
    with House(tmp_path, hsm=where) as house:
        (old,) = house.provision(1)
        house.start_agent(old.folder)
        report_anew(house, [old], "one reports")
        # Where its predecessor is not in a token, the operator says that it shall be.
        told = house.operator.rotate_authority("device-ca", "", Making("" if where else token.uri))
        (new,) = house.provision(1)
        house.start_agent(new.folder)
        report_anew(house, [old, new], "both report")
        assert authority_of(house, new) == in_office_now(house, "device-ca") == told.thumbprint
        assert "object=device-ca-2?" in load(house.folder).keys.device_ca
        assert not (house.folder / "pki" / "device-ca-2.key.pem").exists()
        assert has_token_key(load(house.folder).keys.device_ca)
        house.operator.revoke(old.id, "stolen")
        assert is_out(house, stolen(house, old.folder), old.id)
        # A key of the next name that is somebody else's is left alone.
        make_token_key(token.key("device-ca-3"), Alg.RS256)
        assert house.operator.rotate_authority("device-ca", "").stem == "device-ca-4"


@pytest.mark.part
def test_a_ceremony_s_successor_needs_no_root_here(
    tmp_path: Path, tokens: Callable[[str], SoftToken], capsys: pytest.CaptureFixture[str]
) -> None:
    offline, online, later, strangers = (tokens(f"succession {name}") for name in ("offline", "online", "later", "x"))
    assert not [one for one in (offline, online, later, strangers) if held(one)]
    first = hold(tmp_path, plan_of(offline, ("root",)), "first")
    above = f"authorities:\n  root: {{key: {json.dumps(offline.key('root'))}, certificate: first/root.pem}}\n"
    second = hold(tmp_path, plan_of(online, AUTHORITIES, above), "second")
    folder = provider(tmp_path / "provider", first, second)
    same = hold(tmp_path, plan_of(later, ("device-ca",), above), "same")
    text = plan_of(later, ("device-ca",), above).replace("device-ca: {}", "device-ca-2: {}")
    text = text.replace("key: device-ca,", "key: device-ca-2,")
    other = hold(tmp_path, text.replace("Live device-ca,", "Live device-ca 2,"), "other")
    strange = hold(tmp_path, plan_of(strangers), "strange")
    path = folder / "fleetward.toml"
    path.write_text(path.read_text().replace("object=root", "object=away"))
    with LocalOperator(folder, "eve") as operator:
        for made, said in (
            (None, "away"),
            (same, "there already: another name"),
            (strange, "was issued by no root"),
            (first, "made 0 of device-ca"),
            (tmp_path / "nowhere", "protocol.json"),
        ):
            with pytest.raises(OperatorProblem, match=said):
                operator.rotate_authority("device-ca", "", Making(ceremony=made))
        told = operator.rotate_authority("device-ca", "", Making(ceremony=other))
    config = load(folder)
    issuer, now = in_office(config, "device-ca")
    assert (now.stem, now.uri, told.stem) == ("device-ca-2", later.key("device-ca-2"), "device-ca-2")
    assert "Live device-ca 2" in issuer.certificate.subject.rfc4514_string()
    assert set(config.keys.former) == {"device-ca"}
    assert len(read_crls(config.pki / "crl" / "all.pem")) == 4
    words = ["authority", "rotate", "broker", "--dir", str(folder), "--ceremony", str(other)]
    assert run(words) == 2
    assert "its key opens TLS and is a file" in capsys.readouterr().err
