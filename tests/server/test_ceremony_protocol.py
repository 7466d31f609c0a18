"""What a ceremony's protocol must hold: each flaw of a key or certificate is named, and its flawless twin believed."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Issuer, Subject
from fleetward_broker.signers import make_key
from fleetward_schemas.certificates import Unit, spki
from fleetward_schemas.jws import Alg, PrivateKey
from fleetward_schemas.strict import show_der
from fleetward_server.ceremony_protocol import MUST_SAY, MadeKey, Named, Report, Unproven, flaws, open_protocol, seal

PLAN = """\
ceremony: provider-2026
purpose: root and an issuing authority
witnesses: [A. Security]
token: "pkcs11:token=fleetward?module-path=/opt/hsm/p11.so&pin-source=/etc/pin{excused}"
keys: {{root: {{alg: EdDSA}}, device-ca: {{alg: EdDSA}}}}
certificates:
  root: {{profile: root, key: root, issuer: root, common_name: Live root, organisation: Live,
    not_before: 2026-01-01, not_after: 2045-12-01}}
  device-ca: {{profile: issuing, key: device-ca, issuer: root, unit: device, common_name: Live device CA,
    organisation: Live, not_before: 2026-01-01, not_after: 2035-12-01}}
"""
START, END, SOON = (datetime(year, 12 if year > 2026 else 1, 1, tzinfo=UTC) for year in (2026, 2045, 2035))
ATTRIBUTES = {**MUST_SAY, "token": "yes", "private": "yes", "decrypt": "no", "unwrap": "no", "derive": "no"}
DEVICE = Subject("Live device CA", "Live", Unit.DEVICE)


@pytest.fixture(scope="module")
def keys() -> dict[str, PrivateKey]:
    return {name: make_key(Alg.EDDSA) for name in ("root", "device-ca")}


@pytest.fixture(scope="module")
def root(keys: dict[str, PrivateKey]) -> Issuer:
    subject = Subject("Live root", "Live")
    return Issuer(profiles.self_signed(subject, keys["root"], START, END), keys["root"])


def issued(root: Issuer, key: PrivateKey, **other: Any) -> x509.Certificate:
    wish = {"profile": profiles.ISSUING, "subject": DEVICE, "start": START, "end": SOON} | other
    return profiles.issue(
        wish["profile"], wish["subject"], key.public_key(), root, start=wish["start"], end=wish["end"]
    )


@pytest.fixture
def report(keys: dict[str, PrivateKey], root: Issuer) -> Callable[..., Report]:
    def make(*, excused: str = "", certificate: x509.Certificate | None = None, **attributes: str) -> Report:
        said = ATTRIBUTES | {name.replace("_", "-"): value for name, value in attributes.items()}
        made = [
            MadeKey(name=name, uri="pkcs11:", alg="EdDSA", spki=show_der(spki(key.public_key())), attributes=said)
            for name, key in keys.items()
        ]
        leaf = certificate or issued(root, keys["device-ca"])
        ders = {"root": root.certificate, "device-ca": leaf}
        return Report(
            ceremony="provider-2026",
            plan=PLAN.format(excused=excused),
            software="fleetward",
            actor="operator:test",
            began="2026-11-26T12:00:00.000Z",
            ended="2026-11-26T12:00:01.000Z",
            token={},
            keys=made,
            certificates=[Named(name=name, der=show_der(one.public_bytes(Encoding.DER))) for name, one in ders.items()],
            authorities=[],
        )

    return make


def test_what_is_as_planned_has_no_flaw_and_is_believed(
    report: Callable[..., Report], keys: dict[str, PrivateKey]
) -> None:
    made = report()

    assert list(flaws(made)) == []
    assert open_protocol(seal(made, keys)) == made


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"extractable": "yes"}, "CKA_EXTRACTABLE is yes, must be no"),
        ({"never_extractable": "no"}, "CKA_NEVER_EXTRACTABLE is no, must be yes"),
        ({"local": "no"}, "CKA_LOCAL is no, must be yes"),
        ({"sensitive": "unreported"}, "CKA_SENSITIVE is unreported, must be yes"),
        ({"extractable": "unreported", "excused": "&fleetward-unreported=sensitive"}, "CKA_EXTRACTABLE is unreported"),
        ({"local": "no", "excused": "&fleetward-unreported=local"}, "CKA_LOCAL is no, must be yes"),
        ({"decrypt": "yes"}, "CKA_DECRYPT is yes"),
        ({"unwrap": "yes"}, "CKA_UNWRAP is yes"),
        ({"derive": "yes"}, "CKA_DERIVE is yes"),
        ({"private": "no"}, "CKA_PRIVATE is no"),
    ],
)
def test_a_key_that_may_leave_or_do_more_than_sign_is_named(
    report: Callable[..., Report], keys: dict[str, PrivateKey], attributes: dict[str, str], said: str
) -> None:
    found = list(flaws(report(**attributes)))

    assert found[0].startswith(f"key root: {said}")
    with pytest.raises(Unproven, match="key root: CKA_"):
        open_protocol(seal(report(**attributes), keys))


def test_silence_is_excused_by_the_tokens_uri_alone(report: Callable[..., Report]) -> None:
    assert list(flaws(report(local="unreported", excused="&fleetward-unreported=local"))) == []
    assert list(flaws(report(decrypt="unreported", derive="unreported"))) == []


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"subject": Subject("Live device CA", "Live", Unit.FACTORY)}, "for CN=Live device CA,OU=factory,O=Live"),
        ({"end": END}, "valid 2026-01-01 to 2045-12-01"),
        ({"start": datetime(2026, 1, 2, tzinfo=UTC)}, "valid 2026-01-02 to 2035-12-01"),
        ({"profile": profiles.DEVICE}, "other extensions than an authority's four"),
        ({"profile": profiles.ROOT}, "basic constraints or key usage are not those of its profile"),
    ],
)
def test_a_certificate_that_says_more_or_less_than_planned_is_named(
    report: Callable[..., Report], root: Issuer, keys: dict[str, PrivateKey], other: dict[str, Any], said: str
) -> None:
    found = list(flaws(report(certificate=issued(root, keys["device-ca"], **other))))

    assert found[0].startswith(f"certificate device-ca: {said}")


def test_a_certificate_over_another_key_or_by_another_issuer_is_named(
    report: Callable[..., Report], root: Issuer, keys: dict[str, PrivateKey]
) -> None:
    stranger = make_key(Alg.EDDSA)
    false_root = Issuer(root.certificate, stranger)

    assert list(flaws(report(certificate=issued(root, stranger)))) == [
        "certificate device-ca: not for the key device-ca"
    ]
    said = list(flaws(report(certificate=issued(false_root, keys["device-ca"]))))
    assert said == ["certificate device-ca: not issued by root"]


def test_what_is_missing_or_was_not_planned_is_named(report: Callable[..., Report]) -> None:
    whole = report()
    less = whole.changed(certificates=whole.certificates[:1])
    more = whole.changed(authorities=whole.certificates[:1])
    other = whole.changed(plan=whole.plan.replace("alg: EdDSA", "alg: RS256", 1))

    assert list(flaws(less)) == ["certificates: device-ca: not as the plan wants"]
    assert list(flaws(more)) == ["authorities: root: not as the plan wants"]
    assert next(iter(flaws(other))).startswith("key root: EdDSA, over a key for EdDSA: the plan wants RS256")


def test_keys_that_were_not_made_here_swear_to_nothing(
    report: Callable[..., Report], keys: dict[str, PrivateKey]
) -> None:
    with pytest.raises(Unproven, match="1 of the keys that were made have not signed it"):
        open_protocol(seal(report(), {"root": keys["root"]}))
    with pytest.raises(Unproven, match="by a key that was not made here"):
        open_protocol(seal(report(), {**keys, "other": make_key(Alg.EDDSA)}))
