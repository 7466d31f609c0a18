"""Packages made for tests, places to install them in, and a process that dies at the n-th thing it does to the disk."""

import gzip
import hashlib
import io
import os
import sys
import tarfile
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event

from fleetward_agent.installers import Package, Place
from fleetward_schemas.strict import b64url
from fleetward_schemas.upgrade import Release

DEAD = 77
FAILED = 78
POINTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.link", "subprocess.Popen"}


def release(raw: bytes, counter: int = 2, name: str = "firmware", url: str = "https://s.example/fw") -> Release:
    hashes = {"sha256": b64url(hashlib.sha256(raw).digest())}
    said = {"name": name, "target": f"acme/{name}-{counter}.bin", "counter": counter, "hashes": hashes, "url": url}
    return Release.read(said | {"length": len(raw)})


def package(folder: Path, raw: bytes, counter: int = 2, name: str = "firmware") -> Package:
    path = folder / f"{name}-{counter}.target"
    path.write_bytes(raw)
    return Package(release(raw, counter, name), path)


def place(folder: Path, **changes: object) -> Place:
    work = folder / "state" / "upgrade" / "firmware"
    work.mkdir(parents=True, exist_ok=True)
    given = {"model": "ACME/F-100", "anchors": folder / "mosip-anchors.pem"} | changes
    return Place(folder, work, Event(), **given)  # type: ignore[arg-type]


def tar(files: Mapping[str, str | bytes], form: str = "w:gz") -> bytes:
    """Return an archive of plain files."""
    return tar_of([(_info(name), _bytes(raw)) for name, raw in files.items()], form)


def tar_of(entries: list[tuple[tarfile.TarInfo, bytes]], form: str = "w:gz") -> bytes:
    """Return an archive, the same bytes whenever it is made: gzip would write down when."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w" if form == "w:gz" else form) as made:  # type: ignore[call-overload]
        for info, raw in entries:
            info.size = len(raw) if info.isreg() else info.size
            made.addfile(info, io.BytesIO(raw))
    return gzip.compress(out.getvalue(), mtime=0) if form == "w:gz" else out.getvalue()


def _info(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.mode = 0o755 if name.endswith(".sh") else 0o644
    return info


def _bytes(raw: str | bytes) -> bytes:
    return raw.encode() if isinstance(raw, str) else raw


def program(path: Path, text: str) -> str:
    """Write a shell program; return its absolute path."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path.absolute())


def dies_at(number: int, act: Callable[[], object]) -> bool:
    """Do ``act`` in a process that dies before its ``number``-th change of the disk; False: it came to its end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        _child(number, act)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in {0, DEAD}, f"the child failed at {number}"
    return code == DEAD


def _child(number: int, act: Callable[[], object]) -> None:
    left = number

    def hook(event: str, words: tuple[object, ...]) -> None:
        nonlocal left
        if event in POINTS or (event == "open" and _writes(words)):
            left -= 1
            if left < 0:
                os._exit(DEAD)

    try:
        sys.addaudithook(hook)
        act()
    except BaseException:  # noqa: BLE001 - a child must end here, whatever comes
        traceback.print_exc()
        os._exit(FAILED)
    os._exit(0)


def _writes(words: tuple[object, ...]) -> bool:
    flags = words[2]
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)) and "/dev/" not in str(words[0])
