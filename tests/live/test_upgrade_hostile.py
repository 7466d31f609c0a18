"""One thief at a time, live: the server's keys alone, the release key alone, what a broker holds, who serves the bytes.

Each is refused by name and changes nothing; what is lawful works before and after it. All names of Uptane and RFC 9124,
in virtual time: tests/agent/test_release_reader.py, test_upgrade_reading.py, test_upgrade_assign.py.
"""

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from fleetward_sandbox.provision import Made
from fleetward_sandbox.usurper import Usurper, never_released, released
from fleetward_schemas.strict import b64url_decode
from fleetward_schemas.upgrade import Phase, Release, Why
from fleetward_server.releases.places import home, stored_as
from fleetward_server.releases.shelf import open_repository
from tests.live.upgrading import Works, image

pytestmark = pytest.mark.live
FLOOD = 100


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    with Works(tmp_path_factory.mktemp("works")) as made:
        yield made


def judged(works: Works, usurper: Usurper, made: Made, order: Release) -> str:
    """Have the usurper order something; return what the device's own log says of it."""
    before = len(refusals(made))
    usurper.assign(works.row(made), order)
    works.house.wait(lambda: len(refusals(made)) > before, "the device refuses")
    return refusals(made)[-1].partition("reason=")[2].split()[0]


def refusals(made: Made) -> list[str]:
    """Return the whole lines of a device's log that tell of one."""
    whole = (made.folder / "agent.log").read_text().rpartition("\n")[0]
    return [line for line in whole.splitlines() if "phase=refused" in line]


def test_a_stolen_server_and_a_stolen_release_key_each_alone_install_nothing(works: Works) -> None:
    one, other = works.devices(2)
    older = works.release(2)
    works.assign(older, one, other)
    works.upgraded(2, one, other)
    newer = works.release(3)

    # Who has the release key alone has a release that everybody can read, and no device that runs it.
    usurper = Usurper(works.maker.config, works.house.port)
    assert judged(works, usurper, one, never_released("firmware", 99)) == "not-released"
    assert judged(works, usurper, one, replace(released(older), counter=4)) == "mismatch"
    usurper.close()
    assert {works.runs(one), works.runs(other)} == {image(2)}
    assert [works.committed(made) for made in (one, other)] == [1, 1]

    # Both together are the lawful way.
    works.assign(newer, one, other)
    works.upgraded(3, one, other)
    usurper = Usurper(works.maker.config, works.house.port)
    assert judged(works, usurper, one, released(older)) == "downgrade"
    usurper.close()
    assert works.runs(one) == image(3)


def test_a_broker_that_serves_old_files_and_a_host_with_other_bytes_change_nothing(works: Works) -> None:
    made, other = works.devices(2)
    works.assign(works.release(12), made, other)
    works.upgraded(12, made, other)
    old, target = timestamp(works), works.release(13)
    newest = works.release(14)
    works.assign(target, other)
    works.upgraded(13, other)

    usurper = Usurper(works.maker.config, works.house.port)
    usurper.tell_file("timestamp", old)
    for number in range(FLOOD):
        usurper.tell_file(f"{number + 500}.bin-00", old)
    works.assign(newest, other)
    log = other.folder / "agent.log"
    works.house.wait(lambda: "release-odd" in log.read_text(), "what is older than what it read is not believed")
    assert works.runs(other) == image(13)

    sha256_hex = b64url_decode(newest.sha256.encode()).hex()
    place = home(works.house.folder) / "targets" / stored_as(newest.path, sha256_hex)
    right = place.read_bytes()
    place.write_bytes(right.replace(b"healthy", b"wealthy"))
    usurper.tell_file("timestamp", timestamp(works))
    usurper.close()
    works.ends(other, Phase.FAILED, Why.WRONG_HASH)
    assert works.runs(other) == image(13)

    place.write_bytes(right)
    works.assign(newest, made)
    works.upgraded(14, made)


def timestamp(works: Works) -> bytes:
    """Return the file that says which set is in force."""
    return open_repository(works.house.folder).files["timestamp"]
