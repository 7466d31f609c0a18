"""Keys of a TPM 2.0 for TLS: made in the chip by OpenSSL's tpm2 provider, kept as files that only that chip can use.

The file (``-----BEGIN TSS2 PRIVATE KEY-----``) is what the chip wrapped. The ssl module opens it where the process was
started with the provider in ``OPENSSL_CONF``; a request is signed by the ``openssl`` command, once in a key's life.
Source: S1; TPM 2.0 part 1 section 23 (protected storage); the tpm2-openssl provider.
"""

import os
import subprocess
from pathlib import Path
from typing import Any, NoReturn, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding, PKCS1v15

from fleetward_broker.durable import PRIVATE_MODE
from fleetward_broker.key_problems import KeyUnavailable
from fleetward_schemas.errors import LocalMistake
from fleetward_schemas.jws import MIN_RSA_BITS, Alg

BEGIN = b"-----BEGIN TSS2 PRIVATE KEY-----"
END = b"-----END TSS2 PRIVATE KEY-----"
PROVIDERS = ("-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2")
WITHIN_S = 120
"""Making a key takes a slow chip a minute."""


class TssKey(rsa.RSAPrivateKey):
    """RSA-2048 in a TPM; signs RS256 and nothing else."""

    def __init__(self, wrapped: bytes, public: rsa.RSAPublicKey) -> None:
        """Bind to what the chip wrapped."""
        self._wrapped = wrapped
        self._public = public

    def public_key(self) -> rsa.RSAPublicKey:
        """Return the public half."""
        return self._public

    @property
    def key_size(self) -> int:
        """Bits of the modulus."""
        return self._public.key_size

    def sign(self, data: Any, padding: AsymmetricPadding, algorithm: Any) -> bytes:
        """Sign by the command; for requests, not for messages."""
        if not (isinstance(padding, PKCS1v15) and isinstance(algorithm, hashes.SHA256)):
            raise UnsupportedAlgorithm("a key in a TPM signs PKCS#1 v1.5 with SHA-256, nothing else")
        return _with_file(self._wrapped, lambda path: ("dgst", "-sha256", "-sign", path), bytes(data))

    def private_bytes(self, *_: Any, **__: Any) -> bytes:
        """Return what the chip wrapped, of use to that chip alone; it is what OpenSSL opens."""
        return self._wrapped

    def decrypt(self, *_: Any, **__: Any) -> NoReturn:
        """Refuse: the key only signs."""
        raise LocalMistake("a key in a TPM only signs")

    def private_numbers(self) -> NoReturn:
        """Refuse: the key never leaves its chip."""
        raise LocalMistake("a key in a TPM never leaves it")

    def __copy__(self) -> Self:
        """Return itself."""
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return itself."""
        return self


def make_tss_key(alg: Alg) -> TssKey:
    """Have the chip make a key.

    Raises:
        KeyUnavailable: no chip, no provider, or another algorithm than RS256.
    """
    if alg is not Alg.RS256:
        raise KeyUnavailable(f"a TPM makes no {alg} keys; set [keys] transport_alg = 'RS256'")
    made = _openssl("genpkey", *PROVIDERS, "-algorithm", "RSA", "-pkeyopt", f"bits:{MIN_RSA_BITS}")
    begin, end = made.find(BEGIN), made.find(END)
    if not 0 <= begin < end:
        raise KeyUnavailable("openssl made a key that is not in a TPM")
    return _bound(made[begin : end + len(END)] + b"\n", "a new key")


def open_tss_key(path: Path) -> TssKey:
    """Open the file of a key, as only its chip can.

    Raises:
        KeyUnavailable: missing, open to others, no such file, or made in another chip.
    """
    try:
        wrapped, mode = path.read_bytes(), path.stat().st_mode
    except OSError as error:
        raise KeyUnavailable(f"{path}: {error.strerror}") from None
    if mode & 0o077:
        raise KeyUnavailable(f"{path}: readable by others; run: chmod 600 {path}")
    if not wrapped.startswith(BEGIN):
        raise KeyUnavailable(f"{path}: not a key of a TPM")
    return _bound(wrapped, str(path))


def _bound(wrapped: bytes, name: str) -> TssKey:
    pem = _with_file(wrapped, lambda path: ("pkey", "-in", path, "-pubout"))
    public = serialization.load_pem_public_key(pem)
    if not isinstance(public, rsa.RSAPublicKey):
        raise KeyUnavailable(f"{name}: not an RSA key")
    return TssKey(wrapped, public)


def _with_file(wrapped: bytes, words: Any, data: bytes = b"") -> bytes:
    """Show a key to the command as a file that no disk has."""
    descriptor = os.memfd_create("tss")
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, PRIVATE_MODE)
        file.write(wrapped)
        file.flush()
        command, *rest = words(f"/proc/self/fd/{descriptor}")
        return _openssl(command, *PROVIDERS, *rest, data=data, shown=(descriptor,))


def _openssl(*words: str, data: bytes = b"", shown: tuple[int, ...] = ()) -> bytes:
    try:
        done = subprocess.run(
            ["openssl", *words], input=data, capture_output=True, timeout=WITHIN_S, check=False, pass_fds=shown
        )
    except FileNotFoundError:
        raise KeyUnavailable("keys of a TPM for TLS need openssl; run: apt-get install openssl tpm2-openssl") from None
    except subprocess.TimeoutExpired:
        raise KeyUnavailable(f"openssl {words[0]}: the TPM does not answer within {WITHIN_S} s") from None
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip().splitlines()
        said = told[-1][:200] if told else f"exit code {done.returncode}"
        raise KeyUnavailable(f"openssl {words[0]} with the provider tpm2: {said}; is tpm2-openssl installed?")
    return done.stdout
