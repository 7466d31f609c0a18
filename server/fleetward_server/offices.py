"""What an operator does with the provider's own keys: who follows in an office, and which root is forgotten.

Refused is what would lock a device out: a successor under a root that devices may not know yet, and forgetting a root
that devices still stand under, unless the operator says that this was seen to. Source: S6; succession.py.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from cryptography import x509

from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.mosquitto_admin import NotTold
from fleetward_schemas.certificates import is_signed_by
from fleetward_server import revocation
from fleetward_server.authority import FormerKeyAway
from fleetward_server.config import Config, ConfigProblem
from fleetward_server.generations import AuthorityProblem, former
from fleetward_server.locks import Busy
from fleetward_server.mosip import onboarding
from fleetward_server.problem import Kind, OperatorProblem, nearest
from fleetward_server.running import Held, reload_running
from fleetward_server.standing import LINES
from fleetward_server.store import Store
from fleetward_server.succession import (
    BESIDE,
    OFFICES,
    Making,
    Successor,
    follows_other_root,
    forget_root,
    root_in_office,
    succeed,
)

log = logging.getLogger("fleetward.offices")


def may_rotate(config: Config, office: str, making: Making, *, root_delivered: bool) -> None:
    """Refuse what cannot be done, or would lock devices out.

    Raises:
        OperatorProblem: ``invalid``: no such office, or a key cannot be opened. ``held``: the successor would stand
            under a root that devices may not know.
    """
    if office not in OFFICES:
        raise OperatorProblem(Kind.INVALID, f"{office!r} is no office; {nearest(office, OFFICES)}")
    if making != BESIDE and office in LINES:
        raise OperatorProblem(Kind.INVALID, f"{office}: its key opens TLS and is a file")
    if making.to and making.ceremony:
        raise OperatorProblem(Kind.INVALID, "--to, --ceremony: one or the other: the key is made, or was made")
    with _troubled():
        if not root_delivered and follows_other_root(config, office, making):
            raise OperatorProblem(
                Kind.HELD,
                f"{office} would stand under another root than its predecessor: bring "
                f"{config.pki}/root.pem to every device first, and then say --root-delivered",
            )


def rotate(config: Config, store: Store, office: str, now: datetime, making: Making = BESIDE) -> Successor:
    """Give an office another key; what serves has not taken it up yet.

    Raises:
        OperatorProblem: ``invalid``, ``failed``: it cannot be done; the former one is in office.
    """
    with _troubled():
        return succeed(config, office, now, lambda after: _announce(after, store, now), making)


def forget(config: Config, store: Store, now: datetime, *, leave_behind: bool) -> tuple[str, ...]:
    """Believe no root but the one in office; what serves has not taken it up yet. Returns names of those forgotten.

    Raises:
        OperatorProblem: ``held``: devices stand under another root. ``conflict``: there is no other, or an office does.
    """
    with _troubled(Kind.CONFLICT):
        root = root_in_office(config)
        left = sum(n for der, n in store.authorities(now).items() if not is_signed_by(_read(der), root))
        made = [one for one in former(config) if one.office == "factory-ca" and not one.has_ended(now)]
        made = [one for one in made if not is_signed_by(one.certificate, root)]
        if (left or made) and not leave_behind:
            raise OperatorProblem(
                Kind.HELD,
                f"{left} certificates of devices stand under another root"
                + (f", and what the factory made under {made[0].stem}" if made else "")
                + ": they would be locked out; say --leave-behind if that is meant",
            )
        return tuple(_name(one) for one in forget_root(config))


def mosip_request(config: Config) -> bytes:
    """Return the request for MOSIP to certify the device CA's key, PEM.

    Raises:
        OperatorProblem: ``invalid``: the key cannot be opened, or MOSIP reads no such key.
    """
    with _troubled():
        return onboarding.request(config)


def import_mosip_chain(config: Config, pem: bytes, now: datetime) -> onboarding.Imported:
    """Show MOSIP the chain that it signed; what serves has not taken it up yet.

    Raises:
        OperatorProblem: as ``onboarding.install``; ``invalid``: it cannot be done.
    """
    with _troubled():
        return onboarding.install(config, pem, now)


def take_up(config: Config) -> bool:
    """Have what serves take up the keys as they are now; False if nothing serves.

    Raises:
        OperatorProblem: ``failed``: it does not.
    """
    try:
        return reload_running(config.folder)
    except (Held, OSError) as problem:
        raise OperatorProblem(Kind.FAILED, f"done, but not taken up: {problem}") from None


def _announce(after: Config, store: Store, now: datetime) -> None:
    try:
        revocation.publish(after, store, now)
    except FormerKeyAway as problem:
        # It may well be why another takes its office.
        log.warning("a revocation list is not renewed", extra={"detail": str(problem)})
    revocation.reload_and_kick(after, ())


@contextmanager
def _troubled(kind: Kind = Kind.INVALID) -> Iterator[None]:
    try:
        yield
    except (KeyUnavailable, ConfigProblem) as problem:
        raise OperatorProblem(Kind.INVALID, str(problem)) from None
    except AuthorityProblem as problem:
        raise OperatorProblem(kind, str(problem)) from None
    except Busy as problem:
        raise OperatorProblem(Kind.CONFLICT, str(problem)) from None
    except NotTold as problem:
        raise OperatorProblem(Kind.FAILED, f"the broker does not know the successor yet: {problem}") from None
    except OSError as error:
        raise OperatorProblem(Kind.INVALID, f"{error.filename or 'the folder'}: {error.strerror}") from None


def _read(der: bytes) -> x509.Certificate:
    return x509.load_der_x509_certificate(der)


def _name(certificate: x509.Certificate) -> str:
    return certificate.subject.rfc4514_string()
