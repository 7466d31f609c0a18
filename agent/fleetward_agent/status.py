"""``fleetward-agent status``: what the state files say, whether or not an agent runs."""

from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.hashes import SHA256

from fleetward_agent import BUILT
from fleetward_agent.config import Config
from fleetward_agent.outbox import BUDGET_SPENT, DROPPED, REFUSED, THINNED, Outbox
from fleetward_agent.outbox import FILE as OUTBOX_FILE
from fleetward_agent.state import FILE as STATE_FILE
from fleetward_agent.state import EncryptFor, Kept, StateFile
from fleetward_agent.upgrade_state import Committed, Software, Upgrade, highest
from fleetward_agent.world import BOOT_ID, boot_us, slept_us
from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.clock import Clock, restore
from fleetward_schemas.commands import Verb
from fleetward_schemas.identity import device_id
from fleetward_schemas.moment import show
from fleetward_schemas.strict import b64_der
from fleetward_schemas.upgrade import Phase


class NotStarted(Exception):  # noqa: N818 - says what was found
    """No agent has ever run on this state folder."""


class NotRegistered(Exception):  # noqa: N818 - says what is the matter
    """There is no certificate to speak under: only a device that has enrolled takes bundles and answers them."""


class TimeUnknown(Exception):  # noqa: N818 - says what is missing
    """No answer has bounded the time in this boot, or none for too long: there is nothing to hand on."""


@dataclass(frozen=True, slots=True)
class Status:
    """What there is to know. phase: ``new``, ``enrolling``, ``registered``, or why the server sent the device away.

    spent_bytes: of a metered link's budget, on the day it was counted last. thinned: readings that gave way.
    clock: ``synced`` within this boot, else ``floor``. width_ms: of the trusted interval, None while only a floor.
    encryption: ``<domain> <SHA-256> until <moment>`` for each encryption certificate. software: for each name what is
    committed, and how far its upgrade got.
    """

    device_id: str
    phase: str
    keys: str
    certificate_until: str | None
    waiting: int
    dropped: int
    thinned: int
    refused: int
    open_commands: int
    spent_bytes: int
    clock: str
    now: str
    width_ms: int | None
    encryption: tuple[str, ...] = ()
    software: tuple[str, ...] = ()


def status_of(config: Config) -> Status:
    """Read the state folder.

    Raises:
        NotStarted: there is no state. StateProblem, sqlite3.Error, OSError: it cannot be read.
    """
    folder = config.state_dir
    if not (folder / STATE_FILE).exists() or not (folder / OUTBOX_FILE).exists():
        raise NotStarted(f"{folder}: no state yet; run: fleetward-agent run")
    kept = StateFile(folder).load()
    boot = boot_us()
    clock = restore(
        kept.clock,
        BUILT,
        BOOT_ID.read_text().strip(),
        boot,
        drift_ppm=config.clock.drift_ppm,
        slept_us=slept_us(),
    )
    outbox = Outbox(folder / OUTBOX_FILE)
    try:
        return _status(config, kept, clock, boot, outbox)
    finally:
        outbox.close()


def _status(config: Config, kept: Kept, clock: Clock, boot: int, outbox: Outbox) -> Status:
    synced = clock.synced(boot)
    committed = highest(kept.software.committed, outbox.floors())
    return Status(
        device_id=device_id(config.identity.digital_id),
        phase=phase_of(kept),
        keys=keys_of(kept),
        certificate_until=None if kept.pair is None else certificate_until(kept.pair.device_chain),
        waiting=outbox.depth,
        dropped=outbox.counter(DROPPED),
        thinned=outbox.counter(THINNED),
        refused=outbox.counter(REFUSED),
        open_commands=len(outbox.open_commands()),
        spent_bytes=outbox.counter(BUDGET_SPENT),
        clock="synced" if synced else "floor",
        now=show(clock.now(boot)),
        width_ms=clock.width_at(boot) // 1000 if synced else None,
        encryption=tuple(map(encrypts_for, kept.encryption)),
        software=software_of(replace(kept.software, committed=committed)),
    )


def software_of(software: Software) -> tuple[str, ...]:
    """Return a line for each name: what is committed, and how far the upgrade that is assigned got."""
    names = {one.name for one in software.committed} | {one.name for one in software.upgrades}
    return tuple(_software(name, software.floor(name), software.named(name)) for name in sorted(names))


def _software(name: str, floor: Committed, upgrade: Upgrade | None) -> str:
    runs = f"committed {floor.counter} ({floor.version})" if floor.counter else "nothing committed"
    if upgrade is None or (upgrade.counter, upgrade.phase) == (floor.counter, Phase.COMMITTED):
        return f"{name}: {runs}"
    why = f", {upgrade.why}" if upgrade.why is not None else ""
    return f"{name}: {runs}; {upgrade.counter} is {upgrade.phase}{why}, attempts {upgrade.attempts}"


def encrypts_for(one: EncryptFor) -> str:
    """Return a line on one encryption certificate, named as captures name it."""
    found = read_certificate(b64_der(one.certificate))
    return f"{one.domain_uri} {found.fingerprint(SHA256()).hex().upper()} until {show(found.not_valid_after_utc)}"


def keys_of(kept: Kept) -> str:
    """Return a word for what happens to the keys."""
    if kept.order is not None and kept.order.verb is Verb.RETIRE:
        return "retiring"
    if kept.previous is not None:
        return "rotating, both pairs held"
    if kept.order is not None and kept.order.outcome is None:
        return "rotating"
    return "none" if kept.pair is None else "in use"


def phase_of(kept: Kept) -> str:
    """Return a word for where a device stands when nothing but its state is known."""
    if kept.gone is not None:
        return kept.gone.reason
    if kept.pair is not None:
        return "registered"
    return "new" if kept.candidate is None else "enrolling"


def certificate_until(chain: tuple[str, ...]) -> str:
    """Return when a certificate ends."""
    return show(read_certificate(b64_der(chain[0])).not_valid_after_utc)
