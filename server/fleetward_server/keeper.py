"""An operator's acts on the provider's own keys, and what every act has: an actor, and a row in the audit.

Source: S5, S6; offices.py for what is refused.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from fleetward_broker.durable import write_durably
from fleetward_server import offices
from fleetward_server.changes import AddAudit
from fleetward_server.mosip.onboarding import Domain, Hand, Imported
from fleetward_server.problem import OperatorProblem
from fleetward_server.reader import LocalReader, utc_now
from fleetward_server.state import AuditEntry
from fleetward_server.store import Unit
from fleetward_server.succession import BESIDE, ROTATED, Making, Successor

SIGNED = "pki/mosip-signed.pem"


class Keeper(LocalReader):
    """Somebody who may give the provider's offices other keys."""

    def __init__(self, folder: Path, actor: str, now: Callable[[], datetime] = utc_now) -> None:
        """Act in ``folder`` as ``actor``, which the audit shows as ``operator:<actor>``."""
        super().__init__(folder, now)
        self._actor = f"operator:{actor}"

    def rotate_authority(
        self, office: str, reason: str, making: Making = BESIDE, *, root_delivered: bool = False
    ) -> Successor:
        """Give an office another key, and have what serves take it up.

        Raises:
            OperatorProblem: as ``offices.may_rotate`` and ``offices.rotate``; ``failed``: done, but what serves did not
                take it up.
        """
        # One and the same for both: what may be done by one configuration may lock devices out by the next.
        config = self.config
        offices.may_rotate(config, office, making, root_delivered=root_delivered)
        self._note(f"{ROTATED}-begun", office, reason, "")
        with self.opened() as store:
            made = offices.rotate(config, store, office, self._now(), making)
        self._note(ROTATED, office, reason, f"{made.stem} {made.thumbprint}")
        offices.take_up(self.config)
        return made

    def forget_root(self, reason: str, *, leave_behind: bool = False) -> tuple[str, ...]:
        """Believe no root but the one in office, and have what serves do so.

        Raises:
            OperatorProblem: as ``offices.forget``; ``failed``: done, but what serves did not take it up.
        """
        with self.opened() as store:
            forgotten = offices.forget(self.config, store, self._now(), leave_behind=leave_behind)
        self._note("root-forgotten", "root", reason, "; ".join(forgotten))
        offices.take_up(self.config)
        return forgotten

    def mosip_request(self) -> bytes:
        """Return the request for MOSIP to certify the device CA's key, PEM. Raises: as ``offices.mosip_request``."""
        return offices.mosip_request(self.config)

    def take_from_mosip(self, hand: Hand, signed: bytes, reason: str) -> Imported | None:
        """Keep what MOSIP signed at an upload; the provider's own is shown from now on, a maker's is MOSIP's alone.

        Raises:
            OperatorProblem: as ``import_mosip_chain``; what was signed is kept, and the message says where.
        """
        subject = hand.path[0].subject.rfc4514_string()
        chip = "" if hand.chip is None else f" {hand.chip.name}"
        self._note("mosip-certificate-uploaded", subject, reason, f"{hand.domain} {hand.partner_id}{chip}")
        if hand.domain is not Domain.DEVICE:
            return None
        write_durably(self.config.folder / SIGNED, signed)
        try:
            return self.import_mosip_chain(signed, reason)
        except OperatorProblem as problem:
            kept = f"MOSIP signed it, kept as {SIGNED}: import-chain it with what is above it"
            raise OperatorProblem(problem.kind, f"{problem.message}; {kept}") from None

    def import_mosip_chain(self, pem: bytes, reason: str) -> Imported:
        """Show MOSIP the chain that it signed, and have what serves do so.

        Raises:
            OperatorProblem: as ``offices.import_mosip_chain``; ``failed``: done, but what serves did not take it up.
        """
        made = offices.import_mosip_chain(self.config, pem, self._now())
        self._note("mosip-chain-imported", made.subject, reason, f"{made.file} {' '.join(made.leniencies)}".strip())
        offices.take_up(self.config)
        return made

    def _note(self, action: str, subject: str, reason: str, detail: str) -> None:
        with self._unit() as unit:
            unit.apply([self._entry(action, subject, reason, detail)])

    def _entry(self, action: str, subject: str, reason: str, detail: str) -> AddAudit:
        return AddAudit(AuditEntry(self._now(), self._actor, action, subject, reason, detail))

    @contextmanager
    def _unit(self) -> Iterator[Unit]:
        with self.opened() as store, store.unit() as unit:
            yield unit
