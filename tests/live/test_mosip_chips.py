"""An FTM chip's certificate goes to its row at MOSIP, made if there is none; an administrator there approves it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from fleetward_broker.profiles import DAY
from fleetward_sandbox.mosip import chips
from fleetward_sandbox.mosip.partners import Partners
from fleetward_sandbox.mosip.pki import pem
from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_sandbox.mosip.serve import Served, settings
from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Purpose
from fleetward_server.cli.app import build as commands
from fleetward_server.init import Wish, make_provider
from fleetward_server.mosip.chips import Chip
from fleetward_server.mosip.exchange import Answer
from fleetward_server.operator import LocalOperator
from fleetward_server.store import AuditFilter
from tests.chains import Recipe, chain

pytestmark = pytest.mark.live


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, running: Served) -> Path:
    home = tmp_path_factory.mktemp("chips") / "provider"
    make_provider(home, Wish(name="Acme Ltd", provider_id="acme"), datetime.now(UTC) - timedelta(hours=1))
    with (home / "fleetward.toml").open("a") as file:
        file.write(settings(running.mosip.pki.folder, running.port, "crypto-only"))
    return home


@pytest.fixture
def partners(running: Served) -> Partners:
    """MOSIP's partners, of whose chips nothing is known yet."""
    mosip = running.mosip
    mosip.partners = Partners(mosip.pki, {"chips": "Chips", "others": "Others"})
    mosip.quirks.clear()
    return mosip.partners


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    now = datetime.now(UTC)
    lasts: dict[str, Any] = {"ca": True, "start": now - DAY, "end": now + 3000 * DAY}
    issuing = Recipe("Chip CA", "rsa2048 chip", organisation="Chips", **lasts)
    root = Recipe("Chip root", "rsa2048 chip root", usage=frozenset({"key_cert_sign"}), aki=None, **lasts)
    path = tmp_path_factory.mktemp("maker") / "maker.pem"
    path.write_bytes(b"".join(pem(one.certificate) for one in chain(issuing, root)))
    return path


def run(folder: Path, file: Path, *words: str, maker: str = "chips") -> Result:
    common = ["mosip", "upload", "--dir", str(folder), "--json", "--domain", "ftm", "--file", str(file)]
    return CliRunner().invoke(commands(), [*common, "--partner-id", maker, *words])


CHIP = ("--make", "Acme", "--model", "FTM-1")


def rows(said: Result) -> list[tuple[str, str, str]]:
    assert said.exit_code == 0, said.output
    return [(row["what"], row["subject"], row["state"]) for row in json.loads(said.stdout)][1:]


def test_its_row_is_made_its_certificate_handed_over_and_an_approval_waited_for(
    folder: Path, file: Path, partners: Partners
) -> None:
    made, signed = rows(run(folder, file, *CHIP, "--reason", "first chips"))
    assert (made, signed[::2]) == (("chip", "Acme FTM-1", "made"), ("certificate", "signed"))
    (row,) = partners.chips.values()
    assert (row.provider, row.make, row.model, row.status) == ("chips", "Acme", "FTM-1", "pending_approval")
    assert file.read_text().endswith("-----END CERTIFICATE-----\n")
    assert row.certificate in file.read_text()
    with LocalOperator(folder, "test") as operator:
        link = operator.audit_links(AuditFilter(), 0, 9)[-1]
    assert (link.entry.action, link.entry.detail) == ("mosip-certificate-uploaded", "FTM chips Acme FTM-1")


def test_again_it_is_found_and_handed_over_once_the_former_is_approved(
    folder: Path, file: Path, partners: Partners
) -> None:
    assert run(folder, file, *CHIP).exit_code == 0
    waiting = run(folder, file, *CHIP)
    assert (waiting.exit_code, "PMP_AUT_038" in waiting.stderr) == (6, True)
    chips.approve(partners, "chip-1")
    assert rows(run(folder, file, "--make", "ACME", "--model", "ftm-1"))[0][2] == "there-already"
    assert [row.status for row in partners.chips.values()] == ["pending_approval"]
    assert rows(run(folder, file, "--make", "Acme", "--model", "FTM-2"))[0][2] == "made"
    assert len(partners.chips) == 2


@pytest.mark.parametrize(
    ("maker", "code"), [("nobody", "PMP_AUT_030"), ("others", "KER-PCM-008")], ids=["unknown", "another's name"]
)
def test_what_mosip_refuses_of_a_chip_is_told_by_its_code(
    folder: Path, file: Path, partners: Partners, maker: str, code: str
) -> None:
    said = run(folder, file, *CHIP, maker=maker)
    assert (said.exit_code, code in said.stderr) == (6, True)
    assert all(row.status == "pending_cert_upload" for row in partners.chips.values())
    assert run(folder, file, *CHIP).exit_code == 0


@pytest.mark.parametrize(
    "words",
    [
        ("--make", "Acme"),
        ("--model", "FTM-1"),
        ("--make", " ", "--model", "FTM-1"),
        ("--make", "A" * 37, "--model", "FTM-1"),
        (*CHIP, "--purpose", "Payment"),
        ("--purpose", "Auth"),
    ],
)
def test_half_a_chip_is_refused_before_anything_is_asked(
    folder: Path, file: Path, partners: Partners, running: Served, words: tuple[str, ...]
) -> None:
    running.mosip.asked.clear()
    assert run(folder, file, *words).exit_code == 2
    assert (partners.chips, running.mosip.asked) == ({}, {})


@pytest.mark.parametrize("words", [(), CHIP], ids=["a maker's", "a chip's"])
def test_an_l1_is_known_where_the_registration_processor_looks_for_it(
    folder: Path, file: Path, partners: Partners, words: tuple[str, ...]
) -> None:
    dry = run(folder, file, *words, "--for-devices", "--dry-run")
    assert (dry.exit_code, partners.trusted) == (0, {})
    said = run(folder, file, *words, "--for-devices")
    assert said.exit_code == 0, said.output
    found = [
        (row["what"], row["detail"], row["state"]) for row in json.loads(said.stdout) if row["what"] == "authority"
    ]
    assert found == [("authority", "FTM", "uploaded")] + [("authority", "DEVICE", "uploaded")] * 2
    assert {domain: len(held) for domain, held in partners.trusted.items()} == {"FTM": 1, "DEVICE": 2}
    assert len(json.loads(dry.stdout)) == len(json.loads(said.stdout))
    assert run(folder, file, "--make", "Acme", "--model", "FTM-9").exit_code == 0


def test_a_chip_is_no_providers(folder: Path, partners: Partners) -> None:
    for words in (CHIP, ("--for-devices",)):
        said = CliRunner().invoke(commands(), ["mosip", "upload", "--dir", str(folder), *words])
        assert (said.exit_code, "--domain ftm" in said.stderr, partners.chips) == (2, True, {})


def test_a_dry_run_shows_it_and_makes_none(folder: Path, file: Path, partners: Partners) -> None:
    assert rows(run(folder, file, *CHIP, "--dry-run"))[0] == ("chip", "Acme FTM-1", "to-upload")
    assert partners.chips == {}


def test_a_mosip_that_is_none_leaves_a_row_that_is_found_again(folder: Path, file: Path, partners: Partners) -> None:
    chips.create(partners, {"ftpProviderId": "chips", "make": "acme", "model": "ftm-1"})
    assert rows(run(folder, file, *CHIP))[0][2] == "there-already"


def test_an_unavailable_mosip_is_told(folder: Path, file: Path, partners: Partners, running: Served) -> None:
    running.mosip.quirks.set(Quirk.UNAVAILABLE)
    said = run(folder, file, *CHIP)
    assert (said.exit_code, "bad-status" in said.stderr, partners.chips) == (1, True, {})


@pytest.mark.parametrize(("purpose", "registration"), [(Purpose.REGISTRATION, True), (Purpose.AUTH, False)])
def test_what_is_asked_is_spelled_as_there(purpose: Purpose, registration: bool) -> None:
    chip, now = Chip("chips", "Acme", "FTM-1", purpose), datetime(2026, 5, 1, tzinfo=UTC)
    whose = {"ftpProviderId": "chips", "isItForRegistrationDevice": registration}
    made, handed = chip.made(now), chip.handed("7", "PEM", "Chips", now)
    assert (made.path, handed.path) == (chips.PATH, f"{chips.PATH}/uploadcertificate")
    assert made.body is not None
    assert handed.body is not None
    assert made.body["request"] == whose | {"make": "Acme", "model": "FTM-1"}
    assert handed.body["request"] == whose | {
        "ftpChipDeatilId": "7",
        "certificateData": "PEM",
        "organizationName": "Chips",
        "partnerDomain": "FTM",
    }


ROW = {"ftpChipDetailId": "7", "ftpProviderId": "chips", "make": "acme", "model": " FTM-1 "}


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ([ROW, ROW | {"model": "FTM-2"}, "x"], "7"),
        ([ROW, ROW], None),
        ([ROW | {"ftpProviderId": "others"}], None),
        ([ROW | {"ftpChipDetailId": 7}], None),
        ([ROW | {"ftpChipDetailId": "x" * 37}], None),
        (None, None),
        ({}, None),
    ],
)
def test_a_row_counts_that_is_this_makers_and_this_chips_alone(data: object, found: str | None) -> None:
    chip, answer = Chip("chips", "Acme", "FTM-1"), Answer(200, {"response": {"data": data}}, {})
    if found is not None:
        assert chip.row_found(answer) == found
        return
    with pytest.raises(Refused):
        chip.row_found(answer)


def test_an_answer_without_a_rows_id_is_none() -> None:
    for response in (None, {}, {"id": ""}, {"id": 7}, {"id": "a\nb"}):
        with pytest.raises(Refused):
            Chip("chips", "Acme", "FTM-1").row_made(Answer(200, {"response": response}, {}))
    assert Chip("chips", "Acme", "FTM-1").row_made(Answer(200, {"response": {"id": "7"}}, {})) == "7"
