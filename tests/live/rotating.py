"""A fleet whose keys change hands while a fifth of it is away and the server dies twice: nobody may be locked out."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from fleetward_sandbox.fleet import Door, Fleet
from fleetward_sandbox.provision import Made
from fleetward_schemas.commands import Step
from fleetward_schemas.jws import Alg
from fleetward_schemas.topics import DeviceId
from fleetward_server.mass import MassOperator
from fleetward_server.mass_state import Action, MassWish
from fleetward_server.state import Certificate, CertificateState, Presence, Use
from tests.live.house import House

AWAY = 5
"""One in so many is not there when the order is given."""
KILL_AT = (0.2, 0.5)
DAY_S = 86_400
LATELY = timedelta(minutes=2)


@dataclass
class Figures:
    """What was measured. out: per device, from its first ``online`` under the new keys until the CRL names the old."""

    devices: int
    rotated_s: float = 0.0
    kills: int = 0
    locked_out: list[str] = field(default_factory=list)
    out: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        """Tell them on one line."""
        return (
            f"{self.devices} devices, one in {AWAY} away, server killed {self.kills} times: all rotated after "
            f"{self.rotated_s:.1f} s, {len(self.locked_out)} locked out; an old key is in the CRL at most "
            f"{max(self.out):.1f} s after the first online under the new one"
        )


class Rotating:
    """See the module."""

    def __init__(self, house: House, count: int) -> None:
        self.house = house
        self.made = house.provision(count, alg=Alg.EDDSA, model="Rotates-1")
        self.there, self.away = self.made[count // AWAY :], self.made[: count // AWAY]
        self.fleet = self._fleet(self.there)
        self.second: Fleet | None = self._fleet(self.away)
        self.seen: dict[int, float] = {}
        self.crl_read = 0.0

    def _fleet(self, made: Iterable[Made]) -> Fleet:
        door = Door("localhost", self.house.port)
        return Fleet([one.folder for one in made], door, device_alg=Alg.EDDSA)

    def run(self, within_s: float) -> Figures:
        """Register, order, kill, and see."""
        figures = Figures(len(self.made))
        self._until(lambda: self._online() == len(self.made), within_s, "all are online")
        before = {one.id: self._current(one.id) for one in self.made}
        self._leave()
        began = time.monotonic()
        self._order()
        for share in KILL_AT:
            self._until(lambda share=share: self._done() >= share * len(self.there), within_s, f"{share} rotated")
            self.house.kill("server")
            figures.kills += 1
        self.second = self._fleet(self.away)
        self._until(lambda: self._done() == len(self.made), within_s, "all have rotated")
        figures.rotated_s = time.monotonic() - began
        old = {pair[Use.TRANSPORT].serial for pair in before.values()}
        self._until(lambda: old <= self.seen.keys(), within_s, "every old key is in the list")
        self._until(lambda: all(len(_keys(one.folder)) == 2 for one in self.made), within_s, "old keys are destroyed")
        figures.out = [self.seen[before[one].get(Use.TRANSPORT).serial] - at for one, at in self._taken().items()]  # type: ignore[union-attr]
        figures.locked_out = [one.id for one in self.made if not self._well(one.id, before[one.id])]
        return figures

    def close(self) -> None:
        """Let all leave."""
        self.fleet.close()
        self._leave()

    def _leave(self) -> None:
        if self.second is not None:
            self.second.close()
        self.second = None

    def _order(self) -> None:
        with MassOperator(self.house.folder, "test") as operator:
            order = {"verb": "rotate-key", "params": {}, "expires_in_s": DAY_S}
            wish = MassWish(Action.COMMAND, order, "model:Rotates-1", "test")
            act = operator.begin_mass(wish, [DeviceId(one.id) for one in self.made])
            operator.continue_mass(act.id)

    def _until(self, done: object, within_s: float, what: str) -> None:
        self.house.wait(lambda: self._turn() or done(), what, within_s=within_s)  # type: ignore[operator]

    def _turn(self) -> None:
        self.fleet.turn(0.02)
        if self.second is not None:
            self.second.turn(0.02)
        self._read_list()

    def _read_list(self) -> None:
        """Note when each serial first stood in the list that the broker reads."""
        path = self.house.folder / "pki" / "crl" / "device-ca.pem"
        changed = path.stat().st_mtime
        if changed != self.crl_read:
            self.crl_read = changed
            for entry in x509.load_pem_x509_crl(path.read_bytes()):
                self.seen.setdefault(entry.serial_number, changed)

    def _online(self) -> int:
        return self.house.store.counts().presences.get(Presence.ONLINE, 0)

    def _done(self) -> int:
        return self.house.store.counts().steps.get(Step.SUCCEEDED, 0)

    def _current(self, device_id: str) -> dict[Use, Certificate]:
        found = self.house.store.certificates(device_id)  # type: ignore[arg-type]
        return {one.use: one for one in found if one.state is CertificateState.CURRENT}

    def _taken(self) -> dict[str, float]:
        """Return when each device was first online under its new keys."""
        at: dict[str, float] = {}
        for one in self.made:
            links = [link.entry for link in self.house.store.history(one.id) if link.entry.action == "took-keys"]
            at[one.id] = links[-1].at.timestamp()
        return at

    def _well(self, device_id: str, before: dict[Use, Certificate]) -> bool:
        """Say whether it holds a newer pair that begins no earlier, its keys and no others, and is there."""
        now, device = self._current(device_id), self.house.device(device_id)
        folder = next(one.folder for one in self.made if one.id == device_id)
        newer = all(now[use].thumbprint != before[use].thumbprint for use in Use)
        begins = all(now[use].not_before >= before[use].not_before for use in Use)
        seen_at = None if device is None else device.seen_at
        heard = seen_at is not None and seen_at > datetime.now(UTC) - LATELY
        return newer and begins and heard and len(_keys(folder)) == 2


def _keys(folder: Path) -> list[Path]:
    return list((folder / "state" / "keys").glob("*.pem"))
