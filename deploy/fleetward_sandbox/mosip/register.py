"""What the sandbox MOSIP keeps, and the rules by which partner management, masterdata and the hotlist change it.

The order of checks and the code each gives are those of the services. ``strict`` adds what they leave out: unsigned
texts are refused, and the three signers must be a provider, its device, and the device's FTM (L1) or itself (L0).
Source: partner management 1.1.5 and masterdata 1.1.3 ``RegisteredDeviceServiceImpl``; hotlist 1.2.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from fleetward_sandbox.mosip.signatures import Signed, issued_by, read_json, read_signed, same_key
from fleetward_sandbox.mosip.words import HOTLIST, MASTERDATA, PMS, Complaint
from fleetward_schemas.certificates import key_thumbprint
from fleetward_schemas.errors import Refused
from fleetward_schemas.jws import PublicKey
from fleetward_schemas.moment import parse

PAST, AHEAD = timedelta(minutes=2), timedelta(minutes=5)
REGISTERED, RETIRED = "Registered", "Retired"
BLOCKED, UNBLOCKED = "BLOCKED", "UNBLOCKED"
ID_TYPES = ("UIN", "VID", "DEVICE", "DEVICE_MODEL", "DEVICE_PROVIDER", "FTM_PUBLIC_KEY", "PARTNER_ID")
LEVELS = ("L0", "L1", "L2")
CODE_CHARS = 36
LENGTHS = {
    "serialNo": 64,
    "deviceProvider": 128,
    "deviceProviderId": 36,
    "make": 36,
    "model": 36,
    "type": 36,
    "deviceSubType": 36,
}
Identity = dict[str, str]


@dataclass(frozen=True, slots=True)
class Row:
    """One device, and what happened to it. service: which of the two registers it stands in."""

    service: str
    code: str
    status: str
    identity: Identity
    purpose: str
    device_id: str
    history: tuple[str, ...] = (REGISTERED,)


@dataclass
class Register:
    """All rows. models, listed: None lets any in; trust_providers: ids of FTM makers; providers: keys onboarded."""

    environment: str = "Developer"
    models: set[tuple[str, str]] | None = None
    listed: set[str] | None = None
    trust_providers: set[str] = field(default_factory=lambda: {"sandbox-ftm"})
    providers: set[str] | None = None
    strict: bool = True
    rows: dict[tuple[str, ...], Row] = field(default_factory=dict)
    hotlist: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    new_code: Callable[[], str] = lambda: str(uuid.uuid4())

    def onboard(self, key: PublicKey) -> None:
        """Know a provider by its key."""
        self.providers = (self.providers or set()) | {key_thumbprint(key)}

    def known(self, service: str, serial: str) -> Row | None:
        """Return the row of a serial number."""
        return next((row for key, row in self.rows.items() if key[0] == service and key[-1] == serial), None)

    # Partner management.

    def pms_register(self, device_data: str, now: datetime) -> dict[str, Any]:
        """Register a device by its nested, signed data; the answer is to be signed.

        Raises:
            Complaint: with partner management's codes.
        """
        outer = read_signed(device_data, PMS["signature"], PMS["saving"])
        data = outer.payload
        _sized(data, {"deviceId": 36}, PMS["null"])
        if str(data.get("purpose", "")).lower() not in {"auth", "registration"}:
            raise Complaint((PMS["null"][0], "Invalid Purpose received"))
        inner = self._inner(data)
        info = inner.payload
        self._level(data, info, now)
        digital = read_signed(str(info.get("digitalId", "")), PMS["signature"], PMS["saving"])
        _sized(digital.payload, LENGTHS, PMS["null"])
        _milliseconds(digital.payload.get("dateTime"), PMS["saving"])
        if self.strict:
            self._bound(outer, inner, digital)
        return self._keep("pms", digital.payload, data, str(info["timestamp"]))

    def _inner(self, data: dict[str, Any]) -> Signed:
        text = data.get("deviceInfo")
        if not isinstance(text, str) or not text:
            raise Complaint(PMS["null"])
        return read_signed(text, PMS["signature"], PMS["saving"])

    def _level(self, data: dict[str, Any], info: dict[str, Any], now: datetime) -> None:
        level = info.get("certification")
        if level is None:
            raise Complaint(PMS["null"])
        found = []
        if level == "L1" and not data.get("foundationalTrustProviderId"):
            found.append(PMS["foundational"])
        if info.get("timestamp") is None:
            found.append(PMS["no moment"])
        elif not _fresh(_milliseconds(info["timestamp"], PMS["saving"]), now):
            found.append(PMS["after"])
        if level not in LEVELS:
            found.append((PMS["null"][0], "Invalid Certification level received"))
        if not 1 <= len(str(info.get("firmware") or "")) <= 128:
            found.append((PMS["null"][0], "firmware must not be null"))
        if found:
            raise Complaint(*found)

    def knows(self, text: Signed) -> bool:
        """Say whether one of the providers signed it."""
        return self.providers is None or key_thumbprint(text.key) in self.providers

    def _bound(self, outer: Signed, inner: Signed, digital: Signed) -> None:
        """Ask whose keys these are, which partner management does not."""
        if outer.signer is None or inner.signer is None or digital.signer is None:
            raise Complaint(PMS["signature"])
        if not self.knows(outer):
            raise Complaint(PMS["signature"])
        alone = same_key(inner, digital)
        if not issued_by(inner, outer) or alone is not (inner.payload["certification"] == "L0"):
            raise Complaint(PMS["signature"])

    def _keep(self, service: str, identity: Identity, data: dict[str, Any], moment: str) -> dict[str, Any]:
        ftp = data.get("foundationalTrustProviderId")
        if self.models is not None and (identity["make"], identity["model"]) not in self.models:
            raise Complaint(PMS["model"])
        if ftp and ftp not in self.trust_providers:
            raise Complaint(PMS["ftp"])
        key = (service, identity["deviceProviderId"], identity["make"], identity["model"], identity["serialNo"])
        before = self.rows.get(key)
        if before is not None and before.status == REGISTERED:
            raise Complaint(PMS["known"])
        row = Row(service, self.new_code(), REGISTERED, identity, str(data["purpose"]), str(data["deviceId"]))
        if before is not None:
            # Retired and registered again: partner management gives the same code.
            row = replace(row, code=before.code, history=(*before.history, REGISTERED))
        self.rows[key] = row
        return {"status": REGISTERED, "deviceCode": row.code, "env": self.environment, "timeStamp": moment}

    def pms_search(self, serial: str) -> list[dict[str, Any]]:
        """Return the rows of a serial number, as a search of partner management shows them."""
        found = [row for key, row in self.rows.items() if key[0] == "pms" and row.identity["serialNo"] == serial]
        return [
            {
                "code": row.code,
                "statusCode": row.status,
                "serialNo": serial,
                "deviceId": row.device_id,
                "purpose": row.purpose,
                "active": row.status == REGISTERED,
            }
            for row in found
        ]

    def deregister(self, service: str, device: str) -> dict[str, Any]:
        """Retire a device by its code; the answer is to be signed. It carries the digital ID's moment, not its own.

        Raises:
            Complaint: with the service's codes.
        """
        words = PMS if service == "pms" else MASTERDATA
        wrong = words.get("saving", words["not found"])
        signed = read_signed(device, PMS["signature"], wrong)
        if self.strict and service == "pms" and signed.signer is None:
            raise Complaint(words["signature"])
        code, env = str(signed.payload.get("deviceCode") or ""), str(signed.payload.get("env") or "")
        if not code or not env:
            raise Complaint(words["not found"])
        if len(code) > CODE_CHARS:
            raise Complaint(words["length"])
        if env != self.environment:
            raise Complaint(words["environment"])
        for key, row in self.rows.items():
            if key[0] == service and row.code == code and row.status == REGISTERED:
                self.rows[key] = replace(row, status=RETIRED, history=(*row.history, RETIRED))
                moment = row.identity["dateTime"]
                return {"status": "success", "deviceCode": code, "env": env, "timeStamp": moment}
        # Whoever is retired is not active, and only the active are looked for.
        raise Complaint(words["not found"])

    # Masterdata.

    def masterdata_register(self, device_data: str, now: datetime) -> dict[str, Any]:
        """Register a device: no signature is looked at, deviceInfo is an object, its moment is called timeStamp.

        Raises:
            Complaint: with masterdata's codes.
        """
        text = device_data.split(".")[1] if "." in device_data else device_data
        data = read_json(text, MASTERDATA["field"])
        _sized(data, {"deviceId": 36}, MASTERDATA["field"])
        info = data.get("deviceInfo")
        if not isinstance(info, dict) or not isinstance(info.get("deviceSubId"), str):
            raise Complaint(MASTERDATA["field"])
        if not _fresh(_milliseconds(info.get("timeStamp"), MASTERDATA["field"]), now):
            raise Complaint(MASTERDATA["after"])
        identity = read_json(str(info.get("digitalId", "")), MASTERDATA["field"])
        _sized(identity, LENGTHS, MASTERDATA["field"])
        _milliseconds(identity.get("dateTime"), MASTERDATA["field"])
        serial, purpose = identity["serialNo"], str(data.get("purpose", ""))
        if self.known_to_masterdata(identity):
            raise Complaint(MASTERDATA["known"])
        if purpose.lower() == "registration" and self.listed is not None and serial not in self.listed:
            raise Complaint((MASTERDATA["not listed"][0], MASTERDATA["not listed"][1] % serial))
        row = Row("masterdata", self.new_code(), REGISTERED, identity, purpose, str(data["deviceId"]))
        self.rows["masterdata", identity["deviceProviderId"], serial] = row
        moment = str(info["timeStamp"])
        return {"status": "REGISTERED", "deviceCode": row.code, "env": self.environment, "timeStamp": moment}

    def known_to_masterdata(self, identity: Identity) -> bool:
        """Say whether a device of this provider and serial number is registered."""
        row = self.rows.get(("masterdata", identity["deviceProviderId"], identity["serialNo"]))
        return row is not None and row.status == REGISTERED

    # The hotlist.

    def hotlisted(self, wish: object, status: str) -> dict[str, Any]:
        """Block or unblock one id, as often as one likes; who was never blocked is unblocked, and not written down.

        Raises:
            Complaint: with the hotlist's codes.
        """
        if not isinstance(wish, dict):
            raise Complaint(HOTLIST["request"])
        found = [error for name in ("id", "idType") if (error := _lacking(name, wish.get(name))) is not None]
        if not found and wish["idType"] not in ID_TYPES:
            found.append(HOTLIST["type"])
        if wish.get("status") not in {None, BLOCKED, UNBLOCKED}:
            found.append((HOTLIST["input"][0], HOTLIST["input"][1] % "status"))
        if found:
            raise Complaint(*found)
        key = (str(wish["idType"]), str(wish["id"]))
        if status == BLOCKED or key in self.hotlist:
            self.hotlist.setdefault(key, []).append(status)
        return {"id": key[1], "idType": None, "status": status, "expiryTimestamp": None}


def _lacking(name: str, value: object) -> tuple[str, str] | None:
    if value is None:
        return HOTLIST["missing"][0], HOTLIST["missing"][1] % name
    return None if str(value).strip() else (HOTLIST["input"][0], HOTLIST["input"][1] % name)


def _fresh(moment: datetime, now: datetime) -> bool:
    return now - PAST < moment < now + AHEAD


def _milliseconds(text: object, wrong: tuple[str, str]) -> datetime:
    """Read the one form the services' mappers take; seconds alone are an error of theirs that names no field."""
    try:
        return parse(str(text))
    except Refused:
        raise Complaint((wrong[0], f"{wrong[1]} Text '{text}' could not be parsed at index 19")) from None


def _sized(value: dict[str, Any], lengths: dict[str, int], wrong: tuple[str, str]) -> None:
    bad = [name for name, most in lengths.items() if not 1 <= len(str(value.get(name) or "")) <= most]
    if bad:
        raise Complaint(*((wrong[0], f"{name} must not be null") for name in bad))
