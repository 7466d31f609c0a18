"""Promises of the refusal codes."""

import pytest

from fleetward_schemas.errors import FINAL_CODES, Code, LocalMistake, Refused


def test_codes_are_the_words_of_the_wire():
    assert [code.value for code in Code][:12] == [
        "too-large",
        "malformed",
        "bad-alg",
        "wrong-topic",
        "unknown-kind",
        "not-allowed",
        "stale",
        "unknown-signer",
        "wrong-server",
        "bad-signature",
        "replayed",
        "bad-body",
    ]


@pytest.mark.parametrize("code", list(Code))
def test_a_refusal_shows_its_code_first(code):
    assert str(Refused(code, "left: right")) == f"{code}: left: right"


def test_a_refusal_without_detail_is_its_code_alone():
    assert str(Refused(Code.STALE)) == "stale"


def test_only_what_signing_anew_cannot_mend_is_final():
    assert {Code.BAD_BODY, Code.UNKNOWN_KIND, Code.NOT_ALLOWED, Code.TOO_LARGE} == FINAL_CODES
    assert not FINAL_CODES & {Code.STALE, Code.REPLAYED, Code.UNKNOWN_SIGNER}


def test_our_own_mistake_is_no_refusal():
    assert not issubclass(LocalMistake, Refused)
