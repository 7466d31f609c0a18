"""The drawing in the README is the table in the code."""

from pathlib import Path

import fleetward_agent
from fleetward_agent.walk import DOORS, NEXT, Stage

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
