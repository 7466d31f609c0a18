"""A key ceremony in a real token: all of it or nothing, sworn to by every key, not believed with a byte changed."""

import base64
import itertools
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from typer.testing import CliRunner, Result

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11 import module_at
from fleetward_broker.pkcs11_uri import read_uri
from fleetward_broker.signers import open_key
from fleetward_broker.token_keys import make_token_key
from fleetward_broker.token_objects import labels
from fleetward_sandbox.softhsm import SoftToken
from fleetward_schemas.certificates import key_thumbprint, public_key
from fleetward_schemas.jws import Alg
from fleetward_schemas.strict import b64url, b64url_decode
from fleetward_server.ceremony import PROTOCOL, perform, prepare
from fleetward_server.ceremony_plan import PlanProblem
from fleetward_server.ceremony_protocol import Unproven, open_protocol
from fleetward_server.cli.app import build
from fleetward_server.cli.exit_codes import ExitCode
from fleetward_server.config import ConfigProblem, load
from fleetward_server.doctor import Health
from fleetward_server.generations import AUTHORITIES
from fleetward_server.hsm import look
from fleetward_server.init import Wish, make_provider

pytestmark = [pytest.mark.live, pytest.mark.part]
Tokens = Callable[[str], SoftToken]
HEAD = """\
ceremony: live-2026
purpose: a root and its issuing authorities
witnesses: [A. Security, B. Audit]
token: {token}
"""
CERTIFICATE = """\
  {name}: {{profile: {profile}, key: {name}, issuer: {issuer}, common_name: Live {name}, organisation: Live Devices Ltd,
    {unit}not_before: 2026-01-01, not_after: {end}}}
"""
NAMES = ("root", *AUTHORITIES)
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)


def certificate(name: str, issuer: str = "root") -> str:
    if name == issuer:
        return CERTIFICATE.format(name=name, profile="root", issuer=name, unit="", end="2045-12-01")
    unit = f"unit: {name.partition('-')[0]}, "
    return CERTIFICATE.format(name=name, profile="issuing", issuer=issuer, unit=unit, end="2035-12-01")


def plan_of(token: SoftToken, names: tuple[str, ...] = NAMES, more: str = "", issuer: str = "root") -> str:
    keys = "keys:\n" + "".join(f"  {name}: {{}}\n" for name in names)
    certificates = "certificates:\n" + "".join(certificate(name, issuer) for name in names)
    return HEAD.format(token=json.dumps(token.uri)) + more + keys + certificates


@pytest.fixture
def new(tokens: Tokens, request: pytest.FixtureRequest) -> Callable[[], SoftToken]:
    """Make a token nobody else has, which this process's module knows of."""
    numbers = itertools.count(1)

    def make() -> SoftToken:
        made = tokens(f"{request.node.name[:20]} {next(numbers)}")
        assert held(made) == set()
        return made

    return make


@pytest.fixture
def token(new: Callable[[], SoftToken]) -> SoftToken:
    return new()


def held(token: SoftToken) -> set[str]:
    return set(module_at(token.module).token(token.parts).use(labels))


def hold(tmp_path: Path, text: str, out: str = "out") -> Path:
    (tmp_path / "plan.yaml").write_text(text)
    perform(prepare(tmp_path / "plan.yaml"), tmp_path / out, "operator:test", now=lambda: NOW, say=lambda _: None)
    return tmp_path / out


def run(*words: object) -> Result:
    return CliRunner().invoke(build(), ["hsm", *map(str, words)])


def test_a_ceremony_makes_what_its_plan_says_and_openssl_believes_it(token: SoftToken, tmp_path: Path) -> None:
    out = hold(tmp_path, plan_of(token))

    assert held(token) == set(NAMES)
    assert {path.name for path in out.iterdir()} == {*(f"{name}.pem" for name in NAMES), "plan.yaml", PROTOCOL}
    for name in NAMES:
        found = x509.load_pem_x509_certificate((out / f"{name}.pem").read_bytes())
        assert key_thumbprint(public_key(found)) == key_thumbprint(open_key(token.key(name)).public_key())
        command = ["openssl", "verify", "-x509_strict", "-CAfile", str(out / "root.pem"), str(out / f"{name}.pem")]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_its_protocol_tells_every_attribute_of_every_key_and_is_signed_by_each(
    token: SoftToken, tmp_path: Path
) -> None:
    out = hold(tmp_path, plan_of(token))
    report = open_protocol((out / PROTOCOL).read_bytes())

    assert len(json.loads((out / PROTOCOL).read_bytes())["signatures"]) == len(NAMES)
    for one in report.keys:
        assert one.attributes["never-extractable"] == one.attributes["local"] == one.attributes["sensitive"] == "yes"
        assert one.attributes["extractable"] == one.attributes["decrypt"] == one.attributes["unwrap"] == "no"
        assert one.attributes["key-gen-mechanism"] == "RSA_PKCS_KEY_PAIR_GEN"
    assert (report.actor, report.began, report.token["manufacturer"]) == (
        "operator:test",
        "2026-11-26T12:00:00.000Z",
        "SoftHSM project",
    )


def test_authorities_below_a_root_that_is_there_already(
    token: SoftToken, new: Callable[[], SoftToken], tmp_path: Path
) -> None:
    root = hold(tmp_path, plan_of(token, ("root",)), "root")
    online = new()
    more = f"authorities:\n  old: {{key: {json.dumps(token.key('root'))}, certificate: root/root.pem}}\n"

    out = hold(tmp_path, plan_of(online, ("device-ca",), more, issuer="old"))

    made = x509.load_pem_x509_certificate((out / "device-ca.pem").read_bytes())
    made.verify_directly_issued_by(x509.load_pem_x509_certificate((root / "root.pem").read_bytes()))
    assert (held(token), held(online)) == ({"root"}, {"device-ca"})
    assert [one.name for one in open_protocol((out / PROTOCOL).read_bytes()).authorities] == ["old"]


def test_an_issuing_authority_certifies_no_other(
    token: SoftToken, new: Callable[[], SoftToken], tmp_path: Path
) -> None:
    first = hold(tmp_path, plan_of(token, ("root", "service-ca")), "first")
    online = new()
    more = f"authorities:\n  old: {{key: {json.dumps(token.key('service-ca'))}, certificate: first/service-ca.pem}}\n"
    assert first.is_dir()

    with pytest.raises(PlanProblem, match="old: may certify no authority"):
        hold(tmp_path, plan_of(online, ("device-ca",), more, issuer="old"))
    assert held(online) == set()


def test_a_name_that_is_taken_is_never_replaced(token: SoftToken, tmp_path: Path) -> None:
    before = make_token_key(token.key("device-ca"), Alg.RS256)
    with pytest.raises(KeyUnavailable, match="holds device-ca already; nothing in it is replaced"):
        hold(tmp_path, plan_of(token))

    assert held(token) == {"device-ca"}
    assert key_thumbprint(open_key(token.key("device-ca")).public_key()) == key_thumbprint(before.public_key())
    assert not (tmp_path / "out").exists()


def test_what_fails_on_the_way_destroys_the_keys_that_were_made(token: SoftToken, tmp_path: Path) -> None:
    said: list[str] = []

    def say(text: str) -> None:
        said.append(text)
        if text == "issuing certificate factory-ca":
            raise KeyUnavailable("the token was pulled")

    (tmp_path / "plan.yaml").write_text(plan_of(token))
    with pytest.raises(KeyUnavailable, match="pulled"):
        perform(prepare(tmp_path / "plan.yaml"), tmp_path / "out", "x", now=lambda: NOW, say=say)

    assert said[-4:] == [f"destroying key {name}: the ceremony failed" for name in reversed(NAMES)]
    assert (held(token), (tmp_path / "out").exists()) == (set(), False)
    hold(tmp_path, plan_of(token))


def test_a_folder_that_is_there_is_left_alone(token: SoftToken, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        hold(tmp_path, plan_of(token))
    assert held(token) == set()


def edited(raw: bytes, edit: Callable[[dict[str, Any]], None]) -> bytes:
    """Return a protocol whose report was changed under the old signatures."""
    document = json.loads(raw)
    report = json.loads(b64url_decode(document["payload"].encode()))
    edit(report)
    document["payload"] = b64url(json.dumps(report).encode())
    return json.dumps(document).encode()


def test_a_protocol_with_a_changed_word_a_signature_less_or_one_twice_is_not_believed(
    token: SoftToken, tmp_path: Path
) -> None:
    raw = (hold(tmp_path, plan_of(token, ("root", "device-ca"))) / PROTOCOL).read_bytes()
    document = json.loads(raw)
    less = {**document, "signatures": document["signatures"][:1]}
    twice = {**document, "signatures": [*document["signatures"], document["signatures"][0]]}
    other_type = b64url(json.dumps({"alg": "RS256", "typ": "fw1+jws"}).encode())
    typed = {**document, "signatures": [{**document["signatures"][0], "protected": other_type}]}

    assert open_protocol(raw).ceremony == "live-2026"
    for forged, said in (
        (edited(raw, lambda report: report.update(actor="operator:other")), "does not fit"),
        (json.dumps(less).encode(), "1 of the keys that were made have not signed"),
        (json.dumps(twice).encode(), "a second one by the same"),
        (json.dumps(typed).encode(), "a key that was not made here"),
        (b"{}", "not a protocol"),
        (b"\xff", "not JSON"),
    ):
        with pytest.raises(Unproven, match=said):
            open_protocol(forged)


def test_the_command_line_plans_holds_and_verifies(token: SoftToken, tmp_path: Path) -> None:
    plan, out = tmp_path / "plan.yaml", tmp_path / "out"
    plan.write_text(plan_of(token, ("root",)))

    dry = run("ceremony", plan, "--dry-run", "--json")
    assert (dry.exit_code, held(token)) == (ExitCode.OK, set())
    done = run("ceremony", plan, "--out", out, "--json")
    assert done.exit_code == ExitCode.OK, done.output
    verified = run("verify-protocol", out / PROTOCOL, "--plan", plan, "--json")
    fingerprint = ["openssl", "x509", "-in", str(out / "root.pem"), "-noout", "-fingerprint", "-sha256"]
    told = subprocess.run(fingerprint, capture_output=True, text=True, check=True).stdout

    found = json.loads(verified.stdout)
    assert found["certificates"]["root"] == told.partition("=")[2].strip().replace(":", "").lower()
    assert found["plan_sha256"] == json.loads(dry.stdout)["plan_sha256"]

    plan.write_text(plan_of(token, ("root",)).replace("B. Audit", "C. Nobody"))
    assert run("verify-protocol", out / PROTOCOL, "--plan", plan).exit_code == ExitCode.UNVERIFIED
    (out / PROTOCOL).write_bytes(base64.b64encode(b"nothing"))
    assert run("verify-protocol", out / PROTOCOL).exit_code == ExitCode.UNVERIFIED
    assert run("ceremony", plan).exit_code == ExitCode.USAGE


def provider(folder: Path, *ceremonies: Path, name: str = "Live Devices Ltd") -> Path:
    make_provider(folder, Wish(name, "live", port=0, ceremonies=ceremonies), datetime.now(UTC))
    return folder


def test_a_provider_begins_with_what_two_ceremonies_made_and_its_root_may_be_away(
    token: SoftToken, new: Callable[[], SoftToken], tmp_path: Path
) -> None:
    online = new()
    hold(tmp_path, plan_of(token, ("root",)), "root")
    more = f"authorities:\n  old: {{key: {json.dumps(token.key('root'))}, certificate: root/root.pem}}\n"
    second = hold(tmp_path, plan_of(online, AUTHORITIES, more, issuer="old"), "issuing")
    for name in AUTHORITIES:
        (second / f"{name}.pem").write_bytes(b"what lies beside a protocol is not believed")

    config = load(provider(tmp_path / "provider", tmp_path / "root", second))

    assert [read_uri(uri).token for uri in config.keys.by_name().values()] == [token.label, *[online.label] * 3]
    assert {one.name for one in config.pki.glob("*.key.pem")} == {"broker.key.pem", "server.key.pem"}
    assert {one.health for one in look(config) if one.part.startswith("key")} == {Health.OK}
    alone = load(provider(tmp_path / "alone", second))
    assert alone.keys == config.keys


def test_no_provider_begins_with_half_of_a_pki_or_with_anothers(token: SoftToken, tmp_path: Path) -> None:
    whole, folder = hold(tmp_path, plan_of(token)), tmp_path / "provider"
    with pytest.raises(ConfigProblem, match=r"root is for .*: expected O=Other Devices Ltd"):
        provider(folder, whole, name="Other Devices Ltd")
    (whole / PROTOCOL).write_bytes(
        edited((whole / PROTOCOL).read_bytes(), lambda report: report.update(actor="operator:other"))
    )
    with pytest.raises(ConfigProblem, match="does not fit"):
        provider(folder, whole)
    with pytest.raises(ConfigProblem, match=r"protocol.json: No such file"):
        provider(folder, tmp_path / "nowhere")
    assert not folder.exists()


def test_a_second_root_or_a_missing_authority_is_named(
    token: SoftToken, new: Callable[[], SoftToken], tmp_path: Path
) -> None:
    first, other = hold(tmp_path, plan_of(token, ("root",)), "a"), hold(tmp_path, plan_of(new(), ("root",)), "b")

    with pytest.raises(ConfigProblem, match="b: a second root; a provider begins with one"):
        provider(tmp_path / "provider", first, other)
    with pytest.raises(ConfigProblem, match="no ceremony made device-ca, factory-ca, service-ca"):
        provider(tmp_path / "provider", first)
