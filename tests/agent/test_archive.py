"""A tar archive is unpacked whole, or refused with nothing outside its folder touched."""

import gzip
import os
import tarfile
from pathlib import Path

import pytest

from fleetward_agent.installers import Broken
from fleetward_agent.installers.archive import Caps, unpack
from fleetward_schemas.upgrade import Why
from tests.agent.packages import tar, tar_of

MIB = 1 << 20


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def unpacked(folder: Path, raw: bytes, caps: Caps | None = None) -> Path:
    (folder / "in.tar").write_bytes(raw)
    unpack(folder / "in.tar", folder / "out", caps or Caps())
    return folder / "out"


@pytest.mark.parametrize("form", ["w", "w:gz"])
def test_files_folders_and_inner_links_are_unpacked(tmp_path: Path, form: str) -> None:
    link = entry("bin/now", tarfile.SYMTYPE, linkname="../lib/real.txt")
    raw = tar_of(
        [
            (entry("lib", tarfile.DIRTYPE), b""),
            (link, b""),
            (entry("lib/real.txt", mode=0o4777), b"content" * 100_000),
            (entry("empty"), b""),
            (entry("./bin/run", mode=0o755), b"#!"),
        ],
        form,
    )
    out = unpacked(tmp_path, raw)

    assert (out / "bin/now").read_bytes() == b"content" * 100_000
    assert (out / "empty").read_bytes() == b""
    modes = {name: (out / name).stat().st_mode & 0o7777 for name in ("lib/real.txt", "bin/run", "lib")}
    assert modes == {"lib/real.txt": 0o755, "bin/run": 0o755, "lib": 0o755}


def test_whatever_the_umask_a_file_is_not_written_by_others(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        out = unpacked(tmp_path, tar_of([(entry("plain", mode=0o666), b"x")]))
    finally:
        os.umask(before)

    assert (out / "plain").stat().st_mode & 0o7777 == 0o644


HOSTILE = {
    "path-up": [(entry("../outside"), b"x")],
    "path-up-inside": [(entry("a/../../outside"), b"x")],
    "absolute": [(entry("/tmp/outside"), b"x")],
    "link-up": [(entry("l", tarfile.SYMTYPE, linkname="../outside"), b"")],
    "link-absolute": [(entry("l", tarfile.SYMTYPE, linkname="/etc/passwd"), b"")],
    "write-through-a-link": [(entry("l", tarfile.SYMTYPE, linkname=".."), b""), (entry("l/outside"), b"x")],
    "write-through-a-link-later": [(entry("l/inner"), b"x"), (entry("l", tarfile.SYMTYPE, linkname=".."), b"")],
    "two-links-out": [
        (entry("d/e/x"), b"x"),
        (entry("a", tarfile.SYMTYPE, linkname="d/e"), b""),
        (entry("b", tarfile.SYMTYPE, linkname="a/../../../outside"), b""),
    ],
    "hard-link": [(entry("f"), b"x"), (entry("h", tarfile.LNKTYPE, linkname="f"), b"")],
    "device": [(entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3), b"")],
    "block-device": [(entry("sda", tarfile.BLKTYPE, devmajor=8), b"")],
    "pipe": [(entry("pipe", tarfile.FIFOTYPE), b"")],
    "twice": [(entry("f"), b"1"), (entry("f"), b"2")],
    "deep": [(entry("/".join("d" * 65)), b"x")],
    "name-with-nul": [(entry("pax", pax_headers={"path": "a\0b"}), b"x")],
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_leads_out_or_is_no_file_is_refused(tmp_path: Path, name: str) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()

    with pytest.raises(Broken):
        unpacked(inner, tar_of(HOSTILE[name]))
    assert [path.name for path in tmp_path.iterdir()] == ["inner"]


def test_bytes_are_counted_decompressed(tmp_path: Path) -> None:
    raw = tar({"zeros": bytes(3 * MIB)})
    assert len(raw) < MIB

    with pytest.raises(Broken) as refused:
        unpacked(tmp_path, raw, Caps(size_bytes=2 * MIB))
    assert refused.value.why is Why.STORAGE
    assert sum(path.stat().st_size for path in (tmp_path / "out").iterdir()) <= 2 * MIB


def test_exactly_as_much_as_may_be_is_taken(tmp_path: Path) -> None:
    raw = tar({"zeros": bytes(MIB)})
    size = len(gzip.decompress(raw))

    assert unpacked(tmp_path, raw, Caps(size_bytes=size, entries=1))


def test_a_header_that_claims_more_than_a_header_is_not_read(tmp_path: Path) -> None:
    info = entry("huge", pax_headers={"comment": "x" * (2 * MIB)})

    with pytest.raises(Broken, match="claims more"):
        unpacked(tmp_path, tar_of([(info, b"x")]))


def test_entries_are_counted(tmp_path: Path) -> None:
    raw = tar({f"f{number}": "" for number in range(4)})

    with pytest.raises(Broken, match="more entries"):
        unpacked(tmp_path, raw, Caps(entries=3))


@pytest.mark.parametrize(
    "raw",
    [b"", b"no archive at all", tar({"f": "x" * 5000})[:-900], gzip.compress(b"no tar"), b"\x1f\x8b\x08broken"],
    ids=["empty", "text", "cut", "gzip-of-text", "gzip-broken"],
)
def test_what_is_no_archive_is_refused(tmp_path: Path, raw: bytes) -> None:
    with pytest.raises(Broken):
        unpacked(tmp_path, raw)


def test_a_damaged_header_ends_it(tmp_path: Path) -> None:
    raw = bytearray(tar({"first": "1", "second": "2"}, "w"))
    raw[1024 + 150] ^= 0xFF

    with pytest.raises(Broken):
        unpacked(tmp_path, bytes(raw))
