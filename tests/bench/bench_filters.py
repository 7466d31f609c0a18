"""What a filter costs beside a plain page and beside asking Python, and acts on many beside as many single acts.

One register in a file: devices with tags, sightings and the certificates of some rotations. ``FLEETWARD_DEVICES`` sets
another number.
"""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from fleetward_server.changes import AddCertificates
from fleetward_server.mass import MassOperator
from fleetward_server.mass_state import Action, MassWish
from fleetward_server.selection import EVERYTHING, Selection, parse
from fleetward_server.state import Certificate, CertificateState, Device, Use
from fleetward_server.store import Store
from tests.bench.bars import NO_BAR
from tests.server.meaning import Candidate, holds
from tests.server.register import NOW, certificate, device, kept, made
from tests.server.test_operator import CONFIG

COUNT = int(os.environ.get("FLEETWARD_DEVICES", "20000"))
ROTATIONS = 3
SITES = 100
SLICE = 2000
ACTED = 1000
DER = b"x" * 1000
FILTERS = ("tag:site-7", "-tag:site-7 seen:<2h", "make:Acme model:Slap* state:registered", "cert_expires:<3d")


def main() -> None:
    """Print milliseconds of a page and of all ids, for each filter, and devices a second of acts."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "fleetward.toml").write_text(CONFIG)
        with made(folder) as store:
            fill(store)
            lists(store)
        acts(folder)


def fill(store: Store) -> None:
    """Make the register."""
    for begin in range(0, COUNT, SLICE):
        devices = [one_device(number) for number in range(begin, min(begin + SLICE, COUNT))]
        kept(store, *devices)
        with store.unit() as unit:
            unit.apply([AddCertificates(tuple(row for one in devices for row in rows(one, begin)))])


def one_device(number: int) -> Device:
    """Return a device with a tag, seen some hours ago."""
    return device(number, tags=(f"site-{number % SITES}",), seen_at=NOW - timedelta(hours=number % 72))


def rows(owner: Device, begin: int) -> Iterator[Certificate]:
    """Yield both certificates of each rotation; the last counts."""
    number = int(owner.identity.serialNo.removeprefix("SN-"))
    for turn in range(ROTATIONS):
        state = CertificateState.CURRENT if turn == ROTATIONS - 1 else CertificateState.SUPERSEDED
        ends = NOW + timedelta(days=number % 30 - 30 * (ROTATIONS - 1 - turn), hours=1)
        for use in Use:
            row = certificate(
                f"{owner.id} {turn} {use}", pair=f"{owner.id} {turn}", use=use, state=state, not_after=ends
            )
            serial = 10 * number + 2 * turn + (use is Use.DEVICE)
            yield replace(row, device_id=owner.id, serial=serial, der=DER, authority=DER)


def lists(store: Store) -> None:
    """Time pages and whole answers."""
    page = best(lambda: store.devices(EVERYTHING, limit=100))
    everybody = [Candidate(one) for one in store.devices(EVERYTHING, limit=COUNT)]
    print(
        f"{COUNT} devices, {2 * ROTATIONS * COUNT} certificates; "
        f"a page of 100 without a filter: {page:.1f} ms ({NO_BAR})"
    )
    for text in FILTERS:
        wanted = parse(text, NOW)
        ids, asked = best(lambda wanted=wanted: store.device_ids(wanted)), len(store.device_ids(wanted))  # type: ignore[misc]
        first = best(lambda wanted=wanted: store.devices(wanted, limit=100))  # type: ignore[misc]
        print(
            f"{text}: a page {first:.1f} ms ({first / page:.1f}x a plain one), all {asked} ids {ids:.1f} ms"
            + python_too(text, wanted, everybody, ids)
            + f" ({NO_BAR})"
        )


def python_too(text: str, wanted: Selection, everybody: list[Candidate], sql_ms: float) -> str:
    """Return what Python alone takes over devices that are read already; it knows no certificates here."""
    if "cert_expires" in text:
        return ""
    took = best(lambda: [one for one in everybody if holds(wanted, one)])
    return f"; Python over all of them, read before: {took:.0f} ms ({took / sql_ms:.1f}x)"


def best(work: Callable[[], object], times: int = 5) -> float:
    """Return milliseconds of the quickest."""
    took = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return 1000 * min(took)


def acts(folder: Path) -> None:
    """Time an act on many beside as many single ones."""
    with MassOperator(folder, "bench") as operator:
        chosen = operator.device_ids(EVERYTHING)[: 2 * ACTED]
        began = time.perf_counter()
        for device_id in chosen[:ACTED]:
            operator.tag(device_id, ["one"], [])
        single = ACTED / (time.perf_counter() - began)
        began = time.perf_counter()
        wish = MassWish(Action.TAG, {"add": ["many"], "remove": []}, "", "")
        operator.continue_mass(operator.begin_mass(wish, chosen[ACTED:]).id)
        many = ACTED / (time.perf_counter() - began)
    print(
        f"an act on {ACTED} devices, resumable: {many:.0f}/s, "
        f"{many / single:.1f}x as many single acts ({single:.0f}/s; {NO_BAR})"
    )


if __name__ == "__main__":
    main()
