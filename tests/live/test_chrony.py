"""A real chronyd as the server's time source: what it says bounds our error, and its silence is not a bound."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from socket import SOCK_STREAM

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from fleetward_server.clock import sureness
from fleetward_server.settings import TimeTable
from tests.live.chronyhouse import chrony, free_port, wait

pytestmark = [pytest.mark.live, pytest.mark.part]
CHRONY, PROVEN = TimeTable(source="chrony"), TimeTable(source="chrony", require_nts=True)
FAST = "iburst minpoll 0 maxpoll 1"


@pytest.mark.parametrize("reference", ["local stratum 5", ""], ids=["has a reference", "has none"])
def test_chronys_word_bounds_our_error_and_without_a_reference_nothing_does(tmp_path: Path, reference: str) -> None:
    with chrony(tmp_path / "c", reference) as chronyc:
        wait(
            lambda: (sure := sureness(CHRONY, chronyc)).radius_ms is not None or "not synchronised" in sure.detail,
            "chrony speaks",
        )
        sure = sureness(CHRONY, chronyc)

        assert sure.source == "chrony"
        assert (sure.radius_ms is not None) == bool(reference), sure


def certificate(folder: Path) -> str:
    """Make a server's certificate; return the lines with which chronyd shows it."""
    key, now = rsa.generate_private_key(65537, 2048), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    made = made.serial_number(1).not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    (folder / "nts.pem").write_bytes(made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "nts.key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return f"ntsserverkey {folder}/nts.key.pem\nntsservercert {folder}/nts.pem"


@pytest.mark.parametrize("nts", [True, False], ids=["by NTS", "bare"])
def test_where_nts_is_required_a_source_without_it_is_no_source(tmp_path: Path, nts: bool) -> None:
    port, keys = free_port(), free_port(SOCK_STREAM)
    server = ("local stratum 3", "allow 127.0.0.1", f"ntsport {keys}", certificate(tmp_path))
    how = f"nts ntsport {keys}" if nts else ""
    client = (f"server localhost port {port} {how} {FAST}", f"ntstrustedcerts {tmp_path}/nts.pem")
    with chrony(tmp_path / "s", *server, port=port), chrony(tmp_path / "c", *client) as chronyc:
        wait(lambda: sureness(CHRONY, chronyc).radius_ms is not None, "chrony follows its source")

        assert ("by NTS" in sureness(CHRONY, chronyc).detail) is nts
        assert (sureness(PROVEN, chronyc).radius_ms is not None) is nts
