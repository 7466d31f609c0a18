"""Every published vector is judged by our own code as it says, and every hostile one has an accepted twin."""

import json
from collections import Counter
from pathlib import Path

import jwt
import pytest

from fleetward_agent.trust import check_server_identity
from fleetward_sandbox import vectors
from fleetward_sandbox.vector_pki import NOW as CAST_NOW
from fleetward_schemas import clock, moment, strict
from fleetward_schemas.certificates import (
    Anchors,
    Unit,
    common_name,
    public_key,
    read_certificate,
    server_signer,
    thumbprint,
)
from fleetward_schemas.envelope import admit, open_sealed, read_body
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import DigitalId, Environment, device_id, read_identity
from fleetward_schemas.replay import ReplayWindow
from fleetward_schemas.topics import Direction

FOLDER = Path(__file__).parents[2] / "schemas" / "vectors"
FOUND_BY_HANDLERS = {Code.CLONE, Code.BAD_CSR, Code.TOO_OFTEN}
"""Codes that need a register, a certification request or a second message."""


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def envelopes():
    return [case for name in ("accepted", *vectors.ENVELOPES) for case in load(f"envelopes-{name}")]


def rules(name):
    return pytest.mark.parametrize("case", load(name), ids=lambda case: case["name"])


class VectorTrust:
    """A receiver that knows what the case says, and nothing else. signed_by: DER of the certificate that signed."""

    def __init__(self, trust, now):
        self.trust = {n: strict.b64_der(text) for n, text in trust.items() if n not in {"digitalId", "env"}}
        self.now = now or CAST_NOW
        self.signed_by = None
        self.chain = None

    def signer(self, header, principal, _):
        if "deviceCertificate" in self.trust:
            return self.device(header)
        self.chain = self.factory(header, principal) if "ftmAnchor" in self.trust else self.server(header)
        self.signed_by = header.x5c[0]
        return self.chain.key

    def device(self, header):
        self.signed_by = self.trust["deviceCertificate"]
        if thumbprint(self.signed_by) != header.x5t:
            raise Refused(Code.UNKNOWN_SIGNER)
        return public_key(read_certificate(self.signed_by))

    def server(self, header):
        try:
            return server_signer(self.anchors("providerRoot").verify(header.x5c, self.now))
        except Refused as refusal:
            code = Code.WRONG_SERVER if refusal.code is Code.UNKNOWN_SIGNER else refusal.code
            raise Refused(code, refusal.detail) from None

    def factory(self, header, principal):
        if common_name(read_certificate(header.x5c[0]).subject) != principal.name:
            return self.anchors("ftmAnchor", own=False).verify(header.x5c, self.now)
        chain = self.anchors("providerRoot").verify(header.x5c, self.now)
        if chain.unit != Unit.FACTORY:
            raise Refused(Code.UNKNOWN_SIGNER)
        return chain

    def anchors(self, name, *, own=True):
        return Anchors((read_certificate(self.trust[name]),), own=own)


def judge(case):
    """Return ``accepted``, ``duplicate`` or the refusal code, as a receiver would find it."""
    now = moment.parse(case["now"]) if case["now"] else None
    trust = VectorTrust(case["trust"], now)
    window = ReplayWindow(case["window"]["highest"], int(case["window"]["seen"], 16))
    try:
        opened = open_sealed(case["raw"].encode(), case["topic"], trust, now)
        if admit(opened, window) is None:
            return "duplicate"
        read_body(opened)
        if opened.address.direction is Direction.FLEET:
            check_server_identity(opened.members.digitalId, trust.chain, Environment(case["trust"]["env"]))
        else:
            check_identity(opened, case["trust"], trust.signed_by)
    except Refused as refusal:
        return refusal.code
    return "accepted"


def check_identity(opened, trust, signed_by):
    text = opened.members.digitalId
    if opened.address.direction is Direction.DOWN:
        if text != trust["digitalId"]:
            raise Refused(Code.BAD_DIGITAL_ID)
        return
    identity = read_identity(text)
    if device_id(identity.digital_id) != opened.address.principal.device_id:
        raise Refused(Code.MISMATCH)
    proof = strict.b64_der(trust["ftmCertificate"]) if "ftmCertificate" in trust else signed_by
    if identity.leaf != proof:
        raise Refused(Code.BAD_DIGITAL_ID)


@pytest.mark.parametrize("case", envelopes(), ids=lambda case: case["name"])
def test_an_envelope_is_judged_as_its_vector_says(case):
    assert judge(case) == case["expected"]


def test_every_hostile_envelope_has_an_accepted_twin():
    cases = {case["name"]: case for case in envelopes()}
    assert len(cases) == len(envelopes())
    for case in cases.values():
        assert case["expected"] == "accepted" or cases[case["twin"]]["expected"] == "accepted", case["name"]


def test_a_twin_differs_in_what_its_note_says_and_nothing_is_unexplained():
    for case in envelopes():
        assert (case["twin"] is None) == (case["note"] == ""), case["name"]


def test_every_code_of_the_envelope_and_the_clock_is_shown_once_at_least():
    shown = Counter(case["expected"] for case in [*envelopes(), *load("clock-answers")])
    assert set(Code) - FOUND_BY_HANDLERS <= shown.keys()
    assert not FOUND_BY_HANDLERS & shown.keys()


def test_hostile_vectors_are_the_majority():
    outcome = Counter(case["expected"] == "accepted" for case in envelopes())
    assert outcome[False] > 4 * outcome[True]


@pytest.mark.parametrize("case", [c for c in envelopes() if c["expected"] == "accepted"], ids=lambda case: case["name"])
def test_another_library_finds_the_same_signatures_good(case):
    header = jwt.get_unverified_header(case["raw"])
    leaf = strict.b64_der(header["x5c"][0] if "x5c" in header else case["trust"]["deviceCertificate"])
    key = read_certificate(leaf).public_key()
    payload = jwt.PyJWS().decode(case["raw"], key, algorithms=["RS256", "EdDSA"])
    assert json.loads(payload)["topic"] == case["topic"]


@rules("device-ids")
def test_a_device_id_is_derived_as_its_vector_says(case):
    others = {"type": "Iris", "deviceSubType": "Single", "deviceProvider": "Any", "dateTime": "2026-03-01T00:00:00Z"}
    assert device_id(DigitalId(**case["fields"], **others)) == case["deviceId"]


def test_no_two_devices_of_the_vectors_share_an_id():
    ids = [case["deviceId"] for case in load("device-ids")]
    assert len(set(ids)) == len(ids)


def outcome(reader, *arguments):
    try:
        reader(*arguments)
    except Refused as refusal:
        return refusal.code
    return "accepted"


@rules("digital-ids")
def test_a_digital_id_is_judged_as_its_vector_says(case):
    assert outcome(read_identity, case["text"]) == case["expected"]


@rules("base64url")
def test_base64url_is_judged_as_its_vector_says(case):
    assert outcome(strict.b64url_decode, case["text"].encode()) == case["expected"]


@rules("json-objects")
def test_json_is_judged_as_its_vector_says(case):
    assert outcome(strict.read_object, case["text"].encode()) == case["expected"]


@rules("moments")
def test_a_moment_is_judged_as_its_vector_says(case):
    assert outcome(moment.parse, case["text"]) == case["expected"]
    assert "ms" not in case or moment.to_ms(moment.parse(case["text"])) == case["ms"]


@rules("replay-windows")
def test_a_number_is_judged_as_its_vector_says(case):
    window, after = (ReplayWindow(w["highest"], int(w["seen"], 16)) for w in (case["window"], case["after"]))
    if window.holds(case["seq"]):
        assert case["expected"] == "duplicate"
        return
    assert outcome(window.accept, case["seq"]) == case["expected"]
    assert case["expected"] != "accepted" or window.accept(case["seq"]) == after


@rules("clock-answers")
def test_a_clock_answer_is_judged_as_its_vector_says(case):
    known, question = case["clock"], case["question"]
    held = clock.Clock(known["earliestUs"], known["latestUs"], known["bootUs"], known["signerUs"])
    held = held if question is None else clock.ask(held, question["nonce"], question["bootUs"])
    signer = clock.Signer(*(moment.parse(case["signer"][n]) for n in ("notBefore", "notAfter", "leafNotBefore")))
    arguments = (held, clock.TimeAnswer.read(case["answer"]), signer, case["bootUs"])
    assert outcome(clock.accept_answer, *arguments) == case["expected"]
    if case["after"]:
        after = clock.accept_answer(*arguments)
        assert {k: case["after"][k] for k in case["after"]} == {
            "earliestUs": after.earliest_us,
            "latestUs": after.latest_us,
            "bootUs": after.boot_us,
        }


@pytest.mark.parametrize("name", sorted(vectors.RULES))
def test_every_refused_rule_has_an_accepted_twin(name):
    cases = {case["name"]: case for case in load(name)}
    for case in cases.values():
        fine = case.get("expected", "accepted") == "accepted"
        assert fine or cases[case["twin"]]["expected"] == "accepted", case["name"]


def test_the_generator_writes_these_very_bytes(tmp_path):
    keys = tmp_path / vectors.KEYS
    keys.mkdir()
    for path in (FOLDER / vectors.KEYS).iterdir():
        (keys / path.name).write_bytes(path.read_bytes())
    written = vectors.write(tmp_path)
    assert {path.name: path.read_text() for path in written} == {p.name: p.read_text() for p in FOLDER.glob("*.json")}


def test_private_keys_of_the_vectors_say_that_they_are_for_tests_only():
    assert all("test-only" in path.name.lower() for path in (FOLDER / vectors.KEYS).iterdir())
