"""What the demo counts, and its verdict."""

from dataclasses import asdict, dataclass, field

HOTLIST_ONLY = "crypto-only"
USURPED = ("not-released", "downgrade")
CODES = ("bad-signature", "replayed", "wrong-topic", "stale", "too-large", "unknown-signer")


@dataclass(slots=True)
class Counts:
    """What the last line says. hostile_refused: code -> how often, of the thief's victim. left: retired or revoked.

    upgraded: devices with new firmware committed; rolled_back: that went back by themselves and said so;
    usurper_refused: reason -> how often, what devices refused of a stolen server.

    mosip: the profile of the sandbox MOSIP, empty without one; mosip_known: devices with MOSIP's code; mosip_told: what
    MOSIP itself says it was told, act -> how often.
    """

    devices: int
    registered: int = 0
    reported: int = 0
    commands_answered: int = 0
    rotated: int = 0
    upgraded: int = 0
    rolled_back: int = 0
    usurper_refused: dict[str, int] = field(default_factory=dict)
    offline_when_cut: int = 0
    caught_up: int = 0
    hostile_sent: int = 0
    hostile_refused: dict[str, int] = field(default_factory=dict)
    to_leave: int = 0
    left: int = 0
    first_registered_s: float | None = None
    all_registered_s: float | None = None
    mosip: str = ""
    mosip_known: int = 0
    mosip_told: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    ok: bool = False

    def judge(self) -> bool:
        """Say whether everything went as it must, and keep it."""
        walked = {self.registered, self.reported, self.commands_answered, self.rotated, self.caught_up}
        walked.add(self.upgraded)
        whole = walked == {self.devices} and self.left == self.to_leave
        whole = whole and self.hostile_sent == len(CODES) and self.hostile_refused == dict.fromkeys(CODES, 1)
        whole = whole and self.rolled_back == 1 and self.usurper_refused == dict.fromkeys(USURPED, 1)
        self.ok = whole and (not self.mosip or self._mosip_is_right())
        return self.ok

    def mosip_to_tell(self) -> dict[str, int]:
        """Return what MOSIP is to be told in the end: each device once, new keys never, each that left once."""
        if self.mosip == HOTLIST_ONLY:
            return {"hotlist": self.to_leave} if self.to_leave else {}
        left = {"deregister": self.to_leave} if self.to_leave else {}
        return {"register": self.devices} | left

    def _mosip_is_right(self) -> bool:
        return self.mosip_known == self.devices and self.mosip_told == self.mosip_to_tell()

    def plain(self) -> dict[str, object]:
        """Return the counts as a plain object; of MOSIP only where there is one."""
        return {name: value for name, value in asdict(self).items() if self.mosip or not name.startswith("mosip")}
