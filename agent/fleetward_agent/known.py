"""What the outbox knows that a message touches, read before its handler is asked."""

from fleetward_agent.outbox import Outbox
from fleetward_agent.turn import Known
from fleetward_schemas.commands import Command
from fleetward_schemas.receipts import Ack
from fleetward_schemas.shapes import Body


def known_to(outbox: Outbox, body: Body) -> Known:
    """Return it."""
    match body:
        case Command(commandId=command_id):
            return Known(command=outbox.command(command_id))
        case Ack() as ack:
            ids = {*ack.ids, *(one.id for one in ack.refused)}
            return Known(kinds={one.id: one.kind for one in outbox.reports(ids).values()})
        case _:
            return Known()
