"""Signing in: the two-step form, failure challenges, and credentials that never travel in clear or into an error."""

import base64
import json
from collections.abc import Callable, Iterator

import pytest

from mail.errors import ConnectionLost, MailError, SettingsWrong, Stage, TryLater
from mail.smtp import BearerLogin, Conversation, Encryption, PasswordLogin, sasl
from security.secret import Secret
from tests.fakes.certs import ServerCert
from tests.fakes.mta import MTA
from tests.fakes.rawserver import Peer, RawServer
from tests.mail.conftest import BEARER, MESSAGE, PASSWORD, Watch

Dial = Callable[..., Conversation]
Script = Callable[[Peer], None]
IMPLICIT = Encryption.IMPLICIT
CHALLENGE = base64.b64encode(b'{"status":"401","schemes":"bearer mac","scope":"https://mail.google.com/"}\n').decode()
DUMMY = "eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0="  # {"status":"invalid_token"}


@pytest.fixture
def mta(cert: ServerCert) -> Iterator[MTA]:
    with MTA(cert.server_context()) as server:
        yield server


def _secure(cert: ServerCert, *answers: str, mechanisms: str = "XOAUTH2") -> RawServer:
    """A server that offers these mechanisms over TLS and gives these answers, one to each line it hears."""

    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo(f"AUTH {mechanisms}")
        for answer in answers:
            peer.hear()
            peer.say(answer)
        peer.hear()

    return RawServer(script, context=cert.server_context())


@pytest.mark.parametrize(
    ("login", "mechanism"),
    [
        (BEARER, "XOAUTH2"),
        (BearerLogin(BEARER.user, BEARER.token, "OAUTHBEARER"), "OAUTHBEARER"),
        (PASSWORD, "PLAIN"),
    ],
)
def test_it_signs_in(dial: Dial, mta: MTA, login: BearerLogin | PasswordLogin, mechanism: str) -> None:
    watch = Watch()
    conversation = dial(mta, observe=watch)
    conversation.open()
    conversation.authenticate(login)
    assert watch.facts(Stage.AUTH) == {"mechanism": mechanism, "user": "shop@example.com"}
    secret = login.token if isinstance(login, BearerLogin) else login.password
    attempt = mta.sign_ins[0]
    assert (attempt.mechanism, attempt.user, attempt.credential) == (mechanism, "shop@example.com", secret.reveal())


def test_login_is_used_where_plain_is_not_offered(dial: Dial, cert: ServerCert) -> None:
    with MTA(cert.server_context(), mechanisms=("LOGIN",)) as mta:
        conversation = dial(mta)
        conversation.open()
        conversation.authenticate(PASSWORD)
    assert (mta.sign_ins[0].mechanism, mta.sign_ins[0].credential) == ("LOGIN", PASSWORD.password.reveal())


def test_the_token_never_stands_on_the_auth_line(dial: Dial, cert: ServerCert) -> None:
    with _secure(cert, "334 ", "235 2.7.0 Accepted") as server:
        conversation = dial(server, IMPLICIT)
        conversation.open()
        conversation.authenticate(BEARER)
    payload = sasl.xoauth2(BEARER.user, BEARER.token.reveal()).decode()
    assert server.said_by_client == ["EHLO localhost", "AUTH XOAUTH2", payload]


def test_plain_takes_two_steps_too(dial: Dial, cert: ServerCert) -> None:
    with _secure(cert, "334 ", "235 ok", mechanisms="PLAIN") as server:
        conversation = dial(server, IMPLICIT)
        conversation.open()
        conversation.authenticate(PASSWORD)
    assert server.said_by_client[1:] == ["AUTH PLAIN", sasl.plain("shop@example.com", "not-a-real-password").decode()]


def test_a_token_of_many_kilobytes_goes_through(dial: Dial, mta: MTA) -> None:
    token = "t" * 6000
    conversation = dial(mta)
    conversation.open()
    conversation.authenticate(BearerLogin("shop@example.com", Secret(token)))
    assert mta.sign_ins[0].credential == token


@pytest.mark.parametrize(("mechanism", "answer"), [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")])
def test_a_failure_challenge_is_answered_and_its_json_kept(
    dial: Dial, cert: ServerCert, mechanism: str, answer: str
) -> None:
    refusal = "535 5.7.8 Username and Password not accepted"
    with _secure(cert, "334 ", f"334 {CHALLENGE}", refusal, mechanisms=mechanism) as server:
        conversation = dial(server, IMPLICIT, provider="google")
        conversation.open()
        with pytest.raises(ConnectionLost) as caught:
            conversation.authenticate(BEARER)
    assert server.said_by_client[3] == answer
    error = caught.value
    assert (error.code, error.reply_code, error.stage) == ("auth_refused", 535, Stage.AUTH)
    assert error.detail.startswith(refusal)
    assert json.loads(error.detail[error.detail.index("{") :])["status"] == "401"


def test_the_session_stays_in_step_after_a_failure_challenge(dial: Dial, mta: MTA) -> None:
    mta.accounts["shop@example.com"] = "another-token"
    conversation = dial(mta)
    conversation.open()
    with pytest.raises(ConnectionLost, match=r'535 5\.7\.8 .*"status": "401"'):
        conversation.authenticate(BEARER)
    conversation.reset()
    mta.accounts["shop@example.com"] = BEARER.token.reveal()
    conversation.authenticate(BEARER)
    assert [attempt.succeeded for attempt in mta.sign_ins] == [False, True]


@pytest.mark.parametrize(
    "answers",
    [
        ("503 5.5.1 already authenticated",),
        ("503 bad sequence",),
        ("235 you need not bother",),
        ("334 ", "503 already authenticated"),
        ("334 ", "250 fine"),
        ("334 ", f"334 {DUMMY}", "235 never mind"),
        ("334 ", f"334 {DUMMY}", f"334 {DUMMY}"),
    ],
)
def test_nothing_but_235_after_the_answer_is_success(dial: Dial, cert: ServerCert, answers: tuple[str, ...]) -> None:
    with _secure(cert, *answers) as server:
        conversation = dial(server, IMPLICIT)
        conversation.open()
        with pytest.raises(MailError) as caught:
            conversation.authenticate(BEARER)
    assert caught.value.stage is Stage.AUTH


@pytest.mark.parametrize(
    ("provider", "answer", "kind", "code"),
    [
        ("microsoft365", "535 5.7.3 Authentication unsuccessful [AM0PR.example]", ConnectionLost, "auth_refused"),
        (
            "microsoft365",
            "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.",
            SettingsWrong,
            "auth_refused",
        ),
        ("google", "534 5.7.9 Application-specific password required", SettingsWrong, "auth_refused"),
        ("other", "535 5.7.8 no", ConnectionLost, "auth_refused"),
        ("yahoo", "421 4.7.0 closing", TryLater, "temporary"),
        ("google", "421 4.7.0 Try again later, closing connection", TryLater, "throttled"),
        ("microsoft365", "432 4.3.2 Concurrent connections limit exceeded", TryLater, "throttled"),
        ("other", "432 4.7.12 A password transition is needed", ConnectionLost, "auth_refused"),
        ("other", "454 4.7.0 Temporary authentication failure", TryLater, "temporary"),
        ("google", "454 4.7.0 Too many login attempts, please try again later", TryLater, "throttled"),
        ("other", "501 5.5.2 Cannot Base64-decode Client response", SettingsWrong, "auth_refused"),
        ("other", "504 5.5.4 Unrecognized authentication type", SettingsWrong, "auth_refused"),
        ("other", "571 whatever", SettingsWrong, "auth_refused"),
    ],
)
def test_a_refusal_is_judged_by_the_catalogue(
    dial: Dial, cert: ServerCert, provider: str, answer: str, kind: type[MailError], code: str
) -> None:
    with _secure(cert, "334 ", answer) as server:
        conversation = dial(server, IMPLICIT, provider=provider)
        conversation.open()
        with pytest.raises(kind) as caught:
            conversation.authenticate(BEARER)
    assert (caught.value.code, caught.value.reply_code) == (code, int(answer[:3]))
    assert caught.value.detail == answer


def test_a_wrong_password_is_a_matter_of_settings_since_there_is_no_grant_to_lose(dial: Dial, mta: MTA) -> None:
    mta.accounts["shop@example.com"] = "something else"
    conversation = dial(mta)
    conversation.open()
    with pytest.raises(SettingsWrong) as caught:
        conversation.authenticate(PASSWORD)
    assert (caught.value.code, caught.value.reply_code) == ("auth_refused", 535)


@pytest.mark.parametrize("login", [BEARER, PASSWORD])
def test_credentials_never_travel_in_clear(dial: Dial, login: BearerLogin | PasswordLogin) -> None:
    with MTA(auth_in_clear=True) as mta:
        conversation = dial(mta, Encryption.OPPORTUNISTIC)
        conversation.open()
        with pytest.raises(SettingsWrong, match="Encryption required for requested authentication") as caught:
            conversation.authenticate(login)
    assert (caught.value.code, caught.value.stage) == ("plaintext_auth", Stage.AUTH)
    assert mta.sign_ins == []


def test_a_host_the_operator_listed_may_be_signed_in_to_in_clear(dial: Dial) -> None:
    with MTA(auth_in_clear=True) as mta:
        conversation = dial(mta, Encryption.OPPORTUNISTIC, plaintext_auth=True)
        conversation.open()
        conversation.authenticate(PASSWORD)
    assert mta.sign_ins[0].succeeded


def test_a_server_without_auth_is_a_matter_of_settings(dial: Dial, cert: ServerCert) -> None:
    with MTA(cert.server_context(), mechanisms=()) as mta:
        conversation = dial(mta)
        conversation.open()
        with pytest.raises(SettingsWrong, match="SMTP AUTH extension not supported"):
            conversation.authenticate(PASSWORD)


def test_the_old_spelling_of_the_auth_line_is_understood(dial: Dial, cert: ServerCert) -> None:
    def script(peer: Peer) -> None:
        peer.say("220 mail.test")
        peer.ehlo("AUTH=LOGIN", "auth plain")
        assert peer.hear() == "AUTH PLAIN"
        peer.say("334 ")
        peer.hear()
        peer.say("235 ok")

    with RawServer(script, context=cert.server_context()) as server:
        conversation = dial(server, IMPLICIT)
        conversation.open()
        conversation.authenticate(PASSWORD)


@pytest.mark.parametrize("form", ["plain", "base64"])
@pytest.mark.parametrize("login", [BEARER, PASSWORD])
def test_a_server_that_repeats_the_credential_does_not_get_it_into_an_error(
    dial: Dial, cert: ServerCert, login: BearerLogin | PasswordLogin, form: str
) -> None:
    secret = (login.token if isinstance(login, BearerLogin) else login.password).reveal()
    payload = (sasl.xoauth2 if isinstance(login, BearerLogin) else sasl.plain)("shop@example.com", secret).decode()
    echo = secret if form == "plain" else payload
    with _secure(cert, "334 ", f"535 5.7.8 cannot accept {echo} here", mechanisms="XOAUTH2 PLAIN") as server:
        conversation = dial(server, IMPLICIT)
        conversation.open()
        with pytest.raises(MailError, match="cannot accept") as caught:
            conversation.authenticate(login)
    for text in (str(caught.value), repr(caught.value), caught.value.detail, repr(login), repr(conversation)):
        assert secret not in text
        assert payload not in text


def test_a_server_that_repeats_the_token_later_does_not_get_it_into_a_result(dial: Dial, mta: MTA) -> None:
    token = BEARER.token.reveal()
    mta.accepted_reply = f"250 2.0.0 thanks for {token}, queued as ABC123"
    mta.faults.refuse_recipients["b@example.com"] = f"550 5.1.1 no b for {token}"
    watch = Watch()
    conversation = dial(mta, observe=watch)
    conversation.open()
    conversation.authenticate(BEARER)
    result = conversation.send("shop@example.com", ["a@example.com", "b@example.com"], MESSAGE)
    assert result.queue_id == "ABC123"
    assert token not in repr(result) + repr(watch.events)


def test_the_user_name_may_be_international(dial: Dial, mta: MTA) -> None:
    conversation = dial(mta)
    conversation.open()
    conversation.authenticate(BearerLogin("jürgen@bücher.example", BEARER.token))
    assert mta.sign_ins[0].user == "jürgen@bücher.example"
