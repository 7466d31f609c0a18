"""A key in a token is named by a strict URI that never holds a PIN; the PIN is read from where only we can read."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pins import read_pin
from fleetward_broker.pkcs11_uri import DIGESTS, KEYGENS, MAY_BE_UNREPORTED, TokenUri, read_uri, show_uri
from fleetward_broker.signers import open_key

QUERY = "?module-path=/usr/lib/p11.so&pin-source=/etc/pin"
GOOD = "pkcs11:token=fleetward;object=device-ca" + QUERY
WHOLE = TokenUri(Path("/usr/lib/p11.so"), "/etc/pin", token="fleetward", label="device-ca")


def test_a_uri_names_module_token_key_and_where_the_pin_is():
    assert read_uri(GOOD) == WHOLE


@pytest.mark.parametrize(
    ("text", "part", "value"),
    [
        (GOOD.replace("token=fleetward", "serial=0123ab"), "serial", "0123ab"),
        (GOOD.replace("token=fleetward", "token=our%20fleet%3B%3D"), "token", "our fleet;="),
        (GOOD.replace("object=device-ca", "id=%01%fF%20"), "id", b"\x01\xff "),
        (GOOD.replace("/etc/pin", "credential:hsm-pin"), "pin_source", "credential:hsm-pin"),
        (GOOD.replace("/etc/pin", "file:/etc/pin"), "pin_source", "/etc/pin"),
        (GOOD.replace("/etc/pin", "file:///etc/pin"), "pin_source", "/etc/pin"),
        (GOOD.replace("/etc/pin", "hsm/pin"), "pin_source", "/provider/hsm/pin"),
        (GOOD + "&fleetward-session=rw", "rw", True),
        (GOOD + "&fleetward-session=ro", "rw", False),
        (GOOD + "&fleetward-unreported=local,sensitive", "unreported", ("local", "sensitive")),
        (GOOD + "&fleetward-keygen=x9.31", "keygen", "x9.31"),
        (GOOD + "&fleetward-digest=inside", "digest", "inside"),
        (GOOD + "&fleetward-modifiable=yes", "modifiable", True),
        (GOOD + "&fleetward-wait=30", "wait_s", 30),
    ],
)
def test_each_part_is_read_as_it_is_meant(text, part, value):
    assert getattr(read_uri(text, Path("/provider")), part) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file:/a", "not a pkcs11"),
        ("pkcs11:object=a" + QUERY, "token: missing"),
        ("pkcs11:token=a?pin-source=/p", "module-path: missing"),
        ("pkcs11:token=a?module-path=p11.so&pin-source=/p", "module-path: missing, or not a whole path"),
        ("pkcs11:token=a?module-path=/m", "pin-source: missing"),
        ("pkcs11:token=a?module-path=/m&pin-source=|cat pin", "pin-source: missing, or a command"),
        ("pkcs11:token=a?module-path=/m&pin-source=credential:../x", "pin-source: a credential's name"),
        ("pkcs11:token=a?module-path=/m&pin-source=credential:..", "pin-source: a credential's name"),
        (GOOD + "&pin-value=1234", "pin-value: a PIN never stands in a URI"),
        (GOOD + "&module-name=p11", "module-name: name the module by its whole path"),
        (GOOD + "&fleetward-session=maybe", "fleetward-session: expected ro or rw"),
        (GOOD + "&fleetward-unreported=extractable", "fleetward-unreported: expected names"),
        (GOOD + "&fleetward-unreported=local,local", "fleetward-unreported: expected names"),
        (GOOD + "&fleetward-keygen=186-3", "fleetward-keygen: expected pkcs or x9.31"),
        (GOOD + "&fleetward-digest=here", "fleetward-digest: expected outside or inside"),
        (GOOD + "&fleetward-modifiable=maybe", "fleetward-modifiable: expected no or yes"),
        (GOOD + "&fleetward-wait=0", "fleetward-wait: expected whole seconds, 1..60"),
        (GOOD + "&fleetward-wait=61", "fleetward-wait: expected whole seconds, 1..60"),
        (GOOD + "&fleetward-wait=1.5", "fleetward-wait: expected whole seconds, 1..60"),
        (GOOD + "&pin-source=/other", "pin-source: twice"),
        ("pkcs11:token=a;slot-id=3" + QUERY, "slot-id: a slot's number changes"),
        ("pkcs11:token=a;type=private" + QUERY, "type: not known here"),
        ("pkcs11:token=a;token=b" + QUERY, "token: twice"),
        ("pkcs11:token=" + QUERY, "token: empty"),
        ("pkcs11:token=a%2" + QUERY, "token: a % without"),
        ("pkcs11:token=%ff" + QUERY, "token: not UTF-8"),
        ("pkcs11:token=a%0Ab" + QUERY, "token: holds what cannot be printed"),
    ],
)
def test_what_is_wrong_is_refused_by_the_name_of_its_attribute(text, said):
    with pytest.raises(KeyUnavailable, match="^(pkcs11 URI: )?" + said.replace("|", r"\|")):
        read_uri(text)


@pytest.mark.parametrize("text", [GOOD + "&pin-value=4711", "pkcs11:token=a;pin-value=4711" + QUERY])
def test_a_pin_in_a_uri_is_never_said_again(text):
    with pytest.raises(KeyUnavailable) as refused:
        open_key(text)
    assert "4711" not in str(refused.value)


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), min_size=1, max_size=32)


OURS = st.fixed_dictionaries(
    {
        "rw": st.booleans(),
        "unreported": st.lists(st.sampled_from(MAY_BE_UNREPORTED), unique=True).map(tuple),
        "keygen": st.sampled_from(KEYGENS),
        "digest": st.sampled_from(DIGESTS),
        "modifiable": st.booleans(),
        "wait_s": st.integers(1, 60),
    }
)


@given(NAMES, st.text("0123456789abcdef", max_size=16), NAMES, st.binary(max_size=20), OURS)
def test_what_is_shown_reads_as_the_same(token, serial, label, key_id, ours):
    uri = TokenUri(Path("/usr/lib/p 11.so"), "/etc/our pin", token, serial, label, key_id, **ours)
    assert read_uri(show_uri(uri)) == uri


def test_a_pin_is_read_from_its_file_without_the_line_end(tmp_path):
    (tmp_path / "pin").write_text(" 12 34 \n")
    (tmp_path / "pin").chmod(0o600)
    assert read_pin(str(tmp_path / "pin")) == " 12 34 "


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_pin_that_others_may_read_is_not_read(tmp_path, mode):
    (tmp_path / "pin").write_text("1234")
    (tmp_path / "pin").chmod(mode)
    with pytest.raises(KeyUnavailable, match="readable by others"):
        read_pin(str(tmp_path / "pin"))


@pytest.mark.parametrize(("raw", "said"), [(b"", "no PIN"), (b"\n", "no PIN"), (b"\xff", "not UTF-8")])
def test_a_file_without_a_pin_is_refused(tmp_path, raw, said):
    (tmp_path / "pin").write_bytes(raw)
    (tmp_path / "pin").chmod(0o600)
    with pytest.raises(KeyUnavailable, match=said):
        read_pin(str(tmp_path / "pin"))


def test_a_pin_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(KeyUnavailable, match="gone: No such file"):
        read_pin(str(tmp_path / "gone"))


def test_a_credential_without_a_service_manager_is_refused():
    with pytest.raises(KeyUnavailable, match="given no credentials"):
        read_pin("credential:hsm-pin")
