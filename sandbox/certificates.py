"""Certificates for the sandbox's own TLS ports: a private authority, a server certificate, and one that has run out.

The application is told to trust the authority (a CA file), so every check it makes against a real provider is made
here too. The authority is name-constrained to this machine: whoever copies its key cannot vouch for any other host.
"""

import contextlib
import fcntl
import ipaddress
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=365)
RENEW_BEFORE = timedelta(days=30)
HOST_NAME = "localhost"
ADDRESSES = ("127.0.0.1", "::1")


class Certificates(NamedTuple):
    """Paths of the PEM files; keys are readable by their owner only."""

    ca_file: Path
    cert_file: Path
    key_file: Path
    expired_cert_file: Path
    expired_key_file: Path


class _Pair(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def ensure_certificates(directory: Path | str) -> Certificates:
    """Return certificates that are good for at least `RENEW_BEFORE` more, making what is missing in `directory`.

    The authority is made once and kept, because people import it elsewhere; a server certificate that nears its end,
    or was signed by another authority, is replaced. Two processes may call this at the same time.

    Raises:
        OSError: the directory cannot be written.
    """
    home = Path(directory)
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    files = Certificates(
        home / "ca.pem", home / "server.pem", home / "server.key", home / "expired.pem", home / "expired.key"
    )
    now = datetime.now(UTC)
    with _locked(home / ".lock"):
        authority = _load(files.ca_file, home / "ca.key")
        if authority is None or authority.certificate.not_valid_after_utc < now + SERVER_LIFETIME:
            authority = _make_authority(now)
            _store(authority, files.ca_file, home / "ca.key")
        if not _is_current(_load(files.cert_file, files.key_file), authority, now):
            fresh = _make_server(authority, now - timedelta(hours=1), now + SERVER_LIFETIME)
            _store(fresh, files.cert_file, files.key_file)
        stale = _load(files.expired_cert_file, files.expired_key_file)
        if stale is None or not _signed_by(stale, authority):
            stale = _make_server(authority, now - timedelta(days=90), now - timedelta(days=1))
            _store(stale, files.expired_cert_file, files.expired_key_file)
    return files


def _is_current(pair: _Pair | None, authority: _Pair, now: datetime) -> bool:
    return (
        pair is not None
        and pair.certificate.not_valid_before_utc <= now < pair.certificate.not_valid_after_utc - RENEW_BEFORE
        and _signed_by(pair, authority)
    )


def _signed_by(pair: _Pair, authority: _Pair) -> bool:
    try:
        pair.certificate.verify_directly_issued_by(authority.certificate)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _make_authority(now: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial in the name keeps an old authority, still imported somewhere, from shadowing a new one.
    serial = x509.random_serial_number()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Storepost sandbox authority {serial % 10**8:08d}")])
    machine_only = x509.NameConstraints(
        [
            x509.DNSName(HOST_NAME),
            *(x509.IPAddress(ipaddress.ip_network(address)) for address in ADDRESSES),
        ],
        None,
    )
    builder = (
        _builder(name, name, key.public_key(), serial, now - timedelta(hours=1), now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .add_extension(machine_only, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return _Pair(builder.sign(key, hashes.SHA256()), key)


def _make_server(authority: _Pair, valid_from: datetime, valid_until: datetime) -> _Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST_NAME)])
    names = x509.SubjectAlternativeName(
        [x509.DNSName(HOST_NAME), *(x509.IPAddress(ipaddress.ip_address(address)) for address in ADDRESSES)]
    )
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key())
    serial = x509.random_serial_number()
    builder = (
        _builder(name, authority.certificate.subject, key.public_key(), serial, valid_from, valid_until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(issuer_key, critical=False)
    )
    return _Pair(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    serial: int,
    valid_from: datetime,
    valid_until: datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(valid_from)
        .not_valid_after(valid_until)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _load(cert_file: Path, key_file: Path) -> _Pair | None:
    """Return the stored pair, or None when either half is missing, damaged or does not fit the other."""
    try:
        certificate = x509.load_pem_x509_certificate(cert_file.read_bytes())
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
    except (FileNotFoundError, ValueError, TypeError):
        return None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
        return None
    return _Pair(certificate, key)


def _store(pair: _Pair, cert_file: Path, key_file: Path) -> None:
    key = pair.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key_file, key, mode=0o600)
    _write(cert_file, pair.certificate.public_bytes(serialization.Encoding.PEM), mode=0o644)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    # The file is born with its final mode and moved into place: no moment in which a key is readable or half written.
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
