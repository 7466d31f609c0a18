"""TLS contexts: what they insist on, and the words in which a file is found unusable."""

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from fleetward_broker.durable import write_private
from fleetward_broker.signers import make_key
from fleetward_broker.tls import NO_CHECK_TIME, CredentialsUnusable, client_context, server_context
from fleetward_schemas.jws import Alg
from tests.live.stubbroker import Provider


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Provider:
    return Provider(tmp_path_factory.mktemp("tls"))


def test_a_client_insists_on_chain_name_time_and_tls_1_2(provider):
    context = provider.client_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.verify_flags & ssl.VERIFY_X509_STRICT
    assert not context.verify_flags & NO_CHECK_TIME


def test_only_the_time_is_left_out_while_it_is_unknown(provider):
    usual, timeless = provider.client_context(), provider.client_context(check_time=False)
    assert timeless.verify_flags == usual.verify_flags | NO_CHECK_TIME
    assert timeless.check_hostname
    assert timeless.verify_mode is ssl.CERT_REQUIRED


def test_only_the_given_root_is_trusted(provider):
    assert provider.client_context().cert_store_stats()["x509_ca"] == 1


def test_roots_may_be_given_as_bytes(provider):
    context = client_context(provider.root_file.read_bytes(), *provider.client_files("d1"))
    assert context.get_ca_certs() == provider.client_context().get_ca_certs()


def test_every_cipher_keeps_yesterdays_traffic_secret(provider):
    old = [c["name"] for c in provider.client_context().get_ciphers() if c["protocol"] == "TLSv1.2"]
    assert old
    assert all(name.startswith("ECDHE") and ("GCM" in name or "POLY1305" in name) for name in old)


def test_a_broker_asks_for_certificates_and_their_revocation(provider):
    context = provider.broker_context()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF
    assert context.cert_store_stats()["crl"] == 1
    assert context.num_tickets == 0


def unusable(*arguments: object) -> str:
    with pytest.raises(CredentialsUnusable) as refusal:
        client_context(*arguments)
    return str(refusal.value)


def test_a_missing_file_is_named(provider):
    certificate, key = provider.client_files("d1")
    gone = Path("/nowhere/at-all")
    for files in ((gone, certificate, key), (provider.root_file, gone, key), (provider.root_file, certificate, gone)):
        assert unusable(*files) == "/nowhere/at-all: No such file or directory"


def test_a_root_that_is_no_certificate_is_named(provider):
    certificate, key = provider.client_files("d1")
    assert unusable(key, certificate, key) == f"{key}: holds no PEM certificate"
    assert unusable(b"", certificate, key) == "provider root: holds no PEM certificate"


def test_a_key_of_another_certificate_is_named(provider):
    certificate, _ = provider.client_files("d1")
    _, other = provider.client_files("d2")
    assert unusable(provider.root_file, certificate, other) == f"{certificate} with {other}: KEY_VALUES_MISMATCH"


def test_a_key_others_may_read_is_refused(provider):
    certificate, key = provider.client_files("d1")
    key.chmod(0o640)
    assert unusable(provider.root_file, certificate, key) == f"{key}: readable by others; run: chmod 600 {key}"


def test_an_encrypted_key_is_refused_without_a_question(provider):
    certificate, _ = provider.client_files("d1")
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    locked = provider.folder / "locked.key"
    write_private(locked, make_key(Alg.EDDSA).private_bytes(*form))
    assert unusable(provider.root_file, certificate, locked).startswith(f"{certificate} with {locked}: ")


def test_a_revocation_list_that_is_none_is_named(provider):
    certificate, key = provider.server_files("localhost")
    with pytest.raises(CredentialsUnusable, match=r"root\.pem: holds no PEM certificate revocation list"):
        server_context(certificate, key, provider.root_file, [provider.root_file])
    assert server_context(certificate, key, provider.root_file, [provider.crl_file()])
