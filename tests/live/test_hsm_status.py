"""What ``fleetward hsm status`` tells: each token, each key in its own words, and what is missing, by exit code too."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fleetward_sandbox.softhsm import SoftToken
from fleetward_server.cli.app import build
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.config import load
from fleetward_server.doctor import Health
from fleetward_server.generations import AUTHORITIES
from fleetward_server.hsm import Look, look
from fleetward_server.init import Wish, make_provider

pytestmark = [pytest.mark.live, pytest.mark.part]
Tokens = Callable[[str], SoftToken]


@pytest.fixture(scope="module")
def token(tokens: Tokens) -> SoftToken:
    return tokens("status")


@pytest.fixture(scope="module")
def provider(token: SoftToken, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("status") / "provider"
    make_provider(folder, Wish(port=0, hsm=token.uri), datetime.now(UTC))
    return folder


def looks(folder: Path) -> dict[str, Look]:
    return {one.part: one for one in look(load(folder))}


def test_every_key_is_told_in_its_tokens_own_words(provider: Path) -> None:
    found = looks(provider)

    assert [*found] == ["token status", "key root", *(f"key {name}" for name in AUTHORITIES)]
    assert {one.health for part, one in found.items() if part.startswith("key")} == {Health.OK}
    for name in AUTHORITIES:
        said = found[f"key {name}"].said
        assert (said["label"], said["never-extractable"], said["extractable"], said["local"]) == (
            name,
            "yes",
            "no",
            "yes",
        )


def test_a_token_of_software_is_no_hsm(provider: Path) -> None:
    told = looks(provider)["token status"]

    assert told.health is Health.WARNS
    assert told.detail.startswith("software, and no HSM: SoftHSM project SoftHSM v2, firmware 2.")
    assert "signs RS256" in told.said["can"]


def test_keys_in_files_are_said_to_be_files(tmp_path: Path) -> None:
    make_provider(tmp_path / "files", Wish(port=0), datetime.now(UTC))
    found = looks(tmp_path / "files")

    assert {one.health for one in found.values()} == {Health.WARNS}
    assert all(one.detail.endswith("fits its certificate; a file is no HSM") for one in found.values())


def test_what_is_missing_fails_and_an_absent_root_does_not(provider: Path, token: SoftToken) -> None:
    shown = CliRunner().invoke(build(), ["hsm", "status", "--dir", str(provider), "--json"])
    assert (shown.exit_code, len(json.loads(shown.stdout))) == (ExitCode.OK, 5)

    token.take_away()
    found = looks(provider)
    gone = CliRunner().invoke(build(), ["hsm", "status", "--dir", str(provider)])
    token.give_back()

    assert {found[f"key {name}"].health for name in AUTHORITIES} == {Health.FAILS}
    assert found["key root"].health is Health.WARNS
    assert gone.exit_code == ExitCode.CONFLICT
