"""Which certificates count, when each ends, on what it stands, and where the keys are. Source: S6."""

# ruff: noqa: F811 - fixtures come from where they stand

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_private
from fleetward_broker.profiles import Subject
from fleetward_broker.signers import key_pem, make_key
from fleetward_schemas.certificates import Unit
from fleetward_schemas.jws import Alg
from fleetward_server.authority import Authority
from fleetward_server.changes import AddCertificates, RevokeCertificates, TakeCertificates
from fleetward_server.config import load
from fleetward_server.doctor import Health, examine
from fleetward_server.generations import open_issuer, open_root
from fleetward_server.init import Wish, make_provider
from fleetward_server.mass import MassOperator
from fleetward_server.operations import Operator
from fleetward_server.operator import LocalOperator
from fleetward_server.standing import LINES, ChainTold, Role
from fleetward_server.state import Certificate, Use
from fleetward_server.store import Store, open_store
from fleetward_server.turn import IssuePair
from tests.ready import ready_provider
from tests.server.register import FIRST, device, kept
from tests.server.register import NOW as CHIPS_NOW
from tests.server.test_cli import Fleetward, _own_logging, fleetward  # noqa: F401 - fixtures
from tests.server.test_operator import root_pem

NOW = datetime.now(UTC).replace(microsecond=0)
DAY = timedelta(days=1)
OWN = [("root", "root"), ("authority", "device-ca"), ("authority", "factory-ca"), ("authority", "service-ca")]
OWN += [("line", "broker"), ("line", "server")]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    ready_provider(tmp_path, Wish(), NOW - 60 * DAY)
    with open_store(tmp_path / "server.db") as opened:
        yield kept(opened, device())


def certified(store: Store, now: datetime, *, number: int = 1, taken: bool = True) -> tuple[Certificate, Certificate]:
    """Certify fresh keys of a device, as of ``now``."""
    keys = (make_key(Alg.EDDSA).public_key(), make_key(Alg.EDDSA).public_key())
    pair = f"pair {now}"
    made = Authority(load(store.path.parent)).issue_pair(IssuePair(device(number).id, pair, *keys, None), now)
    with store.unit() as unit:
        unit.apply([AddCertificates(made)])
        unit.apply([TakeCertificates(device(number).id, pair)] if taken else [])
    return made


def chain(store: Store, name: str, now: datetime = NOW) -> ChainTold:
    with LocalOperator(store.path.parent, "eve", lambda: now) as eve:
        return eve.certificate_chain(name)


def test_the_local_operator_has_the_seam_of_certificates(store: Store) -> None:
    seam: Operator = MassOperator(store.path.parent, "eve")
    assert len(seam.keys(ask=False)) == 6


def test_our_own_come_first_and_then_devices_by_their_end(fleetward: Fleetward, store: Store) -> None:
    kept(store, device(2))
    certified(store, NOW, number=1)
    certified(store, NOW - 3 * DAY, number=2)
    found = fleetward("cert", "list", "--json").json
    assert isinstance(found, list)
    assert [(one["role"], one["name"]) for one in found[:6]] == OWN
    assert [one["name"] for one in found[6:]] == 2 * [device(2).id] + 2 * [FIRST]
    assert {one["subject"] for one in found[8:]} == {f"CN={FIRST}", f"CN=sign-{FIRST}"}
    only = fleetward("cert", "list", "serial:SN-0002", "--json").json
    assert only == found[6:8]
    assert fleetward("cert", "list", "--own", "--json").json == found[:6]


def test_nothing_ends_soon_in_a_fresh_house(fleetward: Fleetward, store: Store) -> None:
    certified(store, NOW)
    done = fleetward("cert", "expiring", "--json")
    assert (done.code, done.json) == (0, [])


@pytest.mark.parametrize(
    ("words", "names"), [(("--within", "366d"), ["broker", "server"]), (("--devices-within", "31d"), [FIRST])]
)
def test_what_ends_within_the_time_asked_is_named_with_its_code(
    fleetward: Fleetward,
    store: Store,
    words: tuple[str, ...],
    names: list[str],
) -> None:
    certified(store, NOW)
    done = fleetward("cert", "expiring", *words, "--json")
    assert done.code == 5
    assert isinstance(done.json, list)
    assert [one["name"] for one in done.json] == names


def test_a_device_that_has_its_next_certificate_does_not_end(fleetward: Fleetward, store: Store) -> None:
    certified(store, NOW - 28 * DAY)
    assert fleetward("cert", "expiring").code == 5
    certified(store, NOW, taken=False)
    assert fleetward("cert", "expiring").code == 0


def test_a_device_that_ended_is_away_and_a_line_that_ended_is_told(fleetward: Fleetward, store: Store) -> None:
    certified(store, NOW - 40 * DAY)
    assert fleetward("cert", "expiring").code == 0
    service = open_issuer(load(store.path.parent), "service-ca")
    key = make_key(Alg.RS256).public_key()
    start = NOW - 400 * DAY
    ended = profiles.issue(profiles.SERVER_TLS, Subject("localhost", "Acme"), key, service, start=start)
    (store.path.parent / "pki" / "broker.pem").write_bytes(ended.public_bytes(Encoding.PEM))
    done = fleetward("cert", "expiring", "--json")
    assert done.code == 5
    assert isinstance(done.json, list)
    assert [(one["name"], one["left"]) for one in done.json] == [("broker", "ended")]


def test_a_duration_that_is_none_is_wrong_usage(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("cert", "expiring", "--within", "soon")
    assert done.code == 2
    assert "--within 'soon': expected 90s, 15m, 2h or 7d" in done.err


@pytest.mark.parametrize(("name", "length"), [("root", 1), ("device-ca", 2), ("broker", 3), ("server", 3), (FIRST, 3)])
def test_every_chain_leads_to_the_root(store: Store, name: str, length: int) -> None:
    certified(store, NOW)
    told = chain(store, name)
    assert told.flaw == ""
    assert [link.signed and link.in_time for link in told.links] == [True] * length
    assert told.links[-1].subject == told.links[-1].issuer


@pytest.mark.parametrize("name", ["broker", FIRST])
def test_a_chain_that_has_ended_does_not_hold(store: Store, name: str) -> None:
    certified(store, NOW)
    told = chain(store, name, NOW + 400 * DAY)
    assert told.flaw.startswith("not valid now: ")
    assert [link.in_time for link in told.links] == [False, True, True]


def test_a_chain_under_another_provider_does_not_hold(
    store: Store,
    tmp_path: Path,
    fleetward: Fleetward,
) -> None:
    made = certified(store, NOW)
    make_provider(tmp_path / "other", Wish(), NOW)
    other = open_store(tmp_path / "other" / "server.db")
    (foreign, _) = certified(kept(other, device()), NOW)
    other.close()
    assert chain(store, FIRST).flaw == ""
    with store.unit() as unit:
        unit.apply([RevokeCertificates(FIRST), AddCertificates((foreign,))])
    done = fleetward("cert", "chain", FIRST, "--json")
    assert done.code == 7
    assert "no such authority or root here" in done.err
    assert made[0].thumbprint not in done.out


def test_what_nobody_has_is_not_found(fleetward: Fleetward, store: Store) -> None:
    assert fleetward("cert", "chain", "nobody").code == 3
    done = fleetward("cert", "chain", FIRST)
    assert done.code == 3
    assert "it has no certificate that counts" in done.err


def test_a_chain_is_printed_as_certificates(fleetward: Fleetward, store: Store) -> None:
    done = fleetward("cert", "chain", "broker", "--pem")
    path = x509.load_pem_x509_certificates(done.out.encode())
    assert done.code == 0
    assert [one.subject for one in path[1:]] == [one.issuer for one in path[:-1]]


def test_a_former_authority_counts_as_one(store: Store, fleetward: Fleetward) -> None:
    pki, toml = store.path.parent / "pki", store.path.parent / "fleetward.toml"
    key = make_key(Alg.RS256)
    write_private(pki / "device-ca-2.key.pem", key_pem(key))
    subject = Subject("Acme device CA 2", "Acme", Unit.DEVICE)
    made = profiles.issue(profiles.ISSUING, subject, key.public_key(), open_root(load(pki.parent)), start=NOW - DAY)
    (pki / "device-ca-2.pem").write_bytes(made.public_bytes(Encoding.PEM))
    table = '\n[keys]\ndevice_ca = "file:pki/device-ca-2.key.pem"\n[keys.former]\n'
    table += 'device-ca = "file:pki/device-ca.key.pem"\n'
    toml.write_text(toml.read_text().replace("\n[keys]\n", table, 1))
    found = fleetward("cert", "list", "--own", "--json").json
    assert isinstance(found, list)
    assert {one["name"]: one["state"] for one in found if one["role"] == Role.AUTHORITY} == {
        "device-ca": "former",
        "device-ca-2": "in-office",
        "factory-ca": "in-office",
        "service-ca": "in-office",
    }
    listed = fleetward("key", "list", "--json").json
    assert isinstance(listed, list)
    over = {one["name"]: one["certificate"] for one in listed}
    assert over["keys.device_ca"] == "device-ca-2"
    assert over["keys.former.device-ca"] == "device-ca"


def test_every_key_is_listed_with_its_place_and_its_certificates_end(fleetward: Fleetward, store: Store) -> None:
    found = fleetward("key", "list", "--json").json
    assert isinstance(found, list)
    names = ["keys.root", "keys.device_ca", "keys.factory_ca", "keys.service_ca", *(f"line.{one}" for one in LINES)]
    assert [one["name"] for one in found] == names
    assert [one["certificate"] for one in found] == [name for _, name in OWN]
    assert {one["state"] for one in found} == {"there"}
    assert found[0]["place"] == f"file {store.path.parent}/pki/root.key.pem"
    ends = {one["name"]: one["not_after"] for one in fleetward("cert", "list", "--own", "--json").json}  # type: ignore[attr-defined]
    assert {one["certificate"]: one["not_after"] for one in found} == ends


def test_the_keys_of_releases_are_missed_once_there_is_a_repository(fleetward: Fleetward, store: Store) -> None:
    assert fleetward("key", "list", "--check").code == 0
    (store.path.parent / "releases").mkdir()
    found = {one["name"]: one["state"] for one in fleetward("key", "list", "--json").json}  # type: ignore[attr-defined]
    assert found["releases.snapshot_key"] == found["releases.timestamp_key"] == "not there"
    assert fleetward("key", "list", "--check").code == 5


def test_a_key_that_is_not_there_is_told_and_the_root_may_be_away(fleetward: Fleetward, store: Store) -> None:
    pki = store.path.parent / "pki"
    (pki / "root.key.pem").unlink()
    assert fleetward("key", "list", "--check").code == 0
    toml = pki.parent / "fleetward.toml"
    former = '\n[keys.former]\nroot-2 = "file:pki/root-2.key.pem"\n[retention]\n'
    toml.write_text(toml.read_text().replace("\n[retention]\n", former, 1))
    assert fleetward("key", "list", "--check").code == 0
    (pki / "device-ca.key.pem").chmod(0o644)
    done = fleetward("key", "list", "--check", "--json")
    assert done.code == 5
    assert isinstance(done.json, list)
    assert "No such file" in done.json[0]["state"]
    assert "readable by others" in done.json[1]["state"]
    assert fleetward("key", "list").code == 0


def test_a_list_asks_no_token(fleetward: Fleetward, store: Store) -> None:
    toml = store.path.parent / "fleetward.toml"
    uri = "pkcs11:token=our%20fleet;object=device-ca?module-path=/nowhere/libsofthsm2.so&pin-source=pin"
    toml.write_text(toml.read_text().replace("\n[keys]\n", f'\n[keys]\ndevice_ca = "{uri}"\n', 1))
    found = fleetward("key", "list", "--json").json
    assert isinstance(found, list)
    assert found[1]["place"] == "token 'our fleet', key 'device-ca' (SoftHSM: files of this host)"
    assert found[1]["state"] == "not asked"
    assert fleetward("cert", "list", "--own").code == 0
    assert fleetward("key", "list", "--check").code == 5


def test_a_certificate_that_cannot_be_read_is_named(fleetward: Fleetward, store: Store) -> None:
    (store.path.parent / "pki" / "server.pem").write_text("lost")
    done = fleetward("cert", "list")
    assert done.code == 2
    assert "pki/server.pem: not a readable certificate" in done.err


def test_device_certificates_are_limited_and_say_so(fleetward: Fleetward, store: Store) -> None:
    certified(store, NOW)
    done = fleetward("cert", "list", "id:*", "--limit", "1", "--json")
    assert len(done.json) == 1  # type: ignore[arg-type]
    assert "there may be more" in done.err
    assert {one.use for one in store.certificates(FIRST)} == set(Use)


def test_what_stands_between_us_and_mosip_is_listed_with_its_key(fleetward: Fleetward, store: Store) -> None:
    folder = store.path.parent
    table = '\n[mosip]\nurl = "https://mosip.example"\nclient_id = "acme"\nkey = "file:mosip.key.pem"\n'
    toml = folder / "fleetward.toml"
    toml.write_text(toml.read_text() + table + 'certificate = "mosip.pem"\nanchors = "anchors.pem"\n')
    (folder / "mosip.pem").write_bytes((folder / "pki" / "device-ca.pem").read_bytes())
    roots = [(folder / "pki" / f"{name}.pem").read_bytes() for name in ("root", "service-ca")]
    (folder / "anchors.pem").write_bytes(b"".join(roots))
    found = fleetward("cert", "list", "--own", "--json").json
    assert isinstance(found, list)
    names = [one["name"] for one in found if one["role"] == Role.MOSIP]
    assert names == ["mosip.certificate", "mosip.anchors", "mosip.anchors"]
    listed = fleetward("key", "list", "--json").json
    assert isinstance(listed, list)
    (key,) = [one for one in listed if one["name"] == "mosip.key"]
    assert (key["certificate"], key["state"]) == ("mosip.certificate", "not there")
    (folder / "anchors.pem").write_text("lost")
    assert "anchors.pem" in fleetward("cert", "list").err
    assert [one.health for one in examine(folder) if one.part == "certificates of others"] == [Health.FAILS]


def test_the_roots_of_ftm_makers_end_too(fleetward: Fleetward, store: Store) -> None:
    with LocalOperator(store.path.parent, "eve", lambda: CHIPS_NOW) as eve:
        added = eve.add_ftm_root(root_pem(), "chips", "trusted")
        (own,) = [one for one in eve.own_certificates() if one.role is Role.FTM_ROOT]
        assert (own.name, own.thumbprint) == ("chips", added.thumbprint)
        eve.revoke_ftm_root("chips", "no more")
        assert Role.FTM_ROOT not in {one.role for one in eve.own_certificates()}
