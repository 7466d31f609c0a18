"""The independent client, told what to run: written from schemas/README.md alone too; what exists it takes as said."""

import argparse
import hashlib
import json
import ssl
import sys
import urllib.request
from datetime import timedelta
from pathlib import Path

from independent_client import Device, Json, b64url, need

AFTER = ("staged", "installing", "activating", "checking", "committed")


class ToldDevice(Device):
    """A device that takes an assignment and says how far it is. Left to a product: the repository, and installing."""

    def upgraded(self, patience_s: float, *, silent: bool) -> Json:
        """Be online until told what to run; fetch it and say each phase. silent: go without a word of it."""
        self.understands.append("assignment")
        if not (self.own / "transport.chain.pem").exists():
            self.enrol()
        self.be(self.own / "device", self.own / "transport")
        if self.claim["certification"] == "L0":
            self.sign_digital_id()
        self.ask_time()
        self.connect()
        self.ask("status", {"state": "online", "reason": "started", **self.session})
        told = self.wait(lambda: [it for it in self.heard if it["kind"] == "assignment"], "not told", patience_s)
        body = told[0]["body"]
        need(body["version"] <= (self.now() + timedelta(seconds=30)).timestamp() * 1000, "stale")
        if not silent:
            self.run(body)
        _, gone = self.seal("status", {"state": "offline", "reason": "shutdown", **self.session})
        self.wait(self.line.publish(f"{self.topic}/up/status", gone, 1).is_published, "no goodbye")
        self.line.disconnect()
        names = [[it["name"], it["counter"]] for it in body["releases"]]
        return {"version": body["version"], "releases": names, "window": body.get("window")}

    def run(self, body: Json) -> None:
        """Fetch all that is to be run, and say so."""
        for release in body["releases"]:
            for state in ("assigned", "downloading"):
                self.tell(body, release, state, 0)
            raw = self.fetch(release["url"], release["length"])
            need(b64url(hashlib.sha256(raw).digest()) == release["hashes"]["sha256"], "wrong-hash")
            for state in AFTER:
                self.tell(body, release, state, 0 if state == "staged" else 1)

    def tell(self, body: Json, release: Json, state: str, attempt: int) -> None:
        """Say a phase, and hear that it was kept."""
        word = {"assignmentVersion": body["version"], "name": release["name"], "state": state}
        answer = self.ask("progress", word | {"reason": None, "attempt": attempt})
        need(not answer["body"].get("refused"), f"refused: {answer}")

    def fetch(self, url: str, length: int) -> bytes:
        """Return the bytes, of that length, shown who asks."""
        tls = ssl.create_default_context(cafile=str(self.folder / "provider-root.pem"))
        tls.load_cert_chain(*self.line_files)
        with urllib.request.urlopen(url, timeout=30, context=tls) as answer:
            raw: bytes = answer.read(length + 1)
        need(len(raw) == length, "wrong-hash")
        return raw


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--patience", type=float, default=20.0)
    parser.add_argument("--silent", action="store_true")
    wish = parser.parse_args()
    sys.excepthook = lambda _kind, error, _trace: print(f"failed: {error!r}", file=sys.stderr)
    print(json.dumps(ToldDevice(wish.folder).upgraded(wish.patience, silent=wish.silent)))
