"""Promises of rotation's shapes: two requests up, two chains down, each under its command."""

import pytest

from fleetward_schemas.errors import Refused
from fleetward_schemas.rotation import Certificate, Csr

ID = "0195514e-6c00-7000-8000-000000000000"
CSR = {"commandId": ID, "deviceCsr": "MAA=", "transportCsr": "MAA="}
CERTIFICATE = {"commandId": ID, "deviceChain": ["MAA="], "transportChain": ["MAA=", "MAA="]}


def test_two_requests_go_up():
    assert Csr.read(CSR).commandId == ID


@pytest.mark.parametrize("name", CSR)
def test_a_request_is_whole(name):
    with pytest.raises(Refused):
        Csr.read({key: value for key, value in CSR.items() if key != name})


@pytest.mark.parametrize("change", [{"deviceCsr": "MAA"}, {"commandId": "1"}, {"transportCsr": None}, {"note": "x"}])
def test_a_request_says_nothing_else(change):
    with pytest.raises(Refused):
        Csr.read(CSR | change)


def test_two_chains_come_down_and_a_newer_server_may_say_more():
    assert Certificate.read(CERTIFICATE | {"weather": "fine"}).transportChain == ["MAA=", "MAA="]


@pytest.mark.parametrize("change", [{"deviceChain": []}, {"transportChain": ["MAA="] * 4}, {"commandId": None}])
def test_chains_are_whole(change):
    with pytest.raises(Refused):
        Certificate.read(CERTIFICATE | change)
