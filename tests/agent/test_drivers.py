"""The driver table: which plugs it takes, what it knows of them, and what no plug can make it do."""

import json
from pathlib import Path

import pytest

from fleetward_agent.config import ConfigProblem, declared, for_scanner, load_site
from fleetward_agent.drivers import Driver, ScannerKeys, Unnamed, driver_for
from fleetward_agent.plug import Plugged
from fleetward_agent.programs import facts_in

USB = {"SUBSYSTEM": "usb", "DEVTYPE": "usb_device", "ID_VENDOR_ID": "1d6b", "ID_MODEL_ID": "0b10"}
ACME = 'name = "acme"\nvendor = "1d6b"\nfolder = "s/{serialNo}"\nfields = { serialNo = "{ID_SERIAL_SHORT}" }\n'
FACTS = {
    "serialNo": "SN-1",
    "make": "ACME",
    "model": "F-100",
    "type": "Finger",
    "deviceSubType": "Slap",
    "deviceProvider": "Example",
    "deviceProviderId": "example",
    "certification": "L0",
    "purpose": "Registration",
}


def plugged(**properties: str) -> Plugged:
    return Plugged("1-2", tuple(sorted((USB | properties).items())))


def toml(folder: Path, text: str) -> Path:
    path = folder / "agent.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("driver", "takes"),
    [
        (Driver(vendor="1d6b"), True),
        (Driver(vendor="1D6B", product="0b10"), True),
        (Driver(vendor="1d6b", product="0b11"), False),
        (Driver(properties={"ID_MODEL": "FingerScan"}), True),
        (Driver(properties={"ID_MODEL": "Finger*"}), True),
        (Driver(properties={"ID_MODEL": "finger*"}), False),
        (Driver(vendor="1d6b", properties={"ID_MODEL": "Iris*"}), False),
        (Driver(properties={"ID_NOT_THERE": "*"}), False),
        (Driver(vendor="1d6b", subsystem="hidraw"), False),
    ],
)
def test_a_driver_takes_what_fits_all_it_names(driver: Driver, takes: bool) -> None:
    assert driver.is_for(plugged(ID_MODEL="FingerScan")) is takes


def test_an_interface_of_a_usb_scanner_is_no_second_scanner() -> None:
    assert not Driver(vendor="1d6b").is_for(plugged(DEVTYPE="usb_interface"))


def test_a_scanner_need_not_be_on_usb() -> None:
    serial = Plugged("/sys/x", (("ID_MODEL", "IrisDuo"), ("SUBSYSTEM", "tty")))

    assert Driver(subsystem="tty", properties={"ID_MODEL": "IrisDuo"}).is_for(serial)


def test_the_first_driver_that_fits_is_taken() -> None:
    first, second = Driver(name="first", vendor="1d6b"), Driver(name="second", vendor="1d6b")

    assert driver_for([Driver(name="other", vendor="abcd"), first, second], plugged()) is first
    assert driver_for([Driver(name="other", vendor="abcd")], plugged()) is None


def test_facts_are_fixed_or_read_from_properties() -> None:
    driver = Driver(fields={"make": "ACME", "serialNo": "A-{ID_SERIAL_SHORT}"})

    assert driver.facts_of(plugged(ID_SERIAL_SHORT="7"), {}) == {"make": "ACME", "serialNo": "A-7"}


def test_a_property_that_is_missing_is_named() -> None:
    with pytest.raises(Unnamed, match="serialNo: the scanner does not say ID_SERIAL_SHORT"):
        Driver(fields={"serialNo": "{ID_SERIAL_SHORT}"}).facts_of(plugged(), {})


def test_a_program_adds_to_the_table() -> None:
    driver = Driver(fields={"serialNo": "7"})

    assert driver.facts_of(plugged(), {"serialNo": "7", "model": "F"}) == {"serialNo": "7", "model": "F"}


def test_a_program_that_contradicts_the_table_is_not_believed() -> None:
    with pytest.raises(Unnamed, match="serialNo: the table says '7', the program '8'"):
        Driver(fields={"serialNo": "7"}).facts_of(plugged(), {"serialNo": "8"})


def test_each_scanner_has_its_own_folder_and_keys() -> None:
    driver = Driver(folder="s/{serialNo}", keys=ScannerKeys(ftm="pkcs11:object={serialNo}"))

    assert driver.folder_of({"serialNo": "SN-1"}) == "s/SN-1"
    assert driver.keys_of({"serialNo": "SN-1"}) == {"ftm": "pkcs11:object=SN-1"}


@pytest.mark.parametrize(
    "serial", ["..", "../x", "a/b", ".hidden", "a b", "a;pin-value=1", "a%2fb", "-x", "x" * 65, "ä", "\0"]
)
def test_no_serial_number_leads_out_of_its_folder(serial: str) -> None:
    driver = Driver(folder="s/{serialNo}", keys=ScannerKeys(ftm="pkcs11:object={serialNo}"))

    with pytest.raises(Unnamed, match="cannot be part of a path"):
        driver.folder_of({"serialNo": serial})
    with pytest.raises(Unnamed, match="cannot be part of a path"):
        driver.keys_of({"serialNo": serial})


def test_a_whole_table_is_read(tmp_path: Path) -> None:
    text = f'[[driver]]\n{ACME}program = ["/bin/x", "-q"]\n[driver.keys]\nftm = "pkcs11:object={{serialNo}}"\n'
    site = load_site(toml(tmp_path, text))

    (driver,) = site.drivers
    assert (driver.name, driver.program, driver.keys.ftm) == ("acme", ["/bin/x", "-q"], "pkcs11:object={serialNo}")
    assert driver.named_properties == {"ID_SERIAL_SHORT"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ACME.replace("vendor", "vendr"), r"agent.toml:3: unknown key 'vendr'; did you mean 'vendor'"),
        (ACME.replace("serialNo =", "serialno ="), r"unknown key 'serialno'; did you mean 'serialNo'"),
        (ACME.replace('"acme"', '""'), r"\[driver 1\] needs name"),
        (ACME.replace('vendor = "1d6b"\n', ""), r"needs vendor, product or properties"),
        (ACME.replace("1d6b", "0x1d6b"), r"vendor = '0x1d6b': expected four hexadecimal digits"),
        (ACME.replace('"1d6b"', "1"), r"vendor = 1: expected str"),
        (ACME.replace("s/{serialNo}", "s"), r"must name \{serialNo\}"),
        (ACME.replace("s/{serialNo}", "s/{serialNo}/{mode}"), r"\{mode\} is no fact; known: serialNo"),
        (ACME.replace("serialNo = ", "make = "), r"needs fields.serialNo, or a program"),
        (ACME.replace('"{ID_SERIAL_SHORT}"', "7"), r"serialNo = 7: expected text"),
        (ACME + 'properties = { ID_MODEL = "" }\n', r"ID_MODEL = '': expected text"),
        (ACME + 'program = ["driver"]\n', r"the first an absolute path"),
        (ACME + 'program = ["/x", 1]\n', r"program: expected words"),
        (ACME + 'program = "/x"\n', r"program = '/x': expected list"),
        (ACME + "keys = { fmt = 'x' }\n", r"unknown key 'fmt'; did you mean 'ftm'"),
        (ACME + f"[[driver]]\n{ACME}", r"'acme' stands twice"),
        (ACME + '[state]\ndir = "/var/state"\n', r"\[state\] dir = '/var/state': with drivers, a path inside"),
        (ACME + '[state]\ndir = "../state"\n', r"\[state\] dir = '../state': with drivers, a path inside"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigProblem, match=says):
        load_site(toml(tmp_path, f"[[driver]]\n{text}"))


@pytest.mark.parametrize("text", ["driver = 1\n", "driver = [1]\n", '[driver]\nname = "x"\n'])
def test_a_table_of_another_shape_is_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigProblem, match=r"must be a list of tables: \[\[driver\]\]"):
        load_site(toml(tmp_path, text))


def test_a_host_with_drivers_has_no_device_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(ConfigProblem, match="has drivers; name one scanner's own folder by --device"):
        declared(load_site(toml(tmp_path, f"[[driver]]\n{ACME}")))


@pytest.fixture
def box(tmp_path: Path) -> Path:
    """The folder of one provisioned scanner, and the file that leads to it."""
    toml(tmp_path, f"[[driver]]\n{ACME}")
    folder = tmp_path / "s" / "SN-1"
    folder.mkdir(parents=True)
    (folder / "identity.json").write_text(json.dumps(FACTS))
    (folder / "connection.json").write_text(json.dumps({"host": "h", "serverName": "n"}))
    return folder


def test_a_serial_number_finds_its_papers(box: Path) -> None:
    site = load_site(box.parents[1] / "agent.toml")
    config = for_scanner(site, site.drivers[0], {"serialNo": "SN-1", "firmware": "2"})

    assert (config.folder, config.state_dir, config.server.host) == (box, box / "state", "h")
    assert config.identity.digital_id.model == "F-100"


def test_the_host_may_say_where_to_connect_for_all(box: Path) -> None:
    (box / "connection.json").unlink()
    site = load_site(toml(box.parents[1], f'[server]\nhost = "all"\n[[driver]]\n{ACME}'))

    assert for_scanner(site, site.drivers[0], {"serialNo": "SN-1"}).server.host == "all"


def test_papers_may_come_from_the_driver_alone(box: Path) -> None:
    (box / "identity.json").unlink()
    site = load_site(box.parents[1] / "agent.toml")

    assert for_scanner(site, site.drivers[0], FACTS).identity.digital_id.serialNo == "SN-1"
    with pytest.raises(ConfigProblem, match="needs certification"):
        for_scanner(site, site.drivers[0], {"serialNo": "SN-1"})


@pytest.mark.parametrize("name", ["make", "model", "certification"])
def test_papers_of_another_scanner_are_refused(box: Path, name: str) -> None:
    site = load_site(box.parents[1] / "agent.toml")

    with pytest.raises(ConfigProblem, match=f"{name} is '.*': the scanner says 'Other'"):
        for_scanner(site, site.drivers[0], {"serialNo": "SN-1", name: "Other"})


def test_a_scanner_that_was_not_provisioned_is_named(box: Path) -> None:
    site = load_site(box.parents[1] / "agent.toml")

    with pytest.raises(ConfigProblem, match="s/SN-2: not there: this scanner was not provisioned here"):
        for_scanner(site, site.drivers[0], {"serialNo": "SN-2"})


def test_a_programs_answer_is_an_object_of_known_facts() -> None:
    assert facts_in(json.dumps(FACTS | {"firmware": "1"}).encode()) == FACTS | {"firmware": "1"}


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "not JSON"),
        (b"\xff{}", "not JSON"),
        (b"[]", "its answer is"),
        (b'{"serialNo":"1","serialNo":"2"}', "its answer is"),
        (b'{"serial":"1"}', "names 'serial'; known: serialNo"),
        (b'{"serialNo":1}', "its serialNo is no text"),
        (b'{"serialNo":""}', "its serialNo is no text"),
        (b'{"serialNo":"a\\nb"}', "its serialNo is no text"),
        (b'{"image":"AAAA"}', "names 'image'"),
        (b'{"serialNo":"' + b"x" * 129 + b'"}', "its serialNo is no text"),
    ],
)
def test_any_other_answer_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(Unnamed, match=says):
        facts_in(raw)
