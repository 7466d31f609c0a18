"""The independent client, with keys that change hands and a retirement: written from schemas/README.md alone too."""

import argparse
import json
import secrets
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from independent_client import CLEAR, DEVICE, PEM, PKCS8, Device, Json, der, need

CLIENT_AUTH = "1.3.6.1.5.5.7.3.2"
FILES = ("device", "transport")


class KeyedDevice(Device):
    """A device that obeys ``rotate-key`` and ``retire``. Left to a product: crashes in between, the way back."""

    def keyed(self, patience_s: float) -> list[str]:
        """Be online; obey key commands until retired or nothing comes for so long; return what was obeyed."""
        self.understands.append("certificate")
        if not (self.own / "transport.chain.pem").exists():
            self.enrol()
        self.be(self.own / "device", self.own / "transport")
        if self.claim["certification"] == "L0":
            self.sign_digital_id()
        self.ask_time()
        self.greet("started")
        done: list[str] = []
        while done[-1:] != ["retire"]:
            if not self.wait(lambda: self.orders(), "", patience_s):
                return done
            order = self.orders()[0]
            self.state["commands"][order["commandId"]] = "accepted"
            {"rotate-key": self.rotate, "retire": self.retire}[order["command"]](order)
            done.append(order["command"])
        return done

    def orders(self) -> list[Json]:
        """Return the commands heard and not begun."""
        orders = [it["body"] for it in self.heard if it["kind"] == "command"]
        return [it for it in orders if it["commandId"] not in self.state["commands"]]

    def greet(self, reason: str) -> None:
        """Connect and say that we are there."""
        self.connect()
        self.ask("status", {"state": "online", "reason": reason, **self.session})

    def leave(self, reason: str) -> None:
        """Say goodbye, and close the line."""
        _, gone = self.seal("status", {"state": "offline", "reason": reason, **self.session})
        self.wait(self.line.publish(f"{self.topic}/up/status", gone, 1).is_published, "no goodbye")
        self.line.disconnect()

    def rotate(self, order: Json) -> None:
        """Make two keys, have them certified, come again with them, and only then let the old ones go."""
        name = {"commandId": order["commandId"]}
        self.ask("result", name | {"state": "accepted"})
        keys = {what: rsa.generate_private_key(65537, 2048) for what in FILES}
        request = x509.CertificateSigningRequestBuilder(x509.Name([]))
        wish = {f"{what}Csr": der(request.sign(key, hashes.SHA256())) for what, key in keys.items()}
        told = self.ask("csr", name | wish)["body"]
        need(told.get("commandId") == order["commandId"], f"no certificates: {told}")
        old = x509.load_pem_x509_certificate((self.own / "device.chain.pem").read_bytes())
        for what, prefix, purpose in (("device", "sign-", DEVICE), ("transport", "", CLIENT_AUTH)):
            chain = self.believe(told[f"{what}Chain"], self.now(), "device", prefix + self.principal, purpose)
            need(chain[0].public_key() == keys[what].public_key(), "a certificate of another key")
            need(chain[0].not_valid_before_utc >= old.not_valid_before_utc, "it begins before the one it replaces")
            (self.own / f"new-{what}.key.pem").write_bytes(keys[what].private_bytes(PEM, PKCS8, CLEAR))
            (self.own / f"new-{what}.chain.pem").write_bytes(b"".join(one.public_bytes(PEM) for one in chain))
        self.leave("rotated")
        # The digital ID of the new keys' life: at L1 the FTM signs it, at L0 the new device key.
        level_1 = self.claim["certification"] == "L1"
        self.be(self.folder / "ftm" if level_1 else self.own / "new-device", self.own / "new-transport")
        self.state["previous"] = self.state["digitalId"]
        self.sign_digital_id()
        self.be(self.own / "new-device", self.own / "new-transport")
        self.greet("reconnected")
        del self.state["previous"]
        for what in FILES:
            for kind in ("key", "chain"):
                (self.own / f"new-{what}.{kind}.pem").replace(self.own / f"{what}.{kind}.pem")
        self.be(self.own / "device", self.own / "transport")
        self.ask("result", name | {"state": "succeeded"})

    def retire(self, order: Json) -> None:
        """Say one last word; once it is acknowledged there is nothing left to speak with."""
        self.ask("result", {"commandId": order["commandId"], "state": "succeeded"})
        self.leave("retired")
        for path in self.own.glob("*.pem"):
            path.write_bytes(secrets.token_bytes(path.stat().st_size))
            path.unlink()
        self.kept.unlink()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patience", type=float, default=20.0)
    wish = parser.parse_args()
    sys.excepthook = lambda _kind, error, _trace: print(f"failed: {error!r}", file=sys.stderr)
    print(json.dumps(KeyedDevice(wish.folder).keyed(wish.patience)))
