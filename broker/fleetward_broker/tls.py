"""TLS contexts: who is believed, and how a certificate is checked, in one place for both ends.

Rule: only the given provider root is trusted, never the system's; TLS 1.2 or newer with forward secrecy; both sides
show certificates; RFC 5280 is applied strictly. Validity is judged by the operating system's clock, which is all that
OpenSSL offers; a device that knows no time yet leaves that one check out, and nothing else.
Source: protocol sections 1 and 5; C6; RFC 9325 (BCP 195).
"""

import re
import ssl
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_LIST = re.compile(b"-----BEGIN X509 CRL-----.+?-----END X509 CRL-----", re.DOTALL)
NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name


class CredentialsUnusable(Exception):  # noqa: N818 - says what is wrong with the input
    """A certificate, key or CRL file cannot be used; the message names the file and what is wrong with it."""


def client_context(roots: Path | bytes, certificate: Path, key: Path, *, check_time: bool = True) -> ssl.SSLContext:
    """Return what a device or server worker dials with.

    roots: PEM, as a file or as bytes. certificate: PEM file, leaf first, then its issuing CA. check_time: False only
    while no time is known yet (protocol section 5, first contact).

    Raises:
        CredentialsUnusable: naming the file.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT, roots, certificate, key)
    context.check_hostname = True
    context.hostname_checks_common_name = False
    if not check_time:
        context.verify_flags |= NO_CHECK_TIME
    return context


def server_context(certificate: Path, key: Path, roots: Path | bytes, crls: Sequence[Path]) -> ssl.SSLContext:
    """Return what a broker listens with: every client shows a certificate that no CRL names.

    crls: PEM files, together one list per issuing CA; a client whose CA has none is refused.

    Raises:
        CredentialsUnusable: naming the file.
    """
    context = _context(ssl.PROTOCOL_TLS_SERVER, roots, certificate, key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    # A resumed session would carry yesterday's verdict past today's CRL.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    for crl in crls:
        _trust_file(context, crl)
    return context


def read_crls(path: Path) -> tuple[x509.CertificateRevocationList, ...]:
    """Read all revocation lists of a PEM file, in its order.

    Raises:
        CredentialsUnusable: naming the file.
    """
    try:
        found = tuple(x509.load_pem_x509_crl(pem) for pem in _LIST.findall(_read(path)))
    except ValueError:
        found = ()
    if not found:
        raise CredentialsUnusable(f"{path}: holds no PEM certificate revocation list")
    return found


def chain_pem(chain: Sequence[bytes]) -> bytes:
    """Return a chain of DER certificates, leaf first, as the one PEM file that ``certificate`` wants."""
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in chain).encode("ascii")


def _context(protocol: int, roots: Path | bytes, certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    _trust(context, roots)
    _show(context, certificate, key)
    return context


def _trust(context: ssl.SSLContext, roots: Path | bytes) -> None:
    name, raw = ("provider root", roots) if isinstance(roots, bytes) else (str(roots), _read(roots))
    try:
        context.load_verify_locations(cadata=raw.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise CredentialsUnusable(f"{name}: holds no PEM certificate") from None


def _trust_file(context: ssl.SSLContext, crl: Path) -> None:
    _read(crl)
    before = context.cert_store_stats()["crl"]
    try:
        context.load_verify_locations(cafile=str(crl))
    except ssl.SSLError as error:
        raise CredentialsUnusable(f"{crl}: {error.reason}") from None
    if context.cert_store_stats()["crl"] == before:
        raise CredentialsUnusable(f"{crl}: holds no PEM certificate revocation list")


def _show(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    _read(certificate)
    _read(key)
    if key.stat().st_mode & 0o077:
        raise CredentialsUnusable(f"{key}: readable by others; run: chmod 600 {key}")
    try:
        # An empty password: an encrypted key is an error, never a question on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        raise CredentialsUnusable(
            f"{certificate} with {key}: {error.reason or 'not a PEM certificate and key'}"
        ) from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialsUnusable(f"{path}: {error.strerror}") from None
