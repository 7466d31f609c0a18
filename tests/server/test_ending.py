"""Nothing ends unseen: warnings at 30, 14, 7 and 1 days, each said once. Source: S6; ending.py."""

import logging
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Subject
from fleetward_server.changes import AddCertificates
from fleetward_server.config import load
from fleetward_server.doctor import Finding, Health, examine
from fleetward_server.ending import EndWatch, level, standing_warnings, told, warnings
from fleetward_server.generations import open_issuer
from fleetward_server.init import Wish
from fleetward_server.standing import Role, Standing
from fleetward_server.state import CertificateState, Use
from fleetward_server.store import DeviceEndings, Store, open_store
from tests.ready import ready_provider
from tests.server.register import NOW, certificate, device, kept, made
from tests.server.test_standing import NOW as TODAY

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)
NONE = DeviceEndings(0, 0, {}, 0)


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (30 * DAY + SECOND, None),
        (30 * DAY, 30),
        (14 * DAY + SECOND, 30),
        (14 * DAY, 14),
        (7 * DAY + SECOND, 14),
        (7 * DAY, 7),
        (DAY + SECOND, 7),
        (DAY, 1),
        (SECOND, 1),
        (timedelta(), 0),
        (-DAY, 0),
    ],
)
def test_the_nearest_level_is_told(left: timedelta, expected: int | None) -> None:
    assert level(NOW + left, NOW) == expected


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (40, "until 2026-06-10"),
        (9, "until 2026-05-10: within 14 days"),
        (1, "until 2026-05-02: within 1 day"),
        (-1, ": ended"),
    ],
)
def test_a_level_is_said_in_words(left: int, said: str) -> None:
    assert told(NOW + left * DAY, NOW).endswith(said)


def standing(name: str, end: datetime) -> Standing:
    return Standing(Role.AUTHORITY, name, "in-office", NOW, end, f"CN={name}", "x")


def test_only_what_ends_soon_is_warned_of() -> None:
    own = [standing("far", NOW + 31 * DAY), standing("near", NOW + 6 * DAY), standing("over", NOW - DAY)]
    assert warnings(own, NONE, NOW) == (
        "certificate of authority near: until 2026-05-07: within 7 days",
        "certificate of authority over: until 2026-04-30: ended",
    )


def test_devices_that_are_away_are_no_warning_and_those_that_are_heard_are() -> None:
    away = DeviceEndings(9, 4, {30: 5, 14: 3, 7: 3, 1: 3}, 0)
    assert warnings([], away, NOW) == ()
    assert warnings([], replace(away, there=2), NOW) == (
        "2 devices are heard, and their last certificate ends within 1 day",
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with made(tmp_path) as fresh:
        yield fresh


def ending(store: Store, number: int, *ends: timedelta, **changes: object) -> None:
    """Keep a device with certificates that end after these times. changes: of the certificates."""
    kept(store, device(number, seen_at=NOW - timedelta(hours=1)))
    with store.unit() as unit:
        for turn, left in enumerate(ends):
            row = certificate(f"{number} {turn}", pair=f"{number} {turn}", not_after=NOW + left, **changes)
            row = replace(row, device_id=device(number).id, serial=100 * number + turn)
            unit.apply([AddCertificates((row,))])


def test_devices_are_counted_by_the_last_of_their_certificates(store: Store) -> None:
    ending(store, 1, -DAY)
    ending(store, 2, DAY)
    ending(store, 3, 6 * DAY)
    ending(store, 4, 13 * DAY)
    ending(store, 5, 29 * DAY)
    ending(store, 6, DAY, 40 * DAY)
    ending(store, 7, DAY, use=Use.TRANSPORT)
    ending(store, 8, DAY, state=CertificateState.SUPERSEDED)
    ending(store, 9, DAY, state=CertificateState.REVOKED)
    kept(store, device(10))
    found = store.device_endings(NOW)
    assert found == DeviceEndings(every=6, ended=1, within={30: 4, 14: 3, 7: 2, 1: 1}, there=1)
    assert str(found) == (
        "of 6 devices the last ends: 1 within 1 d, 2 within 7 d, 3 within 14 d, 4 within 30 d; ended: 1"
    )


def test_a_device_that_was_not_heard_for_a_day_is_away(store: Store) -> None:
    ending(store, 2, timedelta(hours=30))
    assert store.device_endings(NOW + timedelta(hours=7)).there == 1
    assert store.device_endings(NOW + timedelta(hours=24)).there == 0
    assert store.device_endings(NOW).there == 0


def test_an_empty_register_is_counted_too(store: Store) -> None:
    assert store.device_endings(NOW) == DeviceEndings(0, 0, {30: 0, 14: 0, 7: 0, 1: 0}, 0)


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Store]:
    ready_provider(tmp_path, Wish(), TODAY)
    with open_store(tmp_path / "server.db") as opened:
        yield opened


def shorten(folder: Path, left: timedelta) -> None:
    """Give the broker a certificate with so much left."""
    service, path = open_issuer(load(folder), "service-ca"), folder / "pki" / "broker.pem"
    key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
    made_anew = profiles.issue(
        profiles.SERVER_TLS,
        Subject("localhost", "Acme", hosts=("localhost",)),
        key,  # type: ignore[arg-type]
        service,
        start=TODAY - 400 * DAY,
        end=TODAY + left,
    )
    path.write_bytes(made_anew.public_bytes(Encoding.PEM))


def test_a_server_says_each_warning_once_and_forgets_what_is_mended(
    provider: Store, caplog: pytest.LogCaptureFixture
) -> None:
    folder, watch = provider.path.parent, EndWatch()
    whole = (folder / "pki" / "broker.pem").read_bytes()
    shorten(folder, 20 * DAY)
    with caplog.at_level(logging.WARNING, "fleetward.server"):
        heard = [watch.look(load(folder), provider, TODAY + n * DAY) for n in (0, 1, 7)]
    assert heard == [True, False, True]
    assert [record.detail.rpartition(": ")[2] for record in caplog.records] == ["within 30 days", "within 14 days"]  # type: ignore[attr-defined]
    (folder / "pki" / "broker.pem").write_bytes(whole)
    assert watch.look(load(folder), provider, TODAY)
    assert watch.warnings == ()


def test_a_certificate_that_cannot_be_read_is_a_warning(provider: Store) -> None:
    (provider.path.parent / "pki" / "service-ca.pem").write_text("lost")
    (said,) = standing_warnings(load(provider.path.parent), provider, TODAY)
    assert "service-ca.pem: not a readable certificate" in said


def finding(folder: Path, part: str) -> Finding:
    (found,) = [one for one in examine(folder) if one.part == part]
    return found


@pytest.mark.parametrize(
    ("left", "health", "said"),
    [
        (40 * DAY, Health.OK, ""),
        (13 * DAY, Health.WARNS, "within 14 days"),
        (timedelta(hours=20), Health.WARNS, "within 1 day"),
        (-DAY, Health.FAILS, "ended"),
    ],
)
def test_the_doctor_warns_before_and_fails_after(provider: Store, left: timedelta, health: Health, said: str) -> None:
    folder = provider.path.parent
    shorten(folder, left)
    found = finding(folder, "certificate of broker")
    assert found.health is health
    assert said in found.detail


def test_the_doctor_counts_devices_and_looks_at_ftm_roots(provider: Store) -> None:
    folder = provider.path.parent
    assert finding(folder, "certificates of devices").health is Health.OK
    kept(provider, device(1, seen_at=TODAY))
    with provider.unit() as unit:
        unit.apply([AddCertificates((certificate("soon", not_after=TODAY + timedelta(hours=3)),))])
    assert finding(folder, "certificates of devices").health is Health.WARNS
