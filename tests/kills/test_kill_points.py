"""Every point of four walks where a crash can fall: found by a dry run, killed on both sides.

Enrolment, rotation, retirement, and being told what to run.

Each is killed before it, and after it where the other end was spoken to before the next. Whatever died: it converges; a
registered device is never without a valid pair; one request never has two pairs of certificates; and no acknowledged
retirement leaves a key.
"""

import shutil
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleetward_agent.walk import Stage
from fleetward_sandbox.provision import Order, provision
from fleetward_schemas.commands import Step
from fleetward_schemas.enrol import State
from fleetward_schemas.identity import Certification
from fleetward_schemas.jws import Alg
from fleetward_schemas.topics import DeviceId
from fleetward_schemas.upgrade import Phase, Why
from fleetward_server.init import Wish, make_provider
from fleetward_server.operator import LocalOperator
from fleetward_server.state import CertificateState, Use
from fleetward_server.store import AuditFilter, ReportFilter, open_store
from tests.kills.scene import Kill, Scene
from tests.kills.sides import FORK
from tests.server.assigned import assign, assignment
from tests.world_line import FakeClock

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
KINDS = {
    "enrol": {"commit", "fsync", "rename", "publish", "key-made"},
    "rotate": {"commit", "fsync", "rename", "publish", "key-made", "key-destroyed"},
    "retire": {"commit", "fsync", "rename", "publish", "key-made", "key-destroyed"},
    "assign": {"commit", "fsync", "rename", "publish", "key-made"},
}
Done = Callable[[Scene], bool]


@dataclass
class Flow:
    """One walk. verb: the order that starts it, if one does; done: when it is over."""

    name: str
    verb: str | None
    done: Done
    within_s: float


def state(scene: Scene) -> State | None:
    device = scene.store.device(scene.device_id)
    return None if device is None else device.state


def at_work(scene: Scene) -> bool:
    settled = scene.kept.order is None and scene.kept.previous is None and not scene.kept.doomed
    return scene.stage is Stage.WORKING and settled and len(scene.keys) == 2


def ordered(scene: Scene) -> Step:
    (command,) = scene.store.commands(scene.device_id)
    return command.step


def rotated(scene: Scene) -> bool:
    return at_work(scene) and ordered(scene) is Step.SUCCEEDED


def retired(scene: Scene) -> bool:
    return state(scene) is State.RETIRED and not scene.keys and scene.kept.gone is not None and not scene.kept.doomed


def told(scene: Scene) -> bool:
    """This device installs nothing, so that what it is told to run it refuses: that word has come."""
    (made,) = scene.store.assignments_of([scene.device_id]).values()
    got = scene.store.upgrades_of([scene.device_id])
    return made.seen and [one.phase for one in got] == [Phase.REFUSED]


def told_once(scene: Scene) -> None:
    """Whatever was sent again: one state, each word kept once, and the end in the audit once."""
    (got,) = scene.store.upgrades_of([scene.device_id])
    assert (got.phase, got.why) == (Phase.REFUSED, Why.NO_INSTALLER), f"{scene.kill}: {got}"
    words = scene.store.reports(ReportFilter(scene.device_id, "progress"), limit=99)
    assert len({one.id for one in words}) == len(words) > 0
    history = scene.store.audit_links(0, 999, AuditFilter(subject=scene.device_id))
    actions = Counter(one.entry.action for one in history)
    assert actions["upgrade-refused"] == 1, f"{scene.kill}: {actions}"


FLOWS = (
    Flow("enrol", None, at_work, 3600),
    Flow("rotate", "rotate-key", rotated, 3600),
    Flow("retire", "retire", retired, 7200),
    Flow("assign", None, told, 3600),
)


@dataclass
class Template:
    """Folders as they stand before each flow."""

    home: Path
    device_id: DeviceId
    now: datetime
    boot_us: int

    def scene(self, flow: Flow, out: Path, kill: Kill | None) -> Scene:
        """Return a fresh stage for one run of a flow."""
        shutil.copytree(self.home / flow.name, out)
        clock = FakeClock(self.now, self.boot_us)
        if flow.verb is not None:
            with LocalOperator(out / "provider", "eve", lambda: self.now) as eve:
                eve.send_command(self.device_id, flow.verb, {}, 3600, "test")
        if flow.name == "assign":
            with open_store(out / "provider" / "server.db") as store:
                assign(store, assignment(self.device_id, self.now), self.now)
        return Scene(out, self.device_id, clock, kill)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    home = tmp_path_factory.mktemp("kills")
    first = home / "enrol"
    make_provider(first / "provider", Wish("Kill Devices Ltd", "kill", port=1, telemetry_s=86_400), datetime.now(UTC))
    (made,) = provision(first / "provider", Order(1, first / "made", Certification.L1, alg=Alg.EDDSA), port=1)
    made.folder.rename(first / "device")
    shutil.rmtree(first / "made")
    begun = datetime.now(UTC) + timedelta(seconds=5)
    device_id = DeviceId(made.id)
    scene = Template(home, device_id, begun, 500_000_000).scene(FLOWS[0], home / "rotate", None)
    scene.run(FLOWS[0].done, FLOWS[0].within_s)
    scene.end()
    for name in ("retire", "assign"):
        shutil.copytree(home / "rotate", home / name)
    return Template(home, device_id, scene.clock.now + timedelta(seconds=5), scene.clock.boot_us + 5_000_000)


def dry_run(template: Template, flow: Flow, out: Path) -> list[Kill]:
    """Return every moment there is."""
    scene = template.scene(flow, out, None)
    scene.run(flow.done, flow.within_s)
    scene.end()
    found = [Kill(side, *moment) for side, moments in scene.moments.items() for moment in moments]
    before, after = ({kill.label.split()[0] for kill in found if kill.when == when} for when in ("before", "after"))
    assert before == KINDS[flow.name]
    assert after >= {"commit", "publish"}
    return found


def never_locked_out(scene: Scene) -> None:
    assert scene.has_a_valid_pair(), f"{scene.kill}: no pair that the server takes"


def one_pair_per_request(scene: Scene) -> None:
    per_request = Counter((one.pair, one.use) for one in scene.certificates())
    assert set(per_request.values()) == {1}, f"{scene.kill}: {per_request}"
    if state(scene) is State.REGISTERED:
        current = Counter(one.use for one in scene.certificates() if one.state is CertificateState.CURRENT)
        assert current == Counter({Use.DEVICE: 1, Use.TRANSPORT: 1}), f"{scene.kill}: {current}"


def survive(template: Template, flow: str, kill: Kill, out: Path) -> None:
    """Run a flow, one of its ends dying where ``kill`` says."""
    chosen = next(one for one in FLOWS if one.name == flow)
    scene = template.scene(chosen, out, kill)
    scene.on_death = never_locked_out if flow == "rotate" else scene.on_death
    if flow == "assign":
        # A start takes a moment: in the very same millisecond an ``online`` has the number of the one before.
        scene.on_death = lambda of: of.clock.pass_s(1.0)
    try:
        scene.run(chosen.done, chosen.within_s)
        assert scene.fatal == kill.label, f"{kill}: died at {scene.fatal}"
        one_pair_per_request(scene)
        if flow == "assign":
            told_once(scene)
    finally:
        scene.end()
    shutil.rmtree(out)


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.name)
def test_a_crash_at_any_point_is_survived(
    template: Template, flow: Flow, tmp_path: Path, figure: Callable[[str], None]
) -> None:
    kills = dry_run(template, flow, tmp_path / "dry")
    with ProcessPoolExecutor(mp_context=FORK) as pool:
        runs = [pool.submit(survive, template, flow.name, kill, tmp_path / str(n)) for n, kill in enumerate(kills)]
        for one in runs:
            one.result()
    sides = Counter(kill.side for kill in kills)
    figure(f"{flow.name}: {len(kills)} kills survived ({sides['agent']} agent, {sides['server']} server)")
