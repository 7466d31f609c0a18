"""The provider's provisioning line: what a factory puts into a device, one folder each, for anybody's own client.

Each folder holds ``identity.json``, ``ftm.key.pem`` and ``ftm.chain.pem`` (L1), ``factory.key.pem`` and
``factory.chain.pem``, ``provider-root.pem``, ``connection.json``, and ``release-root.json`` where the provider has a
release repository. The device goes on the provider's list, its model
and the FTM provider's root are approved. Source: protocol section 1; schemas/README.md "The provisioned folder".
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_durably, write_private
from fleetward_broker.profiles import Issuer, Subject
from fleetward_broker.signers import key_pem, make_key
from fleetward_sandbox.factory import FtmFactory, chip_key, open_factory
from fleetward_schemas.certificates import key_thumbprint, thumbprint
from fleetward_schemas.identity import Certification, DigitalId, Purpose, device_id
from fleetward_schemas.jws import Alg, PrivateKey, PublicKey
from fleetward_schemas.moment import show, show_seconds
from fleetward_server.authority import BACKDATE
from fleetward_server.config import Config, load
from fleetward_server.generations import open_issuer
from fleetward_server.operator import LocalOperator
from fleetward_server.releases.proving import DEVICE_FILE, has_repository, root_file
from fleetward_server.state import Device
from fleetward_server.store import Store, open_store

KINDS: tuple[tuple[Literal["Finger", "Iris", "Face"], str, str], ...] = (
    ("Finger", "Slap", "SlapScan-4"),
    ("Finger", "Single", "TouchOne"),
    ("Iris", "Double", "IrisDuo"),
    ("Face", "Full face", "FaceCam"),
)
MAKE = "Sandbox"
SERIAL = "SBX"


@dataclass(frozen=True, slots=True)
class Order:
    """What to make. level: None mixes L1 and L0, four to one. listed: False leaves the list alone (a stranger).

    model: one model for all; None goes through several. alg: of the FTM key. chip: serial number -> public key of
    a chip that has made its FTM key already; the folder then has its chain and no key. milliseconds: how fine the
    moments of digital IDs are; partner management 1.1 reads no others.
    """

    count: int
    out: Path
    level: Certification | None = None
    first: int = 1
    purpose: Purpose = Purpose.REGISTRATION
    listed: bool = True
    approve_model: bool = True
    model: str | None = None
    alg: Alg = Alg.RS256
    milliseconds: bool = False
    chip: Callable[[str], PublicKey] | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """One provisioned device. folder: where it lies; ftm_key: thumbprint of its chip's SPKI, None at L0."""

    folder: Path
    identity: DigitalId
    certification: Certification
    purpose: Purpose
    ftm_key: str | None

    @property
    def id(self) -> str:
        """The device id."""
        return device_id(self.identity)


def provision(
    folder: Path, order: Order, done: Callable[[Made], None] = lambda _: None, port: int | None = None
) -> list[Made]:
    """Make ``order.count`` devices of the provider in ``folder`` and tell the provider about them.

    port: where the broker listens, when the configuration leaves it open. Raises what ``load`` and the operator raise.
    """
    config = load(folder)
    now = datetime.now(UTC)
    factory = open_factory(folder / "sandbox" / "ftm", now)
    line = _Line(config, factory, open_issuer(config, "factory-ca"), order, now, port or config.broker.port)
    made: list[Made] = []
    try:
        for device in line.devices():
            made.append(device)
            done(device)
    finally:
        # Broken off, what is there is a device all the same: the provider knows of it, and the next order goes on.
        if made:
            _tell(LocalOperator(folder, "sandbox"), factory, made, order)
    return made


def next_serial(folder: Path, out: Path) -> int:
    """Return the first serial number that neither the provider's register nor ``out`` has seen."""
    with open_store(load(folder).store_path) as store:
        names = [device.identity.serialNo for device in every_device(store)]
    papers = [json.loads(path.read_bytes())["serialNo"] for path in out.glob("*/identity.json")]
    numbers = [int(name[len(SERIAL) :]) for name in (*names, *papers) if name.removeprefix(SERIAL).isdigit()]
    return max(numbers, default=0) + 1


def every_device(store: Store) -> Iterator[Device]:
    """Yield the whole register, a page at a time."""
    page = store.devices()
    while page:
        yield from page
        page = store.devices(after=page[-1].id)


@dataclass(frozen=True, slots=True)
class _Line:
    config: Config
    factory: FtmFactory
    issuer: Issuer
    order: Order
    now: datetime
    port: int

    def devices(self) -> Iterator[Made]:
        root = (self.config.pki / "root.pem").read_bytes()
        releases = root_file(self.config.folder)[1] if has_repository(self.config.folder) else None
        for number in range(self.order.first, self.order.first + self.order.count):
            identity, level = self._identity(number), self._level(number)
            folder = self.order.out / device_id(identity)
            folder.mkdir(parents=True, exist_ok=True)
            ftm_key = self._chip(folder, identity) if level is Certification.L1 else None
            self._factory(folder, identity)
            write_durably(folder / "provider-root.pem", root)
            if releases is not None:
                write_durably(folder / DEVICE_FILE, releases)
            self._papers(folder, identity, level)
            yield Made(folder, identity, level, self.order.purpose, ftm_key)

    def _identity(self, number: int) -> DigitalId:
        kind, sub_type, model = KINDS[number % len(KINDS)] if self.order.model is None else KINDS[0]
        return DigitalId(
            serialNo=f"{SERIAL}{number:09d}",
            make=MAKE,
            model=self.order.model or model,
            type=kind,
            deviceSubType=sub_type,
            deviceProvider=self.config.provider.name,
            deviceProviderId=self.config.provider.id,
            dateTime=(show if self.order.milliseconds else show_seconds)(self.now),
        )

    def _level(self, number: int) -> Certification:
        if self.order.level is not None:
            return self.order.level
        return Certification.L0 if number % 5 == 0 else Certification.L1

    def _chip(self, folder: Path, identity: DigitalId) -> str:
        if self.order.chip is not None:
            public = self.order.chip(identity.serialNo)
        else:
            key = chip_key(self.order.alg)
            public = key.public_key()
            _keep_key(folder, "ftm", key)
        _keep_chain(folder, "ftm", self.factory.certify(identity.serialNo, public, self.now - BACKDATE))
        return key_thumbprint(public)

    def _factory(self, folder: Path, identity: DigitalId) -> None:
        key = make_key(Alg.EDDSA)
        subject = Subject(f"f-{device_id(identity)}", self.config.provider.name)
        leaf = profiles.issue(profiles.FACTORY, subject, key.public_key(), self.issuer, start=self.now - BACKDATE)
        _keep_key(folder, "factory", key)
        _keep_chain(folder, "factory", tuple(c.public_bytes(Encoding.DER) for c in (leaf, self.issuer.certificate)))

    def _papers(self, folder: Path, identity: DigitalId, level: Certification) -> None:
        papers = identity.document() | {"certification": level, "purpose": self.order.purpose}
        connection = {
            "host": self.config.broker.host,
            "port": self.port,
            "serverName": self.config.broker.host,
            "env": self.config.provider.environment,
        }
        # Who alone certifies encryption certificates, where an operator said so.
        if held := self.config.mosip.encryption_anchors or self.config.mosip.anchors:
            write_durably(folder / "mosip-anchors.pem", (self.config.folder / held).read_bytes())
        write_durably(folder / "identity.json", json.dumps(papers, indent=2).encode() + b"\n")
        write_durably(folder / "connection.json", json.dumps(connection, indent=2).encode() + b"\n")


def _keep_key(folder: Path, name: str, key: PrivateKey) -> None:
    write_private(folder / f"{name}.key.pem", key_pem(key))


def _keep_chain(folder: Path, name: str, chain: tuple[bytes, ...]) -> None:
    pem = b"".join(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in chain)
    write_durably(folder / f"{name}.chain.pem", pem)


def _tell(operator: LocalOperator, factory: FtmFactory, made: list[Made], order: Order) -> None:
    """Put what was made on the provider's list, approve its models, and trust its FTM provider."""
    known = {root.thumbprint for root in operator.ftm_roots() if root.trusted}
    if thumbprint(factory.root.public_bytes(Encoding.DER)) not in known:
        operator.add_ftm_root(factory.root.public_bytes(Encoding.PEM), "sandbox", "provisioning")
    if order.approve_model:
        models = {(m.make, m.model) for m in operator.models() if m.approved}
        for identity in {(d.identity.make, d.identity.model): d.identity for d in made}.values():
            if (identity.make, identity.model) not in models:
                operator.add_model(identity, "provisioning")
    if order.listed:
        rows = [_row(device) for device in made]
        operator.import_list(rows, dry_run=False)


def _row(device: Made) -> dict[str, object]:
    row: dict[str, object] = {k: v for k, v in device.identity.document().items() if k != "dateTime"}
    row |= {"certification": str(device.certification), "purpose": str(device.purpose)}
    return row if device.ftm_key is None else row | {"ftmKey": device.ftm_key}
