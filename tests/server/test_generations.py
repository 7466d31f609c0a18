"""Offices change hands: each certificate is found by its key, and a predecessor signs its list to its end."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_private
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.profiles import Issuer, Subject
from fleetward_broker.signers import key_pem, make_key
from fleetward_broker.tls import CredentialsUnusable, read_crls, server_context
from fleetward_schemas.certificates import Unit
from fleetward_schemas.jws import Alg
from fleetward_server import revocation
from fleetward_server.authority import FormerKeyAway
from fleetward_server.backup import _whereabouts
from fleetward_server.changes import AddCertificates, TakeCertificates
from fleetward_server.config import Config, ConfigProblem, load
from fleetward_server.doctor import Health, examine
from fleetward_server.generations import (
    AuthorityProblem,
    former,
    in_office,
    number_of,
    office_of,
    open_issuer,
    open_root,
    own_anchors,
    stem_of,
)
from fleetward_server.init import Wish
from fleetward_server.operator import LocalOperator
from fleetward_server.state import Use
from fleetward_server.store import Store, open_store
from fleetward_server.upkeep import publish_lists
from tests.ready import ready_provider
from tests.server.register import FIRST, certificate, device, kept

NOW = datetime.now(UTC).replace(microsecond=0)
LATER = NOW + timedelta(days=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    ready_provider(tmp_path, Wish(), NOW)
    return tmp_path


@pytest.fixture
def store(folder: Path) -> Iterator[Store]:
    with open_store(folder / "server.db") as opened:
        yield opened


def followed(folder: Path, office: str = "device-ca", *, start: datetime = NOW - timedelta(hours=1)) -> Issuer:
    """Make a predecessor of the holder of an office, as the configuration then names it."""
    config = load(folder)
    key = make_key(Alg.RS256)
    subject = Subject("Former", config.provider.name, Unit(office.removesuffix("-ca")))
    made = profiles.issue(profiles.ISSUING, subject, key.public_key(), open_root(config), start=start)
    write_private(folder / "pki" / f"{office}-7.key.pem", key_pem(key))
    (folder / "pki" / f"{office}-7.pem").write_bytes(made.public_bytes(Encoding.PEM))
    path = folder / "fleetward.toml"
    named = f'former = {{ {office}-7 = "file:pki/{office}-7.key.pem" }}'
    path.write_text(path.read_text().replace("[keys]\n", f"[keys]\n{named}\n"))
    return Issuer(made, key)


def serials(config: Config, stem: str) -> set[int]:
    (listed,) = read_crls(config.pki / "crl" / f"{stem}.pem")
    return {entry.serial_number for entry in listed}


def revoked(store: Store, *authorities: bytes) -> None:
    """Have the first device certified by each of these, one after the other, and put out."""
    kept(store, device())
    for number, authority in enumerate(authorities):
        rows = [
            replace(
                certificate(f"{use} {number}", f"pair {number}", use, serial=100 * number + place, not_after=LATER),
                authority=authority,
            )
            for place, use in enumerate((Use.DEVICE, Use.TRANSPORT), 1)
        ]
        with store.unit() as unit:
            unit.apply([AddCertificates((rows[0], rows[1]))])
            unit.apply([TakeCertificates(FIRST, f"pair {number}")])


def der(issuer: Issuer) -> bytes:
    return issuer.certificate.public_bytes(Encoding.DER)


@pytest.mark.parametrize(("stem", "office", "number"), [("root", "root", 1), ("device-ca-12", "device-ca", 12)])
def test_a_name_tells_office_and_number(stem: str, office: str, number: int) -> None:
    assert (office_of(stem), number_of(stem), stem_of(office, number)) == (office, number, stem)


def test_each_certificate_is_found_by_its_key(folder: Path) -> None:
    first = open_issuer(load(folder), "device-ca")
    other = followed(folder)
    assert open_issuer(load(folder), "device-ca").certificate == first.certificate
    path = folder / "fleetward.toml"
    path.write_text(path.read_text().replace("[keys]\n", '[keys]\ndevice_ca = "file:pki/device-ca-7.key.pem"\n'))
    issuer, held = in_office(load(folder), "device-ca")
    assert (issuer.certificate, held.stem) == (other.certificate, "device-ca-7")


def test_a_key_without_certificate_holds_no_office(folder: Path) -> None:
    write_private(folder / "pki" / "device-ca.key.pem", key_pem(make_key(Alg.RS256)))
    write_private(folder / "pki" / "root.key.pem", key_pem(make_key(Alg.RS256)))
    with pytest.raises(AuthorityProblem, match=r"device-ca\.pem"):
        open_issuer(load(folder), "device-ca")
    with pytest.raises(AuthorityProblem, match=r"root\.pem"):
        open_root(load(folder))


def test_all_roots_of_the_file_are_anchors(folder: Path) -> None:
    config = load(folder)
    chain = tuple(
        one.public_bytes(Encoding.DER)
        for one in x509.load_pem_x509_certificates((config.pki / "server.pem").read_bytes())
    )
    alone = (config.pki / "root.pem").read_bytes()
    key = make_key(Alg.RS256)
    other = profiles.self_signed(Subject("Other root", "x"), key, NOW).public_bytes(Encoding.PEM)
    for bundle in (alone + other, other + alone):
        (config.pki / "root.pem").write_bytes(bundle)
        assert own_anchors(config).verify(chain, NOW).name == "server"
        assert open_root(config).key.public_key() != key.public_key()


def test_a_former_authority_keeps_its_own_list(folder: Path, store: Store) -> None:
    old = followed(folder)
    config = load(folder)
    revoked(store, der(old), der(open_issuer(config, "device-ca")), b"nobody's")
    LocalOperator(folder, "eve", lambda: NOW).revoke(FIRST, "stolen")
    assert serials(config, "device-ca-7") == {1, 2}
    assert serials(config, "device-ca") == {101, 102, 201, 202}
    lists = read_crls(config.pki / "crl" / "all.pem")
    assert len(lists) == 4
    assert lists[-1].issuer == old.certificate.subject
    assert lists[-1].is_signature_valid(old.certificate.public_key())  # type: ignore[arg-type]
    pki = config.pki
    served = server_context(pki / "broker.pem", pki / "broker.key.pem", pki / "root.pem", [pki / "crl" / "all.pem"])
    assert served.cert_store_stats()["crl"] == 4


def test_a_former_key_that_is_away_keeps_nobody_else_from_a_new_list(folder: Path, store: Store) -> None:
    old = followed(folder)
    config = load(folder)
    revocation.publish(config, store, NOW)
    last = (config.pki / "crl" / "device-ca-7.pem").read_bytes()
    revoked(store, der(old), der(open_issuer(config, "device-ca")))
    (folder / "pki" / "device-ca-7.key.pem").unlink()
    with pytest.raises(FormerKeyAway, match="device-ca-7"):
        revocation.publish(config, store, NOW)
    assert (config.pki / "crl" / "device-ca-7.pem").read_bytes() == last
    assert len(read_crls(config.pki / "crl" / "all.pem")) == 4
    before = (config.pki / "crl" / "all.pem").read_bytes()
    publish_lists(config, NOW + timedelta(hours=1))
    assert (config.pki / "crl" / "all.pem").read_bytes() != before
    found = {finding.part: finding.health for finding in examine(folder)}
    assert found["key of former device-ca-7"] is Health.WARNS


def test_a_predecessor_that_has_ended_signs_nothing_more(folder: Path, store: Store) -> None:
    followed(folder, start=NOW - profiles.ISSUING.life - timedelta(days=1))
    config = load(folder)
    (ended,) = former(config)
    assert ended.has_ended(NOW)
    (folder / "pki" / "device-ca-7.key.pem").unlink()
    revocation.publish(config, store, NOW)
    assert len(read_crls(config.pki / "crl" / "all.pem")) == 3


def test_an_office_whose_key_is_away_leaves_all_lists_as_they_were(folder: Path, store: Store) -> None:
    config = load(folder)
    before = (config.pki / "crl" / "all.pem").read_bytes()
    (folder / "pki" / "service-ca.key.pem").unlink()
    with pytest.raises(KeyUnavailable):
        revocation.publish(config, store, NOW)
    assert (config.pki / "crl" / "all.pem").read_bytes() == before


def test_former_keys_are_in_the_manifest_of_a_backup(folder: Path) -> None:
    followed(folder)
    told = {one["key"]: one["where"] for one in _whereabouts(load(folder), {"pki/device-ca-7.key.pem"})}
    assert told == dict.fromkeys(("root", "device_ca", "factory_ca", "service_ca"), "not here") | {
        "former device-ca-7": "here"
    }


@pytest.mark.parametrize(
    ("value", "said"),
    [('"file:x"', "expected a table"), ("{ device-ca = 7 }", "expected a table"), ('{ a = "pkcs11:x=" }', "former a")],
)
def test_former_keys_are_read_strictly(folder: Path, value: str, said: str) -> None:
    path = folder / "fleetward.toml"
    path.write_text(path.read_text().replace("[keys]\n", f"[keys]\nformer = {value}\n"))
    with pytest.raises(ConfigProblem, match=said):
        load(folder)


def test_a_file_without_lists_is_named(tmp_path: Path) -> None:
    path = tmp_path / "all.pem"
    path.write_text("-----BEGIN X509 CRL-----\nMA==\n-----END X509 CRL-----\n")
    for text in (path.read_text(), "nothing"):
        path.write_text(text)
        with pytest.raises(CredentialsUnusable, match=str(path)):
            read_crls(path)
