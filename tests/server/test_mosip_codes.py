"""Every error code that MOSIP's services document for what we ask is mapped, explained, and means one thing.

The lists are those of the services' own enumerations, number by number; a code added there is a line here first.
"""

import re
from pathlib import Path

import pytest

from fleetward_sandbox.mosip import words
from fleetward_server.mosip import answers
from fleetward_server.mosip.answers import BY_CODE, DONE_BY_TEXT, OWN, Fault, Meaning, meaning
from fleetward_server.mosip.exchange import WHYS
from fleetward_server.mosip.operating import explained


def numbered(prefix: str, *numbers: int | range) -> list[str]:
    """Return codes of one prefix, three digits at least."""
    flat = [one for part in numbers for one in ([part] if isinstance(part, int) else part)]
    return [f"{prefix}{number:03d}" for number in flat]


DOCUMENTED = {
    "partner management, registered devices": numbered("PMS_AUT_", range(8, 26), range(30, 33)),
    "partner management, models": numbered("PMS_AUT_", range(1, 6), 25, 27, 28),
    "partner management, services": numbered("PMS_AUT_", 6, 7, 26, range(506, 519)),
    "partner management, FTM chips": numbered("PMP_AUT_", range(30, 35), range(37, 40)),
    "partner management, partners": [
        *numbered("PMS_PRT_", 5, 45, 46, 54, 55, 107, 108, 500),
        "PMS_PMP_016",
        "PMS_KKS_001",
    ],
    "partner management, searches": ["PMS-MSD-310", "PMS-MSD-313"],
    "masterdata, registered devices": [
        *numbered("ADM-DPM-", 3, 26, 27, 30, range(32, 36), 37, 38, 42, 43),
        "MSD-RDS-001",
    ],
    "masterdata, validation": numbered("ADM-DPM-", range(1, 10)),
    "masterdata, de-registration": [
        *numbered("KER-DPR-", range(1, 5)),
        *numbered("KER-DPM-", 1, 2, 39),
        "KER-MSD-999",
        "KER-MSD-500",
    ],
    "hotlist": numbered("ADM-HTL-", range(1, 16)),
    "keymanager, partners' certificates": [
        *numbered("KER-PCM-", range(1, 19)),
        *numbered("KER-PMS-", 19, 20),
        "KER-KMS-021",
    ],
    "keymanager, signatures": numbered("KER-JWS-", range(102, 109)),
    "keymanager, certificates": numbered("KER-KMS-", 2, 5, 12, 13, 500),
    "authentication": [
        *numbered("KER-ATH-", range(1, 9), 21, 22, 23, 25, 26, 401, 402, 403, 500, 501),
        "PMS-ATH-401",
    ],
}
ALL = sorted({code for codes in DOCUMENTED.values() for code in codes})


@pytest.mark.parametrize("code", ALL)
def test_every_documented_code_is_mapped_and_explained(code: str) -> None:
    assert meaning(Fault(code, "")) is not Meaning.UNKNOWN
    assert explained(code) != "not documented"


def test_no_code_is_mapped_that_nobody_documents() -> None:
    assert set(BY_CODE) == set(ALL)
    assert {code for code, _ in DONE_BY_TEXT} <= set(ALL)


def test_a_code_of_nobodys_is_unknown_and_said_so() -> None:
    assert meaning(Fault(words.UNHEARD_OF[0], "")) is Meaning.UNKNOWN
    assert explained(words.UNHEARD_OF[0]) == "not documented"


def test_our_own_words_for_a_way_that_failed_cannot_be_taken_for_mosips() -> None:
    assert all(re.fullmatch("[a-z-]+", code) and explained(code) != "not documented" for code in WHYS)
    assert all(re.fullmatch("[a-z-]+", code) and explained(code) != "not documented" for code in OWN)
    assert not {*WHYS, *OWN} & set(ALL)


def test_what_the_sandbox_says_is_documented() -> None:
    said = [*words.PMS.values(), *words.MASTERDATA.values(), *words.HOTLIST.values(), *words.SEARCH.values()]
    said += [*words.PARTNERS.values(), *words.CHIPS.values()]
    said += [*words.KEYMANAGER.values(), words.AUTH, words.LOGIN]
    assert {code for code, _ in said} <= set(ALL)


def test_every_word_of_ours_for_a_task_is_explained() -> None:
    folder = Path(answers.__file__).parent
    said = {word for path in folder.glob("*.py") for word in re.findall(r'Fault\("([a-z-]+)"', path.read_text())}
    assert said == {*OWN} - {answers.UNREADABLE}
