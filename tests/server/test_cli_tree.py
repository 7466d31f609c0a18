"""What holds for every command there is, ours and other rooms'."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fleetward_server.cli.app import GROUP, build, needed, run
from fleetward_server.cli.exit_codes import EPILOG, MEANINGS, OF_KIND, ExitCode
from fleetward_server.problem import Kind


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield path, command
    for name, child in (children or {}).items():
        yield from leaves(child, (*path, name))


TREE = typer.main.get_command(build(list(entry_points(group=GROUP))))
LEAVES = dict(leaves(TREE))
OURS = dict(leaves(typer.main.get_command(build())))
OF_NO_PROVIDER = {("compliance", "scan")}
OF_A_TOKEN = {("hsm", "ceremony"), ("hsm", "verify-protocol"), ("release", "sign"), ("release", "rotate-root")}


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_leaf_speaks_json_and_says_what_it_does(path: tuple[str, ...]) -> None:
    leaf = LEAVES[path]
    options = {option for param in leaf.params for option in param.opts}
    assert "--json" in options
    assert leaf.help
    assert all(getattr(param, "help", None) for param in leaf.params if "--json" not in param.opts), path


@pytest.mark.parametrize(
    "path",
    [
        path
        for path in OURS
        if path not in {("version",), ("schema", "export"), ("backup", "verify"), *OF_NO_PROVIDER, *OF_A_TOKEN}
    ],
)
def test_every_leaf_of_a_provider_takes_its_folder_from_option_or_environment(path: tuple[str, ...]) -> None:
    (folder,) = [param for param in OURS[path].params if "--dir" in param.opts]
    assert folder.envvar == "FLEETWARD_DIR"


def test_the_whole_tree_is_the_one_that_was_promised() -> None:
    promised = """init up down doctor version device-list device-show device-import device-approve device-refuse
        device-revoke device-retire device-quarantine device-release device-reinstate device-tag key-rotate
        command-send command-show command-list upgrade-assign upgrade-cancel
        upgrade-unlock upgrade-status upgrade-show mass-list mass-show
        mass-resume bundle-create bundle-take
        cert-list cert-expiring cert-chain key-list model-add model-revoke model-list ftm-root-add
        ftm-root-revoke ftm-root-list ftm-root-check telemetry-list telemetry-export audit-list audit-verify
        backup-create backup-verify backup-restore
        schema-export topic-tail config-show config-check broker-config-mosquitto broker-config-acl
        hsm-status hsm-ceremony hsm-verify-protocol
        mosip-status mosip-queue mosip-retry mosip-certificates mosip-csr mosip-import-chain mosip-upload
        mosip-approvals time-status
        authority-rotate authority-forget-root
        release-init release-add release-withdraw release-renew release-sign release-publish release-quick
        release-list release-show release-verify release-root release-expiring release-rotate-root
        compliance-report compliance-scan"""
    assert {"-".join(path) for path in OURS} == set(promised.split())


def test_help_tells_every_exit_code() -> None:
    shown = CliRunner().invoke(build(), ["--help"])
    assert shown.exit_code == 0
    assert all(f"{int(code)} {meaning}" in EPILOG for code, meaning in MEANINGS.items())
    assert "130" in shown.output


def test_every_kind_of_problem_has_its_exit_code() -> None:
    assert set(OF_KIND) == set(Kind)
    assert set(MEANINGS) == set(ExitCode)


@pytest.mark.parametrize(
    ("arguments", "loads"),
    [
        (["device", "list"], False),
        (["--log-level", "debug", "device", "list"], False),
        (["version", "--json"], False),
        (["demo", "--dir", "device"], True),
        (["--help"], True),
        ([], True),
    ],
)
def test_other_rooms_are_loaded_only_when_they_may_be_meant(arguments: list[str], loads: bool) -> None:
    assert bool(needed(arguments)) is loads


def test_a_broken_room_is_told_when_called_and_harms_nobody_else() -> None:
    broken = build([EntryPoint("broken", "no.such.module:app", GROUP)])
    called = CliRunner().invoke(broken, ["broken"])
    assert called.exit_code == 1
    assert "ModuleNotFoundError" in called.output
    assert CliRunner().invoke(broken, ["version"]).exit_code == 0


def test_version_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version", "--json"]) == 0
    assert '"fleetward"' in capsys.readouterr().out
