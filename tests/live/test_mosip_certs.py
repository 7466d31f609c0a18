"""Published certificates of MOSIP's own tools, each verified or refused as its list says, at a fixed time.

They lie beside the checkout (``tests/conftest.py`` says where) and are not ours to publish: where they are missing,
this file is not collected and the summary says so.
"""

import base64
import csv
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_schemas.certificates import public_key, read_certificate, read_pem_certificates
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.foreign import Anchor, ForeignAnchors, Leniency, Place, certified, lacks
from fleetward_server.ftm_check import examine
from fleetward_server.ftm_root import read_root
from tests.conftest import MOSIP_VECTORS

pytestmark = pytest.mark.live
ROOTS = {False: "mockmds/certs/rootca.pem", True: "mockmds/certs/rootcaftm.pem"}
ALL = frozenset(Leniency)
MOCK = (Leniency.LOOSE_CONSTRAINTS, Leniency.MISSING_KEY_IDENTIFIERS, Leniency.NO_EXTENSIONS)
IN_2022 = datetime(2022, 1, 1, tzinfo=UTC)
IN_2025 = datetime(2025, 1, 1, tzinfo=UTC)


def notes() -> dict[str, str]:
    with (MOSIP_VECTORS / "MANIFEST.tsv").open(newline="") as lines:
        return {row["path"]: row["note"] for row in csv.DictReader(lines, delimiter="\t")}


NOTES = notes()
CERTIFICATES = [path for path in NOTES if path.endswith(".pem")]
MOCK_LEAVES = [path for path in CERTIFICATES if "chain+1" in NOTES[path]]


def read(path: str) -> tuple[x509.Certificate, ...]:
    return read_pem_certificates((MOSIP_VECTORS / path).read_bytes())


def verify(chain: Sequence[x509.Certificate], root: x509.Certificate, allowed: frozenset[Leniency], at: datetime):
    ders = tuple(one.public_bytes(Encoding.DER) for one in chain)
    return ForeignAnchors([Anchor(root, allowed)]).verify(ders, at)


def code_of(
    chain: Sequence[x509.Certificate], root: x509.Certificate, at: datetime, allowed: frozenset[Leniency] = ALL
) -> Code:
    with pytest.raises(Refused) as refusal:
        verify(chain, root, allowed, at)
    return refusal.value.code


def root_of(path: str) -> x509.Certificate:
    return read(ROOTS[path.endswith("ftm.pem")])[0]


@pytest.mark.parametrize("path", MOCK_LEAVES)
def test_a_leaf_whose_note_says_it_chains_is_believed_with_its_leniencies(path: str) -> None:
    believed = verify(read(path), root_of(path), frozenset(MOCK), IN_2022)
    assert believed.leniencies == MOCK
    assert believed.name in NOTES[path]


@pytest.mark.parametrize("path", MOCK_LEAVES)
@pytest.mark.parametrize("missing", MOCK)
def test_without_one_of_them_it_is_refused(path: str, missing: Leniency) -> None:
    assert code_of(read(path), root_of(path), IN_2022, ALL - {missing}) is Code.UNKNOWN_SIGNER


@pytest.mark.parametrize("path", MOCK_LEAVES)
def test_a_leaf_outlives_its_root_on_paper_only(path: str) -> None:
    chain, root = read(path), root_of(path)
    assert chain[0].not_valid_after_utc > IN_2025
    if root.not_valid_after_utc > IN_2025:
        assert verify(chain, root, ALL, IN_2025).leniencies == MOCK
    else:
        assert code_of(chain, root, IN_2025) is Code.UNKNOWN_SIGNER


@pytest.mark.parametrize("path", MOCK_LEAVES)
def test_the_other_makers_root_believes_none_of_them(path: str) -> None:
    other = read(ROOTS[not path.endswith("ftm.pem")])[0]
    assert code_of(read(path)[:1], other, IN_2022) is Code.UNKNOWN_SIGNER


@pytest.mark.parametrize("path", MOCK_LEAVES)
def test_an_operator_is_told_how_to_trust_such_a_root(path: str) -> None:
    verdict = examine((MOSIP_VECTORS / path).read_bytes(), [], IN_2022)
    assert verdict.said.endswith("--allow " + ",".join(MOCK))
    pem = root_of(path).public_bytes(Encoding.PEM)
    root = read_root(pem, "Mock", IN_2022, MOCK)
    assert examine((MOSIP_VECTORS / path).read_bytes(), [root], IN_2022).accepted


@pytest.mark.parametrize("path", [path for path in CERTIFICATES if path.startswith("certs/")])
def test_a_leaf_whose_issuer_is_not_published_is_refused_by_everybody(path: str) -> None:
    (leaf,) = read(path)
    for root in (read(name)[0] for name in CERTIFICATES if name != path):
        assert code_of([leaf], root, leaf.not_valid_before_utc) in {Code.UNKNOWN_SIGNER, Code.MALFORMED}


def test_authorities_of_two_runs_do_not_certify_each_other() -> None:
    (root,) = [read(path)[0] for path in CERTIFICATES if "ROOT self-signed" in NOTES[path]]
    others = [read(path)[0] for path in CERTIFICATES if "does NOT chain" in NOTES[path]]
    assert others
    for one in others:
        assert one.issuer == root.subject
        with pytest.raises(Refused, match="did not sign"):
            certified(one, root)
    certified(root, root)


def test_a_root_of_mosip_is_an_anchor_once_its_missing_usage_is_excused() -> None:
    (root,) = [read(path)[0] for path in CERTIFICATES if "ROOT self-signed" in NOTES[path]]
    needed = lacks(root, Place.ANCHOR, IN_2022)
    assert Leniency.LOOSE_KEY_USAGE in needed
    assert needed <= {Leniency.LOOSE_KEY_USAGE, Leniency.NEGATIVE_SERIAL}


@pytest.mark.parametrize("path", [path for path in NOTES if path.startswith("malformed/") and path.endswith(".jwt")])
def test_a_malformed_message_carries_no_leaf_that_is_believed(path: str) -> None:
    segment = (MOSIP_VECTORS / path).read_text().partition(".")[0]
    header = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    leaf = read_certificate(base64.b64decode(header["x5c"][0]))
    if "non-minimal" in NOTES[path]:
        with pytest.raises(Refused) as refusal:
            public_key(leaf)
        assert refusal.value.code is Code.MALFORMED
    for root in ROOTS.values():
        assert code_of([leaf], read(root)[0], IN_2022) in {Code.MALFORMED, Code.UNKNOWN_SIGNER}


@pytest.mark.parametrize("path", CERTIFICATES)
@pytest.mark.parametrize("place", Place)
def test_every_published_certificate_is_judged_and_none_breaks_the_judge(path: str, place: Place) -> None:
    for one in read(path):
        try:
            assert lacks(one, place, one.not_valid_after_utc) <= ALL
        except Refused as refusal:
            assert refusal.code in {Code.MALFORMED, Code.BAD_ALG, Code.UNKNOWN_SIGNER}  # noqa: PT017
