"""How the connector gets in at MOSIP: tokens, secrets, whose TLS it believes, and through which proxy."""

import pytest

from fleetward_sandbox.mosip.quirks import Quirk
from fleetward_server.mosip.settings import Profile
from tests.live.mosiphouse import L0, fresh, office
from tests.mosip import Scanner

pytestmark = pytest.mark.live


def test_one_token_serves_many_and_is_renewed_before_its_end(here):
    here.add(*(Scanner(n) for n in range(40, 45)))
    here.work()
    assert here.mosip.tokens.given == 1
    here.clock.go(seconds=280)
    here.add(Scanner(50))
    here.work()
    assert here.mosip.tokens.given == 2


def test_a_token_that_is_refused_is_replaced_at_once(here):
    here.add(L0)
    here.mosip.quirks.set(Quirk.DROP_TOKEN, 1)
    here.work()
    assert here.code(L0) == "code-1"
    assert here.mosip.tokens.given == 2


def test_a_token_that_is_always_refused_is_a_pause(here):
    here.add(L0)
    here.mosip.quirks.set(Quirk.DROP_TOKEN)
    here.work()
    assert here.tasks(L0)[0].code == "KER-ATH-401"
    assert here.tasks(L0)[0].state == "waiting"
    here.mosip.quirks.clear()
    here.work_for(minutes=1)
    assert here.code(L0) == "code-1"


@pytest.mark.parametrize("login", ["authmanager", "keycloak"])
def test_both_ways_to_log_in_work(tmp_path, served, clock, login):
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS, login=login) as here:
        here.add(L0)
        here.work()
        assert here.code(L0) == "code-1"


@pytest.mark.parametrize(("login", "code"), [("authmanager", "KER-ATH-003"), ("keycloak", "http-401")])
def test_a_wrong_secret_stops_everything_and_says_why(tmp_path, served, clock, login, code):
    fresh(served.mosip, clock)
    (tmp_path / "secret").write_text("wrong")
    (tmp_path / "secret").chmod(0o600)
    with office(tmp_path, served, clock, Profile.PMS, login=login, secret_file="secret") as here:
        here.add(L0)
        here.work_for(minutes=10, every_s=30)
        assert here.connector.pause.why is not None
        assert here.connector.pause.why.code == code
        assert here.tasks(L0)[0].attempts <= 12


def test_a_secret_that_others_may_read_is_not_used(tmp_path, served, clock):
    fresh(served.mosip, clock)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "secret").chmod(0o644)
    with office(tmp_path, served, clock, Profile.PMS, secret_file="secret") as here:
        here.add(L0)
        here.work()
        assert here.tasks(L0)[0].code == "no-secret"
        assert "/v1/partnermanager/registereddevices" not in here.mosip.asked


def test_a_server_whose_certificate_is_not_believed_gets_nothing(tmp_path, served, clock):
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS, ca=str(served.mosip.pki.folder / "root.pem")) as here:
        here.add(L0)
        here.work()
        assert here.tasks(L0)[0].code == "bad-tls"
        assert here.mosip.tokens.given == 0


NOWHERE = "http://127.0.0.1:9"


def test_a_proxy_of_the_configuration_is_honoured(tmp_path, served, clock):
    fresh(served.mosip, clock)
    with office(tmp_path, served, clock, Profile.PMS, proxy=NOWHERE) as here:
        here.add(L0)
        here.work()
        assert here.tasks(L0)[0].code == "no-connection"


def test_a_proxy_of_the_environment_is_honoured(tmp_path, served, clock, monkeypatch):
    fresh(served.mosip, clock)
    monkeypatch.setenv("HTTPS_PROXY", NOWHERE)
    with office(tmp_path, served, clock, Profile.PMS) as here:
        here.add(L0)
        here.work()
        assert here.tasks(L0)[0].code == "no-connection"
