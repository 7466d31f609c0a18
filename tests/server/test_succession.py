"""The provider's own keys change hands: whole, remembered, and without locking anybody out. Source: S6."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker.signers import make_key, open_key
from fleetward_broker.tls import client_context, read_crls
from fleetward_schemas.certificates import key_thumbprint, public_key
from fleetward_schemas.errors import Refused
from fleetward_schemas.jws import Alg
from fleetward_server import offices
from fleetward_server.authority import Authority
from fleetward_server.backup import create
from fleetward_server.changes import AddCertificates
from fleetward_server.cli.app import run
from fleetward_server.config import Config, load
from fleetward_server.generations import AUTHORITIES, former, in_office, open_root, own_anchors, roots
from fleetward_server.init import Wish, make_provider
from fleetward_server.lines import NEXT, Busy, alone, finish_lines, make_line, subject_of_line
from fleetward_server.mosip.signing import open_seal
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.restore import Wish as RestoreWish
from fleetward_server.restore import restore
from fleetward_server.standing import LINES, read_line
from fleetward_server.store import AuditFilter, open_store
from fleetward_server.succession import forget_root
from fleetward_server.turn import IssuePair
from fleetward_server.upkeep import publish_lists, renew_lines
from tests.server.register import FIRST, certificate, device, kept

NOW = datetime.now(UTC).replace(microsecond=0)
KILLED = 77
SECRET = b"a passphrase for tests"
CHANGES = {"os.rename", "os.remove"}
"""What a process does to names: between two of these a crash finds the same files, whenever it comes."""


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("provider")
    make_provider(folder, Wish(), NOW)
    return folder


@pytest.fixture
def folder(provider: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "provider"
    shutil.copytree(provider, copy)
    return copy


@pytest.fixture
def operator(folder: Path) -> Iterator[LocalOperator]:
    with LocalOperator(folder, "eve", lambda: NOW) as eve:
        yield eve


def der(found: x509.Certificate) -> bytes:
    return found.public_bytes(Encoding.DER)


def issued(config: Config) -> tuple[bytes, bytes]:
    """Have the device CA in office certify somebody; return leaf and authority."""
    keys = [make_key(Alg.EDDSA).public_key() for _ in range(2)]
    made, _ = Authority(config).issue_pair(IssuePair(FIRST, "pair", keys[0], keys[1], None), NOW)
    return made.der, made.authority


def sound(folder: Path) -> Config:
    """Look at a provider as one that starts does; return its configuration."""
    config = load(folder)
    finish_lines(config)
    held_by = [in_office(config, office) for office in AUTHORITIES]
    for issuer, held in held_by:
        assert key_thumbprint(public_key(issuer.certificate)) == key_thumbprint(issuer.key.public_key())
        assert held.stem not in config.keys.former
    open_root(config)
    for line in LINES:
        client_context(config.pki / "root.pem", config.pki / f"{line}.pem", config.pki / f"{line}.key.pem")
    for one in former(config):
        open_key(one.uri, folder)
    assert not [*config.pki.glob("*.next*"), *config.pki.glob("*.tmp")]
    publish_lists(config, NOW)
    listed = {one.issuer for one in read_crls(config.pki / "crl" / "all.pem")}
    assert {issuer.certificate.subject for issuer, _ in held_by} <= listed
    return config


@pytest.mark.parametrize("office", AUTHORITIES)
def test_a_successor_is_in_office_and_the_former_one_still_signs_its_list(
    operator: LocalOperator, folder: Path, office: str
) -> None:
    before, comments = in_office(load(folder), office)[0], (folder / "fleetward.toml").read_text().count("#")
    told = operator.rotate_authority(office, "yearly")
    config = sound(folder)
    after, held = in_office(config, office)
    assert (held.stem, told.stem, told.key) == (f"{office}-2", f"{office}-2", f"file:pki/{office}-2.key.pem")
    assert key_thumbprint(after.key.public_key()) != key_thumbprint(before.key.public_key())
    # RFC 5280 finds lists by their issuer's name.
    assert after.certificate.subject != before.certificate.subject
    assert config.keys.former == {office: f"file:pki/{office}.key.pem"}
    assert (folder / "fleetward.toml").read_text().count("#") > comments
    lists = {one.issuer: one for one in read_crls(config.pki / "crl" / "all.pem")}
    assert len(lists) == 4
    assert lists[before.certificate.subject].is_signature_valid(before.key.public_key())  # type: ignore[arg-type]
    assert lists[after.certificate.subject].is_signature_valid(after.key.public_key())  # type: ignore[arg-type]


def test_each_succession_follows_the_one_before(operator: LocalOperator, folder: Path) -> None:
    for _ in range(2):
        operator.rotate_authority("service-ca", "")
    operator.rotate_authority("device-ca", "")
    config = sound(folder)
    assert (config.keys.service_ca, config.keys.device_ca) == (
        "file:pki/service-ca-3.key.pem",
        "file:pki/device-ca-2.key.pem",
    )
    assert set(config.keys.former) == {"service-ca", "service-ca-2", "device-ca"}


def test_what_the_former_device_ca_issued_counts_beside_what_its_successor_issues(
    operator: LocalOperator, folder: Path
) -> None:
    old = issued(load(folder))
    operator.rotate_authority("device-ca", "")
    config = load(folder)
    new, anchors = issued(config), own_anchors(config)
    assert old[1] != new[1]
    assert {anchors.verify(chain, NOW).name for chain in (old, new)} == {f"sign-{FIRST}"}


def test_what_the_former_one_issued_can_still_be_revoked(operator: LocalOperator, folder: Path) -> None:
    authority = der(in_office(load(folder), "device-ca")[0].certificate)
    with open_store(folder / "server.db") as store:
        kept(store, device())
        rows = [
            certificate(f"{number}", "pair", serial=number, authority=authority, not_after=NOW + timedelta(days=1))
            for number in (1, 2)
        ]
        with store.unit() as unit:
            unit.apply([AddCertificates((rows[0], rows[1]))])
    operator.rotate_authority("device-ca", "")
    with open_store(folder / "server.db") as store:
        assert store.authorities(NOW) == {authority: 2}
    operator.revoke(FIRST, "stolen")
    (listed,) = read_crls(folder / "pki" / "crl" / "device-ca.pem")
    (other,) = read_crls(folder / "pki" / "crl" / "device-ca-2.pem")
    assert ({entry.serial_number for entry in listed}, len(other)) == ({1, 2}, 0)


@pytest.mark.parametrize("line", LINES)
def test_a_line_gets_another_key_under_the_names_it_had(operator: LocalOperator, folder: Path, line: str) -> None:
    config = load(folder)
    subject = subject_of_line(line, "Example Devices Ltd", "old.example", ("10.0.0.1", "also.example"))
    make_line(config.pki, line, subject, in_office(config, "service-ca")[0], NOW)
    before = read_line(config, line)[0]
    told = operator.rotate_authority(line, "")
    after = read_line(sound(folder), line)[0]
    assert key_thumbprint(public_key(after)) != key_thumbprint(public_key(before))
    assert after.not_valid_before_utc >= before.not_valid_before_utc
    assert told.thumbprint
    if line == "broker":
        names = after.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert {"old.example", "also.example", "localhost"} <= set(names.get_values_for_type(x509.DNSName))


def test_the_lines_stand_under_the_service_ca_in_office(operator: LocalOperator, folder: Path) -> None:
    for office in ("service-ca", *LINES):
        operator.rotate_authority(office, "")
    config = sound(folder)
    authority = in_office(config, "service-ca")[0].certificate
    for line in LINES:
        read_line(config, line)[0].verify_directly_issued_by(authority)


def test_a_line_whose_end_is_near_is_renewed_by_itself(tmp_path: Path) -> None:
    make_provider(tmp_path, Wish(), NOW - timedelta(days=340))
    config = load(tmp_path)
    before = {line: read_line(config, line)[0] for line in LINES}
    renew_lines(config, NOW)
    for line in LINES:
        assert read_line(config, line)[0].not_valid_after_utc > before[line].not_valid_after_utc + timedelta(days=300)
    with open_store(tmp_path / "server.db") as store:
        links = store.audit_links(0, 10, AuditFilter(actor="server"))
    assert [(one.entry.action, one.entry.subject) for one in links] == [("authority-rotated", line) for line in LINES]


def test_nothing_that_is_well_is_renewed(folder: Path) -> None:
    before = {line: read_line(load(folder), line)[0] for line in LINES}
    renew_lines(load(folder), NOW)
    assert {line: read_line(load(folder), line)[0] for line in LINES} == before


def test_both_roots_are_believed_until_one_is_forgotten(operator: LocalOperator, folder: Path) -> None:
    old = issued(load(folder))
    operator.rotate_authority("root", "")
    config = sound(folder)
    assert len(roots(config)) == 2
    assert config.keys.root == "file:pki/root-2.key.pem"
    for office in (*AUTHORITIES, *LINES):
        operator.rotate_authority(office, "", root_delivered=True)
    config = sound(folder)
    new, anchors = issued(config), own_anchors(config)
    for chain in (old, new):
        assert anchors.verify(chain, NOW).name == f"sign-{FIRST}"
    forgotten = operator.forget_root("overlap is over", leave_behind=True)
    assert [name.partition("CN=")[2].partition(",")[0] for name in forgotten] == ["Example Devices Ltd root"]
    config = sound(folder)
    assert set(config.keys.former) == set(AUTHORITIES)
    assert own_anchors(config).verify(new, NOW).name == f"sign-{FIRST}"
    with pytest.raises(Refused):
        own_anchors(config).verify(old, NOW)


@pytest.mark.parametrize("office", ["device-ca", "service-ca"])
def test_under_a_root_that_devices_may_not_know_nothing_is_issued(
    operator: LocalOperator, folder: Path, office: str
) -> None:
    operator.rotate_authority("root", "")
    before = (folder / "fleetward.toml").read_bytes()
    with pytest.raises(OperatorProblem, match="--root-delivered") as problem:
        operator.rotate_authority(office, "")
    assert problem.value.kind is Kind.HELD
    assert (folder / "fleetward.toml").read_bytes() == before
    # What devices never judge may follow at once.
    operator.rotate_authority("factory-ca", "")
    operator.rotate_authority("broker", "")


def test_a_broker_follows_its_service_ca_only_to_a_root_that_devices_know(operator: LocalOperator) -> None:
    operator.rotate_authority("root", "")
    operator.rotate_authority("service-ca", "", root_delivered=True)
    with pytest.raises(OperatorProblem, match="--root-delivered"):
        operator.rotate_authority("broker", "")
    operator.rotate_authority("broker", "", root_delivered=True)
    operator.rotate_authority("broker", "")


def test_a_root_that_something_stands_under_is_not_forgotten(operator: LocalOperator, folder: Path) -> None:
    with pytest.raises(OperatorProblem, match="root in office alone"):
        operator.forget_root("")
    operator.rotate_authority("root", "")
    before = (folder / "pki" / "root.pem").read_bytes()
    for office in (*AUTHORITIES, *LINES):
        with pytest.raises(OperatorProblem, match=office) as problem:
            operator.forget_root("", leave_behind=True)
        assert problem.value.kind is Kind.CONFLICT
        operator.rotate_authority(office, "", root_delivered=True)
    with pytest.raises(OperatorProblem, match="factory-ca: they would be locked out") as problem:
        operator.forget_root("")
    assert problem.value.kind is Kind.HELD
    assert (folder / "pki" / "root.pem").read_bytes() == before
    operator.forget_root("", leave_behind=True)


def test_a_key_that_is_lost_has_a_successor_too(operator: LocalOperator, folder: Path) -> None:
    (folder / "pki" / "device-ca.key.pem").unlink()
    operator.rotate_authority("device-ca", "lost")
    config = load(folder)
    assert in_office(config, "device-ca")[1].stem == "device-ca-2"
    assert issued(config)
    assert len(read_crls(config.pki / "crl" / "all.pem")) == 4


def test_a_root_elsewhere_is_followed_by_one_beside_it(operator: LocalOperator, folder: Path, tmp_path: Path) -> None:
    stick = tmp_path / "stick"
    stick.mkdir()
    (folder / "pki" / "root.key.pem").rename(stick / "root.key.pem")
    path = folder / "fleetward.toml"
    path.write_text(path.read_text().replace("[keys]\n", f'[keys]\nroot = "file:{stick}/root.key.pem"\n'))
    operator.rotate_authority("root", "")
    assert load(folder).keys.root == f"file:{stick}/root-2.key.pem"
    assert (stick / "root-2.key.pem").stat().st_mode & 0o777 == 0o600
    (stick / "root-2.key.pem").unlink()
    with pytest.raises(OperatorProblem, match="root-2"):
        operator.rotate_authority("device-ca", "")


def test_what_cannot_be_written_down_leaves_the_former_one(operator: LocalOperator, folder: Path) -> None:
    path = folder / "fleetward.toml"
    path.write_text(path.read_text().replace("[keys]\n", "", 1) + '\nkeys = "x"\n')
    with pytest.raises(OperatorProblem):
        operator.rotate_authority("device-ca", "")
    assert not (folder / "pki" / "device-ca-2.key.pem").exists()


def test_every_act_has_actor_and_reason(operator: LocalOperator, folder: Path) -> None:
    told = operator.rotate_authority("device-ca", "yearly")
    with open_store(folder / "server.db") as store:
        links = store.audit_links(0, 100, AuditFilter(subject="device-ca"))
    assert [(one.entry.actor, one.entry.action, one.entry.reason, one.entry.detail) for one in links] == [
        ("operator:eve", "authority-rotated-begun", "yearly", ""),
        ("operator:eve", "authority-rotated", "yearly", f"device-ca-2 {told.thumbprint}"),
    ]
    assert operator.verify_audit().broken is None


def killed_at(place: int, folder: Path, act: Callable[[], object]) -> bool:
    """Do it in a child that ends without a word before the ``place``-th change of a name; False if it was done."""
    child = os.fork()
    if child == 0:
        seen = 0

        def hook(event: str, args: tuple[Any, ...]) -> None:
            nonlocal seen
            if event in CHANGES and str(args[0]).startswith(str(folder)):
                seen += 1
                if seen == place:
                    os._exit(KILLED)

        sys.addaudithook(hook)
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in {0, KILLED}
    return os.waitstatus_to_exitcode(status) == KILLED


@pytest.mark.parametrize("office", ["root", "device-ca", "broker"])
def test_a_kill_at_any_point_leaves_either_of_the_two_in_office(
    provider: Path, tmp_path: Path, office: str, figure: Callable[[str], None]
) -> None:
    def act(folder: Path) -> None:
        config = load(folder)
        with open_store(folder / "server.db") as store:
            offices.rotate(config, store, office, NOW)

    stems, place = set(), 1
    while True:
        folder = tmp_path / f"{office}-{place}"
        shutil.copytree(provider, folder)
        killed = killed_at(place, folder, lambda folder=folder: act(folder))  # type: ignore[misc]
        config = sound(folder)
        stems.add(config.keys.by_name().get(office) or der(read_line(config, office)[0]))
        act(folder)
        sound(folder)
        spare = [path.name for path in (folder / "pki").glob("*.key.pem")]
        assert len(spare) == 6 + (office not in LINES) * (1 if killed and len(stems) == 1 else 2), spare
        if not killed:
            break
        place += 1
    figure(f"{office}: killed at {place - 1} points")
    assert place > 2
    assert len(stems) >= 2


@pytest.mark.parametrize("signed", [True, False])
def test_mosip_goes_on_knowing_the_key_that_it_was_shown(operator: LocalOperator, folder: Path, signed: bool) -> None:
    shutil.copy(folder / "pki" / "device-ca.pem", folder / "by-mosip.pem")
    with (folder / "fleetward.toml").open("a") as file:
        file.write('[mosip]\nprofile = "crypto-only"\nurl = "https://mosip.example"\nclient_id = "x"\n')
        file.write('certificate = "by-mosip.pem"\n' if signed else "")
    before = open_seal(load(folder)).certificate
    for _ in range(2):
        operator.rotate_authority("device-ca", "")
    config = sound(folder)
    assert open_seal(config).certificate == before
    assert config.mosip.key == "file:pki/device-ca.key.pem"
    assert config.mosip.certificate == ("by-mosip.pem" if signed else "pki/device-ca.pem")


def test_a_kill_while_a_root_is_forgotten_leaves_it_or_not(operator: LocalOperator, folder: Path) -> None:
    for office in ("root", *AUTHORITIES, *LINES):
        operator.rotate_authority(office, "", root_delivered=True)
    operator.close()
    believed, place = set(), 1
    while True:
        copy = folder.with_name(f"copy-{place}")
        shutil.copytree(folder, copy)
        killed = killed_at(place, copy, lambda copy=copy: forget_root(load(copy)))  # type: ignore[misc]
        believed.add(len(roots(sound(copy))))
        if not killed:
            break
        forget_root(load(copy))
        assert (len(roots(sound(copy))), set(load(copy).keys.former)) == (1, set(AUTHORITIES))
        place += 1
    assert (place, believed) == (3, {1, 2})


def test_a_backup_brings_every_generation_back(operator: LocalOperator, folder: Path, tmp_path: Path) -> None:
    old = issued(load(folder))
    for office in ("root", "device-ca"):
        operator.rotate_authority(office, "", root_delivered=True)
    create(load(folder), tmp_path / "backup.tar", SECRET, NOW, without_keys=False)
    restored = restore(RestoreWish(tmp_path / "backup.tar", tmp_path / "new", SECRET, (), "operator:eve"), NOW)
    config = sound(tmp_path / "new")
    assert restored.keys_missing == ()
    assert config.keys == load(folder).keys
    for chain in (old, issued(config)):
        assert own_anchors(config).verify(chain, NOW).name == f"sign-{FIRST}"


def test_half_a_pair_of_a_line_is_removed_and_a_whole_one_takes_its_place(folder: Path) -> None:
    config = load(folder)
    before = read_line(config, "server")[0]
    (config.pki / "server.next.key.pem").write_text("half")
    finish_lines(config)
    assert read_line(config, "server")[0] == before
    service = in_office(config, "service-ca")[0]
    make_line(config.pki, "server", subject_of_line("server", "x", ""), service, NOW, beside=".next")
    finish_lines(config)
    assert read_line(sound(folder), "server")[0] != before


def test_what_serves_does_not_wait_for_keys_that_another_holds(folder: Path) -> None:
    config = load(folder)
    make_line(
        config.pki, "server", subject_of_line("server", "x", ""), in_office(config, "service-ca")[0], NOW, beside=NEXT
    )
    half = config.pki / f"server{NEXT}.pem"
    with alone(config):
        finish_lines(config)
        with pytest.raises(Busy, match="another process"), alone(config, 0):
            pass
        assert half.exists()
    finish_lines(config)
    assert not half.exists()


def test_a_line_without_a_service_ca_stays_as_it_is(folder: Path) -> None:
    config = load(folder)
    before = (config.pki / "broker.pem").read_bytes()
    (config.pki / "service-ca.key.pem").unlink()
    with pytest.raises(OperatorProblem, match="service-ca"):
        LocalOperator(folder, "eve").rotate_authority("broker", "")
    assert (config.pki / "broker.pem").read_bytes() == before


def test_the_command_line_rotates_and_says_no(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--dir", str(folder), "--json"]
    assert run(["authority", "rotate", "device-ca", *words, "--reason", "yearly"]) == 0
    assert '"stem": "device-ca-2"' in capsys.readouterr().out
    assert run(["authority", "rotate", "devise-ca", *words]) == 2
    assert "did you mean 'device-ca'" in capsys.readouterr().err
    assert run(["authority", "rotate", "server", *words, "--to", "pkcs11:token=x"]) == 2
    assert run(["authority", "rotate", "root", *words]) == 0
    assert run(["authority", "rotate", "service-ca", *words]) == 6
    assert run(["authority", "forget-root", *words]) == 5
