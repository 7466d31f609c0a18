"""A whole device in one file, written from schemas/README.md alone: nothing of the project is imported."""

import argparse
import base64
import json
import secrets
import ssl
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa

Json = dict[str, Any]
SIGNING, DEVICE = (f"1.2.840.113556.1.8000.2554.9610.58189.25782.17513.34799.1257864.11394705.{n}" for n in (1, 2))
PEM, PKCS8, CLEAR = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
BUILT, MS, when = datetime(2026, 1, 1, tzinfo=UTC), timedelta(milliseconds=1), datetime.fromisoformat


def need(holds: object, code: str = "wrong-server") -> None:
    """Refuse, by a code of section 7 where there is one, unless it holds."""
    if not holds:
        raise ValueError(code)


def b64url(data: bytes) -> str:
    """Spell bytes in base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def der(one: Any) -> str:
    """Spell a certificate or a request in padded standard base64."""
    return base64.b64encode(one.public_bytes(serialization.Encoding.DER)).decode()


def moment(at: datetime) -> str:
    """Spell a moment, to the millisecond."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Device:
    """One device. Left to a product: repeating, `alert`, number windows, body shapes, the beacon, drift, renewal."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.own, self.kept = folder, folder / "independent", folder / "independent/state.json"
        self.own.mkdir(0o700, exist_ok=True)
        self.who, self.place = (json.loads((folder / f"{it}.json").read_text()) for it in ("identity", "connection"))
        self.claim = {it: self.who.pop(it) for it in ("certification", "purpose")}
        self.root = x509.load_pem_x509_certificate((folder / "provider-root.pem").read_bytes())
        self.state: Json = {"suffix": secrets.token_hex(16), "commands": {}}
        self.state |= json.loads(self.kept.read_text()) if self.kept.exists() else {}
        self.start = BUILT - timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))
        self.heard, self.seq, self.understands = list[Json](), 0, ["ack", "command"]

    def be(self, signer: Path, line: Path) -> None:
        """Sign envelopes with the key at one stem, and be the principal of the certificate at the other."""
        self.line_files = f"{line}.chain.pem", f"{line}.key.pem"
        self.key: Any = serialization.load_pem_private_key(Path(f"{signer}.key.pem").read_bytes(), None)
        chain = x509.load_pem_x509_certificates(Path(f"{signer}.chain.pem").read_bytes())
        own = x509.load_pem_x509_certificate(Path(f"{line}.chain.pem").read_bytes()).subject
        self.principal = str(own.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
        self.topic, self.enrolled = f"fw/v1/d/{self.principal}", not self.principal.startswith("f-")
        self.x5c, thumbprint = [der(one) for one in chain], b64url(chain[0].fingerprint(hashes.SHA256()))
        self.header: Json = {"typ": "fw1+jws"} | ({"x5t#S256": thumbprint} if self.enrolled else {"x5c": self.x5c})

    def sign(self, header: Json, payload: Json) -> str:
        """Seal a compact JWS: RS256 by an RSA key, EdDSA by an Ed25519 key."""
        how = (padding.PKCS1v15(), hashes.SHA256()) if isinstance(self.key, rsa.RSAPrivateKey) else ()
        parts = {"alg": "RS256" if how else "EdDSA", **header}, payload
        signed = ".".join(b64url(json.dumps(part).encode()) for part in parts)
        return f"{signed}.{b64url(self.key.sign(signed.encode(), *how))}"

    def believe(self, spelt: list[str], at: datetime, unit: str, name: str, purpose: str) -> list[Any]:
        """Read a chain: a leaf of this name and purpose directly under the CA of this OU, both valid; no other."""
        leaf, issuer = chain = [x509.load_der_x509_certificate(base64.b64decode(one, validate=True)) for one in spelt]
        for cert, parent in ((issuer, self.root), (leaf, issuer)):
            cert.verify_directly_issued_by(parent)
            need(cert.signature_algorithm_oid == x509.SignatureAlgorithmOID.RSA_WITH_SHA256)
            need(cert.not_valid_before_utc <= at <= cert.not_valid_after_utc)
            found = {type(one.value): one for one in cert.extensions}
            basic, usage = found[x509.BasicConstraints], found[x509.KeyUsage]
            need(basic.critical and usage.critical and basic.value.ca == usage.value.key_cert_sign == (cert is issuer))
        need(usage.value.digital_signature and {x509.AuthorityKeyIdentifier, x509.SubjectKeyIdentifier} <= set(found))
        need([one.dotted_string for one in found[x509.ExtendedKeyUsage].value] == [purpose])
        need([one.value for one in found[x509.SubjectAlternativeName].value] == [f"urn:fleetward:{name}"])
        names = (one.subject.rfc4514_string().split(",") for one in chain)
        need(all(part in found for part, found in zip((f"CN={name}", f"OU={unit}"), names, strict=True)))
        return chain

    def sign_digital_id(self) -> None:
        """Sign the digital ID anew with the key of the envelopes."""
        members = self.who | {"dateTime": f"{self.now():%Y-%m-%dT%H:%M:%SZ}"}
        self.state["digitalId"] = self.sign({"typ": "JWT", "x5c": self.x5c}, members)

    def now(self) -> datetime:
        """Return trusted time: the middle of its interval, or the earliest while it is not known."""
        return self.start + timedelta(seconds=time.clock_gettime(time.CLOCK_BOOTTIME))

    def ask_time(self) -> None:
        """Ask on a line of its own, on which dates are not checked, and learn trusted time from the answer."""
        self.connect(asking=True)
        nonce, asked = b64url(secrets.token_bytes(32)), self.now()
        answer = self.ask("time", {"nonce": nonce})
        self.line.disconnect()
        sent, heard = when(answer["body"]["sent"]), answer["heard"]
        delay = (heard - asked) - (sent - when(answer["body"]["received"]))
        need(answer["body"]["nonce"] == nonce, "bad-nonce")
        need(timedelta() <= delay <= 5000 * MS, "stale")
        self.radius = answer["body"]["radiusMs"] * MS + delay / 2 + MS
        need(sent + delay / 2 + self.radius >= heard, "clock-jump")
        self.start += sent + delay / 2 - heard

    def connect(self, *, asking: bool = False) -> None:
        """Open a line: one for the time alone, or one with dates checked, for `<id>` with a session and a will."""
        lasting = self.enrolled and not asking
        client_id = f"{self.principal}-{self.state['suffix'] if lasting else secrets.token_hex(16)}"
        self.line = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id, clean_session=not lasting)
        tls = ssl.create_default_context(cafile=str(self.folder / "provider-root.pem"))
        tls.verify_flags |= 0x200000 if asking else 0  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL
        tls.load_cert_chain(*self.line_files)
        self.line.tls_set_context(tls)
        self.line.on_message = lambda _line, _data, message: self.hear(message.topic, message.payload)
        if lasting:
            self.session = {"session": b64url(secrets.token_bytes(16))}
            will = {"state": "offline", "reason": "connection-lost", **self.session}
            self.line.will_set(f"{self.topic}/up/status", self.seal("status", will)[1], 1)
        self.line.connect(self.place["host"], self.place["port"], 60)
        self.wait(self.line.is_connected, "the broker takes no connection")
        self.line.subscribe(f"{self.topic}/down/{'time' if self.enrolled and asking else '#'}", 1)

    def wait(self, found: Any, what: str, seconds: float = 30.0) -> Any:
        """Let the line work until something is found, and return it; without it, fail with `what` if there is one."""
        ends = time.monotonic() + seconds
        while not (it := found()) and time.monotonic() < ends:
            need(self.line.loop(0.1) == mqtt.MQTT_ERR_SUCCESS, "the line is lost")
        need(it or not what, what)
        return it

    def seal(self, kind: str, body: Json) -> tuple[str, str]:
        """Write the state down, then seal an envelope; return its id and its text."""
        self.kept.write_text(json.dumps(self.state))
        self.seq = max(int(self.now().timestamp() * 1000), self.seq + 1)
        ident = uuid.UUID(int=self.seq << 80 | 7 << 76 | secrets.randbits(12) << 64 | 2 << 62 | secrets.randbits(62))
        said = {"id": str(ident), "kind": kind, "topic": f"{self.topic}/up/{kind}", "timestamp": moment(self.now())}
        said |= {"seq": 0 if kind in ("time", "hello", "enrol") else self.seq, "digitalId": self.state["digitalId"]}
        return str(ident), self.sign(self.header, {**said, "body": body})

    def ask(self, kind: str, body: Json) -> Json:
        """Say something; return what answers it: a message in reply, or the `ack` that names it."""
        ident, envelope = self.seal(kind, body)
        self.line.publish(f"{self.topic}/up/{kind}", envelope, 1)
        return dict(self.wait(lambda: [it for it in self.heard if ident in it["answers"]], f"no answer to {kind}")[0])

    def hear(self, topic: str, raw: bytes) -> None:
        """Take a message that passes the checks of section 3; pass over any other."""
        try:
            now, segments = self.now(), raw.decode("ascii").split(".")
            parts = [base64.urlsafe_b64decode(f"{it}==") for it in segments]
            need(len(raw) <= 49_152 and [b64url(it) for it in parts] == segments, "malformed")
            once = {"object_pairs_hook": lambda o: need(len(dict(o)) == len(o), "malformed") or dict(o)}
            header, said = (json.loads(it.decode(), **once) for it in parts[:2])
            need(set(header) == {"alg", "typ", "x5c"} and header["typ"] == "fw1+jws" and len(parts) == 3, "malformed")
            kind, body, age_s = said["kind"], said["body"], (now - when(said["timestamp"])).total_seconds()
            need(said["topic"] == topic == f"{self.topic}/down/{kind}", "wrong-topic")
            others = self.understands if self.enrolled else ["challenge"]
            need(kind in ("time", "enrolled", *others), "unknown-kind")
            need(kind == "time" or -30 <= age_s <= (120 if kind in ("challenge", "enrolled") else 604_800), "stale")
            need(kind != "command" or now + self.radius <= when(said["expires"]), "stale")
            at = when(body["sent"]) if kind == "time" else now
            key = self.believe(header["x5c"], at, "service", "sign-server", SIGNING)[0].public_key()
            need(header["alg"] == "EdDSA" and isinstance(key, ed25519.Ed25519PublicKey), "bad-alg")
            key.verify(parts[2], ".".join(segments[:2]).encode())
            need(said["digitalId"] in (self.state["digitalId"], self.state.get("previous")), "bad-digital-id")
            answers = [said.get("inReplyTo"), *(body["ids"] if kind == "ack" else ())]
            self.heard.append({"kind": kind, "body": body, "heard": now, "answers": answers})
        except (ValueError, TypeError, LookupError, AttributeError, InvalidSignature) as error:
            print(f"passed over on {topic}: {error!r}", file=sys.stderr)

    def enrol(self) -> None:
        """Walk the way of first contact; keep the keys and the chains."""
        self.be(self.folder / ("ftm" if self.claim["certification"] == "L1" else "factory"), self.folder / "factory")
        self.sign_digital_id()
        self.ask_time()
        self.sign_digital_id()
        self.connect()
        hello = {"nonce": b64url(secrets.token_bytes(32)), "protocol": [1], "agentVersion": "independent"} | self.claim
        told = self.ask("hello", hello)["body"]
        need(told.get("nonce") == hello["nonce"], f"no challenge: {told}")
        keys = {name: rsa.generate_private_key(65537, 2048) for name in ("device", "transport")}
        request = x509.CertificateSigningRequestBuilder(x509.Name([]))
        wish = {f"{name}Csr": der(request.sign(key, hashes.SHA256())) for name, key in keys.items()}
        told = self.ask("enrol", wish | {"serverNonce": told["serverNonce"]})["body"]
        need(told["status"] == "registered" and told["env"] == self.place["env"], f"not registered: {told}")
        for what, prefix, purpose in (("device", "sign-", DEVICE), ("transport", "", "1.3.6.1.5.5.7.3.2")):
            chain = self.believe(told[f"{what}Chain"], self.now(), "device", prefix + self.principal[2:], purpose)
            need(chain[0].public_key() == keys[what].public_key(), "a certificate of another key")
            (self.own / f"{what}.key.pem").write_bytes(keys[what].private_bytes(PEM, PKCS8, CLEAR))
            (self.own / f"{what}.chain.pem").write_bytes(b"".join(one.public_bytes(PEM) for one in chain))
        self.line.disconnect()

    def serve(self, reports: int, patience_s: float) -> Json:
        """Enrol where that is not done yet; be online, report, obey one command, and go."""
        first = not (self.own / "transport.chain.pem").exists()
        if first:
            self.enrol()
        self.be(self.own / "device", self.own / "transport")
        if first and self.claim["certification"] == "L0":
            self.sign_digital_id()
        self.ask_time()
        self.connect()
        self.ask("status", {"state": "online", "reason": "started", **self.session})
        for _ in range(reports):
            reading = {"observedAt": moment(self.now()), "uncertaintyMs": self.radius // MS + 1}
            self.ask("telemetry", {"readings": [reading | {"metrics": {"scannerReady": 1}}]})
        orders = self.wait(lambda: [it["body"] for it in self.heard if it["kind"] == "command"], "", patience_s)
        done = self.obey(orders[0]) if orders else None
        _, gone = self.seal("status", {"state": "offline", "reason": "shutdown", **self.session})
        self.wait(self.line.publish(f"{self.topic}/up/status", gone, 1).is_published, "no goodbye")
        self.line.disconnect()
        return {"reports": reports, "acked": reports, "command": done, "device": self.principal}

    def obey(self, order: Json) -> str:
        """Do a command once, and say again what became of it when it comes again."""
        result, known = {"commandId": order["commandId"]}, self.state["commands"]
        state = known.setdefault(order["commandId"], "accepted" if order["command"] == "collect-info" else "refused")
        if state == "accepted":
            self.ask("result", result | {"state": state})
            info = {"deviceId": self.principal, "deviceCode": self.principal, "deviceStatus": "Ready"} | self.claim
            info |= {"deviceSubId": ["0"], "serviceVersion": "1", "firmware": "1", "specVersion": ["0.9.5"]}
            info |= {"digitalId": self.state["digitalId"], "env": self.place["env"], "timestamp": moment(self.now())}
            self.ask("info", {"deviceInfo": self.sign({"typ": "JWT", "x5c": self.x5c[:1]}, info)})
            known[order["commandId"]] = state = "succeeded"
        self.ask("result", result | {"state": state, "reason": "unknown-command" if state == "refused" else None})
        return state


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    for name, kind, default in (("folder", Path, None), ("--reports", int, 1), ("--wait-command", float, 0.0)):
        parser.add_argument(name, type=kind, default=default)
    wish = parser.parse_args()
    sys.excepthook = lambda _kind, error, _trace: print(f"failed: {error!r}", file=sys.stderr)
    print(json.dumps(Device(wish.folder).serve(wish.reports, wish.wait_command)))
