"""MOSIP's encryption certificates on their way to devices: to each that comes online, and to all when one changes.

They are in the store, where the connector to MOSIP keeps them; devices verify them by themselves. A device that has one
already does nothing, so saying it again costs a message. Source: E1, E2.
"""

from datetime import datetime

from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.encryption import Encryption, MosipAnchors, der
from fleetward_schemas.errors import Refused
from fleetward_schemas.shapes import MAX_CHAIN
from fleetward_schemas.strict import show_der
from fleetward_schemas.topics import DeviceId, down
from fleetward_server.config import Config, ConfigProblem
from fleetward_server.mosip.encryption import EncryptionCertificate
from fleetward_server.store import Store
from fleetward_server.turn import Policy, Reply


def anchors_of(config: Config, key: str) -> MosipAnchors | None:
    """Read the file that ``[mosip] <key>`` names; None when it names none.

    Raises:
        ConfigProblem: naming the file.
    """
    named = str(getattr(config.mosip, key))
    if not named:
        return None
    path = config.folder / named
    try:
        return MosipAnchors.of_pem(path.read_bytes())
    except (OSError, Refused) as problem:
        raise ConfigProblem(f"{path}: [mosip] {key} cannot be read: {problem}") from None


def bodies(config: Config, store: Store, now: datetime) -> tuple[Encryption, ...]:
    """Return what devices are told: what is kept and holds now, with all between it and MOSIP's root.

    Raises:
        ConfigProblem: MOSIP's anchors cannot be read.
    """
    anchors = anchors_of(config, "anchors") if config.mosip.on else None
    if anchors is None:
        return ()
    # E2: what was fetched for another environment, or a domain no longer named, is told no more.
    wanted = {(config.provider.environment, domain) for domain in config.mosip.domain_uris}
    rows = (row for row in store.encryption_certificates() if (row.env, row.domain_uri) in wanted)
    made = (_body(row, anchors, now) for row in rows if row.usable(now))
    return tuple(body for body in made if body is not None)


def _body(row: EncryptionCertificate, anchors: MosipAnchors, now: datetime) -> Encryption | None:
    try:
        path = anchors.verify_own(read_certificate(row.der or b""), now)
    except Refused:
        return None
    chain = [one for one in path[:MAX_CHAIN] if one.issuer != one.subject]
    return Encryption(env=row.env, domainUri=row.domain_uri, certificates=[show_der(der(one)) for one in chain])


def told(device_id: DeviceId, digital_id: str, policy: Policy) -> tuple[Reply, ...]:
    """Return the words to one device."""
    return tuple(Reply(down(device_id, "encryption"), body, digital_id) for body in policy.encryption)
