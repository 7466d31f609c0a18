"""Two chains of one provider: MOSIP may know either for as long as its caches last, and nothing is refused by that."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fleetward_broker.profiles import Issuer
from fleetward_sandbox.mosip.serve import Served
from fleetward_schemas.identity import Environment
from fleetward_schemas.jws import approved
from fleetward_server.mosip.connector import Connector
from fleetward_server.mosip.fetching import Fetching
from fleetward_server.mosip.onboarding import OVERLAP
from fleetward_server.mosip.profiles import Voice
from fleetward_server.mosip.settings import Profile, Source
from fleetward_server.mosip.signing import Former, ProviderSeal
from tests.live.mosiphouse import START, Clock, Office, fresh, office
from tests.mosip import Scanner, authority

pytestmark = pytest.mark.live
OLD, NEW = authority("device", START), authority("device 2", START)
UNTIL = START + OVERLAP
DOMAIN = "https://id.example.org"


def speaking(made: Office) -> Voice:
    """Speak under the new chain, and the old one beside it."""
    former = Former(ProviderSeal(OLD.key, OLD.certificate), UNTIL)
    return replace(made.voice(), seal=ProviderSeal(NEW.key, NEW.certificate, former))


@pytest.fixture
def pms(tmp_path: Path, served: Served, clock: Clock) -> Iterator[Office]:
    fresh(served.mosip, clock)
    changes = {"domain_uris": (DOMAIN,), "encryption": (Source.AS_SPECIFIED,)}
    with office(tmp_path, served, clock, Profile.PMS, **changes) as made:
        made.connector = Connector(made.store, speaking(made), made.tokens(), lambda: 0.5)
        yield made


def knows(made: Office, *issuers: Issuer) -> None:
    """Let MOSIP know these keys of the provider's, and no other."""
    made.mosip.register.providers = None
    for one in issuers:
        made.mosip.register.onboard(approved(one.certificate.public_key()))


def scanner(by: Issuer) -> Scanner:
    return Scanner(1, issuer=by)


@pytest.mark.parametrize(("by", "attempts"), [(OLD, 2), (NEW, 1)], ids=["old", "new"])
@pytest.mark.parametrize("both", [True, False])
def test_a_device_under_either_is_registered_and_taken_off_while_both_are_shown(pms, by, attempts, both):
    knows(pms, *([OLD, NEW] if both else [by]))
    pms.add(scanner(by))
    pms.work_for(minutes=2)
    (task,) = pms.tasks(scanner(by))
    assert (task.state, task.attempts, task.device_code) == ("done", attempts, "code-1")
    pms.retire(scanner(by))
    pms.work_for(minutes=2)
    assert [act for act, _ in pms.mosip.done] == ["register", "deregister"]


def test_a_signature_that_neither_carries_is_refused_after_both(pms):
    knows(pms, authority("a stranger", START))
    pms.add(scanner(OLD))
    pms.work_for(minutes=10)
    (task,) = pms.tasks(scanner(OLD))
    assert (task.state, task.attempts, task.code) == ("dead", 2, "PMS_AUT_022")


@pytest.mark.parametrize(("hours", "state"), [(47, "done"), (49, "dead")])
def test_the_former_is_shown_no_longer_than_the_overlap(pms, clock, hours, state):
    knows(pms, OLD)
    clock.go(hours=hours)
    pms.add(scanner(OLD))
    pms.work_for(minutes=10)
    assert [task.state for task in pms.tasks(scanner(OLD))] == [state]


@pytest.mark.parametrize(("known", "hours", "usable"), [(NEW, 0, True), (OLD, 47, True), (OLD, 49, False)])
def test_encryption_certificates_are_asked_for_under_either(pms, clock, known, hours, usable):
    knows(pms, known)
    clock.go(hours=hours)
    fetching = Fetching(pms.store, speaking(pms), pms.tokens(), pms.folder)
    fetching.step(Environment.DEVELOPER, clock.now)
    row = pms.store.encryption_certificate(Environment.DEVELOPER, DOMAIN)
    assert row is not None
    assert row.usable(clock.now) is usable
    assert row.code == (None if usable else "PMS_AUT_022")
