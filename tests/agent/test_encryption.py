"""Encryption certificates at the device: believed under MOSIP's anchors alone, and never an older one again."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.hashes import SHA256

from fleetward_agent.walk import Stage as At
from fleetward_schemas.encryption import MAX_DOMAINS, Encryption, MosipAnchors
from fleetward_schemas.errors import Code
from fleetward_schemas.identity import Environment
from fleetward_schemas.strict import show_der
from tests.agent.forging import code_of, sealed
from tests.chains import DAY, Made, Recipe, chain
from tests.world import START, Provider, Stage

ENCRYPTS = frozenset({"key_encipherment"})
DATES = {"start": START - 10 * DAY, "end": START + 10 * DAY, "organisation": "MOSIP"}
ROOT = Recipe("www.mosip.io ROOT", "rsa2048 root", ca=True, usage=None, aki=None, serial=-9, **DATES)
IDA = Recipe("www.mosip.io IDA", "rsa2048 ida", ca=True, usage=None, aki=None, **DATES)
PMS = replace(IDA, name="www.mosip.io PMS", key="rsa2048 pms")
FIR = Recipe("www.mosip.io IDA-FIR", "rsa2048 fir", usage=ENCRYPTS, aki=None, **DATES)
# As MOSIP signs them anew: authorities, whose key may be encrypted for.
PARTNER = replace(PMS, name="Bank", key="rsa2048 bank", organisation="Bank", usage=ENCRYPTS | {"key_cert_sign"})
THIEF = replace(ROOT, key="rsa2048 thief")
DOMAIN = "https://id.example.org"


@pytest.fixture
def working(provider: Provider) -> Stage:
    """A device that the factory gave MOSIP's root."""
    stage = Stage(provider)
    stage.origin = replace(stage.origin, mosip=MosipAnchors([chain(ROOT)[0].certificate]))
    stage.start()
    stage.until(lambda: stage.device.stage is At.WORKING, 60)
    stage.pass_s(2)
    return stage


def body(made: Sequence[Made], domain: str = DOMAIN, env: Environment = Environment.DEVELOPER) -> Encryption:
    below = [show_der(one.der) for one in made if one.recipe.name != ROOT.name]
    return Encryption(env=env, domainUri=domain, certificates=below)


def told(stage: Stage, said: Encryption, late_s: float = 0) -> str | None:
    """Return the code by which the device refuses a word that the server rightly signed; None when it takes it."""
    draft = stage.server.draft(stage.id, "encryption", said)
    return code_of(stage, sealed(stage, draft, late_s=late_s), draft.topic)


def kept(stage: Stage) -> dict[str, str]:
    return {one.domain_uri: one.certificate for one in stage.device.session.kept.encryption}


def test_a_certificate_of_mosips_is_kept_through_a_restart(working: Stage) -> None:
    made = chain(FIR, IDA, ROOT)
    assert told(working, body(made)) is None
    assert kept(working) == {DOMAIN: show_der(made[0].der)}
    working.start()
    assert kept(working) == {DOMAIN: show_der(made[0].der)}
    thumbprint = made[0].certificate.fingerprint(SHA256()).hex().upper()
    assert working.events("encryption-certificate") == [{"thumbprint": thumbprint, "device": working.id}]


def test_the_same_again_changes_nothing(working: Stage) -> None:
    said = body(chain(FIR, IDA, ROOT))
    assert [told(working, said), told(working, said)] == [None, None]
    assert len(working.events("encryption-certificate")) == 1


def test_a_newer_one_takes_its_place_and_an_older_one_never_again(working: Stage) -> None:
    older, newer = chain(FIR, IDA, ROOT), chain(replace(FIR, key="rsa2048 newer", start=START - DAY), IDA, ROOT)
    assert told(working, body(older)) is None
    assert told(working, body(newer)) is None
    assert told(working, body(older)) == Code.BAD_BODY
    assert kept(working) == {DOMAIN: show_der(newer[0].der)}


def test_each_domain_has_its_own_and_there_is_an_end_to_them(working: Stage) -> None:
    made = chain(FIR, IDA, ROOT)
    for number in range(MAX_DOMAINS):
        assert told(working, body(made, f"https://{number}.example.org")) is None
    assert told(working, body(made, "https://more.example.org")) == Code.BAD_BODY
    assert len(kept(working)) == MAX_DOMAINS
    assert told(working, body(chain(replace(FIR, start=START - DAY), IDA, ROOT), "https://0.example.org")) is None


FALSE = {
    "a thief's own": (FIR, replace(IDA, key="rsa2048 false"), THIEF),
    "expired": (replace(FIR, end=START - DAY), IDA, ROOT),
    "of an expired authority": (replace(FIR, serial=78), replace(IDA, end=START - DAY), ROOT),
    "of who is no authority": (replace(FIR, serial=78), replace(IDA, ca=False), ROOT),
    "for signing": (replace(FIR, usage=frozenset({"digital_signature"})), IDA, ROOT),
    "a weak key": (replace(FIR, key="rsa1024 fir"), IDA, ROOT),
    "no RSA": (replace(FIR, key="ed25519 fir"), IDA, ROOT),
    "SHA-1": (replace(FIR, hash="sha1"), IDA, ROOT),
    "a partner of MOSIP's": (PARTNER, PMS, ROOT),
    "a partner of MOSIP 1.1's": (replace(PARTNER, usage=None), PMS, ROOT),
    "what a partner certified in MOSIP's name": (replace(FIR, key="rsa2048 false"), PARTNER, PMS, ROOT),
    "what a partner certified in its own": (replace(FIR, organisation="Bank"), PARTNER, PMS, ROOT),
}


@pytest.mark.parametrize("recipes", FALSE.values(), ids=list(FALSE))
def test_a_stolen_signing_key_says_not_whom_biometrics_are_encrypted_for(
    working: Stage, recipes: tuple[Recipe, ...]
) -> None:
    good = chain(FIR, IDA, ROOT)
    assert told(working, body(good)) is None
    assert told(working, body(chain(*recipes))) == Code.BAD_BODY
    assert kept(working) == {DOMAIN: show_der(good[0].der)}


def test_without_what_is_between_there_is_no_path(working: Stage) -> None:
    made = chain(FIR, IDA, ROOT)
    assert told(working, body(made[:1])) == Code.BAD_BODY
    assert told(working, body(made)) is None


def test_another_environments_certificate_is_another_servers(working: Stage) -> None:
    assert told(working, body(chain(FIR, IDA, ROOT), env=Environment.PRODUCTION)) == Code.WRONG_SERVER
    assert kept(working) == {}


def test_without_anchors_none_is_believed_and_nobody_is_alarmed(stage: Stage) -> None:
    stage.until(lambda: stage.device.stage is At.WORKING, 60)
    stage.pass_s(2)
    assert told(stage, body(chain(FIR, IDA, ROOT))) is None
    assert kept(stage) == {}
    assert len(stage.events("encryption-certificate-unbelieved")) == 1


def test_a_word_older_than_a_week_is_not_looked_at(working: Stage) -> None:
    said = body(chain(FIR, IDA, ROOT))
    assert told(working, said, late_s=8 * 86_400) == Code.STALE
    assert told(working, said, late_s=6 * 86_400) is None
