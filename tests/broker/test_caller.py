"""The caller: who a certificate stands for, asked of certificates that passed TLS and of some that could not have."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.embedded.caller import Revocations, identify, read_revocations
from fleetward_broker.profiles import Profile
from fleetward_broker.tls import CredentialsUnusable
from fleetward_schemas.certificates import Unit
from fleetward_schemas.errors import Code, Refused
from tests.broker.sessions import DEVICE
from tests.live.brokerhouse import Pki

DAY = timedelta(days=1)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


def issued(pki: Pki, name: str, unit: Unit, profile: Profile = profiles.TRANSPORT) -> bytes:
    issuer = pki.authorities[unit]
    subject = profiles.Subject(name, "Acme")
    leaf = profiles.issue(profile, subject, issuer.key.public_key(), issuer, start=pki.now - DAY)
    return leaf.public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("name", "unit"),
    [(DEVICE, Unit.DEVICE), (f"f-{DEVICE}", Unit.FACTORY), ("server", Unit.SERVICE), ("view-2", Unit.SERVICE)],
)
def test_a_name_counts_under_its_own_authority_alone(pki, name, unit):
    assert identify(issued(pki, name, unit), Revocations(), pki.now).principal.name == name
    for other in set(Unit) - {unit}:
        with pytest.raises(Refused) as refused:
            identify(issued(pki, name, other), Revocations(), pki.now)
        assert refused.value.code is Code.NOT_ALLOWED


@pytest.mark.parametrize("name", [f"sign-{DEVICE}", "sign-server", "localhost", DEVICE[1:], DEVICE.upper()])
def test_a_name_that_spells_no_principal_is_nobody(pki, name):
    with pytest.raises(Refused, match="names no principal"):
        identify(issued(pki, name, Unit.DEVICE), Revocations(), pki.now)


@pytest.mark.parametrize("purposes", [(), profiles.DEVICE.purposes, profiles.SERVER_TLS.purposes])
def test_a_certificate_must_be_meant_for_tls_clients(pki, purposes):
    with pytest.raises(Refused, match="not for TLS clients"):
        identify(
            issued(pki, DEVICE, Unit.DEVICE, replace(profiles.TRANSPORT, purposes=purposes)), Revocations(), pki.now
        )


def test_a_certificate_counts_while_it_is_valid(pki):
    der = issued(pki, DEVICE, Unit.DEVICE)
    for days in (-1, 0, 29):
        assert identify(der, Revocations(), pki.now + days * DAY).principal.name == DEVICE
    for days in (-2, 30):
        with pytest.raises(Refused, match="not valid now"):
            identify(der, Revocations(), pki.now + days * DAY)


def test_a_revoked_serial_counts_for_its_own_issuer_alone(pki):
    der, other = issued(pki, DEVICE, Unit.DEVICE), issued(pki, DEVICE, Unit.DEVICE)
    serial = identify(der, Revocations(), pki.now).serial
    elsewhere = Revocations(frozenset({(b"another issuer", serial[1])}))
    assert identify(der, elsewhere, pki.now).serial == serial
    revoked = Revocations(frozenset({serial}))
    assert identify(other, revoked, pki.now).principal.name == DEVICE
    with pytest.raises(Refused, match="revoked"):
        identify(der, revoked, pki.now)


def test_no_certificate_is_nobody(pki):
    with pytest.raises(Refused):
        identify(b"", Revocations(), pki.now)


def test_revocations_are_read_from_every_list(pki):
    badge = pki.badge(DEVICE)
    pki.revoke(badge)
    lists = [pki.folder / f"{unit}.crl.pem" for unit in Unit]
    assert [serial for _, serial in read_revocations(lists).serials] == [badge.serial]


@pytest.mark.parametrize("content", [None, b"nonsense"])
def test_a_list_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "x.crl.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CredentialsUnusable, match=str(path)):
        read_revocations([path])
