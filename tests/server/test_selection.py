"""A filter means the same to the database and in plain Python, and one that is wrong says where. Source: S5."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fleetward_schemas.enrol import Reason, State
from fleetward_schemas.identity import Certification, Purpose, may_serve
from fleetward_schemas.upgrade import Phase
from fleetward_server.changes import AddCertificates
from fleetward_server.problem import Kind, OperatorProblem
from fleetward_server.selection import ABSENT, EVERYTHING, FIELDS, MOST_CHARS, MOST_VALUES, WORDS, Field, parse
from fleetward_server.state import Certificate, CertificateState, Device, Presence, Use
from fleetward_server.store import Store, open_store
from fleetward_server.upgrade_state import Committed, PutUpgrade, Upgrade
from tests.server.meaning import Candidate, holds
from tests.server.register import FIRST, NOW, certificate, device, identity, kept, made

MODELS = ("Slap-4", "slap-4", "Slap 4", "Slap%", "Slap_4", 'Q"x*\\', "-x", "not", "a,b")
TAGS = ("site-7", "site-70", "site:7", "a")
RUNS = ("firmware@1.7", "firmware@7", "agent@0.3", "agent@7", "firm")
VERSIONS = ("1.4.0", "1.4.10", "2")
AGES = ("0s", "1h", "2h", "7d", "30d")
LENGTHS = {"0s": timedelta(), "1h": timedelta(hours=1), "2h": timedelta(hours=2), "7d": timedelta(days=7)}
moments = st.none() | st.sampled_from([NOW - length for length in LENGTHS.values()])
ends = st.sampled_from([NOW + sign * length for length in LENGTHS.values() for sign in (1, -1)])


Owned = tuple[Device, list[Certificate], list[Upgrade]]


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@st.composite
def devices(draw: st.DrawFn, number: int) -> Device:
    level = draw(st.sampled_from(Certification))
    who = identity(number, model=draw(st.sampled_from(MODELS)), make=draw(st.sampled_from(["Acme", "acme", "Bolt"])))
    return replace(
        device(number),
        identity=who,
        state=draw(st.sampled_from(State)),
        presence=draw(st.sampled_from(Presence)),
        certification=level,
        purpose=draw(st.sampled_from([one for one in Purpose if may_serve(level, one)])),
        reason=draw(st.none() | st.sampled_from(Reason)),
        tags=tuple(sorted(draw(st.sets(st.sampled_from(TAGS))))),
        agent_version=draw(st.none() | st.sampled_from(VERSIONS)),
        seen_at=draw(moments),
    )


@st.composite
def certificates(draw: st.DrawFn, owner: Device, names: Iterator[int]) -> Certificate:
    name = next(names)
    row = certificate(f"{owner.id} {name}", pair=str(name), use=draw(st.sampled_from(Use)), not_after=draw(ends))
    state = draw(st.sampled_from(CertificateState))
    return replace(row, device_id=owner.id, serial=2**159 + name, state=state)


@st.composite
def software(draw: st.DrawFn, owner: Device) -> list[Upgrade]:
    names = draw(st.sets(st.sampled_from(["firmware", "agent"])))
    versions = st.sampled_from(["1.7", "0.3", "7"])
    held = st.none() | st.builds(Committed, st.integers(6, 8), versions, st.just("x"), st.just(NOW))
    phases = st.sampled_from(Phase)
    return [Upgrade(owner.id, name, draw(phases), None, 0, NOW, 1, "w", draw(held)) for name in sorted(names)]


@st.composite
def fleets(draw: st.DrawFn) -> list[Owned]:
    names = count()
    each = [draw(devices(number)) for number in range(1, 5)]
    return [(one, draw(st.lists(certificates(one, names), max_size=3)), draw(software(one))) for one in each]


def values(field: Field) -> st.SearchStrategy[str]:
    if field in ABSENT:
        compared = st.builds("{}{}".format, st.sampled_from("<>"), st.sampled_from(AGES))
        return compared | st.just(ABSENT[field])
    if field in WORDS:
        return st.sampled_from([str(word) if " " not in word else quoted(word) for word in WORDS[field]])
    pools = {Field.MODEL: MODELS, Field.TAG: TAGS, Field.VERSION: VERSIONS, Field.RUNS: RUNS}
    pools |= {Field.MAKE: ("Acme", "acme", "A")}
    pool = pools.get(field, (device(1).id, "SN-0001", "SN-0002", "acme", "SN"))
    exact = st.sampled_from(pool).map(quoted)
    begun = st.builds(lambda text, size: quoted(text[:size]) + "*", st.sampled_from(pool), st.integers(0, 6))
    return exact | begun


@st.composite
def terms(draw: st.DrawFn) -> str:
    field = draw(st.sampled_from(Field))
    name = "" if field is Field.NAME else f"{field}:"
    found = ",".join(draw(st.lists(values(field), min_size=1, max_size=3)))
    return draw(st.sampled_from(["", "-", "not "])) + name + found


def ending(owned: list[Certificate]) -> datetime | None:
    live = {CertificateState.ISSUED, CertificateState.CURRENT}
    return max((one.not_after for one in owned if one.use is Use.DEVICE and one.state in live), default=None)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("empty")
    made(folder).close()
    return folder / "server.db"


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(fleets(), st.lists(st.lists(terms(), max_size=3).map(" ".join), min_size=1, max_size=6))
@example(
    [(device(tags=("site-70",)), [], [])],
    ["tag:site-7", "-tag:site-7", "-version:1*", "-reason:clone", "-seen:<7d", "-runs:x@1", "-upgrade:failed"],
)
def test_the_database_and_python_agree_on_every_filter(
    empty: Path, tmp_path: Path, fleet: list[Owned], texts: list[str]
) -> None:
    path = tmp_path / "server.db"
    shutil.copyfile(empty, path)
    with open_store(path) as store:
        kept(store, *(one for one, _, _ in fleet))
        with store.unit() as unit:
            unit.apply(AddCertificates((one,)) for _, owned, _ in fleet for one in owned)
            unit.apply(PutUpgrade(one) for _, _, got in fleet for one in got)
        for text in texts:
            wanted = parse(text, NOW)
            meant = {one.id for one, owned, got in fleet if holds(wanted, Candidate(one, ending(owned), tuple(got)))}
            assert {one.id for one in store.devices(wanted)} == meant, text
    path.unlink()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with made(tmp_path) as fresh:
        yield fresh


FOUND = device(
    2,
    state=State.PENDING,
    presence=Presence.ONLINE,
    tags=("gate", "north"),
    agent_version="1.4.2",
    certification=Certification.L0,
    seen_at=NOW - timedelta(hours=1),
)
OTHER = device(1, tags=("northern",), seen_at=NOW - timedelta(days=9))


@pytest.mark.parametrize(
    "text",
    [
        "state:pending",
        "state:online",
        "state:revoked,pending",
        "not state:registered",
        "tag:north",
        "-tag:northern",
        "tag:gat*",
        "id:" + device(2).id,
        f"id:{device(2).id[:6]}*",
        "serial:SN-0002",
        "SN-0002",
        device(2).id[:6],
        "version:1.4.*",
        "agent:1.4.2",
        "level:L0",
        "seen:<2h",
        "-seen:>7d",
        "model:Slap-4 tag:north",
        'model:"Slap-4" -tag:northern ',
    ],
)
def test_a_filter_finds_the_one_it_means(store: Store, text: str) -> None:
    kept(store, OTHER, FOUND)
    assert store.devices(parse(text, NOW)) == (FOUND,)


@pytest.mark.parametrize(
    "text", ["", "  ", "id:*", "model:Slap-4,Nobody", "type:Finger provider:acme", "cert_expires:none"]
)
def test_a_filter_that_all_fit_finds_all(store: Store, text: str) -> None:
    kept(store, OTHER, FOUND)
    assert {one.id for one in store.devices(parse(text, NOW))} == {FOUND.id, OTHER.id}


@pytest.mark.parametrize(
    "text", ["model:Slap", "model:slap-4", "tag:nort", "id:%", '"_"', "model:%*", "SN-0002 tag:northern"]
)
def test_a_filter_that_none_fits_finds_none(store: Store, text: str) -> None:
    kept(store, OTHER, FOUND)
    assert store.devices(parse(text, NOW)) == ()


def test_the_last_live_device_certificate_decides_when_a_device_ends(store: Store) -> None:
    kept(store, device())
    soon, later, gone = NOW + timedelta(days=10), NOW + timedelta(days=40), NOW + timedelta(days=90)
    rows = [
        certificate("old", not_after=soon, state=CertificateState.CURRENT, serial=1),
        certificate("new", not_after=later, serial=2),
        certificate("out", not_after=gone, state=CertificateState.SUPERSEDED, serial=3),
        certificate("tls", not_after=gone, use=Use.TRANSPORT, serial=4),
    ]
    with store.unit() as unit:
        unit.apply([AddCertificates(tuple(rows[:1]))])
    assert [one.id for one in store.devices(parse("cert_expires:<30d", NOW))] == [FIRST]
    with store.unit() as unit:
        unit.apply([AddCertificates(tuple(rows[1:]))])
    assert store.devices(parse("cert_expires:<30d", NOW)) == ()
    assert [one.id for one in store.devices(parse("cert_expires:>30d -cert_expires:>60d", NOW))] == [FIRST]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("modle:x", "column 1: unknown field 'modle'; did you mean 'model'?"),
        ("tag:a modle:x", "column 7: unknown field 'modle'"),
        ("zzz:x", "column 1: unknown field 'zzz'; known: id, serial"),
        ("model:", "column 7: ends here: expected a value"),
        ("model: x", "column 7: ' ': expected a value"),
        ("model:a,,b", "column 9: ',': expected a value"),
        ('model:"x', "column 7: a quote that is not closed: expected a value"),
        ('tag:a"b"', "column 6: '\"b\"': expected a space or a comma"),
        ("state:onlin", "column 7: state:onlin: did you mean 'online'?"),
        ("state:on*", "column 7: state:on*"),
        ("seen:2h", "column 6: seen:2h: expected < or > and how long (90s, 15m, 2h or 7d), or never"),
        ("seen:<2x", "column 7: seen:<2x"),
        ("seen:<99999999999d", "column 7: seen:<99999999999d"),
        ("seen:<9999999999d", "column 7: seen:<9999999999d"),
        ("cert_expires:never", "column 14: cert_expires:never: expected < or > and how long"),
        ("model:<3", "column 7: model is not compared; < and > are for seen: and cert_expires:"),
        ("upgrade:faild", "column 9: upgrade:faild: did you mean 'failed'?"),
        ("runs:<firmware", "column 6: runs is not compared"),
        ("a*b", "column 2: '*': only at the end of a value, or in quotes"),
        ("-", "column 2: ends here: expected a field such as model: or a value"),
        ("tag:a -", "column 8: ends here"),
    ],
)
def test_a_wrong_filter_says_where_and_what_was_expected(text: str, said: str) -> None:
    with pytest.raises(OperatorProblem) as problem:
        parse(text, NOW)
    assert problem.value.kind is Kind.INVALID
    assert problem.value.message.startswith(f"filter, {said}")


def test_a_filter_is_bounded() -> None:
    assert len(parse(" ".join(["a"] * MOST_VALUES), NOW).terms) == MOST_VALUES
    with pytest.raises(OperatorProblem, match=f"at most {MOST_VALUES}"):
        parse(" ".join(["a"] * (MOST_VALUES + 1)), NOW)
    with pytest.raises(OperatorProblem, match=f"at most {MOST_CHARS}"):
        parse("x" * (MOST_CHARS + 1), NOW)


def test_the_longest_filter_is_one_the_database_takes(store: Store) -> None:
    kept(store, device())
    assert store.devices(parse(" ".join(["SN-"] * MOST_VALUES), NOW)) == (device(),)
    assert store.devices(parse("-model:" + ",".join(["a*"] * MOST_VALUES), NOW)) == (device(),)


@given(st.text(max_size=30) | st.text('ab:"\\*<>,- \tnot7dseen', max_size=30))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    try:
        wanted = parse(text, NOW)
    except OperatorProblem as problem:
        said = problem.message
    else:
        said = "filter, column 0" if holds(wanted, Candidate(device())) in {True, False} else ""
    assert said.startswith("filter, column ")


@pytest.mark.parametrize(
    ("text", "name"), [("abcd", "abcd"), ('"a:b"', "a:b"), ("-abcd", None), ("a b", None), ("a,b", None)]
)
def test_one_word_alone_is_a_name(text: str, name: str | None) -> None:
    assert parse(text, NOW).name == name
    assert parse("tag:x", NOW).name is EVERYTHING.name is None


def test_every_field_can_be_asked() -> None:
    assert set(FIELDS.values()) == set(Field) - {Field.NAME}
