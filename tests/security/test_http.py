"""The token call of security.md 43 against real https servers: what it sends, what it refuses, when it gives up."""

import base64
import re
import ssl
import time
import warnings
from urllib.parse import parse_qsl

import pytest

from security.outbound import AllowRule, AnswerTooLarge, Blocked, Door
from tests.fakes.certs import make_ca, make_server_cert
from tests.patience import SOON_S
from tests.security.conftest import FIELDS, answer, drip, failure_of, read_request, resolve_to

# The patterns of the rows of errors.csv that a token call has to be recognised by.
UNKNOWN_NAME = r"NameResolutionError|Failed to resolve '"
NOT_TRUSTED = r"HTTPSConnectionPool.*CERTIFICATE_VERIFY_FAILED"
PLAIN_HTTP = r"HTTPSConnectionPool.*(?:WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE)"
TIMED_OUT = r"HTTPSConnectionPool.*(?:timed out|Timeout)|ConnectTimeout|ReadTimeout"
UNREACHABLE = r"HTTPSConnectionPool.*(?:NewConnectionError|refused|unreachable)|RemoteDisconnected|Connection aborted"
OLD_TLS = r"ALERT_PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|unsupported protocol|NO_PROTOCOLS_AVAILABLE"


def url_of(peer, host="token.example") -> str:
    return f"https://{host}:{peer.port}/oauth2/token"


class TestRequest:
    def test_it_posts_the_fields_as_a_form(self, serve, door_to):
        peer = serve(answer("200 OK", b'{"access_token": "x"}', "Content-Type: application/json"))
        got = door_to(peer).post_form(url_of(peer), FIELDS)
        assert (got.status, got.body) == (200, b'{"access_token": "x"}')
        assert got.headers["content-TYPE"] == "application/json"
        assert 0 < got.elapsed_ms < 5000
        head, _, body = peer.requests[0].partition(b"\r\n\r\n")
        assert head.startswith(b"POST /oauth2/token HTTP/1.1\r\n")
        assert parse_qsl(body.decode()) == FIELDS

    def test_it_sends_the_headers_of_a_careful_client(self, serve, door_to):
        peer = serve(answer())
        door_to(peer).post_form(url_of(peer), FIELDS, headers={"X-Own": "1", "Accept-Encoding": "gzip"})
        lines = {line.lower() for line in peer.requests[0].partition(b"\r\n\r\n")[0].split(b"\r\n")}
        assert {
            b"accept: application/json",
            b"accept-encoding: identity",
            b"content-type: application/x-www-form-urlencoded",
            b"connection: close",
            b"x-own: 1",
            f"host: token.example:{peer.port}".encode(),
        } <= lines
        assert not any(line.startswith((b"cookie", b"authorization")) for line in lines)

    def test_it_form_encodes_id_and_secret_before_joining_them(self, serve, door_to):
        peer = serve(answer())
        door_to(peer).post_form(url_of(peer), FIELDS, auth_basic=("id:1", "FAKE secret%ä"))
        sent = re.search(rb"Authorization: Basic (\S+)", peer.requests[0])
        assert sent is not None
        assert base64.b64decode(sent[1]) == b"id%3A1:FAKE+secret%25%C3%A4"

    def test_it_ignores_the_proxies_and_the_netrc_of_the_environment(self, serve, door_to, monkeypatch, tmp_path):
        netrc = tmp_path / "netrc"
        netrc.write_text("machine token.example login FAKE password FAKE\n")
        monkeypatch.setenv("NETRC", str(netrc))
        for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(netrc))
        peer = serve(answer())
        assert door_to(peer).post_form(url_of(peer), FIELDS).status == 200
        assert b"authorization" not in peer.requests[0].lower()

    @pytest.mark.parametrize(
        ("options", "fields"),
        [
            ({"headers": {"X-Own": "FAKE\r\nInjected: 1"}}, FIELDS),
            ({"auth_basic": ("id", "FAKE\ud800")}, FIELDS),
            ({}, [("refresh_token", "FAKE\ud800")]),
        ],
    )
    def test_it_refuses_what_cannot_be_sent_without_quoting_it(self, serve, door_to, options, fields):
        peer = serve(answer())
        with pytest.raises(ValueError, match="of the request") as caught:
            door_to(peer).post_form(url_of(peer), fields, **options)
        assert "FAKE" not in str(caught.value)
        assert caught.value.__suppress_context__
        assert peer.connections == 0

    @pytest.mark.parametrize(
        "url", ["http://token.example/", "https://u:FAKE@token.example/", "https://token.example/#x"]
    )
    def test_it_calls_no_url_that_the_form_would_refuse(self, url):
        with pytest.raises(ValueError, match=r"https://|Leave out") as caught:
            Door(resolve=resolve_to("8.8.8.8")).post_form(url, FIELDS)
        assert "FAKE" not in str(caught.value)


class TestAnswer:
    @pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary", "308 Permanent"])
    def test_it_returns_a_redirect_and_does_not_follow_it(self, serve, door_to, status):
        other = serve(answer())
        peer = serve(answer(status, b"", f"Location: {url_of(other)}"))
        got = door_to(peer).post_form(url_of(peer), FIELDS)
        assert got.status == int(status[:3])
        assert (peer.connections, other.connections) == (1, 0)

    @pytest.mark.parametrize(
        "status", ["400 Bad Request", "401 Unauthorized", "429 Slow down", "500 Oops", "503 Later"]
    )
    def test_it_returns_errors_with_their_body_after_one_try(self, serve, door_to, status):
        peer = serve(answer(status, b'{"error": "invalid_grant"}', "Retry-After: 7"))
        got = door_to(peer).post_form(url_of(peer), FIELDS)
        assert (got.status, got.body, got.headers["retry-after"]) == (
            int(status[:3]),
            b'{"error": "invalid_grant"}',
            "7",
        )
        assert peer.connections == 1

    def test_it_reads_a_chunked_body(self, serve, door_to):
        peer = serve(answer("200 OK", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "Transfer-Encoding: chunked"))
        assert door_to(peer).post_form(url_of(peer), FIELDS).body == b"abcde"

    def test_it_leaves_a_compressed_body_packed(self, serve, door_to):
        peer = serve(answer("200 OK", b"\x1f\x8bnot really", "Content-Encoding: gzip"))
        assert door_to(peer).post_form(url_of(peer), FIELDS).body == b"\x1f\x8bnot really"

    def test_it_takes_an_answer_of_exactly_the_limit(self, serve, door_to):
        peer = serve(answer("200 OK", b"x" * 65536))
        assert len(door_to(peer).post_form(url_of(peer), FIELDS).body) == 65536

    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(answer("200 OK", b"x" * 65537), id="announced"),
            pytest.param(answer("200 OK", b"", "Content-Length: 99999999999999999999999"), id="announced, absurd"),
            pytest.param(drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 20000, 0), id="until closed"),
            pytest.param(
                drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"4e20\r\n" + b"x" * 20000 + b"\r\n", 0),
                id="chunked",
            ),
            pytest.param(answer("302 Found", b"x" * 65537, "Location: https://token.example/"), id="redirect"),
        ],
    )
    def test_it_refuses_an_answer_over_the_limit(self, serve, door_to, script):
        peer = serve(script)
        with pytest.raises(AnswerTooLarge, match="larger than 65536 bytes") as caught:
            door_to(peer).post_form(url_of(peer), FIELDS)
        assert caught.value.request is None

    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(answer("200 OK", b"short", "Content-Length: 100"), id="body cut"),
            pytest.param(answer("200 OK", b"5\r\nab", "Transfer-Encoding: chunked"), id="chunk cut"),
            pytest.param(lambda connection, peer: read_request(connection), id="no answer"),
            pytest.param(drip(b"220 mail.example ESMTP\r\n", b"500 what\r\n"), id="not http"),
            pytest.param(drip(b"HTTP/5.5 200 ESMTP\r\n\r\n", b"500 what\r\n"), id="another http"),
            pytest.param(answer("200 OK", b"ESMTP\r\nab\r\n", "Transfer-Encoding: chunked"), id="chunk without a size"),
        ],
    )
    def test_it_reports_a_broken_answer_as_a_broken_connection_without_quoting_it(self, serve, door_to, script):
        peer = serve(script)
        text = failure_of(lambda: door_to(peer).post_form(url_of(peer), FIELDS))
        assert re.search(UNREACHABLE, text)
        assert "ESMTP" not in text
        assert "5.5" not in text


class TestDeadline:
    @pytest.mark.parametrize(
        "script",
        [
            pytest.param(drip(b"", b""), id="silence"),
            pytest.param(drip(b"", b"H"), id="status line"),
            pytest.param(drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n"), id="headers"),
            pytest.param(drip(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"), id="continue"),
            pytest.param(drip(b"HTTP/1.1 200 OK\r\n\r\n", b"x"), id="body until closed"),
            pytest.param(drip(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", b"x"), id="body with length"),
            pytest.param(drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"), id="chunks"),
            pytest.param(drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"0"), id="a chunk's size"),
        ],
    )
    def test_it_ends_in_time_however_slowly_the_answer_drips(self, serve, door_to, script):
        peer = serve(script)
        started = time.monotonic()
        text = failure_of(lambda: door_to(peer).post_form(url_of(peer), FIELDS, deadline_s=0.5))
        assert 0.4 < time.monotonic() - started < SOON_S
        assert re.search(TIMED_OUT, text)

    def test_it_ends_in_time_when_the_handshake_hangs(self, serve, door_to):
        peer = serve(lambda connection, peer: peer.stopping.wait(30), tls=False)
        started = time.monotonic()
        text = failure_of(lambda: door_to(peer).post_form(url_of(peer), FIELDS, deadline_s=0.4))
        assert time.monotonic() - started < SOON_S
        assert re.search(TIMED_OUT, text)

    def test_it_ends_in_time_when_the_handshake_drips(self, serve, door_to):
        def play(connection, peer):
            connection.recv(4096)
            connection.sendall(b"\x16\x03\x03\x10\x00")
            for _ in range(1000):
                if peer.stopping.wait(0.05):
                    return
                connection.sendall(b"\x02")

        peer = serve(play, tls=False)
        started = time.monotonic()
        text = failure_of(lambda: door_to(peer).post_form(url_of(peer), FIELDS, deadline_s=0.5))
        assert time.monotonic() - started < SOON_S
        assert re.search(TIMED_OUT, text)

    def test_it_ends_in_time_when_nobody_reads_what_it_sends(self, serve, door_to):
        peer = serve(lambda connection, peer: peer.stopping.wait(30))
        started = time.monotonic()
        failure_of(lambda: door_to(peer).post_form(url_of(peer), [("x", "y" * 20_000_000)], deadline_s=0.6))
        assert time.monotonic() - started < SOON_S

    def test_it_counts_the_resolver_into_the_deadline(self, serve, door_to):
        peer = serve(drip(b"", b""))

        def slow(*arguments, **options):
            time.sleep(0.8)
            return resolve_to("127.0.0.1")(*arguments, **options)

        took_s = []
        for _ in range(3):
            started = time.monotonic()
            failure_of(lambda: door_to(peer, resolve=slow).post_form(url_of(peer), FIELDS, deadline_s=1))
            took_s.append(time.monotonic() - started)
            if took_s[-1] < 1.6:
                break  # A machine that stands still only makes it longer.
        # Counted apart it would be 1.8 seconds each time.
        assert 0.9 < min(took_s) < 1.6


class TestTrouble:
    def test_it_does_not_call_a_blocked_address(self, serve, ca):
        peer = serve(answer())
        with pytest.raises(Blocked):
            Door(ca_file=ca.cert_file, resolve=resolve_to("127.0.0.1")).post_form(url_of(peer), FIELDS)
        assert peer.connections == 0

    def test_it_reports_an_unknown_name(self, ca):
        text = failure_of(lambda: Door(resolve=resolve_to()).post_form("https://token.example/", FIELDS))
        assert re.search(UNKNOWN_NAME, text)

    def test_it_reports_a_resolver_that_hangs_as_a_timeout(self):
        def hang(*_, **__):
            time.sleep(0.5)
            return []

        text = failure_of(lambda: Door(resolve=hang).post_form("https://token.example/", FIELDS, deadline_s=0.2))
        assert re.search(TIMED_OUT, text)

    def test_it_reports_that_nothing_listens(self, closed_port):
        door = Door([AllowRule.parse(f"token.example:{closed_port}")], resolve=resolve_to("127.0.0.1"))
        text = failure_of(lambda: door.post_form(f"https://token.example:{closed_port}/", FIELDS))
        assert re.search(UNREACHABLE, text)

    @pytest.mark.parametrize("kind", ["unknown authority", "expired", "another name", "address"])
    def test_it_speaks_to_verified_servers_only(self, serve, door_to, ca, tmp_path, kind):
        cert = {
            "unknown authority": lambda: make_server_cert(make_ca(tmp_path), ["token.example"]),
            "expired": lambda: make_server_cert(ca, ["token.example"], expired=True),
            "another name": lambda: make_server_cert(ca, ["other.example"], []),
            "address": lambda: make_server_cert(ca, [], ["127.0.0.1"]),
        }[kind]()
        peer = serve(answer(), cert=cert)
        text = failure_of(lambda: door_to(peer).post_form(url_of(peer), FIELDS))
        assert re.search(NOT_TRUSTED, text)
        assert peer.requests == []

    def test_it_still_demands_the_certificate_after_the_checks_of_others(self, serve, door_to, ca):
        # urllib3 writes into the context that it is given; the kept one must stay strict.
        peer = serve(answer())
        door = door_to(peer)
        door.post_form(url_of(peer), FIELDS)
        before = len(door.tls_context.get_ca_certs())
        door.post_form(url_of(peer), FIELDS)
        assert (door.tls_context.verify_mode, door.tls_context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert len(door.tls_context.get_ca_certs()) == before

    def test_it_names_the_host_in_the_handshake_and_not_the_address(self, certificate, door_to, serve):
        seen = []
        context = certificate.server_context()
        context.sni_callback = lambda sock, name, _: seen.append(name)

        def play(connection, peer):
            with context.wrap_socket(connection, server_side=True) as wrapped:
                answer()(wrapped, peer)

        peer = serve(play, tls=False)
        assert door_to(peer).post_form(url_of(peer), FIELDS).status == 200
        assert seen == ["token.example"]

    def test_it_recognises_a_server_without_tls(self, serve, door_to):
        peer = serve(lambda connection, peer: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"), tls=False)
        text = failure_of(lambda: door_to(peer).post_form(url_of(peer), FIELDS))
        assert re.search(PLAIN_HTTP, text)

    def test_it_does_not_speak_old_tls(self, certificate, door_to, serve):
        context = certificate.server_context()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # the server is old on purpose
            context.minimum_version = ssl.TLSVersion.TLSv1
            context.maximum_version = ssl.TLSVersion.TLSv1_1
        context.set_ciphers("ALL:@SECLEVEL=0")

        def play(connection, peer):
            context.wrap_socket(connection, server_side=True).close()

        peer = serve(play, tls=False)
        text = failure_of(lambda: door_to(peer).post_form(url_of(peer), FIELDS))
        assert re.search(OLD_TLS, text)
