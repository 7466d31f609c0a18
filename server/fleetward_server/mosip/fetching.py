"""Fetching encryption certificates, from each source in the order an operator gave.

``encryptioncertficates`` is the specification's own spelling, and nobody ever built it: request and answer are signed
as written there, and the moment is in the protected header, where a verifier that asks for none leaves it. Deployments
answer at IDA or at the keymanager, or hand a file over. Source: E1, E2; C2 iii; MOSIP 0.9.5.
"""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.certificates import read_pem_certificates
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.identity import Environment
from fleetward_schemas.moment import show
from fleetward_server.changes import AddAudit
from fleetward_server.mosip.answers import SIGNATURE, Fault, errors_of
from fleetward_server.mosip.encryption import EncryptionCertificate, best, missed, read_any, taken
from fleetward_server.mosip.exchange import Answer, Asked, Unreachable
from fleetward_server.mosip.profiles import Voice, wrapped
from fleetward_server.mosip.settings import Source
from fleetward_server.mosip.signing import ProviderSeal, read_answer
from fleetward_server.mosip.tokens import NoToken, Tokens
from fleetward_server.state import AuditEntry
from fleetward_server.store import Store

log = logging.getLogger("fleetward.mosip")

AS_SPECIFIED = "/v1/masterdata/device/encryptioncertficates"
GETTERS = {
    Source.IDA: "/idauthentication/v1/internal/getCertificate",
    Source.KEYMANAGER: "/v1/keymanager/getCertificate",
}


class NotGiven(Exception):  # noqa: N818 - says what is so
    """A source gave no certificate that holds. again_s: when it says to come again."""

    def __init__(self, fault: Fault, again_s: float = 0) -> None:
        super().__init__(f"{fault.code}: {fault.detail}")
        self.fault = fault
        self.again_s = again_s


class Fetching:
    """All sources of one MOSIP."""

    def __init__(
        self,
        store: Store,
        voice: Voice,
        tokens: Tokens,
        folder: Path,
        *,
        anchors: MosipAnchors | None = None,
        chance: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """Fetch for ``[mosip] domain_uris``. folder: where a relative file starts. anchors: who certifies, if not all.

        chance: uniform in [0, 1), for the waits between tries.
        """
        self._store = store
        self._voice = voice
        self._tokens = tokens
        self._folder = folder
        self._anchors = voice.anchors if anchors is None else anchors
        self._chance = chance

    def step(self, env: Environment, now: datetime) -> bool:
        """Fetch one that is due; say whether there was one."""
        for domain in self._voice.table.domain_uris:
            row = self._store.encryption_certificate(env, domain) or EncryptionCertificate(env, domain, now)
            if row.next_at <= now:
                self._keep(row, self._fetched(row, now), now)
                return True
        return False

    def _fetched(self, row: EncryptionCertificate, now: datetime) -> EncryptionCertificate:
        faults, again_s = [], 0.0
        for word in self._voice.table.encryption:
            try:
                found = self._from(Source(word), row, now)
                return taken(row, best(found, self._anchors, now), word, now)
            except NotGiven as why:
                faults.append(replace(why.fault, detail=f"{word}: {why.fault.detail}"))
                again_s = max(again_s, why.again_s)
            except Refused as refusal:
                faults.append(Fault("bad-certificate", f"{word}: {refusal.code}: {refusal.detail}"))
        # The first source is the one that should have had it.
        fault = faults[0] if faults else Fault("no-source", "[mosip] encryption names none")
        log.warning("no encryption certificate", extra={"domain": row.domain_uri, "code": fault.code})
        new = missed(row, fault, now, self._chance())
        return replace(new, next_at=max(new.next_at, now + timedelta(seconds=again_s)))

    def _keep(self, row: EncryptionCertificate, new: EncryptionCertificate, now: datetime) -> None:
        with self._store.unit() as unit:
            unit.put_encryption_certificate(new)
            if new.der is not None and new.der != row.der:
                entry = AuditEntry(now, "server", "encryption-certificate", new.domain_uri, "", new.thumbprint or "")
                unit.apply([AddAudit(entry)])

    def _from(self, source: Source, row: EncryptionCertificate, now: datetime) -> tuple[x509.Certificate, ...]:
        match source:
            case Source.FILE:
                return self._file()
            case Source.AS_SPECIFIED:
                return self._as_specified(row, now)
            case _:
                return self._getter(source, now)

    def _file(self) -> tuple[x509.Certificate, ...]:
        path = self._folder / self._voice.table.encryption_file
        try:
            return read_pem_certificates(path.read_bytes())
        except OSError as error:
            raise NotGiven(Fault("no-file", f"{path}: {error.strerror}")) from None

    def _getter(self, source: Source, now: datetime) -> tuple[x509.Certificate, ...]:
        table = self._voice.table
        query = {"applicationId": table.application_id, "referenceId": table.reference_id}
        answer = self._ask(Asked("GET", GETTERS[source], query=query), now)
        response = answer.body.get("response")
        text = response.get("certificate") if isinstance(response, dict) else None
        if not isinstance(text, str):
            raise Refused(Code.MALFORMED, "an answer without a certificate")
        return (read_any(text),)

    def _as_specified(self, row: EncryptionCertificate, now: datetime) -> tuple[x509.Certificate, ...]:
        """Ask under each chain that is shown now, the former one only where the new one's signature is not believed."""
        *others, last = self._voice.seal.shown(now)
        for seal in others:
            try:
                return self._under(seal, row, now)
            except NotGiven as why:
                if why.fault.code not in SIGNATURE:
                    raise
        return self._under(last, row, now)

    def _under(self, seal: ProviderSeal, row: EncryptionCertificate, now: datetime) -> tuple[x509.Certificate, ...]:
        try:
            # C2 iii: the moment is inside the signature; the payload holds its two members and no more.
            data = seal.sign({"env": str(row.env), "domainUri": row.domain_uri}, timestamp=show(now))
        except KeyUnavailable as problem:
            raise NotGiven(Fault("key-away", str(problem))) from None
        answer = self._ask(
            Asked("POST", AS_SPECIFIED, wrapped("io.mosip.auth.country.certificate", {"data": data}, now)), now
        )
        response = answer.body.get("response")
        if not isinstance(response, str):
            raise Refused(Code.MALFORMED, "an answer without a response")
        return _certificates(read_answer(response, self._voice.anchors, now))

    def _ask(self, asked: Asked, now: datetime) -> Answer:
        try:
            answer = self._tokens.ask(asked, now)
        except Unreachable as why:
            raise NotGiven(Fault(why.code, why.detail), why.again_s) from None
        except NoToken as why:
            raise NotGiven(why.fault) from None
        found = errors_of(answer)
        if found:
            raise NotGiven(found[0])
        return answer


def _certificates(said: Any) -> tuple[x509.Certificate, ...]:
    """An array as specified, or the single object that is in it elsewhere."""
    rows = said if isinstance(said, list) else [said]
    texts = [row.get("certificate") for row in rows if isinstance(row, dict)]
    return tuple(read_any(text) for text in texts if isinstance(text, str))
