"""``[releases]`` of ``fleetward.toml``: where the bytes of releases are served, and the keys of the two online roles.

Source: S7; wire, section "Upgrades" 1 and 6.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import SCHEME, read_uri

SHOWN = ("required", "optional")
ONLINE_KEYS = ("snapshot_key", "timestamp_key")


@dataclass(frozen=True, slots=True)
class ReleasesTable:
    """listen: ``host:port`` where the bytes are served, port 0: any free one; connections: at once.

    Left out, it is beside the broker, on port 8884, or any free one where the broker's is. base_url: where devices get
    the bytes instead: a copy of ``releases/targets`` that others serve.
    client_certificates: ``required`` or ``optional``, of whoever asks for bytes. snapshot_key, timestamp_key: URIs, as
    in ``[keys]``. targets_days: how long what the release key signs is good for.
    """

    listen: str = ""
    base_url: str = ""
    client_certificates: str = "required"
    connections: int = 256
    snapshot_key: str = "file:releases/keys/snapshot.key.pem"
    timestamp_key: str = "file:releases/keys/timestamp.key.pem"
    targets_days: int = 90


def problems(table: ReleasesTable, folder: Path) -> Iterator[str]:
    """Yield what is well-formed and unlawful. folder: of the configuration."""
    host, _, port = table.listen.rpartition(":")
    if table.listen and not (host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        yield f"listen = {table.listen!r}: expected host:port"
    if table.base_url and not table.base_url.startswith("https://"):
        yield f"base_url = {table.base_url!r}: expected https://..."
    if table.client_certificates not in SHOWN:
        yield f"client_certificates = {table.client_certificates!r}: expected one of {', '.join(SHOWN)}"
    for name, low, high in (("connections", 1, 100_000), ("targets_days", 2, 365)):
        if not low <= getattr(table, name) <= high:
            yield f"{name} = {getattr(table, name)}: expected {low}..{high}"
    for name in ONLINE_KEYS:
        uri = getattr(table, name)
        try:
            if uri.startswith(SCHEME):
                read_uri(uri, folder)
        except KeyUnavailable as problem:
            yield f"{name}: {problem}"
