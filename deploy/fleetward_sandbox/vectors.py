"""Write the test vectors: ``python -m fleetward_sandbox.vectors --out schemas/vectors``.

A second run writes the same bytes. Source: schemas/README.md, section "Test vectors".
"""

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fleetward_sandbox import vector_forged, vector_rules, vector_speakers, vector_unlawful, vector_upgrades
from fleetward_sandbox.vector_author import Author
from fleetward_sandbox.vector_cases import Case
from fleetward_sandbox.vector_good import accepted
from fleetward_sandbox.vector_pki import assemble

KEYS = "keys"
WARNING = """TEST ONLY. These private keys are published so that anybody can make the vectors again.
Whatever is signed by them proves nothing. No product of this project ever trusts them.
"""

ENVELOPES = {
    "algorithms": vector_forged.algorithms,
    "headers": vector_forged.headers,
    "encodings": vector_forged.encodings,
    "json-texts": vector_forged.json_texts,
    "servers": vector_speakers.servers,
    "devices": vector_speakers.devices,
    "places": vector_unlawful.places,
    "moments": vector_unlawful.moments,
    "members": vector_unlawful.members,
    "identities": vector_unlawful.identities,
    "bodies": vector_unlawful.bodies,
    "upgrades": vector_upgrades.upgrades,
}
RULES = {
    "device-ids": vector_rules.device_ids,
    "digital-ids": vector_rules.digital_ids,
    "base64url": vector_rules.base64url,
    "json-objects": vector_rules.json_objects,
    "moments": vector_rules.moments,
    "replay-windows": vector_rules.replays,
    "clock-answers": vector_rules.answers,
}


def write(folder: Path) -> list[Path]:
    """Write every file of vectors and return their paths; keys are made only where they are missing."""
    cast = assemble(folder / KEYS)
    (folder / KEYS / "TEST-ONLY.txt").write_text(WARNING)
    good = {case.name: case for case in accepted(Author(cast))}
    written = [_envelopes(folder, "accepted", good.values())]
    written += [_envelopes(folder, name, make(good, cast)) for name, make in ENVELOPES.items()]
    return written + [_write(folder / f"{name}.json", list(make(cast))) for name, make in RULES.items()]


def _envelopes(folder: Path, name: str, cases: Iterable[Case]) -> Path:
    return _write(folder / f"envelopes-{name}.json", [case.document() for case in cases])


def _write(path: Path, cases: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(cases, indent=1) + "\n")
    return path


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m fleetward_sandbox.vectors", description="Write the test vectors.")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to, schemas/vectors")
    write(parser.parse_args().out)


if __name__ == "__main__":
    main()
