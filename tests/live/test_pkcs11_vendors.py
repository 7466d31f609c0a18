"""What other vendors' tokens need, tried on the one that is here: keys made elsewhere, calls that hang, facts told."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from pkcs11 import Attribute, KeyType, MechanismFlag

from fleetward_broker.key_problems import KeyUnavailable, TokenLost
from fleetward_broker.pkcs11 import module_at
from fleetward_broker.pkcs11_uri import show_uri
from fleetward_broker.signers import open_key
from fleetward_broker.token_facts import every_attribute_of, look_at_token
from fleetward_broker.token_keys import make_token_key
from fleetward_sandbox.softhsm import SoftToken
from fleetward_schemas.jws import Alg, sign, verify

pytestmark = [pytest.mark.live, pytest.mark.part]
SAFE = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: False}


def at(hsm: SoftToken, act: Callable[[Any], object]) -> None:
    """Do something to the token as a vendor's tool would, in a session that writes."""

    def writing(session: Any) -> None:
        with session.token.open(rw=True) as own:
            act(own)

    module_at(hsm.module).token(hsm.parts).use(writing)


def generated(session: Any, label: str, key_id: bytes) -> tuple[Any, Any]:
    wish = {"id": key_id, "label": label, "store": True, "private_template": SAFE}
    return session.generate_keypair(KeyType.RSA, 2048, capabilities=MechanismFlag.SIGN | MechanismFlag.VERIFY, **wish)


def relabelled(session: Any) -> None:
    public, _ = generated(session, "relabelled", b"r")
    public[Attribute.LABEL] = "relabelled (public)"


def without_ids(session: Any) -> None:
    public, _ = generated(session, "without ids", b"w")
    public[Attribute.ID] = b"another"


def alone(session: Any) -> None:
    public, _ = generated(session, "alone", b"a")
    public.destroy()


@pytest.mark.parametrize(
    ("made", "label"), [(relabelled, "relabelled"), (without_ids, "without ids"), (alone, "alone")]
)
def test_a_key_that_a_vendors_tool_made_is_found_by_its_label_alone(
    hsm: SoftToken, made: Callable[[Any], None], label: str
) -> None:
    at(hsm, made)
    key = open_key(hsm.key(label))
    verify(key.public_key(), b"data", sign(key, b"data"))


def test_an_attribute_that_is_excused_and_wrong_is_refused_all_the_same(hsm: SoftToken) -> None:
    at(hsm, lambda session: session.generate_keypair(KeyType.RSA, 2048, id=b"e", label="excused", store=True))
    uri = show_uri(replace(hsm.parts, label="excused", unreported=("always-sensitive", "never-extractable")))
    open_key(uri)
    wrong = {Attribute.SENSITIVE: True, Attribute.EXTRACTABLE: True}
    at(
        hsm,
        lambda session: session.generate_keypair(
            KeyType.RSA, 2048, id=b"f", label="leaves", store=True, private_template=wrong
        ),
    )

    with pytest.raises(KeyUnavailable, match="CKA_NEVER_EXTRACTABLE is False"):
        open_key(show_uri(replace(hsm.parts, label="leaves", unreported=("never-extractable",))))


def test_a_token_without_the_mechanism_that_was_chosen_makes_nothing_and_says_so(hsm: SoftToken) -> None:
    uri = show_uri(replace(hsm.parts, label="x931", keygen="x9.31"))
    with pytest.raises(KeyUnavailable, match="the token refuses: MechanismInvalid"):
        make_token_key(uri, Alg.RS256)
    assert look_at_token(uri).makes["RS256"] is False
    with pytest.raises(KeyUnavailable, match="no private key 'x931'"):
        open_key(uri)


def test_a_token_that_makes_the_digest_itself_signs_what_others_do(hsm: SoftToken) -> None:
    outside, inside = (
        open_key(show_uri(replace(hsm.parts, label=str(Alg.RS256), digest=one))) for one in ("outside", "inside")
    )

    assert sign(outside, b"data") == sign(inside, b"data")
    verify(outside.public_key(), b"data", sign(inside, b"data"))


@pytest.mark.parametrize(("modifiable", "said"), [(False, "no"), (True, "yes")])
def test_a_key_that_may_be_modified_is_made_where_a_token_knows_no_other(
    hsm: SoftToken, *, modifiable: bool, said: str
) -> None:
    uri = show_uri(replace(hsm.parts, label=f"modifiable {said}", modifiable=modifiable))
    make_token_key(uri, Alg.RS256)

    assert every_attribute_of(uri)["modifiable"] == said


def test_a_token_tells_what_it_is_and_can_without_a_pin(hsm: SoftToken) -> None:
    nobody = replace(hsm.parts, pin_source="/nowhere/pin")
    facts = look_at_token(show_uri(nobody))

    assert (facts.label, facts.manufacturer, facts.flags) == ("our fleet", "SoftHSM project", ())
    assert (len(facts.serial), facts.signs, facts.makes["RS256"]) == (16, {"RS256": True, "EdDSA": True}, True)


def test_a_token_that_is_not_there_tells_nothing(hsm: SoftToken) -> None:
    with pytest.raises(TokenLost, match="token 'nobody': NoSuchToken"):
        look_at_token(show_uri(replace(hsm.parts, token="nobody")))


def test_a_key_tells_the_attributes_it_is_judged_by(hsm: SoftToken) -> None:
    judged = {
        "sensitive": "yes",
        "always-sensitive": "yes",
        "never-extractable": "yes",
        "local": "yes",
        "extractable": "no",
        "sign": "yes",
    }
    assert judged.items() <= every_attribute_of(hsm.key(Alg.RS256)).items()


HOLDER = """
import fcntl, pathlib, sys
held = [open(path, "r+b") for path in pathlib.Path(sys.argv[1]).rglob("*") if path.is_file()]
for one in held:
    fcntl.lockf(one, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_token_that_hangs_is_lost_in_time_and_back_when_it_answers(
    tokens: Callable[[str], SoftToken],
) -> None:
    """Another process holds the locks that the module waits for without an end: so hangs a device that is stuck."""
    hsm = tokens("hanging")
    # Making a key may take a busy machine longer than a hanging token is waited for here.
    make_token_key(hsm.key("a"), Alg.RS256)
    key = open_key(show_uri(replace(hsm.parts, label="a", wait_s=3)))
    command = [sys.executable, "-c", HOLDER, str(hsm.folder / "tokens")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(TokenLost, match="does not answer within 3 s"):
            sign(key, b"data")
        with pytest.raises(TokenLost):
            sign(key, b"data")
        holder.communicate("")
    while True:
        try:
            verify(key.public_key(), b"data", sign(key, b"data"))
            break
        except TokenLost:
            continue
