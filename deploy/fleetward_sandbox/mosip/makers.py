"""An FTM maker as published ones are, which an honest factory is not: its root ends before its chips.

Source: MockMDS's certificates, a root of one year over chips of ten.
"""

from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.serialization import Encoding

from fleetward_broker import profiles
from fleetward_broker.profiles import Issuer, Subject
from fleetward_broker.signers import make_key
from fleetward_sandbox.factory import CHIP, MAKER
from fleetward_sandbox.mosip.pki import Wish, build
from fleetward_schemas.jws import Alg, PublicKey


@dataclass(frozen=True, slots=True)
class OutlivedMaker:
    """An FTM provider as published: chips right under a root that ends years before them. Serial numbers: negative."""

    root: Issuer

    def certify(self, serial: str, key: PublicKey, now: datetime) -> tuple[bytes, ...]:
        """Return a chip's chain in DER, which is the chip alone."""
        wish = Wish(profiles.name_of(Subject(f"FTM {serial}", MAKER)), key, (now, now + CHIP.life))
        return (build(wish, self.root).public_bytes(Encoding.DER),)


def outlived_maker(now: datetime, end: datetime) -> OutlivedMaker:
    """Make one whose root ends at ``end``."""
    key = make_key(Alg.RS256)
    drafted = profiles.self_signed(Subject(f"{MAKER} old root", MAKER), key, now)
    wish = Wish(drafted.subject, key.public_key(), (now, end), authority=True)
    return OutlivedMaker(Issuer(build(wish, Issuer(drafted, key)), key))
