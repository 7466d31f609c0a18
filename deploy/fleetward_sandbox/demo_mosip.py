"""The demo's MOSIP: the sandbox's, beside broker and server, and what its own register says of the fleet.

It is MOSIP's side that is counted, not ours: what it was told, and how often.
"""

from collections import Counter
from datetime import datetime
from pathlib import Path

from fleetward_sandbox.mosip.serve import Served, onboard, open_sandbox, settings
from fleetward_server.authority import BACKDATE
from fleetward_server.config import load
from fleetward_server.generations import open_issuer
from fleetward_server.mosip.settings import Profile

PROFILES = (Profile.PMS, Profile.MASTERDATA, Profile.CRYPTO_ONLY)
DOMAIN = "https://id.example.org"


class DemoMosip:
    """A sandbox MOSIP that knows one provider."""

    def __init__(self, provider: Path, profile: str, now: datetime) -> None:
        """Start it for the provider in a folder, whose configuration names it from now on."""
        config, home = load(provider), (provider / "sandbox" / "mosip").resolve()
        mosip = open_sandbox(home, now - BACKDATE, now - BACKDATE)
        mosip.register.environment = config.provider.environment
        onboard(mosip, open_issuer(config, "device-ca").certificate, now - BACKDATE)
        self._served = Served(mosip).start()
        with (provider / "fleetward.toml").open("a") as file:
            file.write("\n" + settings(home, self._served.port, profile) + f'domain_uris = ["{DOMAIN}"]\n')

    def told(self) -> dict[str, int]:
        """Return what it was told and took: act -> how often."""
        return dict(Counter(act for act, _ in self._served.mosip.done))

    def close(self) -> None:
        """End it."""
        self._served.stop()
