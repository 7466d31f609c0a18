"""Promises of chains from elsewhere: what is excused is named and allowed; what makes a path a path never is."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier
from hypothesis import given, settings
from hypothesis import strategies as st

from fleetward_schemas.certificates import Anchors, read_pem_certificates
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.foreign import MEANINGS, Anchor, ForeignAnchors, Leniency, Place, lacks, walk
from tests.chains import CERT_SIGN, DAY, LEAF, MIDDLE, NOW, ROOT, SIGNS, chain, make

ALL = frozenset(Leniency)
BARE = {"bare": True}
V1 = {"bare": True, "version": "v1"}


def flawed(leaf=(), middle=(), root=()):
    return chain(replace(LEAF, **dict(leaf)), replace(MIDDLE, **dict(middle)), replace(ROOT, **dict(root)))


def ders(made):
    return tuple(one.der for one in made)


def verify(made, allowed=ALL, now=NOW):
    """Verify all but the last under the last."""
    return ForeignAnchors([Anchor(made[-1].certificate, frozenset(allowed))]).verify(ders(made[:-1]), now)


def code_of(made, allowed=ALL, now=NOW):
    with pytest.raises(Refused) as refusal:
        verify(made, allowed, now)
    return refusal.value.code


EXCUSED = [
    (Leniency.NEGATIVE_SERIAL, {"leaf": {"serial": -5}}),
    (Leniency.NEGATIVE_SERIAL, {"leaf": {"serial": 0}}),
    (Leniency.NEGATIVE_SERIAL, {"middle": {"serial": -5}}),
    (Leniency.NEGATIVE_SERIAL, {"root": {"serial": -5}}),
    (Leniency.NO_EXTENSIONS, {"leaf": BARE}),
    (Leniency.NO_EXTENSIONS, {"leaf": V1}),
    (Leniency.NO_EXTENSIONS, {"root": BARE}),
    (Leniency.NO_EXTENSIONS, {"root": V1}),
    (Leniency.MISSING_KEY_IDENTIFIERS, {"leaf": {"aki": None}}),
    (Leniency.MISSING_KEY_IDENTIFIERS, {"leaf": {"aki": "issuer"}}),
    (Leniency.MISSING_KEY_IDENTIFIERS, {"middle": {"aki": None}}),
    (Leniency.MISSING_KEY_IDENTIFIERS, {"middle": {"ski": False}}),
    (Leniency.MISSING_KEY_IDENTIFIERS, {"root": {"ski": False}}),
    (Leniency.MISSING_KEY_IDENTIFIERS, {"root": {"aki": "issuer"}}),
    (Leniency.LOOSE_CONSTRAINTS, {"middle": {"critical": False}}),
    (Leniency.LOOSE_CONSTRAINTS, {"root": {"critical": False}}),
    (Leniency.LOOSE_KEY_USAGE, {"middle": {"usage": None}}),
    (Leniency.LOOSE_KEY_USAGE, {"root": {"usage": None}}),
]


def test_every_leniency_has_a_meaning_and_a_case():
    assert MEANINGS.keys() == {leniency for leniency, _ in EXCUSED} == ALL


@pytest.mark.parametrize("leniency", Leniency)
def test_the_wire_says_what_each_leniency_excuses(leniency):
    assert f"| `{leniency}` | " in (Path(__file__).parents[2] / "schemas" / "README.md").read_text()


def test_a_bare_anchor_certified_itself():
    with pytest.raises(Refused, match="perhaps a leaf"):
        lacks(chain(replace(MIDDLE, bare=True), ROOT)[0].certificate, Place.ANCHOR, NOW)
    assert lacks(make(replace(ROOT, bare=True)).certificate, Place.ANCHOR, NOW) == {Leniency.NO_EXTENSIONS}


def test_a_chain_without_flaws_needs_no_leniency():
    chain_ = verify(flawed(), allowed=())
    assert (chain_.name, chain_.leniencies) == ("Chip 1", ())


@pytest.mark.parametrize(("leniency", "flaws"), EXCUSED)
def test_a_flaw_is_refused_unless_its_leniency_is_allowed(leniency, flaws):
    made = flawed(**flaws)
    assert code_of(made, ALL - {leniency}) is Code.UNKNOWN_SIGNER
    assert verify(made, {leniency}).leniencies == (leniency,)


@pytest.mark.parametrize(("leniency", "flaws"), EXCUSED)
def test_the_refusal_names_what_is_lacking(leniency, flaws):
    with pytest.raises(Refused, match=f"needs {leniency}: the anchor allows nothing"):
        verify(flawed(**flaws), ())


def test_a_chain_with_many_flaws_needs_each_leniency():
    made = flawed(leaf=BARE, middle={"critical": False, "usage": None}, root={"serial": -1})
    needed = {Leniency.NO_EXTENSIONS, Leniency.LOOSE_CONSTRAINTS, Leniency.LOOSE_KEY_USAGE, Leniency.NEGATIVE_SERIAL}
    assert verify(made).leniencies == tuple(sorted(needed))
    for one in needed:
        assert code_of(made, needed - {one}) is Code.UNKNOWN_SIGNER


SERVER_ONLY = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
CLIENT_CRITICAL = (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), True)
NAMES_ONLY = (x509.NameConstraints([x509.DNSName("chips.example")], None), True)
STRANGE = (x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True)

INEXCUSABLE = [
    ("an authority that says it is none", Code.UNKNOWN_SIGNER, {"middle": {"ca": False}}),
    ("an authority that does not say it is one", Code.UNKNOWN_SIGNER, {"middle": {"ca": None}}),
    ("an authority between without extensions", Code.UNKNOWN_SIGNER, {"middle": BARE}),
    ("an authority between of version 1", Code.UNKNOWN_SIGNER, {"middle": V1}),
    ("an anchor that says it is none", Code.UNKNOWN_SIGNER, {"root": {"ca": False}}),
    ("an anchor that says other things", Code.UNKNOWN_SIGNER, {"root": {"ca": None}}),
    ("an authority that may sign no certificates", Code.UNKNOWN_SIGNER, {"middle": {"usage": SIGNS}}),
    ("an anchor that may sign no certificates", Code.UNKNOWN_SIGNER, {"root": {"usage": SIGNS}}),
    ("a leaf that is an authority", Code.UNKNOWN_SIGNER, {"leaf": {"ca": True}}),
    ("a leaf that may sign certificates", Code.UNKNOWN_SIGNER, {"leaf": {"usage": CERT_SIGN}}),
    ("an anchor's path length exceeded", Code.UNKNOWN_SIGNER, {"root": {"path_length": 0}}),
    ("an authority for other purposes", Code.UNKNOWN_SIGNER, {"middle": {"more": (SERVER_ONLY,)}}),
    ("critical purposes of an authority", Code.UNKNOWN_SIGNER, {"middle": {"more": (CLIENT_CRITICAL,)}}),
    ("name constraints", Code.UNKNOWN_SIGNER, {"middle": {"more": (NAMES_ONLY,)}}),
    ("name constraints that are not critical", Code.UNKNOWN_SIGNER, {"root": {"more": ((NAMES_ONLY[0], False),)}}),
    ("a critical extension nobody knows", Code.UNKNOWN_SIGNER, {"leaf": {"more": (STRANGE,)}}),
    ("another key named than the issuer's", Code.UNKNOWN_SIGNER, {"leaf": {"aki": "wrong"}}),
    ("another key named than the anchor's own", Code.UNKNOWN_SIGNER, {"root": {"aki": "wrong"}}),
    ("names that do not chain", Code.UNKNOWN_SIGNER, {"leaf": {"issuer_name": "Chip CA 2"}}),
    ("a serial number of 21 bytes", Code.UNKNOWN_SIGNER, {"leaf": {"serial": -(1 << 162)}}),
    ("SHA-1 below the authority", Code.BAD_ALG, {"leaf": {"hash": "sha1"}}),
    ("SHA-1 below the anchor", Code.BAD_ALG, {"middle": {"hash": "sha1"}}),
    ("MD5", Code.BAD_ALG, {"leaf": {"hash": "md5"}}),
    ("a leaf of RSA-1024", Code.BAD_ALG, {"leaf": {"key": "rsa1024 chip"}}),
    ("an authority of RSA-1024", Code.BAD_ALG, {"middle": {"key": "rsa1024 middle"}}),
    ("an anchor of RSA-1024", Code.BAD_ALG, {"root": {"key": "rsa1024 root"}}),
    ("a leaf of P-256", Code.BAD_ALG, {"leaf": {"key": "p256 chip"}}),
    ("an authority of P-256", Code.BAD_ALG, {"middle": {"key": "p256 middle"}}),
    ("an anchor of P-256", Code.BAD_ALG, {"root": {"key": "p256 root"}}),
    ("an authority of Ed25519", Code.BAD_ALG, {"middle": {"key": "ed25519 middle"}}),
    ("a leaf that is over", Code.UNKNOWN_SIGNER, {"leaf": {"end": NOW - DAY}}),
    ("an authority that is not yet", Code.UNKNOWN_SIGNER, {"middle": {"start": NOW + DAY}}),
    ("an anchor that is over", Code.UNKNOWN_SIGNER, {"root": {"end": NOW - DAY}}),
]


@pytest.mark.parametrize(("code", "flaws"), [case[1:] for case in INEXCUSABLE], ids=[case[0] for case in INEXCUSABLE])
def test_what_makes_a_path_is_never_excused(code, flaws):
    assert code_of(flawed(**flaws)) is code
    # The same flaw under an anchor and leaf that need excuses anyway.
    assert code_of(flawed(**{"leaf": {}, **flaws, "root": {"critical": False, **flaws.get("root", {})}})) is code


@pytest.mark.parametrize("leaf", ["rsa2048 chip", "ed25519 chip"])
def test_approved_leaf_keys_are_taken(leaf):
    assert verify(flawed(leaf={"key": leaf}), ()).leniencies == ()


@pytest.mark.parametrize("more", [{"path_length": 1}, {"aki": "key"}, {"aki": "both"}, {"hash": "sha1"}])
def test_an_anchor_may_be_what_anchors_are(more):
    assert verify(flawed(root=more), ()).leniencies == ()


def test_an_anchor_certifies_leaves_itself():
    assert verify(chain(LEAF, ROOT), ()).name == "Chip 1"
    assert verify(chain(replace(LEAF, **V1), replace(ROOT, **V1))).leniencies == (Leniency.NO_EXTENSIONS,)


def test_an_anchor_may_be_handed_in_and_ends_the_path():
    made = flawed(leaf=BARE)
    anchors = ForeignAnchors([Anchor(made[1].certificate, ALL)])
    assert anchors.verify(ders(made), NOW).not_after == NOW + 10 * DAY
    assert verify((*made, made[-1])).leniencies == (Leniency.NO_EXTENSIONS,)


def test_a_leaf_signed_by_another_key_under_the_same_names_is_refused():
    real, forger = flawed(), make(replace(MIDDLE, key="rsa2048 forger"))
    forged = make(replace(LEAF, aki=None), forger)
    assert code_of((forged, *real[1:])) is Code.UNKNOWN_SIGNER
    assert code_of((forged, forger, real[2])) is Code.UNKNOWN_SIGNER
    assert verify((make(replace(LEAF, aki=None), real[1]), *real[1:])).name == "Chip 1"


def test_a_self_signed_look_alike_of_the_anchor_is_no_anchor():
    real, false = flawed(), flawed(root={"key": "rsa2048 forger"})
    assert code_of((*false[:2], real[2])) is Code.UNKNOWN_SIGNER
    anchors = ForeignAnchors([Anchor(real[2].certificate, ALL)])
    with pytest.raises(Refused):
        anchors.verify(ders(false), NOW)


def test_an_anchor_that_ends_before_its_leaves_counts_while_all_are_valid():
    made = flawed(leaf=BARE, root={"end": NOW + DAY})
    chain_ = verify(made)
    assert chain_.not_after == NOW + DAY
    assert chain_.valid_at(NOW + DAY)
    assert code_of(made, now=NOW + DAY + timedelta(seconds=1)) is Code.UNKNOWN_SIGNER
    assert code_of(made, now=NOW - 11 * DAY) is Code.UNKNOWN_SIGNER


def test_a_path_length_counts_the_authorities_below():
    upper = replace(MIDDLE, name="Upper", key="rsa2048 upper", path_length=1)
    assert verify(chain(LEAF, MIDDLE, upper, ROOT), ()).name == "Chip 1"
    assert code_of(chain(LEAF, MIDDLE, replace(upper, path_length=0), ROOT)) is Code.UNKNOWN_SIGNER


def test_three_below_an_anchor_are_the_most():
    second, third = (replace(MIDDLE, name=f"CA {n}", key=f"rsa2048 ca {n}", path_length=None) for n in range(2))
    assert verify(chain(LEAF, MIDDLE, second, ROOT), ()).name == "Chip 1"
    assert code_of(chain(LEAF, MIDDLE, second, third, ROOT)) is Code.MALFORMED
    assert code_of(chain(ROOT)) is Code.MALFORMED


def test_authorities_that_certify_each_other_lead_nowhere():
    left, right = (replace(MIDDLE, name=name, key=f"rsa2048 {name}", path_length=None) for name in ("left", "right"))
    left_by_right, right_by_left = make(left, make(right)), make(right, make(left))
    leaf, root = make(LEAF, left_by_right), make(ROOT)
    assert code_of((leaf, left_by_right, right_by_left, root)) is Code.UNKNOWN_SIGNER
    assert code_of((leaf, left_by_right, left_by_right, root)) is Code.UNKNOWN_SIGNER
    under_it = Anchor(make(right).certificate, ALL)
    with pytest.raises(Refused, match="twice"):
        ForeignAnchors([under_it]).verify(ders((leaf, left_by_right, left_by_right)), NOW)


def test_the_order_is_the_one_in_which_they_certify_each_other():
    leaf, middle, root = flawed()
    second = replace(MIDDLE, name="CA", key="rsa2048 ca 0", path_length=None)
    _, _, upper, _ = chain(LEAF, MIDDLE, second, ROOT)
    assert code_of((leaf, upper, middle, root)) is Code.UNKNOWN_SIGNER
    assert verify((leaf, middle, root)).name == "Chip 1"


def test_an_anchor_is_no_leaf():
    root = make(replace(ROOT, bare=True))
    assert code_of((root, root)) is Code.MALFORMED


def test_what_one_anchor_excuses_is_not_excused_below_another():
    made, other = flawed(leaf=BARE), make(replace(ROOT, name="Other", key="rsa2048 other"))
    anchors = ForeignAnchors([Anchor(made[2].certificate), Anchor(other.certificate, ALL)])
    with pytest.raises(Refused, match="the anchor allows nothing"):
        anchors.verify(ders(made[:2]), NOW)


def test_of_two_anchors_of_one_name_the_one_that_certified_counts():
    made, renewed = flawed(leaf=BARE), make(replace(ROOT, key="rsa2048 renewed"))
    anchors = [Anchor(renewed.certificate, ALL), Anchor(made[2].certificate, ALL)]
    for order in (anchors, anchors[::-1]):
        assert ForeignAnchors(order).verify(ders(made[:2]), NOW).name == "Chip 1"


def test_without_anchors_nothing_is_believed():
    with pytest.raises(Refused) as refusal:
        ForeignAnchors([]).verify(ders(flawed()[:2]), NOW)
    assert refusal.value.code is Code.UNKNOWN_SIGNER


def test_each_certificate_tells_what_it_lacks():
    made = flawed(leaf=BARE, middle={"serial": -3})
    told = walk([one.certificate for one in made], NOW)
    assert told == ({Leniency.NO_EXTENSIONS}, {Leniency.NEGATIVE_SERIAL}, frozenset())
    assert lacks(made[1].certificate, Place.ANCHOR, NOW) == {Leniency.NEGATIVE_SERIAL}


def test_numbers_of_a_key_that_are_not_minimal_are_malformed():
    leaf, middle, root = flawed(leaf={"key": "rsa2048 chip"})
    # The modulus gets a second leading zero, every length around it grows by one: invalid DER, refused as such.
    modulus = leaf.der.index(b"\x02\x82\x01\x01\x00")
    broken = bytearray(leaf.der)
    broken[modulus + 3] += 1
    broken[modulus + 4 : modulus + 4] = b"\x00"
    for at in (modulus - 2, modulus - 7, modulus - 26, 6, 2):
        broken[at : at + 2] = (int.from_bytes(broken[at : at + 2], "big") + 1).to_bytes(2, "big")
    with pytest.raises(Refused) as refusal:
        ForeignAnchors([Anchor(root.certificate, ALL)]).verify((bytes(broken), middle.der), NOW)
    assert refusal.value.code is Code.MALFORMED
    assert "key" in refusal.value.detail


def test_certificates_in_pem_keep_their_order_and_negative_serials_pass():
    made = flawed(leaf={"serial": -5})
    pem = b"".join(one.certificate.public_bytes(Encoding.PEM) for one in made)
    assert read_pem_certificates(pem) == tuple(one.certificate for one in made)
    with pytest.raises(Refused):
        read_pem_certificates(b"")


_SOME = {
    "leaf": [{}, BARE, V1, {"aki": None}, {"aki": "wrong"}, {"aki": "both"}, {"serial": 0}, {"usage": CERT_SIGN}],
    "middle": [
        {},
        {"aki": None},
        {"aki": "issuer"},
        {"ski": False},
        {"critical": False},
        {"usage": None},
        {"ca": False},
    ],
    "root": [{}, BARE, {"serial": -5}, {"aki": "issuer"}, {"aki": "wrong"}, {"ski": False}, {"usage": None}],
}


@settings(max_examples=120, deadline=None)
@given(st.fixed_dictionaries({place: st.sampled_from(some) for place, some in _SOME.items()}))
def test_what_needs_no_excuse_is_what_the_librarys_verifier_takes(flaws):
    made = flawed(**flaws)
    try:
        believed = verify(made, ())
    except Refused:
        return
    library = Anchors((made[-1].certificate,), own=False)
    assert believed == library.verify(ders(made[:-1]), NOW)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 1), st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_makes_another_certificate_and_none_breaks_the_walk(which, place, flip):
    made = flawed(leaf={"aki": None}, middle={"critical": False})
    changed = [bytearray(one.der) for one in made[:-1]]
    changed[which][place % len(changed[which])] ^= flip
    anchors = ForeignAnchors([Anchor(made[-1].certificate, ALL)])
    try:
        believed = anchors.verify(tuple(map(bytes, changed)), NOW)
    except Refused as refusal:
        assert refusal.code in {Code.MALFORMED, Code.BAD_ALG, Code.UNKNOWN_SIGNER}  # noqa: PT017
        return
    assert believed.leaf.tbs_certificate_bytes == made[0].certificate.tbs_certificate_bytes
