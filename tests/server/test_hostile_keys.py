"""Hostile enrolments and rotations, sealed for real and given to a whole worker: each refused by exactly its code.

Each has an accepted twin beside it: the very same walk with the one thing that is wrong made right.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Issuer, Subject
from fleetward_broker.signers import make_key
from fleetward_sandbox.factory import CHIP, open_factory
from fleetward_schemas.certificates import Anchors, key_thumbprint, public_key, read_certificate, thumbprint
from fleetward_schemas.commands import ResultState
from fleetward_schemas.enrol import Enrol
from fleetward_schemas.identity import Certification
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_schemas.strict import b64_der, show_der
from fleetward_server.authority import Authority
from fleetward_server.config import load
from fleetward_server.generations import own_anchors
from fleetward_server.operator import LocalOperator
from fleetward_server.state import CertificateState, FtmRoot
from fleetward_server.worker import Worker
from tests.device import TestDevice
from tests.server.test_rotation import answer, certified, ordered, refused
from tests.server.test_worker import Bench

DAY = timedelta(days=1)
LATER = timedelta(seconds=61)


def hello(bench: Bench, device: TestDevice) -> dict[str, Any] | None:
    """Say hello; return the body of what answers it, None for silence."""
    bench.now += LATER
    sent = bench.hear(device.hello(bench.now))
    return answer(sent)[1] if sent else None


def counted(bench: Bench, device: TestDevice) -> dict[str, int]:
    """Return what was refused of the device's factory principal."""
    return bench.refusals(f"f-{device.id}")


def with_chip(device: TestDevice, key: PrivateKey, *chain: x509.Certificate) -> TestDevice:
    """Return the device with another chip in it."""
    other = replace(device)
    other.proof, other.proof_chain = key, tuple(one.public_bytes(Encoding.DER) for one in chain)
    return other


def chip(maker: Issuer, start: datetime) -> tuple[PrivateKey, x509.Certificate]:
    """Make a chip and have ``maker`` certify it."""
    key = make_key(Alg.EDDSA)
    return key, profiles.issue(CHIP, Subject("FTM 9", "Maker"), key.public_key(), maker, start=start)


def maker(start: datetime, end: datetime | None = None) -> Issuer:
    """Make an FTM maker's root."""
    key = make_key(Alg.RS256)
    made = profiles.self_signed(Subject("Maker root", "Maker"), key, start)
    if end is not None:
        builder = x509.CertificateBuilder(
            made.issuer, made.subject, made.public_key(), made.serial_number, start, end, list(made.extensions)
        )
        from cryptography.hazmat.primitives.hashes import SHA256

        made = builder.sign(key, SHA256())  # type: ignore[arg-type]
    return Issuer(made, key)


def trusted(bench: Bench, root: x509.Certificate, *, yes: bool = True) -> None:
    """Anchor an FTM maker's root, or cease to."""
    der = root.public_bytes(Encoding.DER)
    with bench.store.unit() as rows:
        rows.put_ftm_root(FtmRoot(thumbprint(der), "maker", der, trusted=yes))


@pytest.fixture
def eve(bench: Bench) -> Iterator[LocalOperator]:
    with LocalOperator(bench.store.path.parent, "eve", lambda: bench.now) as operator:
        yield operator


def test_a_chip_of_a_maker_nobody_trusts(bench: Bench) -> None:
    """Unanchored: not even answered, its own record and list notwithstanding; anchored, the same chip is challenged."""
    (root,) = [read_certificate(one.der) for one in bench.store.ftm_roots()]
    trusted(bench, root, yes=False)
    assert hello(bench, bench.l1) is None
    assert counted(bench, bench.l1) == {"unknown-signer": 1}
    trusted(bench, root)
    assert hello(bench, bench.l1)["serverNonce"]  # type: ignore[index]


def test_a_device_under_a_root_that_is_forgotten(bench: Bench) -> None:
    """A broker that lets it in all the same, or held its report until then, changes nothing: the server knows no path.

    The twin: the same device's next report, once a server believes that root beside the new one.
    """
    device = bench.enrolled(bench.l1)
    policy, config = bench.worker.policy, load(bench.store.path.parent)
    new, both = (maker(bench.now).certificate,), own_anchors(config).roots
    for roots, heard in ((new, []), ((*both, *new), ["ack"])):
        bench.worker = Worker(bench.store, bench.link, Authority(config), policy, Anchors(roots), bench.now)
        assert [kind for kind, _ in bench.hear(device.telemetry(bench.now))] == heard
    assert bench.refusals(device.id) == {"unknown-signer": 1}


def test_a_root_that_has_ended_over_a_chip_that_has_not(bench: Bench) -> None:
    ended, lasting = maker(bench.now - 9 * DAY, bench.now - DAY), maker(bench.now - 9 * DAY)
    for root in (ended, lasting):
        trusted(bench, root.certificate)
    old = with_chip(bench.l1, *chip(ended, bench.now - 8 * DAY))
    assert hello(bench, old) is None
    assert counted(bench, old) == {"unknown-signer": 1}
    assert hello(bench, with_chip(bench.l1, *chip(lasting, bench.now - 8 * DAY)))


def test_a_copied_serial_in_another_chip(bench: Bench) -> None:
    """The clone is refused, told and an alarm; the real device stays in."""
    device = bench.enrolled(bench.l1)
    factory = open_factory(bench.store.path.parent / "sandbox" / "ftm", bench.now)
    key = make_key(Alg.EDDSA)
    leaf, authority = factory.certify("9", key.public_key(), bench.now - timedelta(hours=1))
    clone = with_chip(device, key, read_certificate(leaf), read_certificate(authority))

    said = hello(bench, clone)
    assert said is not None
    assert (said["status"], said["reason"]) == ("refused", "clone")
    assert counted(bench, clone) == {"clone": 1}
    assert "clone-alarm" in [link.entry.action for link in bench.store.history(device.id)]
    assert [kind for kind, _ in bench.hear(device.telemetry(bench.now))] == ["ack"]
    assert hello(bench, device), "its own chip is heard"


def test_a_stolen_factory_key_of_an_l1_claims_l0(bench: Bench) -> None:
    thief = replace(bench.l1)
    thief.certification = Certification.L0
    folder = bench.l1.folder
    from fleetward_broker.signers import open_key
    from tests.device import ders

    thief.proof = open_key("file:factory.key.pem", folder)
    thief.proof_chain = ders(folder / "factory.chain.pem")
    said = hello(bench, thief)
    assert said is not None
    assert (said["status"], said["reason"]) == ("refused", "mismatch")
    assert counted(bench, thief) == {"mismatch": 1}
    thief.certification = Certification.L1
    said = hello(bench, thief)
    assert said is not None
    assert said["reason"] == "mismatch", "an L1 that proves itself by its factory key"
    assert hello(bench, bench.l1)["serverNonce"]  # type: ignore[index]


def test_a_copied_factory_key_of_an_l0(bench: Bench) -> None:
    """The copy waits for an operator, for ever if need be; the real device stays in."""
    device = bench.enrolled(bench.l0)
    copy = replace(device)
    copy.device_leaf = b""
    said = hello(bench, copy)
    assert said is not None
    assert (said["status"], said["reason"]) == ("pending", "awaiting-approval")
    assert [kind for kind, _ in bench.hear(device.telemetry(bench.now))] == ["ack"]


def enrolled_with(bench: Bench, device: TestDevice, *requests: x509.CertificateSigningRequest) -> dict[str, Any]:
    """Bring these requests in answer to a fresh challenge; return the answer."""
    challenge = hello(bench, device)
    assert challenge is not None
    ders = [show_der(one.public_bytes(Encoding.DER)) for one in requests]
    body = Enrol(serverNonce=challenge["serverNonce"], deviceCsr=ders[0], transportCsr=ders[1])
    return answer(bench.hear(device.say("enrol", body, bench.now)))[1]


def request(key: PrivateKey, name: str = "any", *, authority: bool = False) -> x509.CertificateSigningRequest:
    """Make a request that asks for more than is given."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    wish = x509.BasicConstraints(ca=authority, path_length=None)
    return (
        x509.CertificateSigningRequestBuilder(subject)
        .add_extension(wish, critical=True)
        .sign(key, hashes.SHA256() if isinstance(key, rsa.RSAPrivateKey) else None)
    )


def test_a_request_that_its_own_key_did_not_sign(bench: Bench) -> None:
    good = [request(key) for key in (bench.l1.device_key, bench.l1.transport_key)]
    raw = bytearray(good[0].public_bytes(Encoding.DER))
    raw[-1] ^= 1
    forged = x509.load_der_x509_csr(bytes(raw))

    assert enrolled_with(bench, bench.l1, forged, good[1])["reason"] == "bad-csr"
    assert enrolled_with(bench, bench.l1, *good)["status"] == "registered"


@pytest.mark.parametrize(
    ("digest", "padded"),
    [(hashes.SHA384(), padding.PKCS1v15()), (hashes.SHA256(), padding.PSS(padding.MGF1(hashes.SHA256()), 32))],
    ids=["SHA-384", "PSS"],
)
def test_a_request_signed_otherwise_than_the_wire_says(
    bench: Bench, digest: hashes.HashAlgorithm, padded: padding.AsymmetricPadding
) -> None:
    key = make_key(Alg.RS256)
    assert isinstance(key, rsa.RSAPrivateKey)
    plain = x509.CertificateSigningRequestBuilder(x509.Name([]))
    other, good = plain.sign(key, digest, rsa_padding=padded), plain.sign(key, hashes.SHA256())
    transport = request(bench.l1.transport_key)

    assert other.is_signature_valid
    assert enrolled_with(bench, bench.l1, other, transport)["reason"] == "bad-csr"
    assert enrolled_with(bench, bench.l1, good, transport)["status"] == "registered"


@pytest.mark.parametrize("name", ["sign-server", "server", "f-other", "root"])
def test_of_a_request_only_its_key_is_taken(bench: Bench, name: str) -> None:
    """It asks to be an authority of another name, and gets a leaf of its own."""
    asked = [request(key, name, authority=True) for key in (bench.l1.device_key, bench.l1.transport_key)]
    body = enrolled_with(bench, bench.l1, *asked)
    leaf = read_certificate(b64_der(body["deviceChain"][0]))

    assert key_thumbprint(public_key(leaf)) == key_thumbprint(bench.l1.device_key.public_key())
    assert f"CN=sign-{bench.l1.id}" in leaf.subject.rfc4514_string()
    assert leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False


def test_a_key_that_another_device_has(bench: Bench) -> None:
    l0 = bench.enrolled(bench.l0)
    own = request(bench.l1.device_key), request(bench.l1.transport_key)

    assert enrolled_with(bench, bench.l1, request(l0.device_key), own[1])["reason"] == "bad-csr"
    assert enrolled_with(bench, bench.l1, *own)["status"] == "registered"


@pytest.mark.parametrize("whose", ["own", "own-factory", "another"])
def test_a_key_that_proves_a_device_is_no_key_of_its_certificates(bench: Bench, whose: str) -> None:
    device = bench.l0 if whose == "own-factory" else bench.l1
    proof = bench.enrolled(bench.l1).proof if whose == "another" else device.proof
    device = bench.l0 if whose == "another" else device
    own = request(device.device_key), request(device.transport_key)

    assert enrolled_with(bench, device, request(proof), own[1])["reason"] == "bad-csr"
    assert enrolled_with(bench, device, own[0], request(proof))["reason"] == "bad-csr"
    assert enrolled_with(bench, device, *own)["status"] == "registered"


def test_another_devices_challenge(bench: Bench) -> None:
    theirs = hello(bench, bench.l0)
    mine = hello(bench, bench.l1)
    assert theirs is not None
    assert mine is not None
    _, said = answer(bench.hear(bench.l1.enrol(bench.now, theirs["serverNonce"])))
    assert (said["reason"], counted(bench, bench.l1)) == ("challenge-expired", {"bad-nonce": 1})
    _, said = answer(bench.hear(bench.l1.enrol(bench.now, mine["serverNonce"])))
    assert said["status"] == "registered"


def test_a_recorded_enrolment_played_again_gives_what_it_gave(bench: Bench) -> None:
    """No second certificate; once it is old it is not even answered."""
    challenge = hello(bench, bench.l1)
    assert challenge is not None
    recorded = bench.l1.enrol(bench.now, challenge["serverNonce"])
    first, again = answer(bench.hear(recorded))[1], answer(bench.hear(recorded))[1]
    assert first == again
    assert len(bench.store.certificates(bench.l1.id)) == 2
    bench.now += timedelta(seconds=200)
    assert bench.hear(recorded) == []
    assert counted(bench, bench.l1) == {"stale": 1}


def test_a_recorded_rotation_played_again_certifies_nothing(bench: Bench) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device)
    recorded = device.csr(bench.now, command.id)
    assert [kind for kind, _ in bench.hear(recorded)] == ["certificate"]
    bench.hear(recorded)
    assert len(bench.store.certificates(device.id)) == 4
    taken = device.rotate(b64_der(certified(bench, device, command)["deviceChain"][0]), bench.now)
    bench.hear(taken.online(bench.now))
    bench.hear(recorded)
    assert bench.refusals(device.id) == {"unknown-signer": 1}
    assert len(bench.store.certificates(device.id)) == 4


def test_a_recorded_last_word_retires_nobody_twice(bench: Bench, eve: LocalOperator) -> None:
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device, "retire", expires_in_s=600)
    recorded = device.result(bench.now, command.id, ResultState.SUCCEEDED)
    bench.hear(recorded)
    bench.now += timedelta(seconds=61)
    bench.worker.chores(bench.now)
    eve.reinstate(device.id, "repaired")
    device.device_leaf = b""
    device.new_keys()
    bench.now += LATER
    bench.enrolled(device)
    bench.hear(recorded)
    bench.now += 2 * LATER
    bench.worker.chores(bench.now)

    row = bench.store.device(device.id)
    assert row is not None
    assert (row.state, row.retire_at) == ("registered", None)


def test_an_issued_pair_speaks_only_to_say_that_it_is_there(bench: Bench) -> None:
    """Its ``online`` is what takes it into office; until then the old pair stays, whatever else is said."""
    device = bench.enrolled(bench.l1)
    command = ordered(bench, device)
    after = device.rotate(b64_der(certified(bench, device, command)["deviceChain"][0]), bench.now)
    bench.hear(after.telemetry(bench.now))
    states = [one.state for one in bench.store.certificates(device.id)]
    assert states.count(CertificateState.CURRENT) == 2
    assert refused(bench, device.telemetry(bench.now)) == []
