"""How each age of MOSIP is told: what is asked for a task, and what its answer says. Pure, but for the signature.

| | pms-1.1 | masterdata-1.1 | crypto-only |
|---|---|---|---|
| register | nested JWS: provider > device > FTM or device | the same facts as an object, ``timeStamp`` | not told |
| gone | de-register by device code | the same | hotlist ``serialNo`` + ``make`` + ``model`` |
| reinstated | register again | register again | off the hotlist |
| answer | JWS of the keymanager | three segments that are no JWS | what was asked, with its status |

Source: S2; partner management 1.1.5, masterdata 1.1.3, hotlist 1.2; ``answers.py`` for their codes.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from fleetward_schemas.certificates import read_certificate
from fleetward_schemas.encryption import MosipAnchors
from fleetward_schemas.errors import Code, LocalMistake, Refused
from fleetward_schemas.identity import Certification, DigitalId, Purpose
from fleetward_schemas.inventory import DeviceInfo, read_spelling
from fleetward_schemas.jws import split
from fleetward_schemas.moment import parse, parse_loose, show
from fleetward_schemas.strict import b64_der, read_object
from fleetward_server.mosip.answers import SIGNATURE, Fault, Meaning, errors_of, judged, printable
from fleetward_server.mosip.exchange import Answer, Asked
from fleetward_server.mosip.queue import Act, Task
from fleetward_server.mosip.settings import MosipTable, Profile
from fleetward_server.mosip.signing import ProviderSeal, loose, read_answer, read_json, read_unsigned_answer
from fleetward_server.state import Device

PATHS = {
    Profile.PMS: "/v1/partnermanager/registereddevices",
    Profile.MASTERDATA: "/v1/masterdata/registereddevices",
}
PAST, AHEAD = timedelta(seconds=100), timedelta(minutes=4)
"""How old, and how far ahead of us, the moment in device info may be: MOSIP's window, less what the way takes."""
MOST_CODE = 36
DEVICE_CODE = re.compile(r"[\x20-\x7e]{1,36}")
"""What a device can be told: ``enrolled`` says it again, and what no message may hold would stop the server."""
BLOCKED, UNBLOCKED = "BLOCKED", "UNBLOCKED"
NO_RECORD = "ADM-HTL-007"
"""Who is not on the hotlist is off it."""


@dataclass(frozen=True, slots=True)
class Told:
    """What MOSIP said to a task that is done.

    device_code: its name for the device, where it gives one. about: whose name that is, as ``about`` tells it.
    """

    device_code: str | None = None
    about: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Voice:
    """All that saying needs. stage: MOSIP's word for its environment."""

    table: MosipTable
    seal: ProviderSeal
    anchors: MosipAnchors
    stage: str

    @property
    def profile(self) -> Profile:
        """Which MOSIP it speaks to."""
        return Profile(self.table.profile)

    def asked(self, task: Task, device: Device, now: datetime) -> Asked:
        """Return what to ask for a task, signed now.

        Raises:
            KeyUnavailable: the provider's key is away.
        """
        match task.act:
            case Act.REGISTER:
                return self._register(task, device, now)
            case Act.DEREGISTER:
                return self._deregister(task, device, now)
            case Act.HOTLIST:
                return _hotlist(device, now, "/v1/hotlist/block", BLOCKED)
            case Act.UNBLOCK:
                return _hotlist(device, now, "/v1/hotlist/unblock", UNBLOCKED)

    def meant(self, found: tuple[Fault, ...], task: Task, now: datetime) -> tuple[Meaning, Fault]:
        """Return what an answer with errors means to a task, and the error that says so.

        While two chains are shown, a signature that is not believed is refused only once neither is.
        """
        means, fault = judged(found)
        if fault.code in SIGNATURE and task.code not in SIGNATURE and len(self.seal.shown(now)) > 1:
            return Meaning.AGAIN, fault
        return means, fault

    def _turn(self, task: Task, now: datetime) -> ProviderSeal:
        """Return the chain whose turn it is: the new one first, another after each refusal."""
        shown = self.seal.shown(now)
        return shown[task.refusals % len(shown)]

    def _register(self, task: Task, device: Device, now: datetime) -> Asked:
        if device.device_info is None:
            raise LocalMistake("a registration without device info")
        l1 = device.certification is Certification.L1
        masterdata = self.profile is Profile.MASTERDATA
        info = _as_object(device.device_info) if masterdata else device.device_info
        # None for L0 at partner management, empty at masterdata: so do their own examples.
        nobody = "" if masterdata else None
        data = {
            "deviceId": device.id,
            "purpose": str(device.purpose),
            "deviceInfo": info,
            "foundationalTrustProviderId": self.table.trust_provider_id if l1 else nobody,
        }
        request = {"deviceData": self._turn(task, now).sign(data)}
        return Asked("POST", PATHS[self.profile], wrapped("io.mosip.deviceregister", request, now))

    def _deregister(self, task: Task, device: Device, now: datetime) -> Asked:
        signed = self._turn(task, now).sign({"deviceCode": task.device_code, "env": self.stage})
        request = {"device": signed, "isItForRegistrationDevice": device.purpose is Purpose.REGISTRATION}
        path = PATHS[self.profile] + "/deregister"
        return Asked("POST", path, wrapped("io.mosip.devicederegister", request, now))

    def told(self, task: Task, answer: Answer, now: datetime) -> Told | tuple[Fault, ...]:
        """Return what an answer says: what was told, or its errors, of which HTTP's status knows nothing.

        Raises:
            Refused: an answer that cannot be read, or is not signed by whom we believe.
        """
        found = errors_of(answer)
        if task.act is Act.UNBLOCK and found and found[0].code == NO_RECORD:
            return Told()
        if found:
            return found
        response = answer.body.get("response")
        if task.act in {Act.HOTLIST, Act.UNBLOCK}:
            return _of_hotlist(response, BLOCKED if task.act is Act.HOTLIST else UNBLOCKED)
        if not isinstance(response, str):
            raise Refused(Code.MALFORMED, "an answer without a response")
        if self.profile is Profile.PMS:
            said = read_answer(response, self.anchors, now)
        else:
            said = read_unsigned_answer(response)
        return _of_register(said, task)


def wrapped(name: str, request: object, now: datetime) -> dict[str, Any]:
    """Return a request in MOSIP's wrapper."""
    return {"id": name, "version": "v1", "requesttime": show(now), "metadata": {}, "request": request}


def is_fresh(text: str | None, now: datetime) -> bool:
    """Say whether device info is there and its moment is one that MOSIP takes."""
    if text is None:
        return False
    moment = parse(info_of(text).timestamp)
    return now - PAST < moment < now + AHEAD


def info_of(text: str) -> DeviceInfo:
    """Return what device info says, in either spelling; its signature was checked when it came.

    Raises:
        LocalMistake: something else was stored.
    """
    try:
        return DeviceInfo.read(read_spelling(read_object(split(text.encode("ascii")).payload)))
    except (Refused, UnicodeEncodeError) as error:
        raise LocalMistake("stored device info cannot be read") from error


def _as_object(text: str) -> dict[str, Any]:
    """Return device info as masterdata takes it: sub ids as one text, the digital ID unsigned, moments to the ms."""
    info, token = info_of(text), split(text.encode("ascii"))
    leaf = read_certificate(b64_der(token.header["x5c"][0]))
    identity = DigitalId.read(read_object(split(info.digitalId.encode("ascii")).payload))
    digital = identity.document() | {"dateTime": show(parse_loose(identity.dateTime))}
    return {
        "deviceSubId": f"[{','.join(info.deviceSubId)}]",
        "certification": str(info.certification),
        "digitalId": base64.b64encode(json.dumps(digital).encode()).decode(),
        "firmware": info.firmware,
        "deviceExpiry": show(leaf.not_valid_after_utc),
        "timeStamp": info.timestamp,
    }


def search(device: Device, now: datetime) -> Asked:
    """Return what finds a device's code at partner management, by its serial number."""
    wanted = {"columnName": "serialNo", "value": device.identity.serialNo, "type": "equals"}
    request = {
        "filters": [wanted | {"fromValue": "", "toValue": ""}],
        "sort": [],
        "pagination": {"pageStart": 0, "pageFetch": 10},
        "purpose": device.purpose.upper(),
    }
    return Asked("POST", PATHS[Profile.PMS] + "/search", wrapped("io.mosip.registereddevice.search", request, now))


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found. code: of this device; others: whether its serial number is registered as something else."""

    code: str | None = None
    others: bool = False


def code_found(answer: Answer, device: Device) -> Found:
    """Return the code of the one row that is this device, by serial number and our device id, and is registered."""
    response = answer.body.get("response")
    data = response.get("data") if isinstance(response, dict) else None
    rows = [row for row in data or () if isinstance(row, dict) and row.get("serialNo") == device.identity.serialNo]
    alive = [row for row in rows if str(row.get("statusCode")).lower() == "registered"]
    ours = [row.get("code") for row in alive if row.get("deviceId") == device.id]
    code = str(ours[0]) if len(ours) == 1 and isinstance(ours[0], str | int) else ""
    return Found(code if DEVICE_CODE.fullmatch(code) else None, others=bool(alive))


def hotlist_id(device: Device) -> str:
    """Return what MOSIP calls a device on its hotlist."""
    return device.identity.serialNo + device.identity.make + device.identity.model


def _hotlist(device: Device, now: datetime, path: str, status: str) -> Asked:
    wish = {"id": hotlist_id(device), "idType": "DEVICE", "status": status, "expiryTimestamp": None}
    return Asked("POST", path, wrapped("io.mosip.hotlist", wish, now))


def _of_hotlist(response: object, wanted: str) -> Told:
    if not isinstance(response, Mapping):
        raise Refused(Code.MALFORMED, "an answer of the hotlist is one object")
    if response.get("status") != wanted:
        said = printable(response.get("status"), MOST_CODE)
        raise Refused(Code.MALFORMED, f"the hotlist says {said!r}: expected {wanted!r}")
    return Told()


def _of_register(said: object, task: Task) -> Told:
    """Statuses differ in case between the services."""
    if not isinstance(said, Mapping):
        raise Refused(Code.MALFORMED, "an answer is one object")
    status, code = printable(said.get("status"), MOST_CODE).lower(), said.get("deviceCode")
    wanted = "registered" if task.act is Act.REGISTER else "success"
    if status != wanted:
        raise Refused(Code.MALFORMED, f"status {status!r}: expected {wanted!r}")
    if task.act is Act.DEREGISTER:
        if code not in (None, task.device_code):
            raise Refused(Code.MALFORMED, "it is about another device code than was asked")
        return Told()
    if not isinstance(code, str) or DEVICE_CODE.fullmatch(code) is None:
        raise Refused(Code.MALFORMED, f"a device code has 1..{MOST_CODE} printable characters")
    return Told(code, _about(said.get("digitalId")))


def about(identity: DigitalId) -> tuple[str, ...]:
    """Return the four words by which a device is one."""
    return identity.deviceProviderId, identity.make, identity.model, identity.serialNo


def _about(said: object) -> tuple[str, ...]:
    """Read the digital ID that an answer repeats: base64, or a JWS, or the object itself."""
    found = said
    if isinstance(said, str):
        found = read_json(loose(said.split(".")[1] if said.count(".") == 2 else said))
    if not isinstance(found, Mapping):
        raise Refused(Code.MALFORMED, "an answer repeats the digital ID that it is about")
    return tuple(printable(found.get(name), 64) for name in ("deviceProviderId", "make", "model", "serialNo"))


def is_about(told: Told | tuple[Fault, ...], device: Device) -> None:
    """Check that a code which MOSIP gave is this device's: whoever stands between could have exchanged two answers.

    Raises:
        Refused: ``malformed``.
    """
    if isinstance(told, Told) and told.about not in {None, about(device.identity)}:
        raise Refused(Code.MALFORMED, f"it is about {told.about}: asked was {about(device.identity)}")
