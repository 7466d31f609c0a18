"""Promises of certificates: role, path, strength and validity, before a key is believed."""

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward_broker import profiles
from fleetward_broker.profiles import Issuer, Subject
from fleetward_sandbox.vector_pki import BORN, NOW, PROVIDER, der
from fleetward_schemas import certificates
from fleetward_schemas.certificates import Anchors, Unit, server_signer
from fleetward_schemas.errors import Code, Refused

DAY = timedelta(days=1)


def code_of(function, *arguments):
    with pytest.raises(Refused) as refusal:
        function(*arguments)
    return refusal.value.code


@pytest.fixture(scope="module")
def own(cast):
    return Anchors((cast.pki.root.certificate,))


def leaf(cast, profile=profiles.SERVER_SIGNER, *, name="sign-server", issuer=None, start=BORN, end=None):
    made = profiles.issue(
        profile, Subject(name, PROVIDER), cast.server.key.public_key(), issuer or cast.pki.service, start=start, end=end
    )
    return (der(made), der((issuer or cast.pki.service).certificate))


def test_a_verified_path_tells_name_unit_and_validity(cast, own):
    chain = own.verify(cast.device_a.chain, NOW)
    assert (chain.name, chain.unit) == (f"sign-{cast.id_a}", Unit.DEVICE)
    assert (chain.not_before, chain.not_after) == (BORN, BORN + 30 * DAY)
    assert chain.thumbprint == certificates.thumbprint(cast.device_a.chain[0])


def test_a_path_is_valid_between_its_ends_and_not_beyond(cast, own):
    chain = own.verify(cast.server.chain, NOW)
    assert chain.valid_at(chain.not_before)
    assert chain.valid_at(chain.not_after)
    assert not chain.valid_at(chain.not_before - timedelta(seconds=1))
    assert not chain.valid_at(chain.not_after + timedelta(seconds=1))


@pytest.mark.parametrize("now", [BORN - timedelta(seconds=1), BORN + 8 * DAY])
def test_a_path_outside_its_validity_leads_nowhere(cast, own, now):
    assert code_of(own.verify, cast.server.chain, now) is Code.UNKNOWN_SIGNER


def test_a_path_to_another_root_leads_nowhere(cast):
    other = Anchors((cast.anchor.certificate,))
    assert code_of(other.verify, cast.server.chain, NOW) is Code.UNKNOWN_SIGNER
    assert code_of(Anchors(()).verify, cast.server.chain, NOW) is Code.UNKNOWN_SIGNER


def test_one_to_three_certificates_make_a_path(cast, own):
    assert code_of(own.verify, (), NOW) is Code.MALFORMED
    assert code_of(own.verify, cast.server.chain * 2, NOW) is Code.MALFORMED
    assert own.verify((*cast.server.chain, der(cast.pki.root.certificate)), NOW).name == "sign-server"


def test_an_authority_signs_no_messages(cast, own):
    assert code_of(own.verify, cast.server.chain[1:], NOW) is Code.UNKNOWN_SIGNER


def test_a_leaf_certifies_nobody(cast, own):
    below = leaf(cast, issuer=Issuer(x509.load_der_x509_certificate(cast.server.chain[0]), cast.server.key))
    assert code_of(own.verify, (*below, cast.server.chain[1]), NOW) is Code.UNKNOWN_SIGNER


def test_an_issuing_ca_makes_no_further_ca(cast, own):
    key = cast.ring.rsa("attacker-rsa")
    subject = Subject("Service CA", PROVIDER, Unit.SERVICE)
    made = profiles.issue(profiles.ISSUING, subject, key.public_key(), cast.pki.device, start=BORN)
    path = (*leaf(cast, issuer=Issuer(made, key)), der(cast.pki.device.certificate))
    assert code_of(own.verify, path, NOW) is Code.UNKNOWN_SIGNER


@pytest.mark.parametrize("left_out", ["usage", "basic", "authority", "subject", "purpose", "names"])
def test_a_leaf_of_ours_has_every_extension_of_its_profile(cast, own, left_out):
    assert own.verify(bare(cast, ()), NOW).name == "sign-server"
    assert code_of(own.verify, bare(cast, (left_out,)), NOW) is Code.UNKNOWN_SIGNER


def bare(cast, without):
    """Return a chain whose leaf lacks some extensions."""
    whole = x509.load_der_x509_certificate(leaf(cast)[0])
    kinds = {
        "usage": x509.KeyUsage,
        "basic": x509.BasicConstraints,
        "authority": x509.AuthorityKeyIdentifier,
        "subject": x509.SubjectKeyIdentifier,
        "purpose": x509.ExtendedKeyUsage,
        "names": x509.SubjectAlternativeName,
    }
    builder = x509.CertificateBuilder(
        whole.issuer, whole.subject, whole.public_key(), 7, whole.not_valid_before_utc, whole.not_valid_after_utc
    )
    for extension in whole.extensions:
        if not any(isinstance(extension.value, kinds[name]) for name in without):
            builder = builder.add_extension(extension.value, extension.critical)
    return der(builder.sign(cast.pki.service.key, hashes.SHA256())), der(cast.pki.service.certificate)


def test_a_foreign_chip_needs_no_profile_of_ours(cast):
    foreign = Anchors((cast.anchor.certificate,), own=False)
    assert foreign.verify(cast.ftm_a.chain, NOW).key == cast.ftm_a.key.public_key()


def test_a_foreign_authority_is_no_chip(cast):
    foreign = Anchors((cast.pki.root.certificate,), own=False)
    assert code_of(foreign.verify, (der(cast.pki.service.certificate),), NOW) is Code.UNKNOWN_SIGNER


@pytest.mark.parametrize("title", ["rsa-1024", "p-256"])
def test_a_weak_leaf_is_a_bad_algorithm_even_under_our_own_ca(cast, own, title):
    made = cast.ring.certificate(f"factory-b-{title}", pytest.fail)
    assert code_of(own.verify, (der(made), cast.factory_b.chain[1]), NOW) is Code.BAD_ALG
    assert own.verify(cast.factory_b.chain, NOW).unit is not None


def test_a_weak_authority_is_a_bad_algorithm(cast, own):
    weak = cast.ring.certificate("factory-b-p-256", pytest.fail)
    assert code_of(own.verify, (cast.server.chain[0], der(weak)), NOW) is Code.BAD_ALG


def test_the_server_signs_by_name_unit_and_purpose(cast, own):
    assert server_signer(own.verify(cast.server.chain, NOW)).name == "sign-server"


@pytest.mark.parametrize(
    ("profile", "name", "unit"),
    [
        (profiles.SERVER_SIGNER, "server", "service"),
        (profiles.SERVER_SIGNER, "sign-server", "device"),
        (profiles.SERVER_SIGNER, "sign-server", "factory"),
        (profiles.SERVICE_CLIENT, "sign-server", "service"),
        (profiles.DEVICE, "sign-server", "service"),
    ],
)
def test_nobody_else_signs_for_the_server(cast, own, profile, name, unit):
    chain = own.verify(leaf(cast, profile, name=name, issuer=getattr(cast.pki, unit)), NOW)
    assert code_of(server_signer, chain) is Code.WRONG_SERVER


def test_a_name_said_twice_is_no_name():
    once = x509.NameAttribute(NameOID.COMMON_NAME, "sign-server")
    assert certificates.common_name(x509.Name([once])) == "sign-server"
    assert certificates.common_name(x509.Name([once, x509.NameAttribute(NameOID.COMMON_NAME, "x")])) is None
    assert certificates.unit_of(x509.Name([once])) is None


@pytest.mark.parametrize("purpose", [certificates.SERVER_SIGNING, certificates.DEVICE_SIGNING])
def test_every_reader_of_certificates_can_hold_our_purposes(purpose: x509.ObjectIdentifier) -> None:
    # Go's crypto/x509 among others reads no certificate with an arc of more than 31 bits.
    assert all(int(arc) < 2**31 for arc in purpose.dotted_string.split("."))


def test_a_purpose_is_there_only_when_it_is_named(cast):
    named = x509.load_der_x509_certificate(cast.server.chain[0])
    assert certificates.has_purpose(named, certificates.SERVER_SIGNING)
    assert not certificates.has_purpose(named, certificates.DEVICE_SIGNING)
    assert not certificates.has_purpose(cast.pki.root.certificate, certificates.SERVER_SIGNING)


def test_what_is_no_certificate_is_malformed():
    assert code_of(certificates.read_certificate, b"\x30\x00") is Code.MALFORMED


def test_a_key_has_one_name(cast):
    key = cast.device_a.key.public_key()
    assert certificates.key_thumbprint(key) == certificates.thumbprint(certificates.spki(key))


def test_a_version_nobody_knows_is_malformed(cast):
    changed = bytearray(cast.server.chain[0])
    changed[changed.index(b"\xa0\x03\x02\x01\x02") + 4] = 3
    assert code_of(certificates.read_certificate, bytes(changed)) is Code.MALFORMED


def test_a_name_that_cannot_be_read_is_malformed_at_once(cast):
    changed = cast.server.chain[0].replace(b"\x0c\x0bsign-server", b"\x0c\x0b\xff\xffgn-server")
    assert changed != cast.server.chain[0]
    assert code_of(certificates.read_certificate, changed) is Code.MALFORMED


def test_a_name_of_a_type_that_does_not_fit_is_malformed_at_once(cast):
    changed = cast.server.chain[0].replace(b"\x0c\x0bsign-server", b"\x03\x0bsign-server")
    assert changed != cast.server.chain[0]
    assert code_of(certificates.read_certificate, changed) is Code.MALFORMED


def test_an_extension_that_stands_twice_gives_no_purpose(cast):
    whole = cast.server.chain[0]
    # The authority key identifier's OID becomes the subject key identifier's: one OID twice.
    twice = x509.load_der_x509_certificate(whole.replace(b"\x06\x03\x55\x1d\x23", b"\x06\x03\x55\x1d\x0e"))
    assert not certificates.has_purpose(twice, certificates.SERVER_SIGNING)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1), st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_makes_another_certificate_and_none_breaks_the_reader(cast, own, which, place, flip):
    chain = [bytearray(one) for one in cast.server.chain]
    chain[which][place % len(chain[which])] ^= flip
    try:
        believed = own.verify(tuple(bytes(one) for one in chain), NOW)
    except Refused as refusal:
        assert refusal.code in {Code.MALFORMED, Code.BAD_ALG, Code.UNKNOWN_SIGNER}  # noqa: PT017
        return
    assert (
        believed.leaf.tbs_certificate_bytes
        == x509.load_der_x509_certificate(cast.server.chain[0]).tbs_certificate_bytes
    )
