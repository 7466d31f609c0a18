"""What a batch will send once it is committed: replies, and for each device one receipt of its reports."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from fleetward_schemas.errors import Refused
from fleetward_schemas.receipts import Ack, Refusal
from fleetward_schemas.shapes import MAX_IDS
from fleetward_schemas.topics import DeviceId
from fleetward_server.turn import Reply


@dataclass(slots=True)
class Receipts:
    """What one device is told of its reports: ids stored, (id, code) pairs refused."""

    digital_id: str = ""
    ids: list[str] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)

    def parts(self) -> Iterable[Ack]:
        """Yield them as ``ack`` bodies that name at most 256 each."""
        for start in range(0, max(len(self.ids), len(self.refused)), MAX_IDS):
            refused = [Refusal(id=one, code=code) for one, code in self.refused[start : start + MAX_IDS]]
            yield Ack(ids=self.ids[start : start + MAX_IDS], refused=refused)


@dataclass(slots=True)
class Outgoing:
    """What a batch will send once it is committed: replies, and for each device the receipts of its reports.

    refusals: of which topics a message was refused, and why.
    """

    replies: list[Reply] = field(default_factory=list)
    receipts: dict[DeviceId, Receipts] = field(default_factory=dict)
    refusals: list[tuple[str, Refused]] = field(default_factory=list)

    def ack(self, device_id: DeviceId, digital_id: str, ids: Iterable[str], refused: Iterable[tuple[str, str]]) -> None:
        """Add to the receipts this device gets for the batch; the digital ID is the one it has by the batch's end."""
        receipts = self.receipts.get(device_id)
        if receipts is None:
            receipts = self.receipts[device_id] = Receipts()
        receipts.digital_id = digital_id
        receipts.ids.extend(ids)
        receipts.refused.extend(refused)
