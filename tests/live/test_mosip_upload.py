"""Certificates go up to MOSIP and come back signed, by the command and over TLS: exact codes, nothing half done."""

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from cryptography import x509
from typer.testing import CliRunner

from fleetward_broker.profiles import DAY, Issuer
from fleetward_broker.signers import make_key
from fleetward_sandbox.mosip.partners import Partners
from fleetward_sandbox.mosip.pki import MosipPki, Wish, build, pem
from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_sandbox.mosip.serve import Served, settings
from fleetward_sandbox.mosip.words import Complaint
from fleetward_schemas.jws import Alg, approved
from fleetward_server.cli.app import build as commands
from fleetward_server.config import load
from fleetward_server.generations import open_issuer, roots
from fleetward_server.init import Wish as Provider
from fleetward_server.init import make_provider
from fleetward_server.mosip.onboarding import Domain, Hand
from fleetward_server.mosip.signing import open_seal
from fleetward_server.mosip.uploading import foreseen
from fleetward_server.operator import LocalOperator
from fleetward_server.store import AuditFilter
from tests.chains import NOW, Recipe, chain

pytestmark = pytest.mark.live
AUTHORITY = "/v1/partnermanager/partners/certificate/ca/upload"
PARTNER = "/v1/partnermanager/partners/certificate/upload"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, running: Served) -> Path:
    home = tmp_path_factory.mktemp("upload") / "provider"
    make_provider(home, Provider(name="Acme Ltd", provider_id="acme"), datetime.now(UTC) - timedelta(hours=1))
    table = settings(running.mosip.pki.folder, running.port, "pms-1.1")
    with (home / "fleetward.toml").open("a") as file:
        file.write("\n".join(line for line in table.splitlines() if not line.startswith("certificate")) + "\n")
    return home


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "provider")
    return tmp_path / "provider"


@pytest.fixture
def served(running: Served) -> Served:
    """A MOSIP that knows the partners' names and nothing of their keys."""
    mosip = running.mosip
    mosip.partners = Partners(mosip.pki, {"acme": "Acme Ltd", "chips": "Chips"})
    mosip.register.providers = set()
    mosip.register.trust_providers = set()
    mosip.quirks.clear()
    mosip.asked.clear()
    mosip.done.clear()
    return running


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(commands(), ["mosip", "upload", "--dir", str(folder), "--json", *words])


def rows(said: Result) -> list[tuple[str, str, str]]:
    return [(row["what"], row["state"], row["code"]) for row in json.loads(said.stdout)]


def own(folder: Path) -> x509.Certificate:
    return open_issuer(load(folder), "device-ca").certificate


def untouched(folder: Path) -> bool:
    return load(folder).mosip.certificate == ""


def test_the_root_then_the_device_ca_go_up_and_what_mosip_signed_is_shown(folder: Path, served: Served) -> None:
    said = run(folder, "--reason", "first")
    assert said.exit_code == 0, said.output
    assert rows(said) == [("authority", "uploaded", ""), ("certificate", "signed", "")]
    assert served.mosip.partners.trusted == {"DEVICE": list(roots(load(folder)))}
    shown = open_seal(load(folder)).certificate
    assert shown == served.mosip.partners.signed["acme"]
    assert shown.issuer == served.mosip.pki.leaf("pms").certificate.subject
    assert shown.public_key() == own(folder).public_key()
    assert served.mosip.register.providers is not None
    assert len(served.mosip.register.providers) == 1
    with LocalOperator(folder, "test") as operator:
        actions = [link.entry.action for link in operator.audit_links(AuditFilter(), 0, 9)]
    assert actions == ["mosip-certificate-uploaded", "mosip-chain-imported"]


def test_again_what_is_there_is_no_failure_and_the_former_is_shown_beside_it(folder: Path, served: Served) -> None:
    assert run(folder).exit_code == 0
    first = open_seal(load(folder)).certificate
    said = run(folder)
    assert rows(said) == [("authority", "there-already", "KER-PCM-003"), ("certificate", "signed", "")]
    config = load(folder)
    assert open_seal(config).certificate != first
    assert [seal.certificate for seal in open_seal(config).shown(datetime.now(UTC))][1] == first


def test_a_dry_run_asks_nothing_and_changes_nothing(folder: Path, served: Served) -> None:
    said = run(folder, "--dry-run")
    assert (said.exit_code, rows(said)) == (0, [("authority", "to-upload", ""), ("certificate", "to-upload", "")])
    assert (served.mosip.asked, untouched(folder)) == ({}, True)


def test_a_chain_of_the_keymanagers_is_read_as_well(folder: Path, served: Served) -> None:
    served.mosip.quirks.set(Quirk.P7B)
    assert run(folder).exit_code == 0
    assert open_seal(load(folder)).certificate == served.mosip.partners.signed["acme"]


def test_a_certificate_by_an_authority_that_the_adopter_approves_goes_up_with_all_above_it(
    folder: Path, served: Served, tmp_path: Path
) -> None:
    now = datetime.now(UTC) - timedelta(hours=1)
    key = make_key(Alg.RS256)
    (root,) = chain(replace(ROOT, start=now, end=now + 3000 * DAY))
    approving = Issuer(root.certificate, make_key(Alg.RS256))
    wish = Wish(x509.Name(root.certificate.subject), key.public_key(), (now, now + 3000 * DAY), authority=True)
    approving = Issuer(build(wish, Issuer(root.certificate, key)), key)
    ours = own(folder)
    wish = Wish(ours.subject, approved(ours.public_key()), (now, now + 700 * DAY), authority=True)
    certified = build(wish, approving)
    (tmp_path / "up.pem").write_bytes(pem(approving.certificate) + pem(certified))
    said = run(folder, "--file", str(tmp_path / "up.pem"))
    assert rows(said) == [("authority", "uploaded", ""), ("certificate", "signed", "")]
    assert served.mosip.partners.trusted == {"DEVICE": [approving.certificate]}
    (tmp_path / "up.pem").write_bytes(pem(certified))
    said = run(folder, "--file", str(tmp_path / "up.pem"))
    assert (said.exit_code, "expected all up to a root" in said.stderr) == (2, True)
    (tmp_path / "up.pem").write_bytes(pem(approving.certificate))
    assert "over the device CA's key" in run(folder, "--file", str(tmp_path / "up.pem")).stderr


REFUSALS = {
    "PMS_PRT_005": {"organisations": {"another": "Acme Ltd"}},
    "KER-PCM-008": {"organisations": {"acme": "ACME Ltd"}},
}


@pytest.mark.parametrize(("code", "changes"), REFUSALS.items(), ids=list(REFUSALS))
def test_what_mosip_refuses_is_told_by_its_code_and_nothing_is_shown(
    folder: Path, served: Served, code: str, changes: dict[str, Any]
) -> None:
    served.mosip.partners = replace(served.mosip.partners, **changes)
    said = run(folder)
    assert (said.exit_code, code in said.stderr, untouched(folder)) == (6, True, True)
    assert served.mosip.register.providers == set()


@pytest.mark.parametrize(
    ("quirk", "why"),
    [
        (Quirk.HTML, "not-json"),
        (Quirk.UNAVAILABLE, "bad-status"),
        (Quirk.DROP_TOKEN, "KER-ATH-401"),
        (Quirk.CUT, "cut-off"),
    ],
)
def test_a_mosip_that_is_none_changes_nothing(folder: Path, served: Served, quirk: Quirk, why: str) -> None:
    served.mosip.quirks.set(quirk)
    said = run(folder)
    assert (said.exit_code, why in said.stderr, untouched(folder)) == (1, True, True)


def test_what_no_anchor_leads_to_is_kept_and_not_shown(folder: Path, served: Served) -> None:
    (folder / "other.pem").write_bytes(pem(own(folder)))
    text = (folder / "fleetward.toml").read_text()
    anchors = str(served.mosip.pki.folder / "anchors.pem")
    (folder / "fleetward.toml").write_text(text.replace(anchors, "other.pem"))
    said = run(folder)
    assert (said.exit_code, untouched(folder)) == (7, True)
    assert "pki/mosip-signed.pem" in said.stderr
    (folder / "fleetward.toml").write_text(text)
    kept = str(folder / "pki" / "mosip-signed.pem")
    imported = CliRunner().invoke(commands(), ["mosip", "import-chain", kept, "--dir", str(folder)])
    assert (imported.exit_code, untouched(folder)) == (0, False)


def test_another_keys_certificate_is_not_taken(folder: Path, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    adopt = MosipPki.adopt
    monkeypatch.setattr(MosipPki, "adopt", lambda pki, _, now: adopt(pki, pki.leaf("tls").certificate, now))
    said = run(folder)
    assert (said.exit_code, "another key" in said.stderr, untouched(folder)) == (7, True, True)


def test_an_ftm_makers_certificate_goes_up_under_its_own_name_and_stays_mosips(
    folder: Path, served: Served, tmp_path: Path
) -> None:
    now = datetime.now(UTC)
    lasts = {"start": now - DAY, "end": now + 3000 * DAY}
    issuing, root = chain(replace(LEAF, organisation="Chips", **lasts), replace(ROOT, **lasts))
    file = tmp_path / "maker.pem"
    file.write_bytes(pem(root.certificate) + pem(issuing.certificate))
    said = run(folder, "--domain", "ftm", "--file", str(file), "--partner-id", "chips")
    assert said.exit_code == 0, said.output
    assert rows(said) == [("authority", "uploaded", ""), ("certificate", "signed", "")]
    assert served.mosip.partners.trusted == {"FTM": [root.certificate]}
    assert (served.mosip.register.trust_providers, untouched(folder)) == ({"chips"}, True)
    assert run(folder, "--domain", "ftm").exit_code == 2
    assert run(folder, "--domain", "FTN", "--file", str(file)).exit_code == 2


LASTS: dict[str, Any] = {"ca": True, "start": NOW - DAY, "end": NOW + 800 * DAY}
ROOT = Recipe("Approving root", "rsa2048 root", usage=frozenset({"key_cert_sign"}), aki=None, **LASTS)
LEAF = Recipe("Acme device CA", "rsa2048 device", organisation="Acme Ltd", **LASTS)
FLAWS: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "none": ({}, {}, ""),
    "not yet": ({"start": NOW + DAY}, {}, "KER-PMS-020"),
    "over": ({"end": NOW - timedelta(hours=1)}, {}, "KER-PCM-004"),
    "short": ({"end": NOW + 334 * DAY}, {}, "KER-KMS-021"),
    "just long enough": ({"end": NOW + 336 * DAY}, {}, ""),
    "version 1": ({"version": "v1"}, {}, "KER-PCM-007"),
    "of nobody": ({"organisation": None}, {}, "KER-PCM-008"),
    "a weak key": ({"key": "rsa1024 device"}, {}, "KER-PCM-013"),
    "signed by Ed25519": ({}, {"key": "ed25519 root"}, "KER-PCM-014"),
    "a root not yet": ({}, {"start": NOW + DAY}, "KER-PMS-020"),
    "a root that is over": ({}, {"end": NOW - timedelta(hours=1)}, "KER-PCM-004"),
    "a short root": ({}, {"end": NOW + 364 * DAY}, "KER-PCM-017"),
    "a root of version 1": ({}, {"version": "v1"}, "KER-PCM-007"),
}


@pytest.mark.parametrize(("leaf", "root", "code"), FLAWS.values(), ids=list(FLAWS))
def test_what_mosip_would_refuse_is_foreseen_as_mosip_says_it(
    served: Served, leaf: dict[str, Any], root: dict[str, Any], code: str
) -> None:
    path = [one.certificate for one in chain(replace(LEAF, **leaf), replace(ROOT, **root))]
    found = [step.code for step in foreseen(Hand(Domain.DEVICE, "acme", tuple(path)), NOW) if step.code]
    assert found == ([code] if code else [])
    assert _said(served.mosip.partners, path) == code


def test_one_who_signed_himself_is_no_partner(served: Served) -> None:
    (alone,) = [one.certificate for one in chain(replace(LEAF, key="rsa2048 alone"))]
    assert [step.code for step in foreseen(Hand(Domain.DEVICE, "acme", (alone,)), NOW)] == ["KER-PCM-015"]
    assert _said(served.mosip.partners, [alone]) == "KER-PCM-015"


def _said(partners: Partners, path: list[x509.Certificate]) -> str:
    certificate, *above = path
    try:
        for one in reversed(above):
            partners.upload_authority({"certificateData": pem(one).decode(), "partnerDomain": "DEVICE"}, NOW)
        request = {"certificateData": pem(certificate).decode(), "partnerDomain": "DEVICE", "partnerId": "acme"}
        partners.upload_certificate(request, NOW, as_p7b=False)
    except Complaint as complaint:
        return complaint.errors[0][0]
    return ""


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"certificateData": "-----BEGIN"}, "KER-PCM-001"),
        ({"partnerDomain": "PHONE"}, "KER-PCM-011"),
        ({"partnerDomain": "FTM"}, "KER-PCM-006"),
        ({}, ""),
    ],
)
def test_the_sandbox_trusts_an_authority_in_its_own_domain_alone(
    served: Served, changes: dict[str, str], code: str
) -> None:
    leaf, root = (one.certificate for one in chain(LEAF, ROOT))
    partners = served.mosip.partners
    partners.upload_authority({"certificateData": pem(root).decode(), "partnerDomain": "DEVICE"}, NOW)
    request = {"certificateData": pem(leaf).decode(), "partnerDomain": "DEVICE", "partnerId": "acme"} | changes
    if code:
        with pytest.raises(Complaint) as complaint:
            partners.upload_certificate(request, NOW, as_p7b=False)
        assert complaint.value.errors[0][0] == code
    else:
        assert partners.upload_certificate(request, NOW, as_p7b=False)[1] == leaf


def test_an_authority_below_one_that_is_not_there_is_refused(served: Served) -> None:
    below = {"certificateData": pem(chain(LEAF, ROOT)[0].certificate).decode(), "partnerDomain": "DEVICE"}
    with pytest.raises(Complaint) as complaint:
        served.mosip.partners.upload_authority(below, NOW)
    assert complaint.value.errors[0][0] == "KER-PCM-005"
