"""Our MQTT client id: random, kept in the provider's folder, and never published, so that nobody can take our queue.

It is in every backup: a restored server finds the queue that a broker has kept for it. Source: protocol section 2.
"""

import secrets
from pathlib import Path

from fleetward_broker.durable import write_private

FILE = "server.client-id"
SUFFIX_BYTES = 16


def client_id_of(folder: Path) -> str:
    """Return the client id; the first call makes it."""
    path = folder / FILE
    if not path.exists():
        write_private(path, f"server-{secrets.token_hex(SUFFIX_BYTES)}\n".encode())
    return path.read_text().strip()
