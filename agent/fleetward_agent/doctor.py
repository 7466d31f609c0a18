"""``fleetward-agent doctor``: one line per check, what was found, and what to do where it fails."""

import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fleetward_agent.assembly import certificates, credential, keys_of, options_of, origin_of
from fleetward_agent.config import Config, ConfigProblem, Site, for_scanner
from fleetward_agent.drivers import Driver, Unnamed, driver_for
from fleetward_agent.keys import DEVICE
from fleetward_agent.plug import Plugged
from fleetward_agent.release_reader import FILE as ROOT_FILE
from fleetward_agent.state import FILE as STATE_FILE
from fleetward_agent.state import StateFile, StateProblem
from fleetward_agent.world import tls_context
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.pkcs11_uri import show_uri, token_alone
from fleetward_broker.signers import needing_hsm
from fleetward_schemas.certificates import Anchors, Unit
from fleetward_schemas.errors import Refused
from fleetward_schemas.identity import Certification, device_id

DIAL_S = 5.0
LEAST_FREE_BYTES = 100 * 1024 * 1024
_PROBLEMS = (ConfigProblem, KeyUnavailable, StateProblem, Refused, Unnamed, OSError)


@dataclass(frozen=True, slots=True)
class Finding:
    """One check. detail: what was found, or what is wrong and what to do."""

    check: str
    ok: bool
    detail: str


def examine(config: Config) -> list[Finding]:
    """Make every check; one that fails does not keep the others from being made."""
    return [
        _made("identity", lambda: f"{config.identity.certification} {device_id(config.identity.digital_id)}"),
        _made("factory-key", lambda: _factory(config)),
        _made("ftm-key", lambda: _ftm(config)),
        _made("device-key", lambda: _device(config)),
        _made("release-root", lambda: _release_root(config)),
        *_software(config),
        _made("state", lambda: _state(config)),
        _made("disk", lambda: _disk(config)),
        _made("broker", lambda: _broker(config)),
    ]


def examine_plugs(site: Site, things: frozenset[Plugged]) -> list[Finding]:
    """Check every driver, and every scanner that is plugged in as far as its table alone names it."""
    findings = [_made(f"driver {driver.name}", partial(_driver, driver)) for driver in site.drivers]
    for thing in sorted(things, key=lambda one: one.port):
        driver = driver_for(site.drivers, thing)
        if driver is not None:
            findings += _scanner(site, driver, thing)
    return findings


def _driver(driver: Driver) -> str:
    if driver.program and not os.access(driver.program[0], os.X_OK):
        raise ConfigProblem(f"{driver.program[0]}: cannot be run; is it installed, and is its mode 755?")
    return f"{driver.vendor or '*'}:{driver.product or '*'} {' '.join(driver.program)}".strip()


def _scanner(site: Site, driver: Driver, thing: Plugged) -> Iterator[Finding]:
    try:
        config = for_scanner(site, driver, driver.facts_of(thing, {}))
    except _PROBLEMS as problem:
        # Its program is not asked: what it tells would be news here, and doctor changes nothing.
        yield Finding(f"scanner {driver.name}", ok=bool(driver.program), detail=f"{thing.port}: {problem}")
        return
    for finding in examine(config):
        yield Finding(f"{config.folder.name} {finding.check}", finding.ok, finding.detail)


def _made(check: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(check, ok=True, detail=look())
    except _PROBLEMS as error:
        return Finding(check, ok=False, detail=str(error) or type(error).__name__)


def _factory(config: Config) -> str:
    """The factory chain must lead to the provider's root; judged when it began, for no time is trusted here."""
    origin = origin_of(config)
    leaf = certificates(config.folder / config.keys.factory_chain)[0]
    chain = Anchors(origin.roots).verify(origin.factory.chain, leaf.not_valid_before_utc)
    if chain.unit != Unit.FACTORY:
        raise ConfigProblem(f"{config.keys.factory_chain}: issued under {chain.unit!r}: expected the factory CA")
    return f"{chain.name} until {chain.not_after:%Y-%m-%d}"


def _ftm(config: Config) -> str:
    if config.identity.certification is Certification.L0:
        return "none, as an L0 device"
    ftm = credential(config.folder, config.keys.ftm, config.keys.ftm_chain)
    leaf = certificates(config.folder / config.keys.ftm_chain)[0]
    return f"{len(ftm.chain)} certificates, until {leaf.not_valid_after_utc:%Y-%m-%d}"


def _device(config: Config) -> str:
    """Look where device keys are made, with the PIN, and make none."""
    made = sum(name.startswith(DEVICE) for name in keys_of(config).names())
    if not config.keys.device:
        return f"{made} in files of the state"
    with needing_hsm():
        from fleetward_broker.token_facts import look_at_token
    facts = look_at_token(show_uri(token_alone(config.keys.device, config.folder)))
    if not (facts.makes[config.keys.device_alg] and facts.signs[config.keys.device_alg]):
        raise ConfigProblem(f"token {facts.label}: makes or signs no {config.keys.device_alg}; see [keys] device_alg")
    return f"{made} in token {facts.label}: {facts.manufacturer} {facts.model}"


def _release_root(config: Config) -> str:
    """The first root of the release repository must be one; without it nothing is ever installed."""
    path = config.folder / ROOT_FILE
    if not path.exists():
        return "none: no software is taken"
    from fleetward_agent.release_files import Odd, root_of

    try:
        root = root_of(path.read_bytes())
    except Odd as odd:
        raise ConfigProblem(f"{path}: expected a TUF root that its own keys signed: {odd}") from None
    return f"version {root.version}, {root.roles['root'].threshold} of {len(root.roles['root'].keyids)} keys"


def _software(config: Config) -> Iterator[Finding]:
    if config.software:
        from fleetward_agent.doctor_software import reboots, software

        yield from (_made(f"software {one.name}", partial(software, config, one)) for one in config.software)
        yield _made("reboot", lambda: reboots(config))


def _state(config: Config) -> str:
    folder = config.state_dir
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    probe = folder / ".doctor"
    probe.write_bytes(b"")
    probe.unlink()
    if folder.stat().st_mode & 0o077:
        raise ConfigProblem(f"{folder}: open to others; run: chmod 700 {folder}")
    if not (folder / STATE_FILE).exists():
        return f"{folder}: writable, no state yet"
    pair = StateFile(folder).load().pair
    return f"{folder}: writable, {'not enrolled' if pair is None else 'enrolled'}"


def _disk(config: Config) -> str:
    free = shutil.disk_usage(_existing(config.state_dir)).free
    if free < LEAST_FREE_BYTES:
        raise ConfigProblem(
            f"{free >> 20} MiB free: needs {LEAST_FREE_BYTES >> 20}; make room on the disk of the state"
        )
    return f"{free >> 20} MiB free"


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)


def _broker(config: Config) -> str:
    """Shake hands as ``f-``, dates unchecked: this host's own clock is not trusted, so it must not decide."""
    origin, options = origin_of(config), options_of(config)
    context = tls_context(origin.roots, origin.factory, False)
    where = f"{options.host}:{options.port}"
    try:
        with (
            socket.create_connection((options.host, options.port), DIAL_S) as plain,
            context.wrap_socket(plain, server_hostname=options.server_name) as guarded,
        ):
            return f"{where} answers, {guarded.version()}"
    except ssl.SSLCertVerificationError as error:
        raise ConfigProblem(f"{where}: not the provider's broker: {error.verify_message}") from None
    except ssl.SSLError as error:
        raise ConfigProblem(f"{where}: TLS fails: {error.reason}") from None
    except OSError as error:
        raise ConfigProblem(f"{where}: cannot be reached: {error}; is the broker running?") from None
