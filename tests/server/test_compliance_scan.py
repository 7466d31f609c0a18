"""The search for biometric marks finds each of them in each spelling, and nothing in what we write (C10)."""

import base64
import json
import random
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.signers import make_key
from fleetward_schemas.inventory import sign_words
from fleetward_schemas.jws import Alg
from fleetward_server.cli.app import run
from fleetward_server.compliance_scan import found, marks
from tests.chains import Recipe, chain

CONTENT = random.Random(1).randbytes(900)
HEADS = {
    "ISO 19794 record": b"FMR\x00020\x00",
    "WSQ image": b"\xff\xa0\xff\xa4\x00\x3a",
    "JPEG image": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "JPEG 2000 image": b"\x00\x00\x00\x0cjP  \r\n\x87\n",
    "PNG image": b"\x89PNG\r\n\x1a\n",
}


@pytest.mark.parametrize("what", HEADS)
def test_a_raw_record_is_found_where_it_begins(what: str) -> None:
    assert (5, what) in list(found(b"\x00....".ljust(5) + HEADS[what] + CONTENT))


@pytest.mark.parametrize("what", HEADS)
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_a_record_in_base64_is_found(what: str, encode: object) -> None:
    text = b'{"value": "' + encode(HEADS[what] + CONTENT) + b'"}'  # type: ignore[operator]
    assert {f"{what} in base64", "opaque run"} <= {name for _, name in found(text)}


@pytest.mark.parametrize("what", ["ISO 19794 record", "WSQ image", "JPEG image"])
def test_a_record_in_hex_is_found(what: str) -> None:
    assert f"{what} in hex" in {name for _, name in found((HEADS[what] + CONTENT).hex().encode())}


@pytest.mark.parametrize("text", [b'"bioValue": "x"', b"sessionKey=abc", b"<BIR >", b"<cbeff:BDB>"])
def test_the_fields_of_a_capture_are_found(text: bytes) -> None:
    assert len(list(found(text))) == 1


def test_what_is_encrypted_has_no_mark_and_is_found_by_its_length() -> None:
    assert [name for _, name in found(b"value=" + base64.urlsafe_b64encode(b"\x01" + CONTENT))] == ["opaque run"]


def proofs() -> dict[str, bytes]:
    """Return long runs that are proofs of identity, as files of ours hold them."""
    leaf, above = chain(Recipe("leaf", "rsa2048 leaf"), Recipe("root", "rsa2048 root"))
    token = sign_words(b'{"a": 1}', make_key(Alg.RS256), leaf.der).encode()
    nested = sign_words(b'{"digitalId": "%s"}' % token, make_key(Alg.RS256), leaf.der).encode()
    request = base64.b64encode(profiles.request("any", make_key(Alg.RS256)).public_bytes(Encoding.DER))
    both = base64.b64encode(leaf.der), base64.b64encode(above.der)
    signed = b"eyJhIjoxfQ.eyJhIjoxfQ." + base64.urlsafe_b64encode(CONTENT[:512]).rstrip(b"=")
    return {"a chain": b'["%s", "%s"]' % both, "a token": token, "a token in a token": nested, "a request": request} | {
        "a long signature": signed
    }


@pytest.mark.parametrize("name", ["a chain", "a token", "a token in a token", "a request", "a long signature"])
def test_a_proof_of_identity_is_no_opaque_run(name: str) -> None:
    text = proofs()[name]
    assert re.search(rb"[A-Za-z0-9+/_-]{513}", text)
    assert list(found(text)) == []


def test_what_only_looks_like_a_proof_is_one_no_more() -> None:
    (leaf,) = chain(Recipe("leaf", "rsa2048 leaf"))
    image = base64.b64encode(HEADS["WSQ image"] + CONTENT)
    hidden = {
        "behind a certificate": base64.b64encode(leaf.der + CONTENT),
        "in a certificate's clothes": base64.b64encode(b"\x30\x82" + CONTENT),
        "a signature before its point": base64.urlsafe_b64encode(CONTENT[:512]).rstrip(b"=") + b".",
        "a longer signature": b"a.b." + base64.urlsafe_b64encode(CONTENT[:515]).rstrip(b"="),
        "in a token": base64.b64encode(b'{"pad": "%s", "value": "%s"}' % (b" ." * 300, base64.b64encode(CONTENT))),
        "an image in a token": base64.b64encode(b'{"pad": "%s", "value": "%s"}' % (b" ." * 300, image)),
        "deeper than anybody nests": base64.b64encode(CONTENT),
    }
    for _ in range(5):
        one = hidden["deeper than anybody nests"]
        hidden["deeper than anybody nests"] = base64.b64encode(b'{"a": "%s"}' % one)
    for name, text in hidden.items():
        assert "opaque run" in {what for _, what in found(text)}, name
    assert "WSQ image in base64" in {what for _, what in found(hidden["an image in a token"])}


def test_two_hundred_thousand_random_tokens_are_none_of_it() -> None:
    dice = random.Random(7)
    text = b"\n".join(base64.urlsafe_b64encode(dice.randbytes(96)) for _ in range(200_000))
    assert list(found(text)) == []


def test_a_file_is_searched_and_an_empty_one_too(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_bytes(b"refused " + base64.b64encode(HEADS["WSQ image"] + CONTENT))
    (tmp_path / "b.log").touch()
    assert {(Path(one.path).name, one.offset) for path in tmp_path.iterdir() for one in marks(path)} == {("a.log", 8)}


def test_the_command_tells_where_and_never_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret = base64.b64encode(HEADS["PNG image"] + CONTENT)
    (tmp_path / "a.log").write_bytes(secret)

    assert run(["compliance", "scan", str(tmp_path), "--json"]) == 7
    said = capsys.readouterr().out
    assert {one["what"] for one in json.loads(said)} == {"PNG image in base64", "opaque run"}
    assert secret.decode()[:40] not in said


def test_a_clean_folder_is_clean_and_a_missing_file_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.log").write_text("2026-05-01T12:00:00.000Z info refused code=stale\n")
    assert run(["compliance", "scan", str(tmp_path), "--json"]) == 0
    assert run(["compliance", "scan", str(tmp_path / "none"), "--json"]) == 2
    assert "none" in capsys.readouterr().err
