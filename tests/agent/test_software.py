"""What can be installed is read strictly, made when it is needed, and every break of it is a told failure."""

import errno
import json
import ssl
import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from fleetward_agent.config import ConfigProblem, from_folder, load
from fleetward_agent.download import Downloads, Ways
from fleetward_agent.equipment import workshop_of
from fleetward_agent.hands import Means
from fleetward_agent.installers import Broken, Package, Place
from fleetward_agent.release_reader import ReleaseReader
from fleetward_agent.software import AgentItself, Makers, Module, OneFile, Slots, TrustAnchors, UpgradeTable
from fleetward_agent.upgrade_effects import (
    Activate,
    Activated,
    CheckHealth,
    HealthChecked,
    Install,
    Installed,
    Needs,
    ReadRelease,
    ReleaseRead,
    RollBack,
    RolledBack,
    Settle,
)
from fleetward_agent.workshop import Workshop
from fleetward_schemas.upgrade import Why
from tests.agent.packages import release
from tests.agent.test_config import CONNECTION, IDENTITY

ALL = """
[upgrade]
reboot = ["/usr/bin/systemctl", "reboot"]
host_authorities = true
proxy = "http://proxy.example:3128"
most_bytes = 1000000
health_s = 300

[[software]]
name = "firmware"
installer = "file"
path = "fw.bin"
apply = ["/usr/lib/acme/apply", "--now"]
restart = "reboot"

[[software]]
name = "driver"
installer = "slots"
folder = "/opt/acme"

[[software]]
name = "modem"
installer = "module"
program = "/usr/share/mender/modules/v3/single-file"
one_way = true

[[software]]
name = "anchors"
installer = "trust-anchors"

[[software]]
name = "agent"
installer = "agent"

[[software]]
name = "fpga"
installer = "acme-fpga"
options = { port = "/dev/ttyS0", deep = { a = 1 } }
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "identity.json").write_text(json.dumps(IDENTITY))
    (tmp_path / "connection.json").write_text(json.dumps(CONNECTION))
    return tmp_path


@pytest.mark.parametrize("file", ["software.toml", "agent.toml"])
def test_everything_that_may_stand_there_is_read(folder: Path, file: str) -> None:
    (folder / file).write_text(("" if file == "software.toml" else '[server]\nhost = "h"\n') + ALL)
    config = from_folder(folder)

    assert config.upgrade == UpgradeTable(
        ["/usr/bin/systemctl", "reboot"], True, "http://proxy.example:3128", 1_000_000, 300
    )
    assert [type(one) for one in config.software] == [OneFile, Slots, Module, TrustAnchors, AgentItself, Makers]
    assert config.software[0] == OneFile(
        "firmware", path="fw.bin", apply=["/usr/lib/acme/apply", "--now"], restart=Needs.REBOOT
    )
    assert config.software[-1] == Makers("fpga", "acme-fpga", {"port": "/dev/ttyS0", "deep": {"a": 1}})


def test_a_folder_that_says_nothing_installs_nothing(folder: Path) -> None:
    assert from_folder(folder).software == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("software = 3", "must be a list of tables"),
        ("[software]\nname = 'a'", "must be a list of tables"),
        ("[[software]]\nname = 'Firm ware'\ninstaller = 'file'", "expected letters"),
        ("[[software]]\ninstaller = 'file'\npath = 'x'", "name = None"),
        ("[[software]]\nname = 'firmware'", "needs installer"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'flie'", "did you mean 'file'"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'file'", "needs path"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'slots'", "needs folder"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'module'", "needs program"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'module'\nprogram = 'x'", "absolute path"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'module'\nprogram = '/x'\none_way = 1", "expected bool"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'file'\npth = 'x'", "did you mean 'path'"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'file'\npath = 'x'\napply = ['run me']", "absolute path"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'file'\npath = 'x'\nwithin_s = 0", "expected 1.."),
        ("[[software]]\nname = 'firmware'\ninstaller = 'file'\npath = 'x'\nmode = '0666'", "written by nobody else"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'file'\npath = 'x'\nrestart = 'maybe'", "expected one of"),
        ("[[software]]\nname = 'firmware'\ninstaller = 'file'\npath = 'x'\nrestart = 'reboot'", "[upgrade] reboot"),
        ("[[software]]\nname = 'a'\ninstaller = 'trust-anchors'\n" * 2, "stands twice"),
        ("[upgrade]\nreboot = ['reboot']", "absolute path"),
        ("[upgrade]\nproxy = 'squid'", "http://HOST:PORT"),
        ("[upgrade]\nhealth_s = 1", "expected 60.."),
        ("[upgrades]\n", "did you mean 'upgrade'"),
    ],
)
def test_what_cannot_be_used_is_named(folder: Path, text: str, said: str) -> None:
    (folder / "software.toml").write_text(text)

    with pytest.raises(ConfigProblem) as problem:
        from_folder(folder)
    assert said in str(problem.value)
    assert "software.toml" in str(problem.value)


def test_with_drivers_no_scanner_replaces_the_agent_of_all(folder: Path) -> None:
    text = (
        '[[driver]]\nname = "a"\nvendor = "1d6b"\nfolder = "{serialNo}"\nfields = { serialNo = "{ID_SERIAL_SHORT}" }\n'
    )
    (folder / "agent.toml").write_text(text + '[[software]]\nname = "agent"\ninstaller = "agent"\n')

    with pytest.raises(ConfigProblem, match="with drivers"):
        load(folder / "agent.toml")


RELEASE = release(b"new")


class Own:
    """A maker's own installer, which breaks as it is told to."""

    def __init__(self, problem: BaseException | None = None) -> None:
        self.problem = problem
        self.asked: list[str] = []

    def _do(self, step: str, package: Package) -> Needs:
        assert package.release == RELEASE
        self.asked.append(step)
        if self.problem is not None:
            raise self.problem
        return Needs.REBOOT

    def install(self, package: Package) -> None:
        self._do("install", package)

    def activate(self, package: Package) -> Needs:
        return self._do("activate", package)

    def check(self, package: Package) -> None:
        self._do("check", package)

    def settle(self, package: Package) -> None:
        self._do("settle", package)

    def roll_back(self, package: Package) -> Needs:
        return self._do("roll_back", package)


ASKED = (Install(RELEASE, 1), Activate(RELEASE), CheckHealth(RELEASE), Settle(RELEASE), RollBack(RELEASE))


def workshop(folder: Path, own: Own) -> tuple[Workshop, Means, list[object]]:
    told: list[object] = []
    stop = Event()
    made = Workshop(ReleaseReader(None, None, "m"), Downloads(folder, Ways(), stop), {"firmware": lambda: own}, stop)
    return made, Means(None, lambda event, fields: told.append((event, fields))), told


def test_each_effect_is_a_step_of_the_installer(tmp_path: Path) -> None:
    own = Own()
    made, means, told = workshop(tmp_path, own)
    (tmp_path / "firmware.x.target").write_bytes(b"new")

    assert [made.perform(effect, means) for effect in ASKED] == [
        Installed("firmware"),
        Activated("firmware", Needs.REBOOT),
        HealthChecked("firmware"),
        None,
        RolledBack("firmware", Needs.REBOOT),
    ]
    assert own.asked == ["install", "activate", "check", "settle", "roll_back"]
    assert told == []
    assert not list(tmp_path.iterdir()), "what was fetched is gone once it is settled"


@pytest.mark.parametrize(
    ("problem", "whys", "detail"),
    [
        (Broken("so"), (Why.INSTALL, Why.ACTIVATE, Why.UNHEALTHY, None, Why.ROLLBACK), "so"),
        (Broken("so", Why.STORAGE), (Why.STORAGE,) * 3 + (None, Why.STORAGE), "so"),
        (OSError(errno.ENOSPC, "full", "/f"), (Why.STORAGE,) * 3 + (None, Why.STORAGE), "/f: full"),
        (
            PermissionError(errno.EACCES, "no", "/f"),
            (Why.INSTALL, Why.ACTIVATE, Why.UNHEALTHY, None, Why.ROLLBACK),
            "/f: no",
        ),
        (
            ZeroDivisionError("secret"),
            (Why.INSTALL, Why.ACTIVATE, Why.UNHEALTHY, None, Why.ROLLBACK),
            "ZeroDivisionError",
        ),
    ],
)
def test_whatever_an_installer_raises_is_the_failure_of_its_step(
    tmp_path: Path, problem: BaseException, whys: tuple[Why | None, ...], detail: str
) -> None:
    made, means, told = workshop(tmp_path, Own(problem))
    outcomes = [made.perform(effect, means) for effect in ASKED]

    assert tuple(None if one is None else one.why for one in outcomes) == whys
    assert [fields["detail"] for _, fields in told] == [detail] * len(ASKED)  # type: ignore[misc]


def test_software_that_nobody_installs_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    own = Own()
    made, means, _ = workshop(tmp_path, own)
    other = release(b"new", name="other")

    assert made.perform(ReadRelease(other, (), frozenset(), 0), means) == ReleaseRead("other", why=Why.NO_INSTALLER)
    assert made.perform(Install(other, 1), means) == Installed("other", Why.NO_INSTALLER)
    assert own.asked == []


ENTRY = """
[fleetward_agent.installers]
acme-fpga = acme_fpga:make
acme-broken = acme_fpga:broken
"""
MADE = """
from fleetward_agent.upgrade_effects import Needs
class Fpga:
    def __init__(self, options, place): self.port, self.place = options["port"], place
    def install(self, package): (self.place.work / "installed").write_text(self.port)
    def activate(self, package): return Needs.NOTHING
    def check(self, package): pass
    def settle(self, package): pass
    def roll_back(self, package): return Needs.NOTHING
make = Fpga
broken = lambda options, place: object()
"""


@pytest.mark.parametrize(
    ("installer", "why"), [("acme-fpga", None), ("acme-broken", Why.INSTALL), ("acme-gone", Why.NO_INSTALLER)]
)
def test_a_makers_own_installer_is_found_by_its_entry_point(
    folder: Path, monkeypatch: pytest.MonkeyPatch, installer: str, why: Why | None
) -> None:
    site = folder / "site"
    (site / "acme_fpga-1.dist-info").mkdir(parents=True)
    (site / "acme_fpga-1.dist-info" / "entry_points.txt").write_text(ENTRY)
    (site / "acme_fpga-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme-fpga\nVersion: 1\n")
    (site / "acme_fpga.py").write_text(MADE)
    monkeypatch.syspath_prepend(str(site))
    (folder / "software.toml").write_text(
        f'[[software]]\nname = "firmware"\ninstaller = "{installer}"\noptions = {{ port = "p" }}\n'
    )
    config = from_folder(folder)
    outcome = workshop_of(config).perform(Install(RELEASE, 1), Means(None, lambda *_: None))

    assert outcome == Installed("firmware", why)
    held = config.state_dir / "upgrade" / "firmware" / "installed"
    assert (held.read_text() if held.exists() else None) == ("p" if why is None else None)


IDLE = """
import sys
from pathlib import Path
import fleetward_agent.serve
from fleetward_agent.assembly import assemble, hands_of
from fleetward_agent.config import from_folder
config = from_folder(Path(sys.argv[1]))
assert hands_of(config) is not None
left_out = ("urllib3", "tarfile", "tuf", "fleetward_agent.workshop",
            "fleetward_agent.download", "fleetward_agent.equipment", "fleetward_agent.installers")
print([name for name in left_out if name in sys.modules])
"""


def test_an_idle_agent_carries_nothing_of_it(folder: Path) -> None:
    (folder / "software.toml").write_text(ALL)
    done = subprocess.run([sys.executable, "-c", IDLE, str(folder)], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"


def test_a_place_says_where(folder: Path) -> None:
    (folder / "software.toml").write_text(ALL)
    config = from_folder(folder)
    seen: list[Place] = []

    class Seeing(Own):
        def __init__(self, place: Place) -> None:
            super().__init__()
            seen.append(place)

    workshop_of(config, {"firmware": Seeing}).perform(Install(RELEASE, 1), Means(ssl.create_default_context(), print))
    (place,) = seen
    assert (place.folder, place.work) == (folder, folder / "state" / "upgrade" / "firmware")
    assert (place.model, place.may_reboot, place.anchors) == ("ACME/F-100", True, folder / "mosip-anchors.pem")
