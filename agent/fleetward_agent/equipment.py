"""A configuration's software made into installers, and all that a workshop needs around them."""

from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import entry_points
from threading import Event

from fleetward_agent.config import Config, ConfigProblem
from fleetward_agent.download import Downloads, Ways
from fleetward_agent.installers import ENTRY_POINTS, FOLDER, Broken, Installer, Place
from fleetward_agent.release_reader import FILE as ROOT_FILE
from fleetward_agent.release_reader import FOLDER as RELEASE_FOLDER
from fleetward_agent.release_reader import ReleaseReader
from fleetward_agent.software import AgentItself, Makers, Module, OneFile, Slots, Software, TrustAnchors
from fleetward_agent.workshop import Workshop
from fleetward_schemas.upgrade import Why

STEPS = ("install", "activate", "check", "settle", "roll_back")
Maker = Callable[[Place], Installer]


def workshop_of(config: Config, more: Mapping[str, Maker] | None = None) -> Workshop:
    """Return the workshop of a configured device. more: installers by name, in place of those that are configured.

    Raises:
        OSError: the first root is there and cannot be read.
    """
    stop, upgrade, root = Event(), config.upgrade, config.folder / ROOT_FILE
    ways = Ways(upgrade.host_authorities, upgrade.proxy, upgrade.most_bytes)
    first = root.read_bytes() if root.exists() else None
    reader = ReleaseReader(first, config.state_dir / RELEASE_FOLDER, model_of(config))
    makers: dict[str, Maker] = {one.name: partial(make, one) for one in config.software} | dict(more or {})
    made = {name: partial(maker, place_of(config, name, stop)) for name, maker in makers.items()}
    return Workshop(reader, Downloads(config.state_dir / FOLDER, ways, stop), made, stop)


def model_of(config: Config) -> str:
    """Return the device's ``make/model``."""
    return f"{config.identity.digital_id.make}/{config.identity.digital_id.model}"


def place_of(config: Config, name: str, stop: Event) -> Place:
    """Return where the installer of one name works."""
    work = config.state_dir / FOLDER / name
    anchors = config.folder / config.files.mosip_anchors
    return Place(config.folder, work, stop, model_of(config), bool(config.upgrade.reboot), anchors)


def make(software: Software, place: Place) -> Installer:
    """Return the installer that ``software`` asks for.

    Raises:
        Broken: nobody here provides a maker's own installer. ConfigProblem: its options are wrong.
    """
    place.work.mkdir(mode=0o700, parents=True, exist_ok=True)
    match software:
        case Slots():
            from fleetward_agent.installers.slots import SlotsInstaller

            return SlotsInstaller(software, place)
        case OneFile():
            from fleetward_agent.installers.one_file import FileInstaller

            return FileInstaller(software, place)
        case Module():
            from fleetward_agent.installers.module import ModuleInstaller

            return ModuleInstaller(software, place)
        case TrustAnchors():
            from fleetward_agent.installers.anchors import AnchorsInstaller

            return AnchorsInstaller(place)
        case AgentItself():
            from fleetward_agent.installers.itself import AgentInstaller

            return AgentInstaller(software, place)
        case Makers():
            return makers_own(software, place)


def makers_own(software: Makers, place: Place) -> Installer:
    """Return a maker's own installer. Raises as ``make``."""
    found = list(entry_points(group=ENTRY_POINTS, name=software.installer))
    if len(found) != 1:
        raise Broken(f"{software.installer}: {len(found)} entry points of this name", Why.NO_INSTALLER)
    made = found[0].load()(dict(software.options), place)
    if not all(callable(getattr(made, name, None)) for name in STEPS):
        raise ConfigProblem(f"{software.installer}: is no installer: needs {', '.join(STEPS)}")
    own: Installer = made
    return own
