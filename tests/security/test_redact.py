import base64
import json
import logging
import sys
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from security.redact import MASK, JSONFormatter, Redactor, one_line, redact
from security.secret import Secret

SECRET = "FAKE-s3cret.VALUE~9"
JWT = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJGQUtFIn0.c2lnbmF0dXJl"


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


XOAUTH2 = b64(f"user=admin@shop.example\x01auth=Bearer {SECRET}\x01\x01")
OAUTHBEARER = b64(f"n,a=admin@shop.example,\x01host=smtp.example\x01port=587\x01auth=Bearer {SECRET}\x01\x01")
PLAIN = b64(f"\0admin@shop.example\0{SECRET}")

KEYS = [
    "client_secret",
    "refresh_token",
    "access_token",
    "id_token",
    "password",
    "new_password",
    "smtp-password",
    "code_verifier",
    "device_code",
    "assertion",
    "client_assertion",
    "authorization",
    "api_key",
    "X-API-Key",
    "clientSecret",
    "cookie",
    "code",
    "state",
    "token",
    "secret",
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize(
    "form",
    [
        '{{"a": 1, "{key}": "{value}", "b": "kept"}}',
        '{{"{key}":"{value}"}}',
        '{{\\"{key}\\": \\"{value}\\", \\"b\\": \\"kept\\"}}',
        "{{'a': 1, '{key}': '{value}', 'b': 'kept'}}",
        "{{'{key}': b'{value}'}}",
        "[('{key}', '{value}'), ('b', 'kept')]",
        "a=1&{key}={value}&b=kept",
        "POST /token?{key}={value} HTTP/1.1",
        "{key}={value}",
        "{key}: {value}",
        "failed with {key} = {value}, giving up",
        '{{"{key}": "{value}',
    ],
)
def test_it_masks_by_key_in_every_notation(form, key):
    text = form.format(key=key, value=SECRET)
    masked = redact(text)
    assert SECRET not in masked
    assert MASK in masked
    assert ("kept" in text) == ("kept" in masked)


def test_it_keeps_json_json():
    masked = redact(json.dumps({"password": 'a"b\\c"' + SECRET, "expires_in": 3599, "list": [{"token": SECRET}]}))
    assert json.loads(masked) == {"password": MASK, "expires_in": 3599, "list": [{"token": MASK}]}


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization: bearer {SECRET}",
        f"GET / HTTP/1.1\r\nAuthorization: Basic {b64('id:' + SECRET)}\r\nHost: x",
        f"b'Host: x\\r\\nAuthorization: Custom {SECRET} and {SECRET}\\r\\n'",
        f"Cookie: storepost={SECRET}; other={SECRET}",
        f"headers: Set-Cookie: storepost={SECRET}; Path=/",
        f"sent Bearer {SECRET} to the server",
        f"auth=Bearer {SECRET}",
        f"auth=Bearer%20{SECRET}",
        f"proxy http://user:{SECRET}@proxy.example:3128 refused",
        f"AUTH XOAUTH2 {XOAUTH2}",
        f"C: AUTH OAUTHBEARER {OAUTHBEARER}\\r\\n",
        f"AUTH PLAIN {PLAIN}",
        f"auth plain {PLAIN}",
        f"AUTH LOGIN {b64('admin@shop.example')}",
        XOAUTH2,
        f"334 {OAUTHBEARER}",
        f"send: b'{PLAIN}\\r\\n'",
        f"wrote {PLAIN.rstrip('=')} and waited",
        base64.urlsafe_b64encode(f"\0x\0{SECRET}???>>>".encode()).decode(),
        f"assertion {JWT} expired",
        f"{JWT}",
    ],
)
def test_it_masks_what_looks_like_a_credential(text):
    masked = redact(text)
    assert MASK in masked
    for secret in (SECRET, XOAUTH2, OAUTHBEARER, PLAIN, PLAIN.rstrip("="), JWT, b64("id:" + SECRET)):
        assert secret not in masked


@pytest.mark.parametrize(
    "token",
    [
        "ya29.a0FAKEfakeFAKEfake-_1",
        "1//0gFAKEfakeFAKEfake-_1",
        "GOCSPX-FAKEfakeFAKEfake",
        "0.AXoAFAKEfakeFAKEfakeFAKEfake.AgABAAEAAAD-FAKE",
        "M.C507_BL2.0.U.-FAKEfakeFAKEfakeFAKE!*fake",
        "abc8Q~FAKEfakeFAKEfakeFAKEfakeFAKE.~-",
    ],
)
def test_it_knows_the_tokens_of_google_and_microsoft_by_their_shape(token):
    masked = redact(f"the server said {token} and hung up")
    assert "FAKE" not in masked
    assert masked.startswith("the server said ***")
    assert masked.endswith(" and hung up")


@pytest.mark.parametrize(
    "text",
    [
        "535 5.7.139 Authentication unsuccessful, basic authentication is disabled.",
        "535 5.7.3 Authentication unsuccessful [AM0PR02CA0001.eurprd02.prod.outlook.com 2025-11-22T10:00:00.000Z]",
        "535-5.7.8 Username and Password not accepted. https://support.google.com/mail/?p=BadCredentials",
        "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent is the client secret value.",
        "250-AUTH LOGIN PLAIN XOAUTH2 OAUTHBEARER",
        "250-AUTH=LOGIN",
        "504 5.7.4 AUTH PLAIN mechanism not supported",
        "the Bearer token is missing; Bearer authentication needed",
        "code=535 stage=auth reply code: 5.7.139 state: queued",
        '{"error": "invalid_grant", "error_codes": [70008], "code": "auth_refused", "state": "held", "token": "done"}',
        '{"client_secret": "replaced", "password": "set", "refresh_token": "removed", "access_token": null}',
        '"password": "", client_secret=&x=1',
        "password: Secret(***)",
        "https://login.example.com/oauth2/token at admin@shop.example",
        "Ä ü 日本 🎉",
        "message 0193c1f2-7b9e-7d2a-9c41-2f7f8b1f2a11 accepted as 4XyZ12AbCdz9 in 120 ms",
        "",
    ],
)
def test_it_leaves_the_words_that_people_need(text):
    assert redact(text) == text


@pytest.mark.parametrize(
    "spelling",
    [
        SECRET,
        Secret(SECRET),
        "pass/word+with %&=",
        'quo"ted\\back',
        "ümläut-passwörd",
        "newline\nin it",
        "four",
        "日本語パスワード",
    ],
)
@pytest.mark.parametrize(
    "encode",
    [
        str,
        json.dumps,
        repr,
        b64,
        lambda v: b64("prefix:" + v),
        lambda v: __import__("urllib.parse").parse.quote(v),
        lambda v: __import__("urllib.parse").parse.quote(v, safe=""),
        lambda v: __import__("urllib.parse").parse.quote_plus(v),
    ],
    ids=["plain", "json", "repr", "base64", "in base64", "quote", "quote all", "form"],
)
def test_it_masks_known_values_in_every_spelling(spelling, encode):
    value = spelling.reveal() if isinstance(spelling, Secret) else spelling
    encoded = encode(value)
    assert encoded not in redact(f"they wrote <{encoded}> there", [spelling])


def test_it_masks_the_longer_of_two_known_values_whole():
    assert redact("x FAKEpassword-long y", ["FAKEpassword", "FAKEpassword-long"]) == "x *** y"


def test_it_does_not_black_out_everything_for_a_tiny_known_value():
    assert redact("a banana", ["a", "", "an"]) == "a banana"


@given(st.text(max_size=200), st.lists(st.text(max_size=10), max_size=3))
@settings(max_examples=300, deadline=None)
def test_it_never_fails_and_leaves_no_known_value(text, known):
    masked = redact(text, known)
    assert not any(len(value) >= 4 and value in masked.replace(MASK, "\0") for value in known)


@pytest.mark.parametrize(
    "unit",
    [
        "a",
        "A",
        "\\",
        "\\a",
        '"',
        "password",
        'password="',
        "password: ",
        "Bearer ",
        "eyJ",
        "://",
        "x@",
        "AUTH ",
        "a.",
        "=&",
    ],
)
def test_it_takes_linear_time_on_hostile_text(unit):
    started = time.process_time()
    redact('"password": "' + unit * (100_000 // len(unit)))
    assert time.process_time() - started < 2


class TestOneLine:
    def test_it_escapes_whatever_moves_the_cursor_or_the_reading_direction(self):
        line = one_line("a\r\nb\x00\x1b[31m\x9b\u2028\u202e\u200b\ud800 ä日🎉")
        assert line == "a\\r\\nb\\x00\\x1b[31m\\x9b\\u2028\\u202e\\u200b\\ud800 ä日🎉"

    def test_it_cuts_with_an_ellipsis(self):
        assert one_line("x" * 500) == "x" * 500
        assert one_line("x" * 501) == "x" * 499 + "…"
        assert one_line("abcdef", 3) == "ab…"

    @given(st.text(max_size=100), st.integers(1, 50))
    @settings(max_examples=200, deadline=None)
    def test_it_is_one_printable_line_within_the_limit(self, text, limit):
        line = one_line(text, limit)
        assert len(line) <= limit
        assert len(line.splitlines()) <= 1


def event_of(level=logging.INFO, message="x", /, *arguments, known=(), exc_info=None, **extra) -> dict:
    record = logging.getLogger("storepost.test").makeRecord(
        "storepost.test", level, __file__, 1, message, arguments, exc_info, extra=extra
    )
    line = JSONFormatter(known).format(record)
    assert "\n" not in line
    assert line.isascii()
    assert line.isprintable()
    return json.loads(line)


class TestJSONFormatter:
    def test_it_writes_time_level_logger_message_and_extras(self):
        event = event_of(logging.WARNING, "sent %s", 12, store=3, ok=True, took_ms=1.5, none=None)
        assert event.pop("time")[-1] == "Z"
        assert event == {
            "level": "WARNING",
            "logger": "storepost.test",
            "message": "sent 12",
            "store": 3,
            "ok": True,
            "took_ms": 1.5,
            "none": None,
        }

    def test_it_escapes_line_ends_and_controls_in_message_and_extras(self):
        event = event_of(logging.INFO, 'a\r\n{"level": "FAKE"}', subject="b\x1b[2J\u2028\u202e")
        assert event["message"] == 'a\r\n{"level": "FAKE"}'
        assert event["subject"] == "b\x1b[2J\u2028\u202e"

    def test_it_redacts_message_arguments_extras_and_exception(self):
        try:
            raise RuntimeError(f"refused refresh_token={SECRET} of {SECRET}")
        except RuntimeError:
            event = event_of(
                logging.ERROR,
                "client_secret=%s",
                SECRET,
                known=[SECRET],
                exc_info=sys.exc_info(),
                password=SECRET,
                code="auth_refused",
                client_secret="replaced",
                nested={"access_token": "FAKE-other-token", "list": [{"api_key": "FAKE-key-2"}]},
                held=Secret(SECRET),
                body=SECRET.encode(),
            )
        text = json.dumps(event)
        assert SECRET not in text
        assert "FAKE-" not in text
        assert "RuntimeError: refused refresh_token=***" in event["exception"]
        assert event["password"] == MASK
        assert event["code"] == "auth_refused"
        assert event["client_secret"] == "replaced"
        assert event["held"] == "Secret(***)"
        assert event["body"] == f"<{len(SECRET)} bytes>"

    def test_it_cuts_values_and_does_not_show_half_a_token(self):
        text = "x" * 1990 + f" access_token={SECRET}"
        event = event_of(logging.INFO, text, long="y" * 100_000, many=dict.fromkeys(map(str, range(1000)), 1))
        assert len(event["message"]) <= 2000
        assert "FAKE" not in event["message"]
        assert len(event["long"]) == 2000
        assert len(event["many"]) == 50

    def test_it_keeps_the_end_of_a_long_traceback(self):
        try:
            raise ValueError("a" * 20_000 + " the end")
        except ValueError:
            event = event_of(exc_info=sys.exc_info())
        assert len(event["exception"]) <= 8000
        assert event["exception"].endswith("the end")

    def test_it_does_not_let_an_extra_replace_its_own_fields(self):
        event = event_of(time="never", level="NONE", logger="other", exception="made up")
        assert event["level"] == "INFO"
        assert (event["extra_level"], event["extra_exception"]) == ("NONE", "made up")

    def test_it_writes_something_for_values_that_resist(self):
        class Awkward:
            def __str__(self) -> str:
                raise RuntimeError("no")

        deep: list = []
        deep.append(deep)
        event = event_of(
            logging.INFO,
            "%s",
            Awkward(),
            nan=float("nan"),
            inf=float("-inf"),
            huge=10**5000,
            deep=deep,
            odd=Awkward(),
        )
        assert (event["nan"], event["inf"], event["huge"], event["odd"]) == ("nan", "-inf", "<int>", "<Awkward>")
        assert "arguments do not fit" in event["message"]

    def test_it_says_when_the_arguments_do_not_fit(self):
        assert event_of(logging.INFO, "%d of %d", 1)["message"] == "%d of %d [arguments do not fit]"


@given(st.text(alphabet=" _abcdefghijklmnopqrstuvwxyz0123456789", max_size=60))
@example("bearer abcdefghijklmnop")
@example("auth plain agfubmeac2vjcmv0")
@example("basic dxnlcjpwyxnz")
@example("0123456789abcdef0123456789abcdef")
def test_the_short_way_for_plain_words_says_the_same_as_all_rules(text: str) -> None:
    assert redact(text) == Redactor()(text)


@pytest.mark.parametrize(
    "text",
    ["2.0.0 Ok {}", "250 {} queued", "echo of {url}", "payload {b64}", 'json "{json}"'],
    ids=["plain", "amid", "percent", "base64", "json"],
)
def test_known_values_alone_are_masked_in_every_spelling(text: str) -> None:
    secret = 'ya-"fake"/token+with=signs and a blank'
    spelled = text.format(
        secret, url=quote(secret), b64=base64.b64encode(f"user=a\x01auth=Bearer {secret}".encode()).decode(),
        json=json.dumps(secret)[1:-1],
    )  # fmt: skip
    masked = Redactor([secret]).known(spelled)
    assert "***" in masked
    assert "token" not in masked


def test_known_values_alone_leave_the_rest_as_it_is() -> None:
    assert Redactor(["fake-token"]).known("2.6.0 <id@mail> password=other") == "2.6.0 <id@mail> password=other"


def test_a_redactor_does_not_print_what_it_knows() -> None:
    assert "fake-token" not in repr(Redactor(["fake-token"]))
