"""A ceremony's plan is read strictly: each word it may have, and each that is refused with its place."""

import re
from pathlib import Path

import pytest

from fleetward_server.ceremony_plan import PlanProblem, read_plan
from fleetward_server.generations import AUTHORITIES

README = Path(__file__).parents[2] / "deploy" / "README.md"

PLAN = """\
ceremony: provider-2026
purpose: root and three issuing authorities
witnesses: [A. Security, B. Audit]
token: "pkcs11:token=fleetward?module-path=/opt/hsm/p11.so&pin-source=pin"
keys:
  root: {bits: 3072}
  device-ca: {}
certificates:
  root:
    {profile: root, key: root, issuer: root, common_name: Live root, organisation: Live Devices Ltd,
     not_before: 2026-01-01, not_after: 2045-12-01}
  device-ca:
    {profile: issuing, key: device-ca, issuer: root, unit: device, common_name: Live device CA,
     organisation: Live Devices Ltd, not_before: 2026-01-01, not_after: 2035-12-01}
"""
WHERE = Path("/ceremony/plan.yaml")


def test_a_plan_says_every_key_and_certificate() -> None:
    plan = read_plan(PLAN.encode(), WHERE)

    assert (plan.ceremony, plan.witnesses) == ("provider-2026", ["A. Security", "B. Audit"])
    assert [(name, key.alg, key.bits) for name, key in plan.keys.items()] == [
        ("root", "RS256", 3072),
        ("device-ca", "RS256", 2048),
    ]
    root, device = plan.certificates.values()
    assert (root.validity[1].isoformat(), device.subject.unit) == ("2045-12-01T00:00:00+00:00", "device")


def test_a_relative_pin_source_starts_from_the_plans_folder() -> None:
    assert read_plan(PLAN.encode(), WHERE).place(WHERE.parent).pin_source == "/ceremony/pin"


def test_the_readmes_plan_is_one_that_is_read() -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    plan = read_plan(example.encode(), WHERE)

    assert [*plan.keys] == [*plan.certificates] == list(AUTHORITIES)
    assert {wish.issuer for wish in plan.certificates.values()} == {"root-2026"}


REFUSED = [
    ("witnesses: [A. Security, B. Audit]", "witnesses: []", "witnesses: expected array of length >= 1"),
    ("purpose:", "purposes:", "purposes: not known; known: ceremony, purpose,"),
    ("purpose: ", "# purpose: ", "purpose: missing"),
    ("bits: 3072", "bits: 1024", r"keys.root.bits: expected int >= 2048"),
    ("bits: 3072", "bits: 3072, exportable: true", "keys.root.exportable: not known; known: alg, bits"),
    ("bits: 3072", "alg: ES256", "keys.root.alg: expected RS256 or EdDSA"),
    ("device-ca: {}", "Device_CA: {}", "keys.Device_CA: not of its form"),
    ("  device-ca: {}\n", "  device-ca: {}\n  spare: {}\n", "keys.spare: no certificate is for it"),
    ("  device-ca: {}\n", "  device-ca: {}\n  device-ca: {}\n", "duplicate key"),
    ("bits: 3072}", "bits: &a 3072}", "anchors and aliases are refused"),
    ("device-ca: {}", "device-ca: !!python/object/apply:os.system [id]", "not the YAML that was expected"),
    ("token=fleetward?", "token=fleetward;object=root?", "object, id: name the token alone"),
    ("&pin-source=pin", "&pin-value=1234", "a PIN never stands in a URI"),
    ("key: device-ca", "key: other", "certificates.device-ca: key: 'other' is not made here"),
    ("issuer: root, unit", "issuer: nobody, unit", "issuer: 'nobody' is no certificate above it and no authority"),
    ("unit: device, ", "", "unit: missing; an issuing CA is told by it"),
    ("unit: device", "unit: web", "certificates.device-ca.unit"),
    ("profile: root", "profile: leaf", "certificates.root.profile"),
    ("issuer: root, common_name", "issuer: device-ca, common_name", "a root is its own issuer"),
    ("2035-12-01", "2036-12-01", "certificates.device-ca: not_after: must be later than not_before, by 3650 days"),
    ("2035-12-01", "2025-12-01", "certificates.device-ca: not_after: must be later than not_before"),
    ("unit: device, common_name", "unit: device, not_before: 2025-06-01, common_name", "duplicate key"),
    ("not_after: 2045-12-01", "not_after: 2030-12-01", "not inside its issuer's validity"),
    ("not_after: 2045-12-01", "not_after: soon", "certificates.root.not_after: expected date, got str"),
    ("keys:", "authorities: {root: {key: 'file:a', certificate: a}}\nkeys:", "authorities.root: a key or certificate"),
]


@pytest.mark.parametrize(("before", "after", "said"), REFUSED)
def test_what_is_not_meant_so_is_refused_by_its_place(before: str, after: str, said: str) -> None:
    assert before in PLAN
    with pytest.raises(PlanProblem, match=said) as refused:
        read_plan(PLAN.replace(before, after, 1).encode(), WHERE)
    assert str(refused.value).startswith("/ceremony/plan.yaml: ")


def test_an_issuing_authority_certifies_no_other() -> None:
    below = PLAN + (
        "  factory-ca:\n    {profile: issuing, key: device-ca, issuer: device-ca, unit: factory, common_name: F,\n"
        "     organisation: L, not_before: 2026-01-01, not_after: 2035-12-01}\n"
    )
    with pytest.raises(PlanProblem, match=r"certificates.factory-ca: issuer: an issuing CA certifies no authority"):
        read_plan(below.encode(), WHERE)


@pytest.mark.parametrize("raw", [b"\xff", b"- a list", b"a: [", b"x" * 70_000, b""])
def test_what_is_no_plan_at_all_is_refused(raw: bytes) -> None:
    with pytest.raises(PlanProblem):
        read_plan(raw, WHERE)
