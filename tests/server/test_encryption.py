"""Encryption certificates on their way to devices: whole paths, to each that comes and to all when one changes."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_schemas.encryption import Encryption, MosipAnchors, believed
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Environment
from fleetward_schemas.presence import Status
from fleetward_schemas.strict import show_der
from fleetward_schemas.topics import down
from fleetward_server.changes import PutDevice
from fleetward_server.chores import HANDED_A_TURN, Chores
from fleetward_server.config import Config, ConfigProblem
from fleetward_server.encryption import bodies, told
from fleetward_server.mosip.encryption import EncryptionCertificate
from fleetward_server.mosip.settings import MosipTable
from fleetward_server.presence import on_status
from fleetward_server.settings import ProviderTable
from fleetward_server.state import Presence
from fleetward_server.store import Store, open_store
from tests.chains import DAY, NOW, Made, Recipe, chain
from tests.server.provider import DEVICE_ID, POLICY, Voice, device_speaker, known, said
from tests.server.provider import device as row
from tests.server.register import device

ROOT = Recipe("ROOT", "rsa2048 root", ca=True, usage=None, aki=None)
IDA = Recipe("IDA", "rsa2048 ida", ca=True, usage=None, aki=None)
FIR = Recipe("FIR", "rsa2048 fir", usage=frozenset({"key_encipherment"}), aki=None)
DOMAIN = "https://id.example.org"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with open_store(tmp_path / "server.db", create=True) as made:
        yield made


def keep(store: Store, leaf: Made, domain: str = DOMAIN) -> None:
    end = leaf.certificate.not_valid_after_utc
    kept = EncryptionCertificate(Environment.DEVELOPER, domain, NOW, "ida", leaf.der, end, NOW)
    with store.unit() as unit:
        unit.put_encryption_certificate(kept)


def config(folder: Path, *held: x509.Certificate, **mosip: str) -> Config:
    (folder / "anchors.pem").write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in held))
    named = {"url": "https://x", "client_id": "us", "anchors": "anchors.pem"}
    table = MosipTable(**(named | mosip), domain_uris=(DOMAIN,))  # type: ignore[arg-type]
    return Config(folder, ProviderTable("Acme", "acme", Environment.DEVELOPER), mosip=table)


def test_a_device_with_the_root_alone_can_believe_what_it_is_told(store: Store, tmp_path: Path) -> None:
    leaf, ida, root = chain(FIR, IDA, ROOT)
    keep(store, leaf)
    (body,) = bodies(config(tmp_path, root.certificate, ida.certificate), store, NOW)
    assert (body.domainUri, body.env) == (DOMAIN, Environment.DEVELOPER)
    assert body.certificates == [show_der(leaf.der), show_der(ida.der)]
    assert believed(body, MosipAnchors([root.certificate]), NOW) == leaf.certificate


def test_a_negative_serial_number_as_mosips_is_told_without_a_warning(store: Store, tmp_path: Path) -> None:
    leaf, ida, root = chain(replace(FIR, serial=-77), IDA, ROOT)
    keep(store, leaf)
    (body,) = bodies(config(tmp_path, root.certificate, ida.certificate), store, NOW)
    assert body.certificates == [show_der(leaf.der), show_der(ida.der)]


def test_what_is_over_or_no_more_under_the_anchors_is_not_told(store: Store, tmp_path: Path) -> None:
    leaf, ida, root = chain(FIR, IDA, ROOT)
    keep(store, leaf)
    whole = config(tmp_path, root.certificate, ida.certificate)
    assert len(bodies(whole, store, NOW)) == 1
    assert bodies(whole, store, NOW + 30 * DAY) == ()
    (tmp_path / "other").mkdir()
    other = chain(replace(ROOT, key="rsa2048 other"))[0]
    assert bodies(config(tmp_path / "other", other.certificate), store, NOW) == ()


def test_what_no_configuration_names_any_more_is_not_told(store: Store, tmp_path: Path) -> None:
    leaf, *above = chain(FIR, IDA, ROOT)
    keep(store, leaf)
    keep(store, leaf, "https://former.example.org")
    whole = config(tmp_path, *(one.certificate for one in above))
    assert [body.domainUri for body in bodies(whole, store, NOW)] == [DOMAIN]
    moved = replace(whole, provider=replace(whole.provider, environment=Environment.STAGING))
    assert bodies(moved, store, NOW) == ()


def test_without_mosip_nothing_is_told_and_unreadable_anchors_are_named(store: Store, tmp_path: Path) -> None:
    leaf, ida, root = chain(FIR, IDA, ROOT)
    keep(store, leaf)
    assert bodies(config(tmp_path, ida.certificate, root.certificate, profile="off"), store, NOW) == ()
    assert bodies(config(tmp_path, ida.certificate, root.certificate, anchors=""), store, NOW) == ()
    with pytest.raises(ConfigProblem, match=r"missing\.pem"):
        bodies(config(tmp_path, root.certificate, anchors="missing.pem"), store, NOW)


BODY = Encryption(env=Environment.DEVELOPER, domainUri=DOMAIN, certificates=[show_der(chain(FIR)[0].der)])
TELLING = replace(POLICY, encryption=(BODY, BODY.changed(domainUri="https://two.example.org")))


@pytest.mark.parametrize(
    ("state", "standing", "words"),
    [("online", State.REGISTERED, 2), ("offline", State.REGISTERED, 0), ("online", State.QUARANTINED, 0)],
)
def test_a_device_is_told_of_each_domain_when_it_comes(state: str, standing: State, words: int) -> None:
    session = "A" * 22
    message = said("status", Status(state=state, session=session), Voice(device_speaker()))  # type: ignore[arg-type]
    turn = on_status(message, known(device=row(state=standing, session=session)), TELLING)
    assert [reply.topic for reply in turn.replies] == [down(DEVICE_ID, "encryption")] * words
    assert {reply.digital_id for reply in turn.replies} == ({"signed.digital.id"} if words else set())


def test_when_one_changes_all_that_are_there_are_told_once_a_few_at_a_time(store: Store) -> None:
    there = {device(number, presence=Presence.ONLINE, digital_id="x") for number in range(HANDED_A_TURN + 3)}
    away = [
        device(901, presence=Presence.OFFLINE, digital_id="x"),
        device(902, presence=Presence.ONLINE, digital_id="x", state=State.QUARANTINED),
        device(903, presence=Presence.ONLINE),
    ]
    with store.unit() as unit:
        unit.apply(PutDevice(one) for one in (*there, *away))
    chores = Chores(store)
    assert chores.handed(TELLING) == ()
    chores.hand_out()
    turns = [chores.handed(TELLING) for _ in range(4)]
    assert [len(turn) for turn in turns] == [2 * HANDED_A_TURN, 6, 0, 0]
    assert {reply.topic for turn in turns for reply in turn} == {down(one.id, "encryption") for one in there}


def test_a_device_is_told_nothing_where_nothing_is_kept() -> None:
    assert told(DEVICE_ID, "x", POLICY) == ()
