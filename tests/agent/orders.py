"""Short words for what tests of the walk look at and give."""

from datetime import timedelta

from fleetward_agent.walk import Stage as At
from fleetward_schemas.commands import Command, Result, ResultState
from fleetward_schemas.receipts import Ack
from fleetward_schemas.telemetry import Telemetry
from tests.world import Heard, Stage


def online(stage: Stage) -> bool:
    return stage.device.stage is At.WORKING


def kinds(stage: Stage) -> list[str]:
    return [heard.opened.kind.name for heard in stage.server.heard]


def order(stage: Stage, verb: str, minutes: int = 10, **params: object) -> Command:
    command = Command(commandId=stage.server.draft(stage.id, "ack", _ACK).id, command=verb, params=params)
    stage.server.say(stage.id, command, expires=stage.clock.now + timedelta(minutes=minutes))
    return command


def results(stage: Stage, command: Command) -> list[ResultState]:
    bodies = [heard.body for heard in stage.server.said("result")]
    return [body.state for body in bodies if isinstance(body, Result) and body.commandId == command.commandId]


def readings(heard: list[Heard]) -> list[str]:
    return [one.observedAt for h in heard if isinstance(h.body, Telemetry) for one in h.body.readings]


_ACK = Ack(ids=[])
