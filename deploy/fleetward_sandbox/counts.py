"""What the demo counts, and its verdict."""

from dataclasses import asdict, dataclass, field

CODES = ("bad-signature", "replayed", "wrong-topic", "stale", "too-large", "unknown-signer")


@dataclass(slots=True)
class Counts:
    """What the last line says. hostile_refused: code -> how often, of the thief's victim. left: retired or revoked."""

    devices: int
    registered: int = 0
    reported: int = 0
    commands_answered: int = 0
    rotated: int = 0
    offline_when_cut: int = 0
    caught_up: int = 0
    hostile_sent: int = 0
    hostile_refused: dict[str, int] = field(default_factory=dict)
    to_leave: int = 0
    left: int = 0
    first_registered_s: float | None = None
    all_registered_s: float | None = None
    seconds: float = 0.0
    ok: bool = False

    def judge(self) -> bool:
        """Say whether everything went as it must, and keep it."""
        walked = {self.registered, self.reported, self.commands_answered, self.rotated, self.caught_up}
        whole = walked == {self.devices} and self.left == self.to_leave
        self.ok = whole and self.hostile_sent == len(CODES) and self.hostile_refused == dict.fromkeys(CODES, 1)
        return self.ok

    def plain(self) -> dict[str, object]:
        """Return the counts as a plain object."""
        return asdict(self)
