"""Our MQTT client id: random, kept in the provider's folder, and never published, so that nobody can take our queue.

It is in every backup: a restored server finds the queue that a broker has kept for it. Source: protocol section 2.
"""

import re
import secrets
from pathlib import Path

from fleetward_broker.durable import write_private

FILE = "server.client-id"
SUFFIX_BYTES = 16
_SOUND = re.compile(r"server-[A-Za-z0-9]{16,64}", re.ASCII)


def client_id_of(folder: Path) -> str:
    """Return the client id; the first call makes it, and so does one that finds no sound one."""
    path = folder / FILE
    kept = path.read_text(errors="replace").strip() if path.exists() else ""
    if not _SOUND.fullmatch(kept):
        # Torn or edited: no broker would take it, and the queue that it names is told again by the devices.
        kept = f"server-{secrets.token_hex(SUFFIX_BYTES)}"
        write_private(path, f"{kept}\n".encode())
    return kept
