"""Providers that are ready: their keys cost most of a second, so each kind is made once in a process, and copied."""

import atexit
import shutil
import tempfile
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from fleetward_sandbox.provision import Order, provision
from fleetward_schemas.identity import Certification
from fleetward_server.init import Wish, make_provider


def ready_provider(folder: Path, wish: Wish, began: datetime | None = None) -> Path:
    """Put a provider into ``folder`` whose PKI began then, or a while ago; return its configuration's path.

    Two of one kind share their keys: where they are to be strangers to each other, make them anew.
    """
    if wish.hsm or wish.ceremonies:
        # What a token keeps cannot be copied.
        return make_provider(folder, wish, began or datetime.now(UTC))
    made = _made(wish, began)
    shutil.copytree(made.parent, folder, dirs_exist_ok=True)
    return folder / made.name


def ready_devices(folder: Path) -> Path:
    """Put a provider into ``folder`` that knows an L1 and an L0; their folders are ``devices/<level>``."""
    return Path(shutil.copytree(_made_with_devices(), folder))


@cache
def _made(wish: Wish, began: datetime | None) -> Path:
    return make_provider(_kept(), wish, began or datetime.now(UTC))


@cache
def _made_with_devices() -> Path:
    folder = ready_provider(_kept(), Wish(port=0)).parent
    for number, level in enumerate((Certification.L1, Certification.L0), 1):
        provision(folder, Order(1, folder / "devices" / level, level, first=number))
    return folder


def _kept() -> Path:
    """Return a folder that lasts as long as the process."""
    folder = Path(tempfile.mkdtemp(prefix="fleetward-ready-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
