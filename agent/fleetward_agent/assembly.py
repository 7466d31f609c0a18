"""A configuration made into a device: files opened and checked against each other before anything is dialled."""

import sqlite3
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_agent.config import Config, ConfigProblem
from fleetward_agent.device import Device
from fleetward_agent.hands import Hands, Later
from fleetward_agent.host import DeclaredScanner, HostGauge
from fleetward_agent.key_places import key_store
from fleetward_agent.origin import Credential, Origin
from fleetward_agent.outbox import FILE as OUTBOX_FILE
from fleetward_agent.outbox import Limits, Outbox
from fleetward_agent.parts import Options, Parts
from fleetward_agent.ports import KeyStore, Scanner
from fleetward_agent.state import StateFile
from fleetward_broker.signers import open_key
from fleetward_schemas.certificates import common_name, key_thumbprint, public_key
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Certification, device_id


def assemble(
    config: Config, *, scanner: Scanner | None = None, keys: KeyStore | None = None, hands: Hands | None = None
) -> Device:
    """Return the device that ``config`` describes; ``scanner``, ``keys``, ``hands`` stand in for the configured ones.

    Raises:
        ConfigProblem: a file is missing, broken, or does not fit the others. KeyUnavailable: a key cannot be opened.
    """
    origin = origin_of(config)
    try:
        state = StateFile(config.state_dir)
        most = config.limits
        limits = Limits(most.outbox_rows, most.outbox_bytes, most.telemetry_days)
        outbox = Outbox(config.state_dir / OUTBOX_FILE, limits)
    except (OSError, sqlite3.Error) as error:
        raise ConfigProblem(f"{config.state_dir}: cannot be used: {error}") from None
    parts = Parts(
        keys=keys or keys_of(config),
        scanner=scanner or DeclaredScanner(origin.digital_id),
        state=state,
        outbox=outbox,
        gauge=HostGauge(config.state_dir),
        hands=hands or hands_of(config),
    )
    return Device(origin, parts, options_of(config))


def hands_of(config: Config) -> Hands | None:
    """Return who installs what the configuration names; what it takes is loaded at the first upgrade."""

    def make() -> Hands:
        from fleetward_agent.equipment import workshop_of

        return workshop_of(config)

    return Later(make) if config.software else None


def keys_of(config: Config) -> KeyStore:
    """Return where the device's own keys are.

    Raises:
        KeyUnavailable: the token's URI is wrong.
    """
    identity, keys = device_id(config.identity.digital_id), config.keys
    return key_store(config.state_dir / "keys", keys.device, keys.transport, config.folder, identity)


def options_of(config: Config) -> Options:
    """Return where to connect and with which keys."""
    return Options(
        host=config.server.host,
        port=config.server.port,
        server_name=config.server.name or config.server.host,
        device_alg=config.keys.device_alg,
        transport_alg=config.keys.transport_alg,
        keep_alive_s=config.server.keep_alive_s,
        need_ms=config.clock.need_ms,
        health_s=config.upgrade.health_s,
        drift_ppm=config.clock.drift_ppm,
        bytes_per_day=config.budget.bytes_per_day,
    )


def origin_of(config: Config) -> Origin:
    """Open what the factory put in.

    Raises:
        ConfigProblem, KeyUnavailable: see ``assemble``.
    """
    papers, keys = config.identity, config.keys
    factory = credential(config.folder, keys.factory, keys.factory_chain)
    name = common_name(x509.load_der_x509_certificate(factory.chain[0]).subject)
    if name != f"f-{device_id(papers.digital_id)}":
        expected = device_id(papers.digital_id)
        raise ConfigProblem(f"{config.folder / keys.factory_chain}: for {name!r}: the identity is f-{expected}")
    level_1 = papers.certification is Certification.L1
    return Origin(
        digital_id=papers.digital_id,
        certification=papers.certification,
        purpose=papers.purpose,
        env=config.server.env,
        roots=tuple(certificates(config.provider_root)),
        factory=factory,
        ftm=credential(config.folder, keys.ftm, keys.ftm_chain) if level_1 else None,
        mosip=mosip_anchors(config),
    )


def mosip_anchors(config: Config) -> MosipAnchors | None:
    """Read MOSIP's anchors; a device need not have any.

    Raises:
        ConfigProblem: the file is there and cannot be read.
    """
    path = config.folder / config.files.mosip_anchors
    try:
        return MosipAnchors.of_pem(path.read_bytes()) if path.exists() else None
    except (OSError, Refused) as problem:
        raise ConfigProblem(f"{path}: {problem}") from None


def credential(folder: Path, uri: str, chain: str) -> Credential:
    """Open a key and the chain that certifies it.

    Raises:
        ConfigProblem: the chain is not for this key. KeyUnavailable: the key cannot be opened.
    """
    key = open_key(uri, folder)
    found = certificates(folder / chain)
    try:
        fits = key_thumbprint(public_key(found[0])) == key_thumbprint(key.public_key())
    except Refused as refusal:
        raise ConfigProblem(f"{folder / chain}: {refusal.detail}") from None
    if not fits:
        raise ConfigProblem(f"{folder / chain}: the certificate is for another key than {uri}")
    return Credential(key, tuple(one.public_bytes(Encoding.DER) for one in found))


def certificates(path: Path) -> list[x509.Certificate]:
    """Read the certificates of a PEM file.

    Raises:
        ConfigProblem: missing, or holding none.
    """
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise ConfigProblem(f"{path}: {error.strerror}") from None
    except ValueError:
        raise ConfigProblem(f"{path}: holds no PEM certificate") from None
