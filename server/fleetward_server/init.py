"""``fleetward init``: a provider's PKI and one commented ``fleetward.toml``, made once in an empty folder.

The keys of root and authorities are made in a token and never leave it, or land in files, which are no HSM; the
command says so loudly. Source: protocol section 1; S6.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.durable import write_durably
from fleetward_broker.profiles import Issuer, Subject
from fleetward_broker.signers import open_key
from fleetward_schemas.certificates import Unit
from fleetward_schemas.identity import Environment
from fleetward_schemas.jws import MIN_RSA_BITS
from fleetward_server.authority import BACKDATE, publish_revocations
from fleetward_server.ca_keys import ROOT_BITS, Keys, keys_of
from fleetward_server.ceremony_use import Held, offices, table
from fleetward_server.config import FILE, ConfigProblem, load
from fleetward_server.lines import make_line, subject_of_line
from fleetward_server.standing import LINES
from fleetward_server.store import open_store


@dataclass(frozen=True, slots=True)
class Wish:
    """What to make. host: the name devices dial, which goes into the broker's certificate; port 0: any free one.

    hsm: a ``pkcs11:`` URI of the token that makes and keeps the keys; empty: files. ceremonies: folders of those that
    made them already; ``hsm`` is then empty.
    """

    name: str = "Example Devices Ltd"
    provider_id: str = "example"
    environment: Environment = Environment.DEVELOPER
    host: str = "localhost"
    port: int = 8883
    policy: str = "listed"
    telemetry_s: int = 30
    hsm: str = ""
    ceremonies: tuple[Path, ...] = ()


def make_provider(folder: Path, wish: Wish, now: datetime, say: Callable[[str], None] = lambda _: None) -> Path:
    """Make the folder's PKI, store and configuration; return the configuration's path.

    Raises:
        ConfigProblem: the folder already holds a provider, or cannot be written.
        KeyUnavailable: the token is not there, or holds such keys already.
    """
    path = folder / FILE
    if path.exists():
        raise ConfigProblem(f"{path}: already there; nothing was changed")
    keys = keys_of(wish.hsm, folder / "pki")
    held = offices(wish.ceremonies, wish.name) if wish.ceremonies else {}
    if not held:
        keys.prepare()
    try:
        (folder / "pki").mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        issuers = _taken(folder / "pki", held) if held else _made(folder / "pki", wish, keys, now, say)
        say("making the broker's and the server's certificates")
        for line in LINES:
            subject = subject_of_line(line, wish.name, wish.host)
            make_line(folder / "pki", line, subject, issuers[Unit.SERVICE], now)
        # Last of all: a crash before this line leaves a folder that init will make anew.
        open_store(folder / "server.db", create=True).close()
        write_durably(path, TOML.format(wish=wish, keys=table(held) if held else keys.table).encode())
    except OSError as error:
        raise ConfigProblem(f"{folder}: cannot be written: {error}") from None
    publish_revocations(load(folder), {}, now)
    return path


def _taken(pki: Path, held: dict[str, Held]) -> dict[Unit, Issuer]:
    """Keep the certificates of a ceremony; the root's key is not asked for and may be elsewhere."""
    for office, one in held.items():
        _keep(pki, office, one.certificate)
    authorities = {unit: held[f"{unit}-ca"] for unit in Unit}
    return {unit: Issuer(one.certificate, open_key(one.uri)) for unit, one in authorities.items()}


def _made(pki: Path, wish: Wish, keys: Keys, now: datetime, say: Callable[[str], None]) -> dict[Unit, Issuer]:
    say("making the root and three issuing CAs")
    root = _root(pki, wish, keys, now)
    return {unit: _issuing(pki, _named(wish, unit), keys, root, now) for unit in Unit}


def _root(pki: Path, wish: Wish, keys: Keys, now: datetime) -> Issuer:
    key = keys.make("root", ROOT_BITS)
    certificate = profiles.self_signed(Subject(f"{wish.name} root", wish.name), key, now - BACKDATE)
    _keep(pki, "root", certificate)
    return Issuer(certificate, key)


def _named(wish: Wish, unit: Unit) -> Subject:
    return Subject(f"{wish.name} {unit} CA", wish.name, unit)


def _issuing(pki: Path, subject: Subject, keys: Keys, root: Issuer, now: datetime) -> Issuer:
    key = keys.make(f"{subject.unit}-ca", MIN_RSA_BITS)
    certificate = profiles.issue(profiles.ISSUING, subject, key.public_key(), root, start=now - BACKDATE)
    _keep(pki, f"{subject.unit}-ca", certificate)
    return Issuer(certificate, key)


def _keep(pki: Path, name: str, certificate: x509.Certificate) -> None:
    write_durably(pki / f"{name}.pem", certificate.public_bytes(Encoding.PEM))


TOML = """\
# Fleetward, one provider. Lines that are commented out show the default.

[provider]
name = "{wish.name}"              # legal name: the O of every certificate
id = "{wish.provider_id}"         # partner id at MOSIP
environment = "{wish.environment}"  # Staging | Developer | Pre-Production | Production
profile = "demo"                  # demo | production: production refuses what only serves for trying

[broker]
host = "{wish.host}"              # what devices dial; stands in the broker's certificate
port = {wish.port}                # 0: any free port, written to run.json
# bind = "127.0.0.1"              # the address to listen on; "0.0.0.0" for all
# connects_per_s = 1000           # new connections in any second, when a whole fleet comes back (embedded broker)

[time]
source = "assumed"                # chrony | assumed: assumed is refused by the production profile
radius_ms = 250                   # assumed bound of this host's clock error, milliseconds
# beacon_s = 30                   # seconds between time beacons
# require_nts = false             # chrony: tell the time only while every source in use is proven by NTS

[enrol]
policy = "{wish.policy}"          # listed: on the provider's list -> registered, else pending
                                  # open: a valid FTM of an approved model is enough; L0 waits for an operator
# retry_after_s = 60              # when a pending device may ask again

[devices]
telemetry_s = {wish.telemetry_s}  # seconds between a device's reports
# time_s = 600                    # least seconds between a device's time questions

[limits]                          # of one device; what is beyond is refused as too-often and comes again later
# reports_per_s = 50
# reports_burst = 2000            # how many at once
# reports_per_day = 100000
# mib_per_day = 500

[keys]
# require_hsm = false             # true: no key of an authority in a file; the production profile implies it
{keys}
[rotation]
# after_days = 20                 # a device gets new keys so many days after its certificate began; 0: only by command
# jitter_days = 4                 # spread over so many days

[retention]
# telemetry_days = 90
# reports_days = 365              # all other reports; the audit is never pruned

[storage]
# min_free_mb = 200               # with less room on the disk nothing is taken from devices; they keep their reports

# [releases]                      # only with a release repository: fleetward release init
# listen = "0.0.0.0:8884"         # where the bytes are served; beside the broker, port 8884, if left out
# base_url = ""                   # https://..., where others serve a copy of releases/targets
# client_certificates = "required"    # or optional: of whoever asks for bytes
# connections = 256               # at once
# targets_days = 90               # how long what the release key signs is good for

# [mosip]
# profile = "crypto-only"         # MOSIP 1.2 and later | pms-1.1, masterdata-1.1: the registers of 1.1.x | off
# url = "https://api.example.org" # of its API
# client_id = "..."               # who logs in there; the secret stands in secret_file, mode 0600
# secret_file = "mosip.secret"
# login = "authmanager"           # or keycloak
# ca = ""                         # PEM of its TLS root; the system's if empty
# proxy = ""                      # the environment's (HTTPS_PROXY, NO_PROXY) if empty
# key = ""                        # URI of the provider's key; the device CA's if empty
# certificate = ""                # PEM over that key, signed by MOSIP: "pki/mosip-provider.pem"; the CA's if empty
# former_key, former_certificate, former_until: what import-chain shows beside them for 48 h
# anchors = ""                    # PEM of MOSIP's authorities, "pki/mosip-anchors.pem"; pms-1.1 and encryption need it
# trust_provider_id = ""          # the FTM maker's id there; L1 devices need it in 1.1
# stage = ""                      # what MOSIP calls its environment; ours if empty
# timeout_s = 20                  # for one whole exchange
# domain_uris = []                # domains whose encryption certificates are kept, for our environment
# encryption = ["encryptioncertficates", "ida", "keymanager"]    # where they are looked for, in this order; or "file"
# encryption_anchors = ""         # PEM of who alone certifies them; anchors if empty
# sbi_hashes = {{ "1.0.0" = "..." }}  # SHA-256 of the binary of each version that devices run, as MOSIP was told
"""
