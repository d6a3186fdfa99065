"""The development authority and what it signs."""

import ipaddress
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from sandbox import certificates
from sandbox.certificates import ensure_certificates


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_it_makes_an_authority_for_this_machine_only(home: Path) -> None:
    authority = read(ensure_certificates(home).ca_file)
    limits = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert limits.critical
    assert [name.value for name in limits.value.permitted_subtrees or []] == [
        "localhost",
        ipaddress.ip_network("127.0.0.1/32"),
        ipaddress.ip_network("::1/128"),
    ]


def test_the_server_certificate_names_this_machine(home: Path) -> None:
    server = read(ensure_certificates(home).cert_file)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_nobody_else_can_read_the_keys(home: Path) -> None:
    ensure_certificates(home)
    keys = sorted(home.glob("*.key"))
    assert [key.name for key in keys] == ["ca.key", "expired.key", "server.key"]
    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}
    assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_it_keeps_what_is_good(home: Path) -> None:
    files = ensure_certificates(home)
    before = [path.read_bytes() for path in files]
    assert [path.read_bytes() for path in ensure_certificates(home)] == before


def test_it_renews_the_server_certificate_before_it_ends(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "SERVER_LIFETIME", timedelta(days=20))
    files = ensure_certificates(home)
    authority, old = files.ca_file.read_bytes(), read(files.cert_file)
    monkeypatch.undo()
    ensure_certificates(home)
    assert files.ca_file.read_bytes() == authority
    assert read(files.cert_file).not_valid_after_utc > old.not_valid_after_utc + timedelta(days=300)


def test_the_expired_certificate_is_otherwise_good(home: Path) -> None:
    files = ensure_certificates(home)
    expired = read(files.expired_cert_file)
    expired.verify_directly_issued_by(read(files.ca_file))
    assert expired.not_valid_after_utc < datetime.now(UTC)


@pytest.mark.parametrize("damage", ["ca.pem", "ca.key"])
def test_a_broken_authority_is_replaced_with_everything_it_signed(home: Path, damage: str) -> None:
    files = ensure_certificates(home)
    (home / damage).write_text("damaged")
    ensure_certificates(home)
    for signed in (files.cert_file, files.expired_cert_file):
        read(signed).verify_directly_issued_by(read(files.ca_file))


def test_a_key_that_does_not_fit_is_replaced_with_its_certificate(home: Path) -> None:
    files = ensure_certificates(home)
    files.key_file.write_bytes(files.expired_key_file.read_bytes())
    old = files.cert_file.read_bytes()
    ensure_certificates(home)
    assert files.cert_file.read_bytes() != old
