"""Promises of topics: one grammar, and nobody is named by two spellings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_schemas import topics
from fleetward_schemas.errors import Code, Refused
from fleetward_schemas.topics import Address, Direction, Principal, Role, principal_of, read_topic

ID = "abcdefghijklmnopqrstuvwxyz"


@pytest.mark.parametrize(
    ("name", "role", "device"),
    [
        (ID, Role.DEVICE, ID),
        (f"f-{ID}", Role.FACTORY, ID),
        ("server", Role.SERVER, None),
        ("view-1", Role.VIEW, None),
    ],
)
def test_a_name_tells_its_role(name, role, device):
    assert principal_of(name) == Principal(name, role, device)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "view-",
        "view-A",
        "view-" + "a" * 33,
        "view",
        "Server",
        "sign-server",
        "+",
        "#",
        "a/b",
        f"{ID}\n",
        f"f-f-{ID}",
    ],
)
def test_no_other_name_is_a_principal(name):
    assert principal_of(name) is None


@pytest.mark.parametrize(
    "name",
    [ID[:25], ID + "a", ID.upper(), ID[:25] + "1", ID[:25] + "\n", f"F-{ID}", f"sign-{ID}"],
)
def test_nothing_but_26_letters_of_base32_is_a_device(name):
    assert principal_of(name) is None


@pytest.mark.parametrize("name", [ID, f"f-{ID}"])
def test_a_device_topic_names_its_principal(name):
    principal = principal_of(name)
    assert read_topic(topics.up(name, "time")) == Address(Direction.UP, "time", principal)
    assert read_topic(topics.down(name, "time")) == Address(Direction.DOWN, "time", principal)


def test_a_fleet_topic_names_nobody():
    assert read_topic(topics.fleet("beacon")) == Address(Direction.FLEET, "beacon")
    assert read_topic("fw/v1/view/summary") == Address(Direction.VIEW, "summary")


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "fw/v1",
        f"fw/v2/d/{ID}/up/time",
        f"fw/v1/d/{ID}/up",
        f"fw/v1/d/{ID}/up/",
        f"fw/v1/d/{ID}/up/time/",
        f"fw/v1/d/{ID}/up/time/more",
        f"fw/v1/d/{ID}/up/Time",
        f"fw/v1/d/{ID}/up/+",
        f"fw/v1/d/{ID}/sideways/time",
        f"fw/v1/d/{ID.upper()}/up/time",
        "fw/v1/d/server/up/time",
        "fw/v1/d/view-1/up/time",
        "fw/v1/d/+/up/time",
        f"/fw/v1/d/{ID}/up/time",
        f"fw/v1/d/{ID}/up/time\n",
        "fw/v1/fleet",
        "fw/v1/fleet/#",
        "fw/v1/fleet/beacon/#",
        "fw/v1/fleet/beacon/more",
        "$SYS/broker",
    ],
)
def test_every_other_topic_is_wrong(topic):
    with pytest.raises(Refused) as refusal:
        read_topic(topic)
    assert refusal.value.code is Code.WRONG_TOPIC


@given(st.text(alphabet="fwv1d/up+#$abc-", max_size=60))
def test_a_topic_is_read_only_from_its_one_spelling(text):
    try:
        address = read_topic(text)
    except Refused:
        return
    parts = ["d", address.principal.name] if address.principal else []
    assert text == "/".join(["fw", "v1", *parts, address.direction, address.kind])
