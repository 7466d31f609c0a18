"""Keys of a TPM for TLS, where there is no TPM: what is refused, and that no test or host takes a plain key for one."""

from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from fleetward_broker.durable import write_private
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_broker.signers import key_pem, make_key
from fleetward_broker.tss_keys import BEGIN, TssKey, make_tss_key, open_tss_key
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.jws import Alg

WRAPPED = BEGIN + b"\nMIICEgYGZ4EFCgED\n-----END TSS2 PRIVATE KEY-----\n"


@pytest.fixture(scope="module")
def key() -> TssKey:
    public = make_key(Alg.RS256).public_key()
    assert isinstance(public, rsa.RSAPublicKey)
    return TssKey(WRAPPED, public)


def test_a_tpm_makes_rsa_alone() -> None:
    with pytest.raises(KeyUnavailable, match=r"a TPM makes no EdDSA keys; set \[keys\] transport_alg = 'RS256'"):
        make_tss_key(Alg.EDDSA)


def test_a_plain_key_is_not_taken_for_one_of_a_tpm(tmp_path: Path) -> None:
    write_private(tmp_path / "plain", key_pem(make_key(Alg.RS256)))

    with pytest.raises(KeyUnavailable, match="plain: not a key of a TPM"):
        open_tss_key(tmp_path / "plain")


def test_a_file_that_others_read_or_that_is_missing_is_refused(tmp_path: Path) -> None:
    write_private(tmp_path / "open", WRAPPED)
    (tmp_path / "open").chmod(0o644)

    with pytest.raises(KeyUnavailable, match="chmod 600"):
        open_tss_key(tmp_path / "open")
    with pytest.raises(KeyUnavailable, match="missing: No such file"):
        open_tss_key(tmp_path / "missing")


def test_what_no_chip_here_has_wrapped_is_refused_with_what_openssl_says(tmp_path: Path) -> None:
    write_private(tmp_path / "strange", WRAPPED)

    with pytest.raises(KeyUnavailable, match=r"openssl pkey with the provider tpm2: .+; is tpm2-openssl installed"):
        open_tss_key(tmp_path / "strange")


def test_what_leaves_is_what_the_chip_wrapped_and_nothing_else(key: TssKey) -> None:
    assert key_pem(key) == WRAPPED
    for out in (key.private_numbers, lambda: key.decrypt(b"", padding.PKCS1v15())):
        with pytest.raises(LocalMistake):
            out()
    with pytest.raises(UnsupportedAlgorithm):
        key.sign(b"data", padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
