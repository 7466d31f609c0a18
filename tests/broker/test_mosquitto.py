"""Mosquitto's files: the access list grants what the gate grants, and what it cannot say is known and small."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleetward_broker.gate import Action, may
from fleetward_broker.mosquitto import ADMIN_NAME, Files, Listen, acl, administration, configuration
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.messages import KINDS
from fleetward_schemas.topics import down, fleet, principal_of, up
from tests.broker.sessions import DEVICE, OTHER, principal

FACTORY, VIEW = f"f-{DEVICE}", "view-1"
NAMES = (DEVICE, FACTORY, "server", VIEW)
LIST = acl([VIEW])
FILES = Files(
    Path("/p/b.pem"), Path("/p/b.key.pem"), Path("/p/root.pem"), Path("/p/crl.pem"), Path("/f"), Path("/x.so")
)
CONF = configuration(Listen("127.0.0.1", 8883), FILES)
OF_ACTION = {Action.PUBLISH: "write", Action.RECEIVE: "read"}


def matches(pattern: str, topic: str) -> bool:
    """Say whether a filter matches a topic name (MQTT 3.1.1 section 4.7): ``a/#`` matches ``a`` too."""
    if topic.startswith("$") is not pattern.startswith("$"):
        return False
    levels, names = pattern.split("/"), topic.split("/")
    for place, level in enumerate(levels):
        if level == "#":
            return True
        if place >= len(names) or level not in {"+", names[place]}:
            return False
    return len(levels) == len(names)


def granted(name: str, action: Action, topic: str) -> bool:
    """Judge as Mosquitto 2.0 does: the user's own lines, denials before all, then the patterns; else no."""
    own, patterns, user = [], [], ""
    for line in LIST.splitlines():
        word, _, rest = line.partition(" ")
        if word == "user":
            user = rest
        elif word == "topic" and user == name:
            own.append(rest.split(" ", 1))
        elif word == "pattern":
            patterns.append(rest.replace("%u", name).split(" ", 1))
    if any(access == "deny" and matches(where, topic) for access, where in own):
        return False
    return any(access == OF_ACTION[action] and matches(where, topic) for access, where in own + patterns)


def every_topic() -> list[str]:
    whose = (DEVICE, OTHER, FACTORY, VIEW, "server")
    of_devices = [make(one, kind) for one in whose for _, kind in KINDS for make in (up, down)]
    of_views = ["fw/v1/view/summary", "fw/v1/view/delta", "fw/v1/view/rollout/7"]
    strange = ["fw/v2/fleet/beacon", "fw", "a", "$SYS/broker/uptime", "$CONTROL/dynamic-security/v1", "fw/v1/x"]
    return [*of_devices, *(fleet(kind) for _, kind in KINDS), fleet("release/3.root"), *of_views, *strange]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("action", OF_ACTION)
def test_the_list_says_what_the_gate_says_of_every_topic_there_is(name, action):
    differing = [
        topic for topic in every_topic() if granted(name, action, topic) is not may(principal(name), action, topic)
    ]
    assert differing == []


LEVELS = st.sampled_from(
    ["fw", "v1", "d", *NAMES, OTHER, "up", "down", "fleet", "view", "x", "", "UP", "$SYS", "telemetry"]
)
TOPICS = st.lists(LEVELS, min_size=1, max_size=8).map("/".join)


@given(TOPICS, st.sampled_from(NAMES), st.sampled_from(list(OF_ACTION)))
def test_the_list_never_denies_what_the_gate_allows(topic, name, action):
    assert granted(name, action, topic) or not may(principal(name), action, topic)


@given(TOPICS, st.sampled_from(NAMES), st.sampled_from(list(OF_ACTION)))
def test_beyond_the_gate_lie_only_words_that_are_no_kinds_in_own_trees(topic, name, action):
    if granted(name, action, topic) and not may(principal(name), action, topic):
        own_word = rf"fw/v1/d/{name}/up/[^/]*"
        parent_of_a_tree = rf"fw/v1(/fleet|/view|/d/{name}/down)?/?"
        assert re.fullmatch(own_word if action is Action.PUBLISH and name != "server" else parent_of_a_tree, topic)


def test_a_view_that_is_not_named_reads_no_view():
    assert granted(VIEW, Action.RECEIVE, "fw/v1/view/summary")
    assert not granted("view-2", Action.RECEIVE, "fw/v1/view/summary")


@pytest.mark.parametrize("name", ["server", DEVICE, "view-", "view-1\ntopic readwrite #"])
def test_only_views_are_named_as_views(name):
    assert "user view-1" in acl(["view-1"])
    with pytest.raises(LocalMistake):
        acl([name])


def test_the_configuration_asks_for_certificates_and_bounds_everything():
    lines = CONF.splitlines()
    for wanted in (
        "require_certificate true",
        "use_identity_as_username true",
        "crlfile /p/crl.pem",
        "tls_version tlsv1.2",
        "max_packet_size 65536",
        "acl_file /f/acl",
        "listener 8883 127.0.0.1",
    ):
        assert wanted in lines
    assert "allow_anonymous true" not in lines
    assert not any(line.startswith("user ") for line in lines)
    assert "user fleet" in configuration(Listen("::", 1), FILES, "fleet").splitlines()


def test_the_admins_plugin_is_loaded_for_its_own_socket_alone():
    devices, admin = CONF.split("listener 0 ")
    assert "per_listener_settings true" in devices
    assert "plugin" not in devices
    assert "plugin /x.so" in admin
    assert "allow_anonymous false" in admin


def test_no_certificate_of_ours_can_name_the_admin():
    assert principal_of(ADMIN_NAME) is None


def test_the_admin_may_speak_to_the_plugin_and_do_nothing_else():
    written = json.loads(administration("secret", b"salt"))
    (account,), (role,) = written["clients"], written["roles"]
    assert {one["topic"] for one in role["acls"]} == {"$CONTROL/dynamic-security/#"}
    assert not any(written["defaultACLAccess"].values())
    hashed = hashlib.pbkdf2_hmac("sha512", b"secret", b"salt", account["iterations"])
    assert base64.b64decode(account["password"]) == hashed
    assert "secret" not in json.dumps(written)


def test_a_path_with_an_end_of_line_is_refused():
    assert "/with space/acl" in configuration(Listen("::", 1), replace(FILES, folder=Path("/with space")))
    with pytest.raises(LocalMistake, match="end of line"):
        configuration(Listen("::", 1), replace(FILES, folder=Path("/f\nallow_anonymous true")))
