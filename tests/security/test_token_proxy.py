"""Token calls through STOREPOST_TOKEN_PROXY: a tunnel, judged by name, with the certificate checked end to end."""

import re
import select
import socket
import time

import pytest

from security.outbound import AllowRule, Blocked, Door
from tests.security.conftest import FIELDS, answer, drip, failure_of, read_request

# The patterns of the rows of errors.csv that these failures have to be recognised by.
NOT_TRUSTED = r"HTTPSConnectionPool.*CERTIFICATE_VERIFY_FAILED"
PROXY = r"ProxyError|Unable to connect to proxy|Tunnel connection failed"
TIMED_OUT = r"HTTPSConnectionPool.*(?:timed out|Timeout)|ConnectTimeout|ReadTimeout"


def tunnel_to(port: int, seen: list[bytes]):
    """Return the script of a proxy that tunnels every CONNECT to 127.0.0.1:port."""

    def play(connection, peer):
        seen.append(read_request(connection))
        with socket.create_connection(("127.0.0.1", port), 5) as far:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            ends = {connection: far, far: connection}
            while not peer.stopping.is_set():
                for ready in select.select(list(ends), [], [], 0.05)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    ends[ready].sendall(data)

    return play


class TestTokenProxy:
    @pytest.fixture
    def door_through(self, ca):
        def make(proxy, **options) -> Door:
            url = f"http://user:FAKE-proxy-pw@127.0.0.1:{proxy.port}"
            return Door(ca_file=ca.cert_file, token_proxy=url, **options)

        return make

    def test_it_tunnels_to_the_named_host_and_still_checks_the_certificate(self, serve, door_through):
        peer, seen = serve(answer()), []
        proxy = serve(tunnel_to(peer.port, seen), tls=False)
        assert door_through(proxy).post_form(f"https://token.example:{peer.port}/t", FIELDS).status == 200
        assert seen[0].startswith(f"CONNECT token.example:{peer.port} HTTP/1.".encode())
        assert b"Proxy-Authorization: Basic " in seen[0]
        assert b"proxy-authorization" not in peer.requests[0].lower()
        assert b"FAKE" not in seen[0]

    def test_it_refuses_a_certificate_for_another_name_behind_the_proxy(self, serve, door_through):
        peer = serve(answer())
        proxy = serve(tunnel_to(peer.port, []), tls=False)
        text = failure_of(lambda: door_through(proxy).post_form("https://other.example/t", FIELDS))
        assert re.search(NOT_TRUSTED, text)
        assert peer.requests == []

    @pytest.mark.parametrize(
        "url",
        ["https://127.0.0.1/", "https://[::1]/", "https://10.0.0.1/", "https://localhost/", "https://x.internal/"],
    )
    def test_it_judges_names_and_literals_before_the_proxy_sees_them(self, serve, door_through, url):
        proxy = serve(answer(), tls=False)
        with pytest.raises(Blocked):
            door_through(proxy).post_form(url, FIELDS)
        assert proxy.connections == 0

    def test_it_asks_the_proxy_for_a_name_that_the_operator_opened(self, serve, door_through):
        peer, seen = serve(answer()), []
        proxy = serve(tunnel_to(peer.port, seen), tls=False)
        door = door_through(proxy, allow=[AllowRule.parse(f"localhost:{peer.port}")])
        assert door.post_form(f"https://localhost:{peer.port}/t", FIELDS).status == 200

    def test_it_uses_the_proxy_for_token_calls_only(self, serve, door_through):
        peer, proxy = serve(answer(), tls=False), serve(answer(), tls=False)
        door = door_through(proxy, allow=[AllowRule.parse(f"127.0.0.1:{peer.port}")])
        with door.connect("127.0.0.1", peer.port, timeout_s=5) as sock:
            assert sock.getpeername()[1] == peer.port

    @pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
    def test_it_reports_a_proxy_that_refuses(self, serve, door_through, status):
        proxy = serve(answer(status, b""), tls=False)
        text = failure_of(lambda: door_through(proxy).post_form("https://token.example/t", FIELDS))
        assert re.search(PROXY, text)

    def test_it_reports_a_proxy_that_is_not_there(self, closed_port):
        door = Door(token_proxy=f"http://user:FAKE-proxy-pw@127.0.0.1:{closed_port}")
        assert re.search(PROXY, failure_of(lambda: door.post_form("https://token.example/t", FIELDS)))

    @pytest.mark.parametrize("script", [drip(b"", b"H"), drip(b"HTTP/1.1 200 OK\r\n", b"X-A: b\r\n")])
    def test_it_ends_in_time_however_slowly_the_proxy_drips(self, serve, door_through, script):
        proxy = serve(script, tls=False)
        started = time.monotonic()
        text = failure_of(lambda: door_through(proxy).post_form("https://token.example/t", FIELDS, deadline_s=0.5))
        assert time.monotonic() - started < 2
        assert re.search(f"{PROXY}|{TIMED_OUT}", text)
