"""Who may hand in mail: never anybody else, and guessing is slow."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import select, update

from mail import api_keys, relay_access
from mail.audit import SYSTEM
from models import APIKey, SignInAttempt, Store
from models.types import utcnow
from relay import Relay
from tests import factories
from tests.fakes.certs import CA, ServerCert
from tests.relay.peer import CODE, Peer, make_key, stored

OTHER_KEY = "sp_" + "A" * 43


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delays of failed sign-ins, a hundredth of them."""
    monkeypatch.setattr(relay_access, "DELAY_FIRST_S", 0.0025)
    monkeypatch.setattr(relay_access, "DELAY_LONGEST_S", 0.08)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_nothing_is_taken_from_who_has_not_signed_in(relay: Relay) -> None:
    for greeting in ("", "HELO x", "EHLO x"):
        with Peer(relay.port) as peer:
            peer.reply()
            if greeting:
                peer.say(greeting)
            for line in ("MAIL FROM:<a@b.example>", "RCPT TO:<a@b.example>", "DATA", "VRFY a@b.example"):
                assert peer.say(line).text.startswith("530 5.7.0 "), (greeting, line)


def test_a_whole_message_pipelined_without_signing_in_goes_nowhere(relay: Relay, store: Store) -> None:
    with Peer(relay.port) as peer:
        peer.greet()
        peer.send(
            b"MAIL FROM:<a@b.example>\r\nRCPT TO:<lena@shop.example>\r\nDATA\r\nSubject: x\r\n\r\nHi\r\n.\r\nQUIT\r\n"
        )
        codes = [peer.reply().code for _ in range(8)]
    assert codes[:3] == [530, 530, 530]
    assert 250 not in codes
    assert 354 not in codes
    assert stored() == []


def test_the_code_may_be_written_in_capitals(relay: Relay, key: str) -> None:
    for user in (CODE, CODE.upper(), f" {CODE} "):
        with Peer(relay.port) as peer:
            assert peer.greet().auth(key, user).text == "235 2.7.0 Signed in"


def test_login_works_in_each_of_its_forms(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.greet()
        assert peer.say("AUTH LOGIN").text == "334 " + encoded("Username:")
        assert peer.say(encoded(CODE)).text == "334 " + encoded("Password:")
        assert peer.say(encoded(key)).code == 235
    with Peer(relay.port) as peer:
        peer.greet()
        assert peer.say(f"auth login {encoded(CODE)}").code == 334
        assert peer.say(encoded(key)).code == 235


def test_plain_works_with_a_challenge_too(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.greet()
        assert peer.say("AUTH PLAIN").text == "334 "
        assert peer.say(encoded(f"{CODE}\0{CODE}\0{key}")).code == 235


def test_a_key_fits_its_own_store_only(relay: Relay, key: str) -> None:
    factories.make_store("Other Store")
    for user in ("acme", "other-store", "", "acme-store2", "' OR 1=1 --", "Ж" * 300):
        with Peer(relay.port) as peer:
            assert peer.greet().auth(key, user).text == "535 5.7.8 User name or API key is wrong", user
            assert peer.say("MAIL FROM:<a@b.example>").code == 530


def test_a_wrong_key_is_refused_in_the_same_words(relay: Relay, key: str) -> None:
    for password in ("", OTHER_KEY, key[:-1], f"{key}x", key.upper(), "Bearer", "sp_", "x" * 5000):
        with Peer(relay.port) as peer:
            assert peer.greet().auth(password).text == "535 5.7.8 User name or API key is wrong", password


def test_a_key_that_may_not_send_is_told_so(relay: Relay, store: Store) -> None:
    key = make_key(store, scopes="read")
    with Peer(relay.port) as peer:
        assert peer.greet().auth(key).text == "535 5.7.8 This API key lacks the scope “send”"
        assert peer.say("MAIL FROM:<a@b.example>").code == 530


MALFORMED = [
    ("AUTH", "504 5.5.4"),
    ("AUTH CRAM-MD5", "504 5.5.4"),
    ("AUTH XOAUTH2 dXNlcj0=", "504 5.5.4"),
    ("AUTH PLAIN ***", "501 5.5.2"),
    ("AUTH PLAIN " + encoded("only\0two"), "501 5.5.2"),
    ("AUTH PLAIN " + base64.b64encode(b"\0\xff\0x").decode(), "501 5.5.2"),
    ("AUTH PLAIN " + encoded(f"somebody-else\0{CODE}\0{OTHER_KEY}"), "535 5.7.8"),
    ("AUTH PLAIN " + "A" * 13000, "500 5.5.2"),
]


def test_a_malformed_sign_in_is_refused(start: Callable[..., Relay], store: Store) -> None:
    with Peer(start(mistakes=100).port) as peer:
        peer.greet()
        for line, answer in MALFORMED:
            assert peer.say(line).text.startswith(f"{answer} "), line
            assert peer.say("MAIL FROM:<a@b.example>").code == 530


def test_a_sign_in_can_be_broken_off(relay: Relay, key: str) -> None:
    with Peer(relay.port) as peer:
        peer.greet().say("AUTH LOGIN")
        assert peer.say("*").code == 501
        assert peer.auth(key).code == 235


def test_a_revoked_key_loses_access_at_the_next_message(relay: Relay, store: Store, key: str, db: Any) -> None:
    with Peer(relay.port) as peer:
        assert peer.sign_in(key).envelope().data().code == 250
        row = db.session.scalars(select(APIKey)).one()
        api_keys.revoke(store, row.id, actor=SYSTEM)
        db.session.commit()
        assert peer.envelope().data().text.startswith("550 5.7.1 ")
        assert peer.say("MAIL FROM:<a@b.example>").code == 530
        assert peer.auth(key).code == 535
        assert peer.auth(make_key(store)).code == 235
    assert len(stored()) == 1


def test_a_key_that_lost_its_scope_loses_access_too(relay: Relay, key: str, db: Any) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        db.session.execute(update(APIKey).values(scopes="read"))
        db.session.commit()
        assert peer.envelope().data().code == 550
    assert stored() == []


def test_a_deleted_store_takes_its_key_along(relay: Relay, store: Store, key: str, db: Any) -> None:
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        db.session.delete(store)
        db.session.commit()
        assert peer.envelope().data().code == 550


def test_failures_slow_down_and_end_the_connection(start: Callable[..., Relay], store: Store) -> None:
    relay = start(sign_in_failures=3)
    with Peer(relay.port) as peer:
        peer.greet()
        assert [peer.auth(OTHER_KEY).code for _ in range(3)] == [535, 535, 535]
        assert peer.reply().text.startswith("421 4.7.0 ")
        assert peer.reply().code == 0


def test_failures_of_all_connections_and_processes_count_together(
    start: Callable[..., Relay], store: Store, db: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_access, "PATIENCE", 3)
    first, second = start(), start()
    for relay in (first, second):
        with Peer(relay.port) as peer:
            assert peer.greet().auth(OTHER_KEY).code == 535
            assert peer.say("NOOP").code == 250
    with Peer(first.port) as peer:
        assert peer.greet().auth(OTHER_KEY).code == 535
        assert peer.reply().code == 421


def test_answers_to_failures_are_kept_back_longer_and_longer(
    relay: Relay, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay_access, "DELAY_FIRST_S", 0.1)
    monkeypatch.setattr(relay_access, "DELAY_LONGEST_S", 0.3)
    took = []
    for _ in range(3):
        with Peer(relay.port) as peer:
            peer.greet()
            begun = time.monotonic()
            peer.auth(OTHER_KEY)
            took.append(time.monotonic() - begun)
    assert took[0] >= 0.1
    assert took[1] >= 0.2
    assert took[2] >= 0.3
    assert relay_access.delay_s(50) == 0.3


def test_failures_never_lock_out_the_right_key(relay: Relay, key: str) -> None:
    for _ in range(4):
        with Peer(relay.port) as peer:
            peer.greet()
            while peer.auth(OTHER_KEY).code == 535:
                pass
    with Peer(relay.port) as peer:
        assert peer.greet().auth(key).code == 235


def test_counted_failures_are_bounded_and_forgotten(relay: Relay, store: Store, db: Any) -> None:
    old = utcnow() - 2 * relay_access.WINDOW
    db.session.add_all([SignInAttempt(subject="relay-client:127.0.0.1", at=old) for _ in range(5)])
    db.session.commit()
    for _ in range(relay_access.COUNTED_MAX + 3):
        failures = relay_access.record_failure("somebody", "127.0.0.1")
    assert failures == relay_access.COUNTED_MAX + 1
    assert db.session.query(SignInAttempt).count() == 2 * relay_access.COUNTED_MAX
    db.session.rollback()


def test_the_log_and_the_table_know_no_password(
    relay: Relay, store: Store, db: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG), Peer(relay.port) as peer:
        peer.greet().auth("mark-typed-password", CODE)
        peer.auth(OTHER_KEY, "mark-typed-as-user")
        peer.say("AUTH LOGIN")
        peer.say(encoded("mark-typed-as-user"))
        peer.say(encoded("mark-typed-password"))
    seen = caplog.text + "".join(str(record.__dict__) for record in caplog.records)
    assert "a sign-in was refused" in seen
    assert not [word for word in ("mark-typed", encoded("mark-typed-as-user"), OTHER_KEY) if word in seen]
    assert [record.store_id for record in caplog.records if "refused" in record.message][:2] == [store.id, None]
    assert not [row for row in db.session.scalars(select(SignInAttempt.subject)) if "mark-typed" in row]
    db.session.rollback()


def test_the_key_is_noted_as_used_however_long_the_connection_lasts(relay: Relay, key: str, db: Any) -> None:
    def used_at() -> Any:
        found = db.session.scalars(select(APIKey.last_used_at)).one()
        db.session.rollback()
        return found

    with Peer(relay.port) as peer:
        peer.sign_in(key).envelope().data()
        assert used_at()
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        long_ago = utcnow() - 2 * api_keys.USED_EVERY
        db.session.execute(update(APIKey).values(last_used_at=long_ago))
        db.session.commit()
        peer.envelope().data()
        assert used_at() > long_ago


# Encryption -----------------------------------------------------------------------------------------------------------


def test_with_a_certificate_it_offers_encryption(
    start: Callable[..., Relay], cert: ServerCert, ca: CA, key: str
) -> None:
    relay = start(cert=cert)
    with Peer(relay.port) as peer:
        peer.reply()
        assert "250-STARTTLS" in peer.say("EHLO app.example").text
        peer.start_tls(ca.cert_file)
        assert "STARTTLS" not in peer.say("EHLO app.example").text
        assert peer.say("STARTTLS").code == 503
        assert peer.auth(key).code == 235
        assert peer.envelope().data().code == 250
    assert len(stored()) == 1


def test_off_loopback_everything_comes_after_encryption(
    start: Callable[..., Relay], cert: ServerCert, ca: CA, key: str
) -> None:
    relay = start(host="0.0.0.0", cert=cert)
    with Peer(relay.port) as peer:
        peer.reply()
        assert "AUTH" not in peer.say("EHLO app.example").text
        assert peer.auth(key).text.startswith("530 5.7.0 ")
        assert peer.say("AUTH LOGIN").text.startswith("530 5.7.0 ")
        assert peer.say("MAIL FROM:<a@b.example>").text.startswith("530 5.7.0 ")
        peer.start_tls(ca.cert_file)
        assert peer.auth(key).code == 235
        assert peer.envelope().data().code == 250


def test_what_is_said_in_clear_counts_for_nothing_after_encryption(
    start: Callable[..., Relay], cert: ServerCert, ca: CA, key: str
) -> None:
    relay = start(cert=cert)
    with Peer(relay.port) as peer:
        peer.sign_in(key)
        peer.start_tls(ca.cert_file)
        assert peer.say("MAIL FROM:<a@b.example>").code == 530


def test_commands_injected_behind_starttls_are_not_obeyed(
    start: Callable[..., Relay], cert: ServerCert, ca: CA, key: str
) -> None:
    relay = start(cert=cert)
    login = b"AUTH PLAIN " + base64.b64encode(f"\0{CODE}\0{key}".encode())
    with Peer(relay.port) as peer:
        peer.greet()
        peer.send(b"STARTTLS\r\nEHLO injected\r\n" + login + b"\r\n")
        assert peer.reply().code == 220
        peer.wrap(ca.cert_file)
        assert peer.say("NOOP").text == "250 2.0.0 OK"
        assert peer.say("MAIL FROM:<a@b.example>").code == 530
        assert peer.say("EHLO app.example").code == 250
