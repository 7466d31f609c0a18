"""The device's end: the management client. It listens on nothing and cannot ask for a capture (C9, S8)."""

from datetime import UTC, datetime

VERSION = "0.1.0"
BUILT = datetime(2025, 1, 1, tzinfo=UTC)
"""A floor of trusted time: no signed answer from before this software existed is believed."""
