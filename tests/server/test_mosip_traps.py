"""The traps of published material, as the sandbox makes them: what MOSIP and FTM makers really hand out."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker.profiles import DAY
from fleetward_broker.signers import make_key
from fleetward_sandbox.factory import CHIP
from fleetward_sandbox.mosip.flaws import not_minimal
from fleetward_sandbox.mosip.makers import outlived_maker
from fleetward_sandbox.mosip.pki import NAMES, MosipPki, make_pki, pem
from fleetward_schemas.certificates import public_key, read_certificate, read_pem_certificates, serial_of
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.foreign import Anchor, ForeignAnchors, Leniency
from fleetward_schemas.jws import Alg
from fleetward_server.mosip.encryption import best, read_any

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> MosipPki:
    return make_pki(tmp_path_factory.mktemp("mosip"), NOW, NOW)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"tls"}))
def test_every_serial_number_of_the_sandboxs_mosip_is_negative_and_believed(pki: MosipPki, name: str) -> None:
    (found,) = read_pem_certificates((pki.folder / f"{name}.pem").read_bytes())
    assert -(2**63) <= serial_of(found) < 0
    path = MosipAnchors.of_pem(pki.anchors).verify_own(found, NOW)
    assert path[-1] == pki.leaf("root").certificate


def test_a_key_whose_numbers_are_not_minimal_is_refused_though_its_certificate_is_rightly_signed(pki: MosipPki) -> None:
    good, anchors = pki.leaf("encryption").certificate, MosipAnchors.of_pem(pki.anchors)
    broken = not_minimal(good, pki.leaf("ida").key)
    assert len(broken) == len(good.public_bytes(Encoding.DER)) + 1
    read_certificate(broken).verify_directly_issued_by(pki.leaf("ida").certificate)
    assert best([read_any(pem(good).decode())], anchors, NOW) == good
    for judge in (public_key, lambda one: anchors.verify(one, NOW), lambda one: best([one], anchors, NOW)):
        with pytest.raises(Refused) as refusal:
            judge(read_certificate(broken))
        assert refusal.value.code is Code.MALFORMED


def test_a_chip_outlives_its_makers_root_on_paper_and_counts_while_both_are_valid() -> None:
    maker = outlived_maker(NOW, NOW + 365 * DAY)
    chain = maker.certify("1", make_key(Alg.RS256).public_key(), NOW)
    allowed = {Leniency.NEGATIVE_SERIAL, Leniency.MISSING_KEY_IDENTIFIERS, Leniency.LOOSE_KEY_USAGE}
    anchors = ForeignAnchors([Anchor(maker.root.certificate, frozenset(allowed | {Leniency.LOOSE_CONSTRAINTS}))])
    leaf = read_certificate(chain[0])
    assert leaf.not_valid_after_utc == NOW + CHIP.life > maker.root.certificate.not_valid_after_utc
    assert anchors.verify(chain, NOW + 364 * DAY).leaf == leaf
    with pytest.raises(Refused) as refusal:
        anchors.verify(chain, NOW + 365 * DAY + timedelta(seconds=1))
    assert refusal.value.code is Code.UNKNOWN_SIGNER
