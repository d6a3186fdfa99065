"""The pages, without a browser."""

import email
import ssl

import html5lib
import pytest
import requests

from sandbox import Sandbox
from sandbox.inbox import KEEP_MESSAGES, Inbox, Message
from tests.sandbox.clients import MAILBOX, OAuthClient, dial, letter

HTML_LETTER = (
    f"From: Shop <{MAILBOX}>\r\nTo: Ann <ann@customer.example>\r\nSubject: <b>Order</b>\r\nMIME-Version: 1.0\r\n"
    "Content-Type: multipart/alternative; boundary=x\r\n\r\n"
    "--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\nPlain words\r\n"
    "--x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<script>alert(1)</script><p>Rich words\r\n--x--\r\n"
)


@pytest.fixture
def filled(sandbox: Sandbox, trusting: ssl.SSLContext) -> Sandbox:
    """An inbox with two messages: a plain one and, after it, one with HTML and a hidden recipient."""
    with dial(sandbox, trusting) as server:
        server.login(MAILBOX, "sandbox-password")
        server.sendmail(MAILBOX, ["ann@customer.example"], letter(subject="First"))
        server.sendmail(MAILBOX, ["ann@customer.example", "hidden@customer.example"], HTML_LETTER.encode())
    sandbox.wait_for_messages(2)
    return sandbox


def get(sandbox: Sandbox, path: str, **headers: str) -> requests.Response:
    return requests.get(sandbox.web_url + path, headers=headers, allow_redirects=False, timeout=10)


@pytest.mark.parametrize("path", ["/", "/inbox", "/inbox/{last}", "/faults", "/authorize", "/nowhere"])
def test_every_page_is_valid_html_and_locked_down(filled: Sandbox, path: str) -> None:
    page = get(filled, path.format(last=filled.messages()[-1].number))
    html5lib.HTMLParser(strict=True).parse(page.text)
    assert "<title>" in page.text
    assert page.headers["Content-Security-Policy"] == (
        "default-src 'none'; style-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert page.headers["X-Content-Type-Options"] == "nosniff"
    assert page.headers["Cache-Control"] == "no-store"
    assert "Set-Cookie" not in page.headers
    assert "style=" not in page.text
    assert "<script" not in page.text


def test_only_the_consent_page_lets_a_form_lead_back_to_the_client(oauth: OAuthClient) -> None:
    page = oauth.open_page()
    html5lib.HTMLParser(strict=True).parse(page.text)
    assert "form-action 'self' http://localhost:8025;" in page.headers["Content-Security-Policy"]


def test_the_inbox_lists_newest_first(filled: Sandbox) -> None:
    page = get(filled, "/inbox").text
    assert page.index("&lt;b&gt;Order&lt;/b&gt;") < page.index("First")
    said = get(filled, "/inbox.json").json()
    assert said["count"] == 2
    newest = said["messages"][0]
    assert newest["subject"] == "<b>Order</b>"
    assert newest["rcpt_to"] == ["ann@customer.example", "hidden@customer.example"]
    assert newest["hidden_rcpt_to"] == ["hidden@customer.example"]
    assert newest["auth"] == {"mechanism": "PLAIN", "user": MAILBOX, "client_id": ""}
    assert (newest["text"], newest["html"]) == (
        "Plain words",
        "<script>alert(1)</script><p>Rich words",
    )


def test_a_message_is_shown_as_source(filled: Sandbox) -> None:
    number = filled.messages()[-1].number
    page = get(filled, f"/inbox/{number}").text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Bcc: not named in the headers" in page
    eml = get(filled, f"/inbox/{number}.eml")
    assert eml.content == HTML_LETTER.encode()
    assert eml.headers["Content-Disposition"].startswith("attachment")
    assert email.message_from_bytes(eml.content)["Subject"] == "<b>Order</b>"


def test_the_inbox_can_be_cleared_both_ways(filled: Sandbox, trusting: ssl.SSLContext) -> None:
    assert requests.delete(f"{filled.web_url}/inbox", timeout=10).status_code == 204
    assert filled.messages() == ()
    with dial(filled, trusting) as server:
        server.login(MAILBOX, "sandbox-password")
        server.sendmail(MAILBOX, ["ann@customer.example"], letter())
    answer = requests.post(f"{filled.web_url}/inbox/clear", allow_redirects=False, timeout=10)
    assert answer.status_code == 303
    assert filled.messages() == ()


def test_a_message_that_is_not_there_is_not_found(sandbox: Sandbox) -> None:
    assert get(sandbox, "/inbox/999999").status_code == 404
    assert get(sandbox, "/inbox/999999.eml").status_code == 404


def test_the_inbox_keeps_the_newest_messages(sandbox: Sandbox, trusting: ssl.SSLContext) -> None:
    with dial(sandbox, trusting) as server:
        server.login(MAILBOX, "sandbox-password")
        server.sendmail(MAILBOX, ["ann@customer.example"], letter())
    (sample,) = sandbox.wait_for_messages(1)
    inbox = Inbox()
    for _ in range(KEEP_MESSAGES + 3):
        last: Message = inbox.add(sample)
    kept = inbox.messages()
    assert (len(kept), kept[0].number, kept[-1]) == (KEEP_MESSAGES, 4, last)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no headers at all\r\n",
        b"From: \xff\xfe <@@>\r\nTo: (((\r\nSubject: =?utf-8?q?=\r\n\r\n\x00\xff",
        b'From: "unclosed <a@b.example\r\nContent-Type: multipart/mixed\r\n\r\nx',
        b"Content-Type: text/plain; charset=nonsense\r\n\r\n\xe4\xf6",
        b"Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n***",
    ],
)
def test_a_broken_message_still_has_a_page(sandbox: Sandbox, trusting: ssl.SSLContext, content: bytes) -> None:
    with dial(sandbox, trusting) as server:
        server.login("relay-account", "sandbox-password")
        server.sendmail("anybody@shop.example", ["ann@customer.example"], content)
    number = sandbox.wait_for_messages(1)[0].number
    for path in ("/inbox", "/inbox.json", f"/inbox/{number}"):
        assert get(sandbox, path).status_code == 200


def test_the_faults_page_switches_faults(sandbox: Sandbox) -> None:
    form = {"rotation": "1", "slow_token": "1.5", "send_as_denied": "message", "recipient_refused": " a@b.example "}
    answer = requests.post(f"{sandbox.web_url}/faults", data=form, allow_redirects=False, timeout=10)
    assert answer.status_code == 303
    on = {name: value for name, value in sandbox.faults.as_dict().items() if value}
    assert on == {
        "rotation": True,
        "slow_token": 1.5,
        "send_as_denied": "message",
        "recipient_refused": "a@b.example",
    }
    assert "checked" in get(sandbox, "/faults").text
    requests.post(f"{sandbox.web_url}/faults", data={}, allow_redirects=False, timeout=10)
    assert not any(sandbox.faults.as_dict().values())


def test_the_faults_page_keeps_what_was_typed_when_it_is_wrong(sandbox: Sandbox) -> None:
    answer = requests.post(f"{sandbox.web_url}/faults", data={"slow_token": "soon", "rotation": "1"}, timeout=10)
    assert answer.status_code == 422
    html5lib.HTMLParser(strict=True).parse(answer.text)
    assert 'value="soon"' in answer.text
    assert "slow_token is a number of seconds" in answer.text
    assert not any(sandbox.faults.as_dict().values())


def test_reset_leads_a_person_back_to_the_page(sandbox: Sandbox) -> None:
    sandbox.faults.set(throttled=True)
    browser = {"Accept": "text/html,application/xhtml+xml"}
    answer = requests.post(f"{sandbox.web_url}/reset", headers=browser, allow_redirects=False, timeout=10)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/faults")
    assert not sandbox.faults.is_on("throttled")


@pytest.mark.parametrize("path", ["/reset", "/inbox/clear", "/faults", "/consent/allow"])
def test_other_websites_cannot_press_our_buttons(sandbox: Sandbox, path: str) -> None:
    sandbox.faults.set(throttled=True)
    for origin in ("https://evil.example", "null"):
        answer = requests.post(sandbox.web_url + path, headers={"Origin": origin}, timeout=10)
        assert answer.status_code == 403
    assert sandbox.faults.is_on("throttled")


def test_our_own_pages_can(sandbox: Sandbox) -> None:
    answer = requests.post(f"{sandbox.web_url}/reset", headers={"Origin": sandbox.web_url}, timeout=10)
    assert answer.status_code == 200


def test_a_foreign_name_for_this_machine_sees_nothing(sandbox: Sandbox) -> None:
    assert get(sandbox, "/inbox", Host="evil.example").status_code == 400
    assert get(sandbox, "/inbox", Host=f"localhost:{sandbox.web_port}").status_code == 200


def test_json_errors_are_json(sandbox: Sandbox) -> None:
    answer = requests.put(f"{sandbox.web_url}/faults.json", data="[", timeout=10)
    assert (answer.status_code, list(answer.json())) == (400, ["error"])
    assert requests.get(f"{sandbox.web_url}/nowhere.json", timeout=10).json()["error"]


def test_an_in_process_test_can_answer_consent_without_a_page(sandbox: Sandbox, oauth: OAuthClient) -> None:
    url = requests.Request("GET", sandbox.authorize_url, params=oauth.query()).prepare().url
    assert url is not None
    assert "code=" in sandbox.consent(url, MAILBOX)
    assert "error=access_denied" in sandbox.consent(url, MAILBOX, allow=False)


def test_waiting_for_mail_that_does_not_come_ends(sandbox: Sandbox) -> None:
    with pytest.raises(TimeoutError, match="0 of 1"):
        sandbox.wait_for_messages(1, timeout_s=0.05)
