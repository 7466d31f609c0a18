"""The server's client id: kept, and made anew where what was kept can be none."""

from pathlib import Path

import pytest

from fleetward_server.client_id import FILE, client_id_of


def test_it_is_kept(tmp_path: Path) -> None:
    assert client_id_of(tmp_path) == client_id_of(tmp_path)


@pytest.mark.parametrize("torn", [b"", b"server-", b"server-0123", b"\xff\xfe", b"view-1-0123456789abcdef0123"])
def test_a_torn_one_is_made_anew(tmp_path: Path, torn: bytes) -> None:
    (tmp_path / FILE).write_bytes(torn)
    made = client_id_of(tmp_path)
    assert made.startswith("server-")
    assert len(made) == 39
    assert client_id_of(tmp_path) == made
