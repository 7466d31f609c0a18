"""``[mosip]`` in fleetward.toml: which MOSIP, in which of its ages, and how it is reached.

Crypto-only is MOSIP 1.2 and later, which is told of no single device but the hotlisted; the two others are the
registers of 1.1.x. Secrets stand in files of mode 0600, never here. Source: S2, E1, E2.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from fleetward_schemas.encryption import DOMAIN, MAX_DOMAINS
from fleetward_schemas.errors import Refused
from fleetward_schemas.moment import parse_loose


class Profile(StrEnum):
    """Which MOSIP; ``off``: none."""

    OFF = "off"
    CRYPTO_ONLY = "crypto-only"
    PMS = "pms-1.1"
    MASTERDATA = "masterdata-1.1"


class Login(StrEnum):
    """Where tokens come from."""

    AUTHMANAGER = "authmanager"
    KEYCLOAK = "keycloak"


class Source(StrEnum):
    """Where encryption certificates come from."""

    AS_SPECIFIED = "encryptioncertficates"
    IDA = "ida"
    KEYMANAGER = "keymanager"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class MosipTable:
    """How MOSIP is reached. Paths of files are relative to fleetward.toml.

    url: of its API, https. client_id, secret_file: who logs in. app_id: authmanager's; realm: Keycloak's. ca: PEM of
    the TLS root, the system's if empty. proxy: the environment's if empty. key: URI of the provider's key, the device
    CA's if empty; certificate: PEM over that key, signed by MOSIP, the device CA's own if empty. former_key,
    former_certificate, former_until: what is shown beside them until then, ``YYYY-MM-DDTHH:MM:SSZ``. anchors: PEM of
    MOSIP's authorities. trust_provider_id: the FTM maker's id there, for L1. stage: MOSIP's own word for its
    environment. timeout_s: for one whole exchange. encryption: where certificates are looked for, in this order;
    encryption_file: PEM for ``file``. encryption_anchors: who alone certifies them, ``anchors`` if empty.
    application_id, reference_id: of the key at IDA and the keymanager. sbi_hashes: by version of the service that
    devices run, the SHA-256 of its binary in hexadecimal, or what else MOSIP was told.
    """

    profile: str = Profile.CRYPTO_ONLY
    url: str = ""
    client_id: str = ""
    secret_file: str = "mosip.secret"  # noqa: S105 - a file's name
    login: str = Login.AUTHMANAGER
    app_id: str = "partner"
    realm: str = "mosip"
    ca: str = ""
    proxy: str = ""
    key: str = ""
    certificate: str = ""
    former_key: str = ""
    former_certificate: str = ""
    former_until: str = ""
    anchors: str = ""
    trust_provider_id: str = ""
    stage: str = ""
    timeout_s: int = 20
    domain_uris: tuple[str, ...] = ()
    encryption: tuple[str, ...] = (Source.AS_SPECIFIED, Source.IDA, Source.KEYMANAGER)
    encryption_file: str = ""
    encryption_anchors: str = ""
    application_id: str = "IDA"
    reference_id: str = "IDA-FIR"
    sbi_hashes: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def on(self) -> bool:
        """Whether there is a MOSIP at all."""
        return self.profile != Profile.OFF


OFF = MosipTable(profile=Profile.OFF)


def problems(table: MosipTable) -> Iterator[str]:
    """Yield what is well-formed and unlawful, as ``key = value: expected ...``."""
    if table.profile not in list(Profile):
        yield f"profile = {table.profile!r}: expected one of {', '.join(Profile)}"
        return
    if table.login not in list(Login):
        yield f"login = {table.login!r}: expected one of {', '.join(Login)}"
    for word in table.encryption:
        if word not in list(Source):
            yield f"encryption holds {word!r}: expected {', '.join(Source)}"
    if not table.on:
        return
    parts = urlsplit(table.url)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.username is not None:
        yield f"url = {table.url!r}: expected https://<host>[:<port>][/<path>]"
    if not table.client_id:
        yield "client_id is missing: expected the client that MOSIP's Keycloak knows this provider by"
    if not 1 <= table.timeout_s <= 300:
        yield f"timeout_s = {table.timeout_s}: expected 1..300"
    yield from _former(table)
    yield from _domains(table)
    if table.profile == Profile.PMS and not table.anchors:
        yield "anchors is missing: profile 'pms-1.1' believes signed answers, so it needs MOSIP's certificates, PEM"
    if table.domain_uris and not table.anchors:
        yield "anchors is missing: encryption certificates are checked against MOSIP's certificates, PEM"
    if Source.FILE in table.encryption and not table.encryption_file:
        yield "encryption_file is missing: encryption names 'file'"


def _domains(table: MosipTable) -> Iterator[str]:
    # E2: what no device would take is not asked for.
    for domain in table.domain_uris:
        if DOMAIN.fullmatch(domain) is None:
            yield f"domain_uris holds {domain!r}: expected 1..256 printable characters without a space"
    many = len(table.domain_uris)
    if many > MAX_DOMAINS or many != len(set(table.domain_uris)):
        yield f"domain_uris holds {many}: expected at most {MAX_DOMAINS}, each once"


def _former(table: MosipTable) -> Iterator[str]:
    whole = (table.former_key, table.former_certificate, table.former_until)
    if any(whole) and not all(whole):
        yield "former_key, former_certificate, former_until: expected all three or none"
    elif all(whole):
        try:
            parse_loose(table.former_until)
        except Refused:
            yield f"former_until = {table.former_until!r}: expected YYYY-MM-DDTHH:MM:SSZ"
