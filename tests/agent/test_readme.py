"""The drawings in the README are the tables in the code, and its example is one that works."""

import re
import tomllib
from dataclasses import fields
from pathlib import Path

import fleetward_agent
from fleetward_agent import plug
from fleetward_agent.drivers import FACTS, Driver, read_drivers
from fleetward_agent.software import BUILT_IN, OneFile, UpgradeTable, read_software
from fleetward_agent.walk import DOORS, NEXT, Stage
from fleetward_broker.pkcs11_uri import read_uri

README = Path(fleetward_agent.__file__).parents[1] / "README.md"


def drawn() -> str:
    """Return the walk as the README shows it."""
    rows = ["| stage | connects as | then |", "|---|---|---|"]
    for stage in Stage:
        door = DOORS[stage]
        name = "-" if door is None else ("`f-<id>`" if door.role == "factory" else "`<id>`")
        dates = "" if door is None or door.strict else ", dates unchecked"
        steps = ", ".join(f"{step} -> `{then}`" for step, then in NEXT[stage].items())
        rows.append(f"| `{stage}` | {name}{dates} | {steps} |")
    return "\n".join(rows)


def test_the_readme_shows_the_walk_as_it_is() -> None:
    assert drawn() in README.read_text()


def drawn_plug() -> str:
    """Return a plug's stands as the README shows them."""
    rows = ["| stand | then |", "|---|---|"]
    for stand in plug.Stand:
        moves = ", ".join(f"{move} -> `{then}`" for move, then in plug.NEXT[stand].items())
        rows.append(f"| `{stand}` | {moves or '-'} |")
    return "\n".join(rows)


def test_the_readme_shows_a_plugs_stands_as_they_are() -> None:
    assert drawn_plug() in README.read_text()


def test_the_readmes_driver_table_is_one_that_is_read() -> None:
    example, _, __ = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    acme, iris = read_drivers(tomllib.loads(example)["driver"], README, example)

    assert (acme.name, acme.folder_of({"serialNo": "A17"})) == ("acme", "/var/lib/fleetward-agent/scanners/A17")
    assert iris.keys_of({"serialNo": "A17"})["ftm"].startswith("pkcs11:token=A17;object=ftm?")


def test_the_readmes_uris_of_keys_are_ones_that_are_read() -> None:
    _, __, example = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    ftm, device = (read_uri(tomllib.loads(example)["keys"][name]) for name in ("ftm", "device"))

    assert (ftm.token, ftm.label, ftm.digest) == ("scanner", "ftm", "inside")
    assert (device.token, device.label, device.id) == ("scanner", "", b"")


def test_the_readmes_software_is_read_and_every_key_of_it_named() -> None:
    text = README.read_text()
    _, example, __ = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    said = tomllib.loads(example)
    upgrade = UpgradeTable(**said["upgrade"])
    (firmware,) = read_software(said["software"], README, example, upgrade)

    assert (firmware.name, type(firmware)) == ("firmware", OneFile)
    assert [one.name for kind in BUILT_IN.values() for one in fields(kind) if f"`{one.name}`" not in text] == []
    assert [one.name for one in fields(UpgradeTable) if f"{one.name} = " not in example] == []
    assert [name for name in BUILT_IN if f"| `{name}` |" not in text] == []


def test_the_readme_names_every_key_of_a_driver_and_every_fact() -> None:
    text = README.read_text()

    assert [one.name for one in fields(Driver) if f"`{one.name}`" not in text] == []
    assert [fact for fact in FACTS if f"`{fact}`" not in text] == []
