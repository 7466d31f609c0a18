"""MOSIP's own certificates are believed with the flaws they have, and with no other; chains made by hand."""

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509

from fleetward_schemas.encryption import MosipAnchors, encrypts
from fleetward_schemas.errors import Code, Refused
from fleetward_server.mosip.encryption import best
from tests.chains import CERT_SIGN, DAY, NOW, Made, Recipe, chain

ROOT = Recipe("www.mosip.io ROOT", "rsa2048 root", ca=True, usage=None, aki=None)
IDA = Recipe("www.mosip.io IDA", "rsa2048 ida", ca=True, usage=None, aki=None)
FIR = Recipe("www.mosip.io IDA-FIR", "rsa2048 fir", usage=frozenset({"key_encipherment"}), aki=None)


def certificates(*recipes: Recipe) -> list[x509.Certificate]:
    return [made.certificate for made in chain(*recipes)]


def anchored(made: list[x509.Certificate]) -> MosipAnchors:
    return MosipAnchors(made[1:])


def test_a_path_is_found_from_the_leaf_to_the_root():
    made = certificates(FIR, IDA, ROOT)
    assert list(anchored(made).verify(made[0], NOW)) == made


@pytest.mark.parametrize("held", [(1,), (1, 2), (2, 1)])
def test_the_root_the_one_below_or_both_may_be_held_in_any_order(held):
    made = certificates(FIR, IDA, ROOT)
    assert MosipAnchors([made[number] for number in held]).verify(made[0], NOW)[0] == made[0]


def test_the_root_alone_is_not_enough_when_what_is_between_is_not_held():
    made = certificates(FIR, IDA, ROOT)
    assert code(MosipAnchors(made[2:]), made[0]) is Code.UNKNOWN_SIGNER


@pytest.mark.parametrize("serial", [-5, -(2**62), 0])
@pytest.mark.parametrize("which", range(3))
def test_a_serial_number_below_one_is_believed_here(which, serial):
    recipes = [FIR, IDA, ROOT]
    recipes[which] = replace(recipes[which], serial=serial)
    made = certificates(*recipes)
    assert len(anchored(made).verify(made[0], NOW)) == 3


@pytest.mark.parametrize("flaw", [{"critical": False}, {"usage": CERT_SIGN}, {"aki": "key"}, {"ski": False}])
def test_an_authority_may_say_more_or_less_of_itself(flaw):
    made = certificates(FIR, replace(IDA, **flaw), ROOT)
    assert len(anchored(made).verify(made[0], NOW)) == 3


def code(anchors: MosipAnchors, leaf: x509.Certificate) -> Code:
    with pytest.raises(Refused) as refusal:
        anchors.verify(leaf, NOW)
    return refusal.value.code


OVER, NOT_YET = {"end": NOW - DAY}, {"start": NOW + DAY, "end": NOW + 2 * DAY}
FLAWS = {
    "expired": (OVER, Code.UNKNOWN_SIGNER),
    "not yet valid": (NOT_YET, Code.UNKNOWN_SIGNER),
    "signed with SHA-1": ({"hash": "sha1"}, Code.BAD_ALG),
}


@pytest.mark.parametrize(("flaw", "found"), FLAWS.values(), ids=list(FLAWS))
@pytest.mark.parametrize("which", [0, 1])
def test_what_has_no_excuse_has_none_here_either(which, flaw, found):
    recipes = [FIR, IDA, ROOT]
    recipes[which] = replace(recipes[which], **flaw)
    made = certificates(*recipes)
    # Whoever is held is believed as it is; how it was signed says nothing more.
    anchors = MosipAnchors(made[2:] + ([made[1]] if which == 0 else []))
    leaf = made[which]
    assert code(anchors, leaf) is found


def test_a_root_that_ended_before_its_leaves_carries_none_of_them():
    made = certificates(FIR, IDA, replace(ROOT, **OVER))
    assert code(anchored(made), made[0]) is Code.UNKNOWN_SIGNER
    assert len(MosipAnchors(made[1:2]).verify(made[0], NOW)) == 2


def test_a_root_that_was_renewed_under_its_key_is_believed_beside_the_old_one():
    made, (old,) = certificates(FIR, IDA, ROOT), certificates(replace(ROOT, **OVER))
    for held in ([made[1], old, made[2]], [made[1], made[2], old]):
        assert len(MosipAnchors(held).verify(made[0], NOW)) == 3


@pytest.mark.parametrize("flaw", [{"ca": False}, {"ca": None}, {"usage": frozenset({"digital_signature"})}])
def test_who_is_no_authority_certifies_nobody(flaw):
    made = certificates(FIR, replace(IDA, **flaw), ROOT)
    assert code(anchored(made), made[0]) is Code.UNKNOWN_SIGNER


def test_a_namesake_with_another_key_certifies_nobody():
    made, other = certificates(FIR, IDA, ROOT), certificates(IDA, replace(ROOT, key="rsa2048 other"))
    stranger = certificates(replace(FIR, key="rsa2048 x"), replace(IDA, key="rsa2048 false"), ROOT)
    assert code(anchored(made), stranger[0]) is Code.UNKNOWN_SIGNER
    assert code(MosipAnchors(other[1:]), made[0]) is Code.UNKNOWN_SIGNER
    assert len(MosipAnchors([*other, *made[1:]]).verify(made[0], NOW)) >= 2


@pytest.mark.parametrize("weak", ["rsa1024 fir", "p256 fir"])
def test_a_key_that_is_not_approved_is_not_believed(weak):
    made = certificates(replace(FIR, key=weak), IDA, ROOT)
    assert code(anchored(made), made[0]) is Code.BAD_ALG


OWN = {"organisation": "MOSIP"}
PARTNER = replace(IDA, name="Bank", key="rsa2048 bank", organisation="Bank", usage=CERT_SIGN | {"key_encipherment"})


@pytest.mark.parametrize("below", [(PARTNER,), (replace(FIR, **OWN), PARTNER)])
def test_what_mosip_certified_of_partners_is_under_its_anchors_and_not_its_own(below):
    made = certificates(*below, replace(IDA, **OWN), replace(ROOT, **OWN))
    anchors, between = MosipAnchors(made[-2:]), made[1:-2]
    assert len(anchors.verify(made[0], NOW, between)) == len(made)
    with pytest.raises(Refused, match=r"of Bank: MOSIP's own are of MOSIP|of MOSIP: MOSIP's own are of Bank"):
        anchors.verify_own(made[0], NOW, between)
    own = certificates(replace(FIR, **OWN), replace(IDA, **OWN), replace(ROOT, **OWN))
    assert MosipAnchors(own[1:]).verify_own(own[0], NOW) == tuple(own)


def test_an_authority_of_another_name_counts_once_an_operator_holds_it():
    ida, root = replace(IDA, organisation="Ministry"), replace(ROOT, **OWN)
    made = certificates(replace(FIR, organisation="Ministry"), ida, root)
    assert MosipAnchors(made[1:]).verify_own(made[0], NOW) == tuple(made)
    with pytest.raises(Refused, match="of Ministry: MOSIP's own are of MOSIP"):
        MosipAnchors(made[2:]).verify_own(made[0], NOW, made[1:2])


def test_nobody_is_believed_where_nothing_is_held():
    made = certificates(FIR, IDA, ROOT)
    assert code(MosipAnchors(()), made[0]) is Code.UNKNOWN_SIGNER
    assert code(MosipAnchors(()), made[2]) is Code.UNKNOWN_SIGNER


@pytest.mark.parametrize(
    ("usage", "lawful"),
    [
        (frozenset({"key_encipherment"}), True),
        (frozenset({"data_encipherment"}), True),
        (None, True),
        (frozenset({"digital_signature"}), False),
        (CERT_SIGN, False),
    ],
)
def test_a_key_for_something_else_is_not_encrypted_for(usage, lawful):
    (made,) = certificates(replace(FIR, usage=usage))
    if lawful:
        encrypts(made)
    else:
        with pytest.raises(Refused, match="not for encryption"):
            encrypts(made)


def test_an_ed25519_key_is_not_encrypted_for():
    made = certificates(replace(FIR, key="ed25519 fir"), IDA, ROOT)
    with pytest.raises(Refused, match="RSA"):
        encrypts(made[0])


def test_of_several_the_newest_that_holds_is_taken():
    above: tuple[Made, ...] = chain(IDA, ROOT)
    anchors = MosipAnchors([made.certificate for made in above])
    ages = [timedelta(days=9), timedelta(days=2), timedelta(days=-1)]
    found = [certificates(replace(FIR, start=NOW - age), IDA, ROOT)[0] for age in ages]
    assert best(found, anchors, NOW) == found[1]
    with pytest.raises(Refused, match="valid"):
        best(found[2:], anchors, NOW)
    with pytest.raises(Refused, match="no certificate"):
        best([], anchors, NOW)
