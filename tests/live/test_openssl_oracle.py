"""The openssl command as a second opinion: on every chain our profiles issue, and on chains that somebody changed.

Where the two differ, the difference has a name here; one that nobody named fails.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from fleetward_broker import profiles
from fleetward_broker.profiles import Issuer, Profile, Subject
from fleetward_broker.signers import make_key
from fleetward_schemas.certificates import Anchors, Unit
from fleetward_schemas.errors import Refused
from fleetward_schemas.foreign import Anchor, ForeignAnchors, Leniency
from fleetward_schemas.jws import Alg
from tests.chains import CERT_SIGN, DAY, LEAF, MIDDLE, NOW, ROOT, SIGNS, Made, chain, make

pytestmark = [pytest.mark.live, pytest.mark.part]
SECOND = timedelta(seconds=1)
Flaws = Mapping[str, Mapping[str, object]]


def openssl_takes(folder: Path, certificates: list[x509.Certificate], at: datetime, *, strict: bool = True) -> bool:
    """Say whether ``openssl verify`` takes a chain, leaf first and root last, at a moment."""
    leaf, *between, root = certificates
    for name, held in {"leaf": [leaf], "between": between, "root": [root]}.items():
        (folder / name).write_bytes(b"".join(one.public_bytes(Encoding.PEM) for one in held))
    command = ["openssl", "verify", "-attime", str(int(at.timestamp())), "-no-CApath", "-CAfile", str(folder / "root")]
    command += ["-x509_strict"] if strict else []
    command += ["-untrusted", str(folder / "between")] if between else []
    done = subprocess.run([*command, str(folder / "leaf")], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode in {0, 2}, done.stderr
    return done.returncode == 0


@cache
def authorities() -> dict[Unit, tuple[Issuer, x509.Certificate]]:
    """Return each issuing CA of a provider, with the root."""
    key = make_key(Alg.RS256)
    root = profiles.self_signed(Subject("Root", "Acme"), key, NOW - DAY)
    made = {}
    for unit in Unit:
        own = make_key(Alg.RS256)
        subject = Subject(f"{unit} CA", "Acme", unit)
        certificate = profiles.issue(profiles.ISSUING, subject, own.public_key(), Issuer(root, key), start=NOW - DAY)
        made[unit] = (Issuer(certificate, own), root)
    return made


LEAVES = [profile for profile in profiles.PROFILES if profile.path_length is None]


def issued(profile: Profile, alg: Alg = Alg.EDDSA) -> list[x509.Certificate]:
    by, root = authorities()[Unit.SERVICE]
    hosts = ("broker.example", "127.0.0.1") if profile is profiles.SERVER_TLS else ()
    subject = Subject("somebody", "Acme", hosts=hosts)
    return [profiles.issue(profile, subject, make_key(alg).public_key(), by, start=NOW), by.certificate, root]


def we_take(certificates: list[x509.Certificate], at: datetime) -> bool:
    try:
        ders = tuple(one.public_bytes(Encoding.DER) for one in certificates[:-1])
        Anchors((certificates[-1],)).verify(ders, at)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("profile", LEAVES, ids=lambda profile: profile.name)
@pytest.mark.parametrize("alg", Alg)
def test_what_our_profiles_issue_openssl_takes_in_its_strict_mode(tmp_path: Path, profile: Profile, alg: Alg) -> None:
    made = issued(profile, alg)
    assert openssl_takes(tmp_path, made, NOW)
    assert we_take(made, NOW)


@pytest.mark.parametrize("unit", Unit)
def test_every_issuing_ca_is_taken_by_its_root(tmp_path: Path, unit: Unit) -> None:
    by, root = authorities()[unit]
    assert openssl_takes(tmp_path, [by.certificate, root], NOW)


@pytest.mark.parametrize("profile", LEAVES, ids=lambda profile: profile.name)
def test_both_let_a_chain_begin_and_end_together_but_for_its_last_second(tmp_path: Path, profile: Profile) -> None:
    made = issued(profile)
    end = made[0].not_valid_after_utc
    for at, valid in [(NOW - SECOND, False), (NOW, True), (end - SECOND, True), (end + SECOND, False)]:
        assert (openssl_takes(tmp_path, made, at), we_take(made, at)) == (valid, valid)
    # RFC 5280 4.1.2.5: notAfter is within the validity; openssl ends before it.
    assert (openssl_takes(tmp_path, made, end), we_take(made, end)) == (False, True)


def test_both_refuse_our_chain_under_another_root(tmp_path: Path) -> None:
    made = issued(profiles.DEVICE)
    other = profiles.self_signed(Subject("Root", "Acme"), make_key(Alg.RS256), NOW - DAY)
    assert not openssl_takes(tmp_path, [*made[:-1], other], NOW)
    assert not we_take([*made[:-1], other], NOW)


BARE, V1 = {"bare": True}, {"bare": True, "version": "v1"}
STRANGE = {"more": ((x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00"), True),)}
SERVERS = {"more": ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),)}
CONSTRAINED = {"more": ((x509.NameConstraints([x509.DNSName("chips.example")], None), True),)}

BOTH_REFUSE: dict[str, Flaws] = {
    "an authority that says it is none": {"middle": {"ca": False}},
    "an authority that does not say it is one": {"middle": {"ca": None}},
    "an authority between without extensions": {"middle": BARE},
    "an authority between of version 1": {"middle": V1},
    "an authority that may sign no certificates": {"middle": {"usage": SIGNS}},
    "an anchor that says it is none": {"root": {"ca": False}},
    "an anchor that may sign no certificates": {"root": {"usage": SIGNS}},
    "a leaf that may sign certificates": {"leaf": {"usage": CERT_SIGN}},
    "a path length exceeded": {"root": {"path_length": 0}},
    "a critical extension nobody knows": {"leaf": STRANGE},
    "the same in an authority": {"middle": STRANGE},
    "another key named than the issuer's": {"leaf": {"aki": "wrong"}},
    "another key named than the anchor's own": {"root": {"aki": "wrong"}},
    "names that do not chain": {"leaf": {"issuer_name": "Chip CA 2"}},
    "a leaf that is over": {"leaf": {"end": NOW - DAY}},
    "a leaf that is not yet": {"leaf": {"start": NOW + DAY}},
    "an authority that is over": {"middle": {"end": NOW - DAY}},
    "an anchor that is over": {"root": {"end": NOW - DAY}},
}

ONLY_WE_REFUSE: dict[str, Flaws] = {
    "a leaf that is an authority": {"leaf": {"ca": True}},
    "SHA-1 below the authority": {"leaf": {"hash": "sha1"}},
    "SHA-1 below the anchor": {"middle": {"hash": "sha1"}},
    "a leaf of RSA-1024": {"leaf": {"key": "rsa1024 chip"}},
    "an authority of RSA-1024": {"middle": {"key": "rsa1024 middle"}},
    "an anchor of RSA-1024": {"root": {"key": "rsa1024 root"}},
    "a leaf of P-256": {"leaf": {"key": "p256 chip"}},
    "an authority of P-256": {"middle": {"key": "p256 middle"}},
    "an anchor of P-256": {"root": {"key": "p256 root"}},
    "an authority of Ed25519": {"middle": {"key": "ed25519 middle"}},
    "an authority for other purposes": {"middle": SERVERS},
    "name constraints": {"middle": CONSTRAINED},
}

# What we excuse on an operator's word, and whether openssl takes it: strictly (None: by its version), and otherwise.
EXCUSED: dict[str, tuple[Leniency, Flaws, bool | None, bool]] = {
    "a leaf's serial below zero": (Leniency.NEGATIVE_SERIAL, {"leaf": {"serial": -5}}, True, True),
    "a serial of zero": (Leniency.NEGATIVE_SERIAL, {"leaf": {"serial": 0}}, True, True),
    "an authority's serial below zero": (Leniency.NEGATIVE_SERIAL, {"middle": {"serial": -5}}, True, True),
    "an anchor's serial below zero": (Leniency.NEGATIVE_SERIAL, {"root": {"serial": -5}}, True, True),
    "a leaf without extensions": (Leniency.NO_EXTENSIONS, {"leaf": BARE}, False, True),
    "a leaf of version 1": (Leniency.NO_EXTENSIONS, {"leaf": V1}, True, True),
    "an anchor without extensions": (Leniency.NO_EXTENSIONS, {"root": BARE}, False, False),
    "an anchor of version 1": (Leniency.NO_EXTENSIONS, {"root": V1}, False, True),
    "a leaf's issuer's key unnamed": (Leniency.MISSING_KEY_IDENTIFIERS, {"leaf": {"aki": None}}, False, True),
    "a leaf's issuer by serial alone": (Leniency.MISSING_KEY_IDENTIFIERS, {"leaf": {"aki": "issuer"}}, None, True),
    "an authority's own key unnamed": (Leniency.MISSING_KEY_IDENTIFIERS, {"middle": {"ski": False}}, False, True),
    "an authority's issuer's key unnamed": (Leniency.MISSING_KEY_IDENTIFIERS, {"middle": {"aki": None}}, False, True),
    "an anchor's own key unnamed": (Leniency.MISSING_KEY_IDENTIFIERS, {"root": {"ski": False}}, False, True),
    "an authority's flags not critical": (
        Leniency.LOOSE_CONSTRAINTS,
        {"middle": {"critical": False}},
        None,
        True,
    ),
    "an anchor's flags not critical": (Leniency.LOOSE_CONSTRAINTS, {"root": {"critical": False}}, None, True),
    "an authority without usage": (Leniency.LOOSE_KEY_USAGE, {"middle": {"usage": None}}, False, True),
    "an anchor without usage": (Leniency.LOOSE_KEY_USAGE, {"root": {"usage": None}}, False, True),
}


def flawed(flaws: Flaws) -> tuple[Made, ...]:
    recipes = {"leaf": LEAF, "middle": MIDDLE, "root": ROOT}
    return chain(*(replace(recipe, **flaws.get(place, {})) for place, recipe in recipes.items()))  # type: ignore[arg-type]


def verdicts(folder: Path, made: tuple[Made, ...], *allowed: Leniency) -> tuple[bool, bool]:
    """Return ours and openssl's strict one."""
    certificates = [one.certificate for one in made]
    try:
        anchors = ForeignAnchors([Anchor(certificates[-1], frozenset(allowed))])
        anchors.verify(tuple(one.der for one in made[:-1]), NOW)
    except Refused:
        return False, openssl_takes(folder, certificates, NOW)
    return True, openssl_takes(folder, certificates, NOW)


def test_both_take_the_chain_that_nobody_changed(tmp_path: Path) -> None:
    assert verdicts(tmp_path, flawed({})) == (True, True)


@pytest.mark.parametrize("title", BOTH_REFUSE)
def test_both_refuse(tmp_path: Path, title: str) -> None:
    assert verdicts(tmp_path, flawed(BOTH_REFUSE[title]), *Leniency) == (False, False)


def test_both_refuse_a_forged_leaf_and_a_look_alike_anchor(tmp_path: Path) -> None:
    real, false = flawed({}), flawed({"root": {"key": "rsa2048 forger"}})
    forged = make(LEAF, make(replace(MIDDLE, key="rsa2048 forger")))
    assert verdicts(tmp_path, (forged, *real[1:]), *Leniency) == (False, False)
    assert verdicts(tmp_path, (*false[:2], real[2]), *Leniency) == (False, False)


@pytest.mark.parametrize("title", ONLY_WE_REFUSE)
def test_only_we_refuse(tmp_path: Path, title: str) -> None:
    assert verdicts(tmp_path, flawed(ONLY_WE_REFUSE[title]), *Leniency) == (False, True)


@pytest.mark.parametrize("title", EXCUSED)
def test_what_we_excuse_has_a_known_second_opinion(tmp_path: Path, title: str) -> None:
    leniency, flaws, strictly, otherwise = EXCUSED[title]
    made = flawed(flaws)
    refused, opinion = verdicts(tmp_path, made)
    excused, again = verdicts(tmp_path, made, leniency)
    assert (refused, excused) == (False, True)
    assert opinion is again
    assert strictly in {None, opinion}
    assert openssl_takes(tmp_path, [one.certificate for one in made], NOW, strict=False) is otherwise


def test_every_leniency_has_a_second_opinion() -> None:
    assert {leniency for leniency, *_ in EXCUSED.values()} == set(Leniency)
