"""Encryption certificates: from each source over real TLS, believed only under MOSIP's anchors, kept while good."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from fleetward_sandbox.mosip.pki import pem
from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_sandbox.mosip.serve import Served
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.identity import Environment
from fleetward_schemas.jws import split
from fleetward_schemas.moment import show
from fleetward_server.mosip.encryption import EncryptionCertificate
from fleetward_server.mosip.settings import Profile, Source
from tests.live.mosiphouse import START, Clock, Office, fresh, office
from tests.mosip import authority

pytestmark = pytest.mark.live
DOMAIN, ENV = "https://id.example.org", Environment.DEVELOPER
ONLINE = (Source.AS_SPECIFIED, Source.IDA, Source.KEYMANAGER)


@pytest.fixture
def opened(tmp_path: Path, served: Served, clock: Clock) -> Iterator[Any]:
    """Open an office that looks in the sources given."""
    made: list[Office] = []

    def open_one(*sources: Source, **changes: Any) -> Office:
        fresh(served.mosip, clock)
        context = office(
            tmp_path, served, clock, Profile.CRYPTO_ONLY, domain_uris=(DOMAIN,), encryption=sources, **changes
        )
        made.append(context.__enter__())
        contexts.append(context)
        return made[-1]

    contexts: list[Any] = []
    yield open_one
    for context in contexts:
        context.__exit__(None, None, None)


def kept(here: Office) -> EncryptionCertificate:
    row = here.store.encryption_certificate(ENV, DOMAIN)
    assert row is not None
    return row


def fetch(here: Office, anchors: MosipAnchors | None = None) -> EncryptionCertificate:
    assert here.fetching(anchors).step(ENV, here.clock.now)
    return kept(here)


@pytest.mark.parametrize("source", ONLINE)
def test_each_source_gives_the_certificate_and_it_is_kept(opened, source):
    here = opened(source)
    row = fetch(here)
    own = here.mosip.pki.leaf("encryption").certificate
    assert (row.source, row.code) == (source, None)
    assert row.thumbprint == own.fingerprint(SHA256()).hex().upper()
    assert row.usable(here.clock.now)
    assert not here.fetching().step(ENV, here.clock.now)
    (link,) = here.store.history(DOMAIN)
    assert (link.entry.action, link.entry.detail) == ("encryption-certificate", row.thumbprint)


def test_a_file_is_a_source_too(opened, tmp_path):
    here = opened(Source.FILE, encryption_file="fir.pem")
    assert fetch(here).code == "no-file"
    (tmp_path / "fir.pem").write_bytes(pem(here.mosip.pki.leaf("encryption").certificate))
    here.clock.go(hours=1)
    assert fetch(here).source == "file"
    assert here.mosip.asked == {}


def test_the_request_is_as_written_with_its_moment_inside_the_signature(opened, monkeypatch):
    here = opened(Source.AS_SPECIFIED)
    seen = []
    act = here.mosip.encryption_certificates
    app_sees = lambda request, now: (seen.append(request), act(request, now))[1]  # noqa: E731
    monkeypatch.setattr(here.mosip, "encryption_certificates", app_sees)
    here.served.stop()
    here.served.start()
    fetch(here)
    token = split(seen[0]["data"].encode())
    assert token.payload == b'{"env":"Developer","domainUri":"https://id.example.org"}'
    assert token.header["timestamp"] == show(START)
    assert token.header["typ"] == "JWT"


def test_the_next_source_is_asked_when_one_has_none(opened):
    here = opened(Source.AS_SPECIFIED, Source.IDA)
    here.mosip.domains = set()
    assert fetch(here).source == "ida"
    assert set(here.mosip.asked.values()) == {1}


def test_what_no_source_has_is_told_by_the_first_ones_code(opened):
    here = opened(Source.AS_SPECIFIED, Source.KEYMANAGER, application_id="NOBODY")
    here.mosip.domains = set()
    row = fetch(here)
    assert (row.der, row.code, row.failures) == (None, "KER-KMS-002", 1)
    assert row.detail is not None
    assert row.detail.startswith("encryptioncertficates: ")


def test_one_object_where_an_array_belongs_is_read(opened):
    here = opened(Source.AS_SPECIFIED)
    here.mosip.quirks.set(Quirk.SINGLE_CERTIFICATE)
    assert fetch(here).usable(START)


@pytest.mark.parametrize("source", ONLINE)
@pytest.mark.parametrize("quirk", [Quirk.EXPIRED_CERTIFICATE, Quirk.FOREIGN_CERTIFICATE, Quirk.NOT_MINIMAL])
def test_a_certificate_that_is_none_of_mosips_or_over_is_refused_and_the_old_one_stays(opened, source, quirk):
    here = opened(source)
    before = fetch(here)
    here.clock.go(days=1)
    here.mosip.quirks.set(quirk)
    row = fetch(here)
    assert (row.der, row.code) == (before.der, "bad-certificate")
    assert row.usable(here.clock.now)
    here.mosip.quirks.clear()
    here.clock.go(hours=1)
    assert fetch(here).code is None


def test_a_certificate_in_base64url_as_sbi_has_it_is_read(opened):
    here = opened(Source.AS_SPECIFIED)
    here.mosip.quirks.set(Quirk.URL_BASE64)
    assert fetch(here).usable(START)


@pytest.mark.parametrize("quirk", [Quirk.FORGED, Quirk.EXPIRED_SIGNER, Quirk.THUMBPRINT_ONLY, Quirk.UNSIGNED])
def test_an_answer_that_mosip_did_not_sign_brings_nothing(opened, quirk):
    here = opened(Source.AS_SPECIFIED)
    here.mosip.quirks.set(quirk)
    row = fetch(here)
    assert (row.der, row.code) == (None, "bad-certificate")


def test_a_providers_certificate_is_no_encryption_certificate_though_mosip_signed_it(opened, tmp_path):
    here = opened(Source.FILE, encryption_file="fir.pem")
    own = here.mosip.pki.adopt(authority("device", START).certificate, START)
    (tmp_path / "fir.pem").write_bytes(pem(own))
    row = fetch(here)
    assert (row.der, row.code) == (None, "bad-certificate")
    assert "not for encryption" in (row.detail or "")


def test_a_partner_whom_mosip_certified_is_not_whom_biometrics_are_encrypted_for(opened, tmp_path):
    here = opened(Source.FILE, encryption_file="fir.pem")
    (tmp_path / "fir.pem").write_bytes(pem(here.mosip.pki.partner("Bank", START).certificate))
    row = fetch(here)
    assert (row.der, row.code) == (None, "bad-certificate")
    assert "a partner's, of Bank" in (row.detail or "")
    (tmp_path / "fir.pem").write_bytes(pem(here.mosip.pki.leaf("encryption").certificate))
    here.clock.now = row.next_at
    assert fetch(here).source == Source.FILE


@pytest.mark.parametrize("quirk", [Quirk.PARTNER_CERTIFICATE, Quirk.PARTNER_SIGNER])
def test_a_partner_speaks_not_for_mosip(opened, quirk):
    here = opened(Source.AS_SPECIFIED)
    here.mosip.quirks.set(quirk, 1)
    row = fetch(here)
    assert (row.der, row.code) == (None, "bad-certificate")
    here.clock.now = row.next_at
    assert fetch(here).source == Source.AS_SPECIFIED


@pytest.mark.parametrize(("names", "source"), [(("ida",), "ida"), (("pms",), None)])
def test_an_operator_may_say_who_alone_certifies(opened, names, source):
    here = opened(Source.IDA)
    anchors = MosipAnchors.of_pem(b"".join(pem(here.mosip.pki.leaf(name).certificate) for name in names))
    assert fetch(here, anchors).source == source


def test_it_is_fetched_anew_each_day_and_as_its_end_comes_near(opened):
    here = opened(Source.IDA)
    row = fetch(here)
    assert row.next_at == START + timedelta(days=1)
    assert row.not_after is not None
    for left, wait in ((timedelta(days=7, hours=12), timedelta(hours=12)), (timedelta(days=3), timedelta(hours=1))):
        here.clock.now = row.not_after - left
        here.mosip.tokens.life_s = 300
        assert fetch(here).next_at == here.clock.now + wait


def test_mosip_away_leaves_what_is_there_until_it_ends(opened):
    here = opened(Source.IDA)
    before = fetch(here)
    here.mosip.quirks.set(Quirk.UNAVAILABLE)
    waits = []
    for _ in range(8):
        here.clock.now = kept(here).next_at
        row = fetch(here)
        waits.append((row.next_at - here.clock.now).total_seconds())
        assert (row.der, row.code, row.usable(here.clock.now)) == (before.der, "bad-status", True)
    assert waits == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    assert not row.usable(replace(row).not_after)


def test_a_hanging_source_is_left_in_time(opened):
    here = opened(Source.IDA, Source.KEYMANAGER)
    here.hurry()
    here.mosip.quirks.set(Quirk.HANG, 1)
    assert fetch(here).source == "keymanager"
