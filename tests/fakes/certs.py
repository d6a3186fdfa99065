"""Certificates for the servers of the tests: an authority of our own and what it signs.

    ca = make_ca(tmp_path)
    cert = make_server_cert(ca, ["localhost"], ["127.0.0.1", "::1"])
    context = cert.server_context()          # for the server
    door = Door(ca_file=ca.cert_file)        # for the client under test

Keys are elliptic (P-256): making one takes a millisecond, an RSA key a good part of a second.
"""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID


@dataclass(frozen=True)
class CA:
    """A certificate authority that only tests trust: `cert_file` is the PEM to trust."""

    cert_file: str
    cert: x509.Certificate = field(repr=False)
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    directory: Path


@dataclass(frozen=True)
class ServerCert:
    """A server's certificate and key as PEM files; `server_context` makes what a listening socket needs."""

    cert_file: str
    key_file: str

    def server_context(self, *, maximum: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """Return a server-side context with this certificate; `maximum` caps the TLS version it offers."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        if maximum is not None:
            context.maximum_version = maximum
        context.load_cert_chain(self.cert_file, self.key_file)
        return context


def make_ca(directory: Path | str, name: str = "Storepost test authority") -> CA:
    """Return a new authority whose certificate is written to `directory`.

    The extensions are those RFC 5280 4.2 asks of an authority: newer Pythons verify strictly.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=400))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"ca-{cert.serial_number:x}.pem"
    path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    return CA(cert_file=str(path), cert=cert, key=key, directory=directory)


def make_server_cert(
    ca: CA,
    names: Sequence[str] = ("localhost",),
    ips: Sequence[str] = ("127.0.0.1", "::1"),
    expired: bool = False,
    *,
    not_yet_valid: bool = False,
    self_signed: bool = False,
) -> ServerCert:
    """Return a certificate for these names and addresses, signed by `ca`.

    An expired one ended yesterday, one that is not yet valid begins tomorrow. A self-signed one has no issuer but
    itself; `ca` only says where its files go.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.UTC)
    start = now + datetime.timedelta(days=1) if not_yet_valid else now - datetime.timedelta(days=90)
    end = now - datetime.timedelta(days=1) if expired else now + datetime.timedelta(days=7)
    alternatives: list[x509.GeneralName] = [x509.DNSName(name) for name in names]
    alternatives += [x509.IPAddress(ipaddress.ip_address(ip)) for ip in ips]
    common_name = names[0] if names else str(ips[0])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signer = key if self_signed else ca.key
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if self_signed else ca.cert.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    stem = ca.directory / f"server-{cert.serial_number:x}"
    cert_path, key_path = stem.with_suffix(".pem"), stem.with_suffix(".key")
    cert_path.write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    key_path.touch(mode=0o600)
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return ServerCert(cert_file=str(cert_path), key_file=str(key_path))


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
