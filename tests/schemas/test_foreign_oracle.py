"""OpenSSL's opinion on chains with random flaws: what we take without excuse, it takes in its strictest mode."""

from dataclasses import replace

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import example, given, settings
from hypothesis import strategies as st
from OpenSSL import crypto

from fleetward_schemas.errors import Refused
from fleetward_schemas.foreign import Anchor, ForeignAnchors, Leniency
from tests.chains import CERT_SIGN, DAY, LEAF, MIDDLE, NOW, ROOT, SIGNS, chain

STRICT = crypto.X509StoreFlags.X509_STRICT
STRANGE = ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)
SERVERS = ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),)
CONSTRAINED = ((x509.NameConstraints([x509.DNSName("chips.example")], None), True),)

COMMON = {
    "serial": st.sampled_from([1, 77, 1 << 158, 0, -5]),
    "aki": st.sampled_from(["key", "both", "issuer", "wrong", None]),
    "ski": st.booleans(),
    "bare": st.booleans(),
    "start": st.sampled_from([NOW - 9 * DAY, NOW, NOW + DAY]),
    "end": st.sampled_from([NOW + 9 * DAY, NOW + DAY, NOW - DAY / 2]),
    "more": st.sampled_from([(), (), STRANGE, SERVERS, CONSTRAINED]),
    "usage": st.sampled_from([CERT_SIGN, SIGNS, None]),
    "hash": st.sampled_from(["sha256", "sha256", "sha1"]),
    "ca": st.sampled_from([True, False, None]),
    "critical": st.booleans(),
    "path_length": st.sampled_from([None, 0, 1]),
}


ONE = st.sampled_from(sorted(COMMON)).flatmap(lambda name: COMMON[name].map(lambda value: {name: value}))
# At most two flaws of each certificate, so that many chains hold.
FEW = st.lists(ONE, max_size=2).map(lambda several: {name: value for one in several for name, value in one.items()})
FLAWS = st.tuples(FEW, FEW, FEW)


def openssl_takes(made, flags):
    """Say whether OpenSSL takes a chain at NOW under its last certificate."""
    store = crypto.X509Store()
    store.set_flags(flags)
    store.set_time(NOW.replace(tzinfo=None))
    leaf, *between, root = [crypto.X509.from_cryptography(one.certificate) for one in made]
    store.add_cert(root)
    try:
        crypto.X509StoreContext(store, leaf, between).verify_certificate()
    except crypto.X509StoreContextError:
        return False
    return True


def taken(made, allowed):
    anchors = ForeignAnchors([Anchor(made[-1].certificate, frozenset(allowed))])
    try:
        anchors.verify(tuple(one.der for one in made[:-1]), NOW)
    except Refused:
        return False
    return True


def flawed(flaws):
    return chain(*(replace(recipe, **some) for recipe, some in zip((LEAF, MIDDLE, ROOT), flaws, strict=True)))


def test_both_take_a_chain_without_flaws():
    assert taken(flawed(({}, {}, {})), ())
    assert openssl_takes(flawed(({}, {}, {})), STRICT)


@settings(max_examples=250, deadline=None)
@given(FLAWS)
@example(({}, {"aki": "issuer"}, {"serial": 0}))
@example(({}, {"aki": "both"}, {"serial": -5}))
def test_what_we_take_without_excuse_openssl_takes_in_its_strict_mode(flaws):
    made = flawed(flaws)
    assert openssl_takes(made, STRICT) or not taken(made, ())


@settings(max_examples=250, deadline=None)
@given(FLAWS)
def test_what_we_excuse_openssl_takes_when_it_is_not_strict(flaws):
    made = flawed(flaws)
    # An anchor of version 3 without extensions is the one thing that we may excuse and OpenSSL never does.
    silent = bool(flaws[2].get("bare"))
    assert openssl_takes(made, 0) or silent or not taken(made, Leniency)
