"""``fleetward sandbox mosip``: one provider's sandbox MOSIP, in front, until it is stopped."""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from fleetward_sandbox.factory import MAKER
from fleetward_sandbox.mosip.approvals import read_approvals
from fleetward_sandbox.mosip.quirks import MEANINGS, Quirk
from fleetward_sandbox.mosip.serve import TRUST_PROVIDER, onboard, open_sandbox, serve_in_front, settings
from fleetward_server.authority import BACKDATE
from fleetward_server.config import load
from fleetward_server.generations import open_issuer
from fleetward_server.problem import Kind, OperatorProblem, nearest


def told_quirks(*, as_json: bool) -> str:
    """Return what the sandbox can be told to do wrong."""
    if as_json:
        return json.dumps({str(quirk): said for quirk, said in MEANINGS.items()})
    return "\n".join(f"{quirk:<20} {said}" for quirk, said in MEANINGS.items())


@dataclass(frozen=True, slots=True)
class Front:
    """What was asked for. folder: the provider's. approvals: a JSON file of what was approved, see ``Approvals``."""

    folder: Path
    profile: str
    quirks: tuple[str, ...]
    approvals: Path | None
    lenient: bool
    as_json: bool

    def serve(self, port: int) -> None:
        """Serve until SIGINT or SIGTERM.

        Raises:
            OperatorProblem: an unknown quirk, or a file of approvals that is none. ConfigProblem: no provider in
                the folder. OSError: the port is taken.
        """
        for word in self.quirks:
            if word not in list(Quirk):
                raise OperatorProblem(Kind.INVALID, f"--quirk {word!r}: {nearest(word, Quirk)}")
        config, now = load(self.folder), datetime.now(UTC)
        home = self.folder.absolute() / "sandbox" / "mosip"
        mosip = open_sandbox(home, now - BACKDATE, now - BACKDATE)
        mosip.register.environment = config.provider.environment
        mosip.register.strict = not self.lenient
        if self.approvals is not None:
            mosip.approvals = read_approvals(self.approvals)
        for word in self.quirks:
            mosip.quirks.set(Quirk(word))
        mosip.partners.organisations = {config.provider.id: config.provider.name, TRUST_PROVIDER: MAKER}
        onboard(mosip, open_issuer(config, "device-ca").certificate, now - BACKDATE)
        serve_in_front(mosip, port, lambda found: self._tell(home, found))

    def _tell(self, home: Path, port: int) -> None:
        table = settings(home, port, self.profile)
        print(json.dumps({"url": f"https://localhost:{port}", "table": table}) if self.as_json else table)
        sys.stdout.flush()
