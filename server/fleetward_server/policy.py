"""The provider's decisions as the handlers get them: of the configuration what they need, and our clock's error."""

from fleetward_server.clock import Sureness
from fleetward_server.config import Config
from fleetward_server.turn import Policy


def policy_of(config: Config, sure: Sureness) -> Policy:
    """Return what the handlers need of the configuration; radius 0 means: do not answer time."""
    return Policy(
        listing=config.enrol.policy,
        environment=config.provider.environment,
        provider=config.provider.name,
        provider_id=config.provider.id,
        telemetry_s=config.devices.telemetry_s,
        time_s=config.devices.time_s,
        radius_ms=sure.radius_ms or 0,
        limits=config.limits,
        retry_after_s=config.enrol.retry_after_s,
    )
