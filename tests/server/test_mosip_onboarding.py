"""MOSIP comes to know the provider: the request, the chain it signed, and both chains shown while its caches last."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from fleetward_broker.profiles import DAY, Issuer
from fleetward_broker.signers import make_key
from fleetward_sandbox.mosip.pki import MosipPki, Wish, build, make_pki, pem
from fleetward_sandbox.provision import Order, provision
from fleetward_schemas.certificates import key_thumbprint
from fleetward_schemas.foreign import Leniency
from fleetward_schemas.identity import Certification
from fleetward_schemas.jws import Alg, approved
from fleetward_server.cli.app import build as commands
from fleetward_server.config import ConfigProblem, load
from fleetward_server.generations import open_issuer
from fleetward_server.init import Wish as Provider
from fleetward_server.init import make_provider
from fleetward_server.mosip.onboarding import OVERLAP
from fleetward_server.mosip.signing import open_seal
from fleetward_server.operator import LocalOperator
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.store import AuditFilter

NOW = datetime.now(UTC).replace(microsecond=0)
BEGAN = NOW - timedelta(hours=1)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> MosipPki:
    return make_pki(tmp_path_factory.mktemp("mosip"), BEGAN, BEGAN)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, pki: MosipPki) -> Path:
    folder = tmp_path_factory.mktemp("onboarding") / "provider"
    make_provider(folder, Provider(), BEGAN)
    (folder / "pki" / "mosip-anchors.pem").write_bytes(pki.anchors)
    with (folder / "fleetward.toml").open("a") as file:
        file.write('[mosip]\nurl = "https://mosip.example"\nclient_id = "us"\nanchors = "pki/mosip-anchors.pem"\n')
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "provider")
    return tmp_path / "provider"


@pytest.fixture
def operator(folder: Path) -> LocalOperator:
    return LocalOperator(folder, "test", lambda: NOW)


def own(folder: Path) -> x509.Certificate:
    return open_issuer(load(folder), "device-ca").certificate


def test_the_request_proves_the_key_of_the_device_ca_and_asks_for_an_authority(operator, folder):
    request = x509.load_pem_x509_csr(operator.mosip_request())
    assert request.is_signature_valid
    assert request.subject == own(folder).subject
    assert key_thumbprint(approved(request.public_key())) == key_thumbprint(approved(own(folder).public_key()))
    assert request.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert request.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_a_chain_that_mosip_signed_is_shown_and_the_former_beside_it_for_longer_than_caches_last(operator, folder, pki):
    before, signed = own(folder), pki.adopt(own(folder), BEGAN)
    imported = operator.import_mosip_chain(pem(signed), "yearly")
    seal = open_seal(load(folder))

    assert timedelta(hours=26) <= OVERLAP
    for hours in (0, 24, 26):
        assert [one.certificate for one in seal.shown(NOW + timedelta(hours=hours))] == [signed, before]
    assert [one.certificate for one in seal.shown(NOW + OVERLAP)] == [signed]
    assert (folder / imported.file).read_bytes().startswith(pem(signed))
    assert imported.until == NOW + OVERLAP
    rows = [link.entry for link in operator.audit_links(AuditFilter(), 0, 100)]
    assert [(row.actor, row.reason) for row in rows if row.action == "mosip-chain-imported"] == [
        ("operator:test", "yearly")
    ]


def test_after_a_succession_the_key_that_mosip_knew_is_the_former(operator, folder, pki):
    first = pki.adopt(own(folder), BEGAN)
    operator.import_mosip_chain(pem(first), "")
    operator.rotate_authority("device-ca", "")
    assert open_seal(load(folder)).certificate == first
    second = pki.adopt(own(folder), BEGAN)
    operator.import_mosip_chain(pem(second) + pki.anchors, "")
    shown = open_seal(load(folder)).shown(NOW)
    assert [one.certificate for one in shown] == [second, first]
    assert key_thumbprint(approved(second.public_key())) != key_thumbprint(approved(first.public_key()))


def test_a_negative_serial_and_loose_authorities_are_excused_and_told(operator, folder, pki):
    signed = pem(pki.adopt(own(folder), BEGAN))
    imported = operator.import_mosip_chain(signed, "")
    assert set(imported.leniencies) == {
        Leniency.NEGATIVE_SERIAL,
        Leniency.MISSING_KEY_IDENTIFIERS,
        Leniency.LOOSE_KEY_USAGE,
    }
    assert pem(open_seal(load(folder)).certificate) == signed


def strangers(pki: MosipPki) -> Issuer:
    """Return an authority that only has the name of MOSIP's."""
    twin, key = pki.leaf("pms").certificate.subject, make_key(Alg.RS256)
    wish = Wish(twin, key.public_key(), (BEGAN, NOW + DAY), authority=True)
    return Issuer(build(wish, Issuer(pki.leaf("root").certificate, key)), key)


def of(folder: Path, by: Issuer, **changes: object) -> bytes:
    mine = own(folder)
    wish = Wish(mine.subject, approved(mine.public_key()), (BEGAN, NOW + 365 * DAY), authority=True)
    return pem(build(replace(wish, **changes), by))  # type: ignore[arg-type]


REFUSED: dict[str, tuple[Callable[[Path, MosipPki], bytes], str]] = {
    "over another key": (lambda f, p: of(f, p.leaf("pms"), key=make_key(Alg.RS256).public_key()), "device CA's key"),
    "our own certificate": (lambda f, _: pem(own(f)), "device CA's key"),
    "under another name": (lambda f, p: of(f, p.leaf("pms"), subject=x509.Name([])), "its subject is"),
    "by a stranger of the same name": (lambda f, p: of(f, strangers(p)), "unknown-signer"),
    "with the stranger beside it": (lambda f, p: of(f, s := strangers(p)) + pem(s.certificate), "unknown-signer"),
    "ended": (lambda f, p: of(f, p.leaf("pms"), validity=(BEGAN - DAY, BEGAN)), "not at"),
    "not begun": (lambda f, p: of(f, p.leaf("pms"), validity=(NOW + DAY, NOW + 2 * DAY)), "not at"),
    "no authority": (lambda f, p: of(f, p.leaf("pms"), authority=False), "no authority"),
    "no certificates": (lambda *_: b"-----BEGIN NONSENSE-----", "no certificates"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_mosip_did_not_sign_for_this_very_key_is_refused_and_changes_nothing(operator, folder, pki, case):
    chain, why = REFUSED[case]
    before = (folder / "fleetward.toml").read_bytes(), sorted((folder / "pki").iterdir())
    with pytest.raises(OperatorProblem, match=why) as refusal:
        operator.import_mosip_chain(chain(folder, pki), "")
    assert refusal.value.kind is Kind.UNVERIFIED
    assert ((folder / "fleetward.toml").read_bytes(), sorted((folder / "pki").iterdir())) == before
    operator.import_mosip_chain(of(folder, pki.leaf("pms")), "its twin")


def test_the_same_chain_again_does_not_take_the_former_out_of_sight(operator, folder, pki):
    first = pem(pki.adopt(own(folder), BEGAN))
    operator.import_mosip_chain(first, "")
    with pytest.raises(OperatorProblem) as refusal:
        operator.import_mosip_chain(first, "")
    assert refusal.value.kind is Kind.CONFLICT
    assert len(open_seal(load(folder)).shown(NOW)) == 2


def test_a_former_key_that_is_away_is_not_waited_for(operator, folder, pki):
    operator.import_mosip_chain(pem(pki.adopt(own(folder), BEGAN)), "")
    operator.rotate_authority("device-ca", "")
    operator.import_mosip_chain(pem(pki.adopt(own(folder), BEGAN)), "")
    assert len(open_seal(load(folder)).shown(NOW)) == 2
    (folder / "pki" / "device-ca.key.pem").unlink()
    assert len(open_seal(load(folder)).shown(NOW)) == 1


@pytest.mark.parametrize(
    "lines",
    ['former_key = "file:x"\n', 'former_key = "file:x"\nformer_certificate = "x"\nformer_until = "tomorrow"\n'],
)
def test_half_a_former_chain_is_named(folder, lines):
    with (folder / "fleetward.toml").open("a") as file:
        file.write(lines)
    with pytest.raises(ConfigProblem, match="former_until"):
        load(folder)


def test_without_anchors_nothing_is_believed(operator, folder, pki):
    chain = pem(pki.adopt(own(folder), BEGAN))
    text = (folder / "fleetward.toml").read_text().replace('anchors = "pki/mosip-anchors.pem"', "")
    (folder / "fleetward.toml").write_text(text)
    with pytest.raises(OperatorProblem, match="anchors is missing"):
        LocalOperator(folder, "test", lambda: NOW).import_mosip_chain(chain, "")


def test_a_device_is_given_the_anchors_of_encryption_certificates_where_an_operator_named_them(folder, pki, tmp_path):
    def given(to: str) -> bytes:
        (one,) = provision(folder, Order(1, tmp_path / to, Certification.L0))
        return (one.folder / "mosip-anchors.pem").read_bytes()

    assert given("all") == pki.anchors
    (folder / "pki" / "ida.pem").write_bytes(pem(pki.leaf("ida").certificate))
    with (folder / "fleetward.toml").open("a") as file:
        file.write('encryption_anchors = "pki/ida.pem"\n')
    assert given("alone") == pem(pki.leaf("ida").certificate)


def test_the_commands_and_what_cert_list_shows(folder, pki, tmp_path):
    def run(*words: str) -> object:
        shown = CliRunner().invoke(commands(), [*words, "--dir", str(folder), "--json"])
        assert shown.exit_code == 0, shown.output
        return json.loads(shown.stdout)

    run("mosip", "csr", "--out", str(tmp_path / "us.csr"))
    request = x509.load_pem_x509_csr((tmp_path / "us.csr").read_bytes())
    wish = Wish(request.subject, approved(request.public_key()), (BEGAN, NOW + 365 * DAY), authority=True)
    (tmp_path / "chain.pem").write_bytes(pem(build(wish, pki.leaf("pms"))))
    said = run("mosip", "import-chain", str(tmp_path / "chain.pem"))
    rows = [row for row in run("cert", "list", "--own") if row["role"] == "mosip"]  # type: ignore[attr-defined]
    shown = {(row["name"], row["state"]) for row in rows}
    assert {("mosip.certificate", "believed"), ("mosip.former_certificate", "former")} <= shown
    assert str(said["file"]).startswith("pki/mosip-provider-")  # type: ignore[index]
