"""A device CA changes hands while MOSIP looks on: request, chain, and devices of both CAs, through what runs."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from fleetward_broker.profiles import DAY
from fleetward_sandbox.mosip.pki import Wish, build, pem
from fleetward_schemas.identity import Certification
from fleetward_schemas.jws import approved
from fleetward_server.authority import BACKDATE
from fleetward_server.config import load
from fleetward_server.mosip.settings import Profile
from fleetward_server.mosip.signing import open_seal
from fleetward_server.operator import LocalOperator
from tests.live.test_mosip_up import code, running

pytestmark = pytest.mark.live


def test_devices_under_either_ca_are_registered_while_both_chains_are_shown(tmp_path: Path) -> None:
    with running(tmp_path, Profile.PMS) as (house, served):
        first, later = house.provision(2, Certification.L0, milliseconds=True)
        served.stop()
        house.start_agent(first.folder)
        house.wait(lambda: house.reports(first.id), "a device is certified under the former CA; MOSIP is away")
        operator = LocalOperator(house.folder, "test")
        operator.rotate_authority("device-ca", "yearly")

        request = x509.load_pem_x509_csr(operator.mosip_request())
        now = datetime.now(UTC) - BACKDATE
        wish = Wish(request.subject, approved(request.public_key()), (now, now + 365 * DAY), authority=True)
        signed = build(wish, served.mosip.pki.leaf("pms"))
        served.mosip.register.onboard(approved(request.public_key()))
        operator.import_mosip_chain(pem(signed), "yearly")
        assert open_seal(load(house.folder)).certificate == signed
        served.start()
        house.start_agent(later.folder)

        house.wait(lambda: code(house, first) and code(house, later), "both have MOSIP's code")
        assert [act for act, _ in served.mosip.done] == ["register", "register"]
        # The former CA's device once under each chain, its signature believed under the former one alone.
        assert served.mosip.asked["/v1/partnermanager/registereddevices"] == 3
