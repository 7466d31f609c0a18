"""Hostile envelopes by who says it: as the server, a device or a factory principal without being one.

Source: protocol sections 1 and 3; C3, C6.
"""

from collections.abc import Iterator
from datetime import timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_sandbox.vector_cases import Case, Spoiler, signer
from fleetward_sandbox.vector_pki import NOW, Cast, Party, authorities, leaf
from fleetward_schemas.errors import Code
from fleetward_schemas.identity import Environment, ServerId, sign_identity
from fleetward_schemas.strict import b64url_decode, read_object, show_der


def _x5c(party: Party) -> list[str]:
    return [show_der(one) for one in party.chain]


def servers(good: dict[str, Case], cast: Cast) -> Iterator[Case]:
    """Speak as the server without being it (C6): every one is rightly signed by the key it names."""
    command = Spoiler(good["down-command"])
    yield from _liars(command, cast)
    yield from _other_chains(command, cast)
    yield from _attackers(command, Spoiler(good["fleet-beacon"]), cast)


def _liars(command: Spoiler, cast: Cast) -> Iterator[Case]:
    pki, foreign, signing = cast.pki, authorities(cast.ring, "attacker-"), profiles.SERVER_SIGNER
    yesterday = NOW - timedelta(days=1)
    liars = {
        "attacker-chain": (
            "a chain of the same names under another root",
            "sign-server",
            signing,
            foreign.service,
            None,
        ),
        "device-ca": ("sign-server issued by the device CA", "sign-server", signing, pki.device, None),
        "factory-ca": ("sign-server issued by the factory CA", "sign-server", signing, pki.factory, None),
        "root": ("sign-server issued by the root itself", "sign-server", signing, pki.root, None),
        "server-name": ("the server's TLS client name", "server", signing, pki.service, None),
        "no-purpose": ("no server-signing purpose", "sign-server", profiles.SERVICE_CLIENT, pki.service, None),
        "device-purpose": ("the device-signing purpose", "sign-server", profiles.DEVICE, pki.service, None),
        "expired": (
            "a signing certificate that ended yesterday",
            "sign-server",
            signing,
            pki.service,
            yesterday,
        ),
    }
    for title, (note, name, profile, issuer, ends) in liars.items():
        party = leaf(cast.ring, f"false-server-{title}", name, profile, issuer, ends=ends)
        yield command.header(f"server-{title}", note, Code.WRONG_SERVER, signer(party.key), x5c=_x5c(party))


def _other_chains(command: Spoiler, cast: Cast) -> Iterator[Case]:
    yield command.header(
        "server-device-certificate",
        "a device certificate",
        Code.WRONG_SERVER,
        signer(cast.device_b.key),
        x5c=_x5c(cast.device_b),
    )
    yield command.header(
        "server-leaf-alone", "no certificate above the leaf", Code.WRONG_SERVER, x5c=_x5c(cast.server)[:1]
    )
    authority = _x5c(Party(cast.pki.service.key, cast.server.chain[1:]))
    yield command.header(
        "server-authority",
        "signed by the service CA itself",
        Code.WRONG_SERVER,
        signer(cast.pki.service.key),
        alg="RS256",
        x5c=authority,
    )
    yield command.header(
        "server-other-key", "another key than the certificate's", Code.BAD_SIGNATURE, signer(cast.device_b.key)
    )


def _attackers(command: Spoiler, beacon: Spoiler, cast: Cast) -> Iterator[Case]:
    foreign = authorities(cast.ring, "attacker-")
    attacker = leaf(cast.ring, "false-server-attacker-chain", "sign-server", profiles.SERVER_SIGNER, foreign.service)
    mixed = [show_der(attacker.chain[0]), show_der(cast.server.chain[1])]
    yield command.header(
        "server-mixed-chain",
        "the attacker's leaf under our service CA",
        Code.WRONG_SERVER,
        signer(attacker.key),
        x5c=mixed,
    )
    yield beacon.header(
        "beacon-attacker",
        "a beacon by an attacker's chain",
        Code.WRONG_SERVER,
        signer(attacker.key),
        x5c=_x5c(attacker),
    )
    yield from _strange_servers(beacon, cast, attacker)


def _strange_servers(beacon: Spoiler, cast: Cast, attacker: Party) -> Iterator[Case]:
    """Say in the server's name who else it were: identity and message are of one key, one environment."""
    wrong, true = Code.WRONG_SERVER, beacon.base.payload()["digitalId"]
    identity = ServerId.read(read_object(b64url_decode(true.split(".")[1].encode())))
    by_other = sign_identity(identity, attacker.key, attacker.chain[0])
    yield beacon.payload("beacon-identity-other-key", "its identity by another key", wrong, digitalId=by_other)
    yield beacon.payload("beacon-identity-of-device", "a device's digital ID", wrong, digitalId=cast.digital_id_a)
    yield beacon.payload("beacon-identity-unsigned", "its signature taken off", wrong, digitalId=true.rsplit(".", 1)[0])
    elsewhere = beacon.base.trust | {"env": Environment.PRODUCTION}
    yield beacon.receiver("beacon-other-env", "the receiver is of another environment", wrong, trust=elsewhere)


def devices(good: dict[str, Case], cast: Cast) -> Iterator[Case]:
    """Speak as a device without being it (C3)."""
    telemetry, hello, chip = (Spoiler(good[name]) for name in ("up-telemetry", "up-f-hello", "up-f-hello-ftm"))
    unknown = Code.UNKNOWN_SIGNER
    print_b = good["up-telemetry-eddsa"].header()["x5t#S256"]
    yield telemetry.header(
        "device-other",
        "another device's certificate",
        unknown,
        signer(cast.device_b.key),
        alg="EdDSA",
        x5t__S256=print_b,
    )
    yield telemetry.header("device-unknown", "a thumbprint nobody knows", unknown, x5t__S256="A" * 43)
    yield telemetry.receiver(
        "device-replaced", "the receiver knows another certificate now", unknown, trust=good["up-telemetry-eddsa"].trust
    )
    yield telemetry.header(
        "device-other-key", "another RSA key", Code.BAD_SIGNATURE, signer(cast.ring.rsa("attacker-rsa"))
    )
    yield from _factories(hello, chip, cast)


def _factories(hello: Spoiler, chip: Spoiler, cast: Cast) -> Iterator[Case]:
    unknown, foreign = Code.UNKNOWN_SIGNER, authorities(cast.ring, "attacker-")
    name = f"f-{cast.id_b}"
    for title, note, common_name, issuer in (
        ("attacker-chain", "a chain of the same names under another root", name, foreign.factory),
        ("device-ca", "a factory name issued by the device CA", name, cast.pki.device),
        ("service-ca", "a factory name issued by the service CA", name, cast.pki.service),
        ("other-device", "another device's factory certificate", f"f-{cast.id_a}", cast.pki.factory),
    ):
        party = leaf(cast.ring, f"false-factory-{title}", common_name, profiles.FACTORY, issuer)
        yield hello.header(f"factory-{title}", note, unknown, signer(party.key), x5c=_x5c(party))
    yield hello.header(
        "factory-by-device-key", "a device certificate", unknown, signer(cast.device_b.key), x5c=_x5c(cast.device_b)
    )
    yield hello.header("factory-leaf-alone", "no certificate above the leaf", unknown, x5c=_x5c(cast.factory_b)[:1])
    yield hello.header(
        "factory-server", "the server's certificate", unknown, signer(cast.server.key), x5c=_x5c(cast.server)
    )
    other = {
        "ftmAnchor": show_der(foreign.root.certificate.public_bytes(Encoding.DER)),
        "providerRoot": hello.base.trust["providerRoot"],
    }
    yield chip.receiver("ftm-no-anchor", "the receiver trusts another FTM provider", unknown, trust=other)
