"""The sandbox MOSIP over HTTP: the paths, the wrapper of every answer, and where a quirk spoils one.

A failure is HTTP 200 with ``errors``, as MOSIP has it; a token that is not good is 401.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives.serialization import Encoding
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fleetward_broker.profiles import DAY, Issuer
from fleetward_broker.signers import make_key
from fleetward_sandbox.mosip import chips
from fleetward_sandbox.mosip.approvals import Approvals
from fleetward_sandbox.mosip.flaws import not_minimal
from fleetward_sandbox.mosip.partners import Partners
from fleetward_sandbox.mosip.pki import MosipPki, pem
from fleetward_sandbox.mosip.quirks import Quirk, Quirks
from fleetward_sandbox.mosip.register import BLOCKED, UNBLOCKED, Register
from fleetward_sandbox.mosip.signatures import read_signed, sign, sign_as_masterdata
from fleetward_sandbox.mosip.spoiled import Spoiling, spoiled
from fleetward_sandbox.mosip.tokens import Tokens, sent
from fleetward_sandbox.mosip.words import AUTH, KEYMANAGER, LOGIN, PMS, UNHEARD_OF, Complaint, shown
from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.jws import Alg, approved
from fleetward_schemas.moment import show
from fleetward_schemas.strict import b64url, show_der

Body = dict[str, Any]
Act = Callable[[Body, datetime], object]
REFERENCES = {("IDA", "IDA-FIR"), ("IDA", "PARTNER"), ("COMPLIANCE_TOOLKIT", "COMP-FIR")}
SERVICES = "/v1/partnermanager/securebiometricinterface"
ENVIRONMENTS = ("Staging", "Developer", "Pre-Production", "Production")


def utc_now() -> datetime:
    """Read the clock of the host; tests give another."""
    return datetime.now(UTC)


@dataclass
class SandboxMosip:
    """All that a MOSIP is. asked: (path, how often) for whoever wants to know. done: what was carried out, in order.

    approvals: what its partner management 1.2 approved.
    """

    pki: MosipPki
    tokens: Tokens
    register: Register = field(default_factory=Register)
    quirks: Quirks = field(default_factory=Quirks)
    now: Callable[[], datetime] = utc_now
    domains: set[str] | None = None
    asked: dict[str, int] = field(default_factory=dict)
    done: list[tuple[str, str]] = field(default_factory=list)
    partners: Partners = field(init=False)
    approvals: Approvals = field(default_factory=Approvals)

    def __post_init__(self) -> None:
        """Begin without partners."""
        self.partners = Partners(self.pki)

    # What the services do.

    def upload_certificate(self, request: Body, now: datetime) -> object:
        """POST /v1/partnermanager/partners/certificate/upload: whose key this is, is known from now on."""
        answer, uploaded = self.partners.upload_certificate(request, now, as_p7b=self.quirks.happens(Quirk.P7B))
        if request["partnerDomain"] == "FTM":
            self.register.trust_providers.add(str(request["partnerId"]))
        else:
            self.register.onboard(approved(uploaded.public_key()))
        self.done.append(("upload", str(request["partnerId"])))
        return answer

    def register_pms(self, request: Body, now: datetime) -> object:
        """POST /v1/partnermanager/registereddevices."""
        if self.quirks.happens(Quirk.SIGNING_FAILS):
            raise Complaint(PMS["signing"])
        answer = self.register.pms_register(_text(request, "deviceData"), now)
        self.done.append(("register", answer["deviceCode"]))
        row = next(row for row in self.register.rows.values() if row.code == answer["deviceCode"])
        repeated = self._repeated(row.identity)
        # Its two registers answer in two ways.
        plain = row.purpose.lower() == "registration"
        digital = b64url(json.dumps(repeated).encode()) if plain else self.signed(repeated, now)
        return self.signed(answer | {"digitalId": digital}, now)

    def _repeated(self, identity: Body) -> Body:
        return identity | {"serialNo": "another"} if self.quirks.happens(Quirk.OTHER_DEVICE) else identity

    def deregister_pms(self, request: Body, now: datetime) -> object:
        """POST /v1/partnermanager/registereddevices/deregister."""
        answer = self.register.deregister("pms", _text(request, "device"))
        self.done.append(("deregister", answer["deviceCode"]))
        return self.signed(answer, now)

    def search_pms(self, request: Body, _: datetime) -> object:
        """POST /v1/partnermanager/registereddevices/search: by serial number alone."""
        wanted = [one.get("value", "") for one in request.get("filters", []) if one.get("columnName") == "serialNo"]
        data = [row for serial in wanted for row in self.register.pms_search(str(serial))]
        return {"fromRecord": 0, "toRecord": len(data), "totalRecord": len(data), "data": data}

    def register_masterdata(self, request: Body, now: datetime) -> object:
        """POST /v1/masterdata/registereddevices."""
        answer = self.register.masterdata_register(_text(request, "deviceData"), now)
        self.done.append(("register", answer["deviceCode"]))
        row = next(row for row in self.register.rows.values() if row.code == answer["deviceCode"])
        digital = b64url(json.dumps(self._repeated(row.identity)).encode())
        return sign_as_masterdata(answer | {"digitalId": digital}, self.pki.leaf("sign"))

    def deregister_masterdata(self, request: Body, _: datetime) -> object:
        """POST /v1/masterdata/registereddevices/deregister."""
        answer = self.register.deregister("masterdata", _text(request, "device"))
        self.done.append(("deregister", answer["deviceCode"]))
        return sign_as_masterdata(answer, self.pki.leaf("sign"))

    def block(self, request: object, _: datetime) -> object:
        """POST /v1/hotlist/block: one id."""
        answer = self.register.hotlisted(request, BLOCKED)
        self.done.append(("hotlist", str(answer["id"])))
        return answer

    def unblock(self, request: object, _: datetime) -> object:
        """POST /v1/hotlist/unblock: one id."""
        answer = self.register.hotlisted(request, UNBLOCKED)
        self.done.append(("unblock", str(answer["id"])))
        return answer

    def encryption_certificates(self, request: Body, now: datetime) -> object:
        """POST /v1/masterdata/device/encryptioncertficates, spelled so."""
        asked = read_signed(_text(request, "data"), PMS["signature"], PMS["null"])
        env, domain = asked.payload.get("env"), asked.payload.get("domainUri")
        known = env in ENVIRONMENTS and isinstance(domain, str) and domain
        if asked.signer is None or not known or (self.domains is not None and domain not in self.domains):
            raise Complaint(KEYMANAGER["unknown"])
        if self.register.strict and not self.register.knows(asked):
            raise Complaint(PMS["signature"])
        spell = b64url if self.quirks.happens(Quirk.URL_BASE64) else show_der
        one = {"certificate": spell(self.encryption(now).certificate.public_bytes(Encoding.DER))}
        return self.signed(one if self.quirks.happens(Quirk.SINGLE_CERTIFICATE) else [one], now)

    def encryption(self, now: datetime) -> Issuer:
        """Return the certificate that biometrics are encrypted for."""
        if self.quirks.happens(Quirk.EXPIRED_CERTIFICATE):
            return self.pki.expired_leaf("encryption", now)
        if self.quirks.happens(Quirk.FOREIGN_CERTIFICATE):
            return self.pki.leaf("tls")
        if self.quirks.happens(Quirk.PARTNER_CERTIFICATE):
            return self.pki.partner("Bank", now - DAY)
        if self.quirks.happens(Quirk.NOT_MINIMAL):
            good = self.pki.leaf("encryption")
            return Issuer(read_certificate(not_minimal(good.certificate, self.pki.leaf("ida").key)), good.key)
        return self.pki.leaf("encryption")

    def signed(self, payload: object, now: datetime) -> str:
        """Sign an answer, or do it wrong."""
        by = self.pki.leaf("sign")
        if self.quirks.happens(Quirk.FORGED):
            by = Issuer(by.certificate, make_key(Alg.RS256))
        if self.quirks.happens(Quirk.EXPIRED_SIGNER):
            by = self.pki.expired_leaf("sign", now)
        if self.quirks.happens(Quirk.PARTNER_SIGNER):
            by = self.pki.partner("Bank", now - DAY)
        if self.quirks.happens(Quirk.UNSIGNED):
            return sign_as_masterdata(payload, by)
        return sign(payload, by, thumbprint_only=self.quirks.happens(Quirk.THUMBPRINT_ONLY))

    # How they are asked.

    def app(self) -> Starlette:
        """Return it as an ASGI application."""
        acts: dict[str, Act] = {
            "/v1/partnermanager/registereddevices": self.register_pms,
            "/v1/partnermanager/registereddevices/deregister": self.deregister_pms,
            "/v1/partnermanager/registereddevices/search": self.search_pms,
            "/v1/partnermanager/devicedetail/search": lambda body, _: self.approvals.search_models(body),
            f"{SERVICES}/search": lambda body, _: self.approvals.search_services(body),
            f"{SERVICES}/devicedetails/map/search": lambda body, _: self.approvals.search_mappings(body),
            "/v1/partnermanager/partners/certificate/ca/upload": lambda body, now: self.partners.upload_authority(
                body, now
            ),
            "/v1/partnermanager/partners/certificate/upload": self.upload_certificate,
            "/v1/masterdata/registereddevices": self.register_masterdata,
            "/v1/masterdata/registereddevices/deregister": self.deregister_masterdata,
            "/v1/masterdata/device/encryptioncertficates": self.encryption_certificates,
            "/v1/hotlist/block": self.block,
            "/v1/hotlist/unblock": self.unblock,
        }
        acts |= chips.acts(lambda: self.partners)
        routes = [Route(path, self._post(act), methods=["POST"]) for path, act in acts.items()]
        getters = ("/idauthentication/v1/internal/getCertificate", "/v1/keymanager/getCertificate")
        routes += [Route(path, self._get_certificate, methods=["GET"]) for path in getters]
        routes.append(Route("/v1/authmanager/authenticate/clientidsecretkey", self._authmanager, methods=["POST"]))
        path = "/auth/realms/{realm}/protocol/openid-connect/token"
        routes.append(Route(path, self._keycloak, methods=["POST"]))
        return Starlette(routes=routes)

    def _post(self, act: Act) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            return await self._answer(request, lambda body, now: act(body.get("request") or {}, now))

        return answer

    async def _get_certificate(self, request: Request) -> Response:
        wanted = (request.query_params.get("applicationId"), request.query_params.get("referenceId"))

        def act(_: Body, now: datetime) -> object:
            if wanted not in REFERENCES:
                raise Complaint(KEYMANAGER["unknown"])
            certificate = self.encryption(now).certificate
            return {
                "certificate": pem(certificate).decode(),
                "certSignRequest": None,
                "issuedAt": show(certificate.not_valid_before_utc),
                "expiryAt": show(certificate.not_valid_after_utc),
                "timestamp": show(now),
            }

        return await self._answer(request, act)

    async def _answer(self, request: Request, act: Act) -> Response:
        now, path = self.now(), request.url.path
        self.asked[path] = self.asked.get(path, 0) + 1
        raw = await request.body()
        before = await spoiled(self.quirks, Spoiling.BEFORE)
        if before is not None:
            return before
        if not self.tokens.holds(sent(request.headers), now) or self.quirks.happens(Quirk.DROP_TOKEN):
            return JSONResponse(self._wrapped(now, None, [AUTH]), status_code=401)
        try:
            body = json.loads(raw) if raw else {}
            if self.quirks.happens(Quirk.UNKNOWN_CODE):
                raise Complaint(UNHEARD_OF)
            answer = self._wrapped(now, act(body, now), None)
        except Complaint as complaint:
            answer = self._wrapped(now, None, complaint.errors)
        except (ValueError, AttributeError):
            answer = self._wrapped(now, None, [("KER-MSD-500", "Invalid request")])
        after = await spoiled(self.quirks, Spoiling.AFTER)
        return JSONResponse(answer) if after is None else after

    def _wrapped(self, now: datetime, response: object, errors: Any) -> Body:
        name = "error" if errors and self.quirks.happens(Quirk.ERROR_MEMBER) else "errors"
        said = None if errors is None else shown(errors)
        return {
            "id": None,
            "version": None,
            "responsetime": show(now),
            "metadata": None,
            "response": response,
            name: said,
        }

    async def _authmanager(self, request: Request) -> Response:
        now = self.now()
        spoilt = await spoiled(self.quirks, Spoiling.BEFORE)
        if spoilt is not None:
            return spoilt
        try:
            wish = json.loads(await request.body())["request"]
            token = self.tokens.login(str(wish["clientId"]), str(wish["secretKey"]), now)
        except (ValueError, KeyError, TypeError):
            token = None
        if token is None:
            return JSONResponse(self._wrapped(now, None, [LOGIN]))
        said = {"status": "success", "message": "Clientid and Token combination had been validated successfully"}
        answer = JSONResponse(self._wrapped(now, said, None))
        answer.set_cookie("Authorization", token, httponly=True, secure=True)
        return answer

    async def _keycloak(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        name, secret = form.get("client_id", [""])[0], form.get("client_secret", [""])[0]
        granted = form.get("grant_type") == ["client_credentials"]
        token = self.tokens.login(name, secret, self.now()) if granted else None
        if token is None:
            said = {"error": "unauthorized_client", "error_description": "Invalid client secret"}
            return JSONResponse(said, status_code=401)
        return JSONResponse({"access_token": token, "expires_in": self.tokens.life_s, "token_type": "Bearer"})


def _text(request: Body, name: str) -> str:
    value = request.get(name)
    if not isinstance(value, str) or not value:
        raise Complaint(PMS["null"])
    return value
