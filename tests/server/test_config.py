"""One file per provider, read strictly."""

from pathlib import Path

import pytest

from fleetward_schemas.identity import Environment
from fleetward_server.config import ConfigProblem, load

PRODUCTION = '[provider]\nname = "Acme"\nid = "acme"\nenvironment = "Developer"\nprofile = "production"\n'
PRODUCTION += '[time]\nsource = "chrony"\n'
TOKENS = "[keys]\n" + "".join(
    f'{name} = "pkcs11:token=a;object={name}?module-path=/usr/lib/p11.so&pin-source=/p"\n'
    for name in ("device_ca", "factory_ca", "service_ca")
)
GOOD = '[provider]\nname = "Acme"\nid = "acme"\nenvironment = "Developer"\n'


def written(folder: Path, text: str) -> Path:
    (folder / "fleetward.toml").write_text(text)
    return folder


def test_the_least_that_is_needed_is_who_and_where(tmp_path: Path) -> None:
    config = load(written(tmp_path, GOOD))

    assert (config.provider.environment, config.enrol.policy) == (Environment.DEVELOPER, "listed")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[provider\n", "line 1"),
        ("", "needs a [provider] table"),
        ('[provider]\nname = "A"\n', "needs id, environment"),
        (GOOD + "[brokr]\n", "did you mean 'broker'?"),
        (GOOD + "[broker]\nprot = 1\n", "did you mean 'port'?"),
        (GOOD + "[broker]\nzzzz = 1\n", "known: host, port, bind"),
        (GOOD + '[broker]\nport = "1"\n', "expected int"),
        (GOOD + "[broker]\nport = true\n", "expected int"),
        (GOOD + "[broker]\nport = 99999\n", "expected 0..65535"),
        (GOOD + '[enrol]\npolicy = "list"\n', "did you mean 'listed'?"),
        (GOOD + '[time]\nsource = "ntp"\n', "expected one of chrony, assumed"),
        (GOOD + "[time]\nrequire_nts = true\n", "require_nts = true: needs source = 'chrony'"),
        (GOOD + "[limits]\nreports_per_s = 0\n", "[limits] reports_per_s = 0: expected 1..10000"),
        (GOOD + "[limits]\nmib_per_day = 0\n", "[limits] mib_per_day = 0: expected 1..1000000"),
        (GOOD.replace("Developer", "Dev"), "expected one of Staging"),
        (GOOD + "enrol = 3\n[time]\n", "unknown key 'enrol'"),
        (GOOD + 'profile = "production"\n', "'assumed' is refused by profile 'production'"),
        (PRODUCTION, "[keys] device_ca: a file is refused by profile 'production'"),
        (PRODUCTION + TOKENS.replace("p11.so", "libsofthsm2.so"), "SoftHSM keeps files"),
        (PRODUCTION + TOKENS + "require_hsm = false\n", "require_hsm = false is refused by profile 'production'"),
        (GOOD + "[keys]\nrequire_hsm = true\n", "[keys] device_ca: a file is refused by require_hsm"),
        (GOOD + '[keys]\nrequire_hsm = "yes"\n', "expected bool"),
        (GOOD + "[keys]\nrequire_hms = true\n", "did you mean 'require_hsm'?"),
        (GOOD + TOKENS.replace("token=a", "slot-id=1"), "[keys] device_ca: pkcs11 URI: slot-id"),
        (GOOD + TOKENS.replace("&pin-source=/p", "&pin-value=1"), "a PIN never stands in a URI"),
    ],
)
def test_what_is_wrong_is_named_with_what_was_expected(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigProblem, match=str(tmp_path / "fleetward.toml")) as caught:
        load(written(tmp_path, text))

    assert said in str(caught.value)


@pytest.mark.parametrize(
    "word", ["production", "PRODUCTION", "Preproduction", "Pre-production", "Dev", "Staging ", "None", ""]
)
def test_an_environment_is_spelled_as_mosip_spells_it_or_not_at_all(tmp_path: Path, word: str) -> None:
    for one in Environment:
        assert load(written(tmp_path, GOOD.replace("Developer", one))).provider.environment is one
    with pytest.raises(ConfigProblem, match="expected one of Staging, Developer, Pre-Production, Production"):
        load(written(tmp_path, GOOD.replace("Developer", word)))


def test_a_folder_without_a_provider_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="fleetward init --dir"):
        load(tmp_path)


def test_production_is_served_by_a_measured_clock_and_a_token(tmp_path: Path) -> None:
    config = load(written(tmp_path, PRODUCTION + TOKENS))

    assert config.time.source == "chrony"
    assert config.keys.device_ca.startswith("pkcs11:token=a;object=device_ca?")


@pytest.mark.parametrize("profile", ["demo", "production"])
def test_where_an_hsm_is_required_a_root_key_may_be_away_and_may_not_lie_here(tmp_path: Path, profile: str) -> None:
    text = PRODUCTION.replace("production", profile) + TOKENS + "require_hsm = true\n"
    assert load(written(tmp_path, text)).requires_hsm
    (tmp_path / "pki").mkdir()
    (tmp_path / "pki" / "root.key.pem").touch()

    with pytest.raises(ConfigProblem, match=r"\[keys\] root: a file is refused by require_hsm"):
        load(written(tmp_path, text))


def test_production_implies_what_a_demo_may_choose(tmp_path: Path) -> None:
    soft = TOKENS.replace("p11.so", "libsofthsm2.so")

    assert load(written(tmp_path, PRODUCTION + TOKENS)).requires_hsm
    assert not load(written(tmp_path, GOOD)).requires_hsm
    assert load(written(tmp_path, GOOD + soft + "require_hsm = true\n")).requires_hsm
