"""Who may have certificates. Source: S1, S5, C3, K1; protocol section 5."""

import base64
from dataclasses import replace
from datetime import timedelta

import pytest

from fleetward_schemas.certificates import key_thumbprint
from fleetward_schemas.enrol import Enrol, Enrolled, Hello, Reason, State
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Certification, Purpose
from fleetward_server import enrol, state
from fleetward_server.changes import AddAudit, BindFtm, CountRefusal, PutChallenge, PutDevice
from fleetward_server.state import Item
from fleetward_server.turn import Issued, Known, Turn
from tests.server.provider import (
    DEVICE_ID,
    ID,
    NONCE,
    NOW,
    POLICY,
    Voice,
    certificate,
    csr,
    device,
    factory_speaker,
    ftm_speaker,
    key,
    known,
    pair,
    said,
)

L1 = Voice(ftm_speaker())
L0 = Voice(factory_speaker())
OPEN = replace(POLICY, listing="open")


def hello(**changes: object) -> Hello:
    body = Hello(
        nonce=NONCE, certification=Certification.L1, purpose=Purpose.REGISTRATION, protocol=[1], agentVersion="1"
    )
    return body.changed(**changes)


def say(body: Hello, what: Known, voice: Voice = L1, policy: enrol.Policy = POLICY) -> Turn:
    return enrol.on_hello(said("hello", body, voice), what, policy)


def answer(turn: Turn) -> Enrolled:
    (reply,) = turn.replies
    assert isinstance(reply.body, Enrolled)
    return reply.body


def device_after(turn: Turn) -> state.Device:
    (put,) = [c for c in turn.changes if isinstance(c, PutDevice)]
    return put.device


def test_a_listed_l1_with_its_ftm_is_challenged() -> None:
    turn = say(hello(), known())

    assert turn.replies[0].topic == f"fw/v1/d/f-{DEVICE_ID}/down/challenge"


def test_the_same_hello_gets_the_same_challenge() -> None:
    first = say(hello(), known())
    (put,) = [c for c in first.changes if isinstance(c, PutChallenge)]

    second = say(hello(), known(challenge=put.challenge, random=b"s" * 32))

    assert second.replies == first.replies


def test_a_hello_with_good_certificates_gets_them_again() -> None:
    chains = pair()

    turn = say(hello(current=chains[0].thumbprint), known(chains=chains))

    assert answer(turn).status == "registered"


@pytest.mark.parametrize("changes", [{"not_after": NOW}, {"thumbprint": "B" * 43}])
def test_a_hello_with_ended_or_unknown_certificates_is_challenged(changes: dict[str, object]) -> None:
    named = pair()[0].thumbprint
    chains = (certificate(**changes), pair()[1])

    turn = say(hello(current=named), known(chains=chains))

    assert turn.replies[0].topic.endswith("/challenge")


def test_a_device_marked_for_reissue_is_challenged_although_its_certificates_are_good() -> None:
    chains = pair()

    turn = say(hello(current=chains[0].thumbprint), known(device=device(reissue=True), chains=chains))

    assert turn.replies[0].topic.endswith("/challenge")


CLAIMS = [
    ("another level", {"certification": Certification.L0}, {}, L1, Reason.MISMATCH),
    ("an L1 by its factory key", {}, {}, L0, Reason.MISMATCH),
    ("another purpose", {"purpose": Purpose.AUTH}, {}, L1, Reason.MISMATCH),
    ("a model nobody approved", {}, {"model_approved": False}, L1, Reason.MODEL_NOT_APPROVED),
    ("another device's FTM", {}, {"ftm_owner": "b" * 26}, L1, Reason.CLONE),
    ("another FTM than the bound one", {}, {"device": device(ftm_key="C" * 43)}, L1, Reason.CLONE),
    ("an Auth device at L0", {"certification": Certification.L0, "purpose": Purpose.AUTH},
     {"device": device(certification=Certification.L0, purpose=Purpose.AUTH)}, L0, Reason.COMPLIANCE_LEVEL),
    ("a retired device", {}, {"device": device(state=State.RETIRED)}, L1, Reason.RETIRED),
    ("a revoked device", {}, {"device": device(state=State.REVOKED)}, L1, Reason.REVOKED),
    ("a refused device", {}, {"device": device(state=State.REFUSED)}, L1, Reason.REFUSED_BY_OPERATOR),
    ("a wire nobody speaks", {"protocol": [2]}, {}, L1, Reason.PROTOCOL),
]  # fmt: skip


@pytest.mark.parametrize(("claim", "store", "voice", "reason"), [c[1:] for c in CLAIMS], ids=[c[0] for c in CLAIMS])
def test_what_differs_from_the_record_is_refused(
    claim: dict[str, object], store: dict[str, object], voice: Voice, reason: Reason
) -> None:
    turn = say(hello(**claim), known(**store), voice)

    assert (answer(turn).status, answer(turn).reason) == ("refused", reason)


@pytest.mark.parametrize(("reason", "code"), [(Reason.MISMATCH, Code.MISMATCH), (Reason.CLONE, Code.CLONE)])
def test_a_false_claim_moves_a_counter_and_nothing_of_the_record(reason: Reason, code: Code) -> None:
    owner = "b" * 26 if reason is Reason.CLONE else None
    claim = {"purpose": Purpose.AUTH} if reason is Reason.MISMATCH else {}

    turn = say(hello(**claim), known(ftm_owner=owner))

    assert [c.code for c in turn.changes if isinstance(c, CountRefusal)] == [code]
    assert not [c for c in turn.changes if isinstance(c, PutDevice)]


def test_a_clone_is_an_alarm_in_the_audit() -> None:
    turn = say(hello(), known(ftm_owner="b" * 26))

    assert [c.entry.action for c in turn.changes if isinstance(c, AddAudit)] == ["clone-alarm"]


def test_a_stranger_waits_until_an_operator_looks() -> None:
    turn = say(hello(), known(device=None))

    assert (answer(turn).status, answer(turn).reason) == ("pending", Reason.NOT_LISTED)
    assert device_after(turn).asking_key == key_thumbprint(key("chip").public_key())


def test_a_stranger_with_a_proven_ftm_is_challenged_under_the_open_policy() -> None:
    turn = say(hello(), known(device=None), policy=OPEN)

    assert turn.replies[0].topic.endswith("/challenge")


def test_an_l0_stranger_waits_even_under_the_open_policy() -> None:
    turn = say(hello(certification=Certification.L0), known(device=None), L0, OPEN)

    assert answer(turn).status == "pending"


def l0(**changes: object) -> state.Device:
    return device(certification=Certification.L0, **changes)


def test_an_l0_enrols_by_itself_once() -> None:
    turn = say(hello(certification=Certification.L0), known(device=l0()), L0)

    assert turn.replies[0].topic.endswith("/challenge")


def test_an_l0_that_still_holds_good_certificates_gets_them_again_without_an_operator() -> None:
    chains = pair()
    asked = hello(certification=Certification.L0, current=chains[0].thumbprint)

    turn = say(asked, known(device=l0(state=State.REGISTERED, enrolments=1), chains=chains), L0)

    assert answer(turn).status == "registered"
    assert device_after(turn).asking_key is None


def test_an_l0_that_asks_again_waits_for_an_operator() -> None:
    turn = say(hello(certification=Certification.L0), known(device=l0(enrolments=1, state=State.REGISTERED)), L0)

    assert answer(turn).reason == Reason.AWAITING_APPROVAL


@pytest.mark.parametrize(("name", "ending"), [("factory", "/challenge"), ("other", "/enrolled")])
def test_an_operator_approves_one_very_key(name: str, ending: str) -> None:
    approved = key_thumbprint(key("factory").public_key())
    record = l0(enrolments=1, state=State.REGISTERED, approved_key=approved)

    turn = say(hello(certification=Certification.L0), known(device=record), Voice(factory_speaker(name)))

    assert turn.replies[0].topic.endswith(ending)


def test_the_checklist_ends_at_the_first_item_that_failed() -> None:
    turn = say(hello(), known(model_approved=False))

    checks = device_after(turn).checklist
    assert [(c.item, c.held) for c in checks][-1] == (Item.MODEL, False)
    assert all(c.held for c in checks[:-1])


def challenge(**changes: object) -> state.Challenge:
    given = state.Challenge(
        f"f-{DEVICE_ID}", ID, NONCE, NONCE, key_thumbprint(key("chip").public_key()), NOW + timedelta(minutes=5)
    )
    return replace(given, **changes)  # type: ignore[arg-type]


def enrolment(device_key: str = "device key", transport_key: str = "transport key") -> Enrol:
    return Enrol(serverNonce=NONCE, deviceCsr=csr(device_key), transportCsr=csr(transport_key))


def bring(body: Enrol, what: Known, voice: Voice = L1) -> Turn:
    return enrol.on_enrol(said("enrol", body, voice), what, POLICY)


def test_two_new_keys_are_certified() -> None:
    turn = bring(enrolment(), known(challenge=challenge()))

    (effect,) = turn.effects
    assert key_thumbprint(effect.device_key) == key_thumbprint(key("device key").public_key())


def test_a_new_certificate_never_begins_before_the_old_one() -> None:
    turn = bring(enrolment("new", "newer"), known(challenge=challenge(), chains=pair()))

    assert turn.effects[0].not_before_floor == pair()[0].not_before


@pytest.mark.parametrize(
    "given",
    [
        None,
        challenge(expires_at=NOW),
        challenge(signer_key="D" * 43),
        challenge(principal="f-" + "b" * 26),
        challenge(used_by=("E" * 43, "F" * 43)),
    ],
    ids=["none", "expired", "another's key", "another principal's", "used by other keys"],
)
def test_a_nonce_serves_its_own_hello_once(given: state.Challenge | None) -> None:
    turn = bring(enrolment(), known(challenge=given))

    assert answer(turn).reason == Reason.CHALLENGE_EXPIRED
    assert not turn.effects


def test_the_same_two_keys_get_the_same_certificates() -> None:
    chains = pair()
    used = challenge(used_by=(chains[0].key_thumbprint, chains[1].key_thumbprint))

    turn = bring(enrolment(), known(challenge=used, chains=chains))

    assert answer(turn).status == "registered"
    assert not turn.effects


def test_the_same_two_keys_get_the_same_certificates_under_a_fresh_nonce() -> None:
    chains = pair()
    taken = frozenset(one.key_thumbprint for one in chains)

    turn = bring(enrolment(), known(challenge=challenge(), chains=chains, taken_keys=taken))

    assert answer(turn).status == "registered"
    assert not turn.effects


@pytest.mark.parametrize(
    ("body", "taken"),
    [
        (enrolment("device key", "device key"), frozenset()),
        (enrolment(), frozenset({"x"})),
        (Enrol(serverNonce=NONCE, deviceCsr="AAAA", transportCsr=csr("transport key")), frozenset()),
    ],
    ids=["one key twice", "a key the fleet has seen", "no request at all"],
)
def test_a_request_that_proves_no_new_pair_is_refused(body: Enrol, taken: frozenset[str]) -> None:
    turn = bring(body, known(challenge=challenge(), taken_keys=taken))

    assert answer(turn).reason == Reason.BAD_CSR


def test_a_request_signed_by_another_key_is_refused() -> None:
    raw = bytearray(base64.b64decode(csr("device key")))
    raw[-1] ^= 1
    forged = base64.b64encode(bytes(raw)).decode()

    with pytest.raises(Refused, match="bad-csr"):
        enrol.csr_keys(Enrol(serverNonce=NONCE, deviceCsr=forged, transportCsr=csr("transport key")))


def test_a_record_that_changed_meanwhile_is_judged_again() -> None:
    turn = bring(enrolment(), known(challenge=challenge(), device=device(state=State.REVOKED)))

    assert answer(turn).reason == Reason.REVOKED


def test_what_was_issued_is_kept_bound_and_answered_in_one_turn() -> None:
    message = said("enrol", enrolment(), L1)
    what = known(challenge=challenge())
    (effect,) = enrol.on_enrol(message, what, POLICY).effects

    turn = enrol.on_issued(message, Issued(effect, pair()), what, POLICY)

    assert answer(turn).status == "registered"
    assert device_after(turn).state is State.REGISTERED
    assert [c.key for c in turn.changes if isinstance(c, BindFtm)] == [key_thumbprint(key("chip").public_key())]
