import os
import socket
import ssl
import threading
import time

import pytest

from security import outbound
from security.outbound import Address, AllowRule, Blocked, Door
from tests.fakes.certs import make_ca
from tests.security.conftest import answer, resolve_to

PUBLIC = "8.8.8.8"


def door(*answers: str, allow: str = "", **options) -> Door:
    return Door(AllowRule.parse_list(allow), resolve=resolve_to(*answers), **options)


class TestResolve:
    def test_it_returns_the_checked_answers_in_order(self):
        found = door("2a00:1450::1", PUBLIC, PUBLIC).resolve("mail.example", 587, timeout_s=5)
        assert found == [
            Address(socket.AF_INET6, ("2a00:1450::1", 587, 0, 0), "2a00:1450::1"),
            Address(socket.AF_INET, (PUBLIC, 587), PUBLIC),
        ]

    @pytest.mark.parametrize(
        "bad", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "64:ff9b::a00:1"]
    )
    @pytest.mark.parametrize("others", [(), (PUBLIC,)], ids=["alone", "behind a good one"])
    def test_it_refuses_when_any_answer_is_bad(self, others, bad):
        with pytest.raises(Blocked):
            door(*others, bad).resolve("mail.example", 587, timeout_s=5)

    @pytest.mark.parametrize(
        "host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433", "017700000001", "[::1]", "::1", "0"]
    )
    def test_it_sees_through_every_spelling_of_this_machine(self, host):
        with pytest.raises(Blocked):
            Door().resolve(host, 587, timeout_s=5)

    def test_it_lets_through_what_a_host_rule_opens(self):
        assert door("10.0.0.1", allow="mail.corp.example:25").resolve("mail.corp.example", 25, timeout_s=5)

    @pytest.mark.parametrize(("host", "port"), [("mail.corp.example", 26), ("other.corp.example", 25)])
    def test_it_opens_no_more_than_the_host_rule_says(self, host, port):
        with pytest.raises(Blocked):
            door("10.0.0.1", allow="mail.corp.example:25").resolve(host, port, timeout_s=5)

    def test_it_judges_each_answer_by_itself_under_a_network_rule(self):
        assert door("10.0.0.1", PUBLIC, allow="10.0.0.0/8:25").resolve("relay", 25, timeout_s=5)
        with pytest.raises(Blocked):
            door("10.0.0.1", "192.168.0.1", allow="10.0.0.0/8:25").resolve("relay", 25, timeout_s=5)

    def test_it_names_host_and_port_but_no_address_and_no_kind(self):
        with pytest.raises(Blocked) as caught:
            door("10.9.8.7").resolve("intranet.example", 587, timeout_s=5)
        assert "intranet.example:587" in str(caught.value)
        assert "10.9.8.7" not in str(caught.value)
        assert "private" not in str(caught.value)

    def test_it_tells_the_operator_the_kind_in_the_log(self, caplog):
        with pytest.raises(Blocked):
            door("10.9.8.7").resolve("intranet.example", 587, timeout_s=5)
        assert [(record.host, record.port, record.kind) for record in caplog.records] == [
            ("intranet.example", 587, "private")
        ]

    def test_it_waits_no_longer_than_told_for_a_resolver_that_hangs(self):
        ended = threading.Event()

        def hang(*_: object, **__: object) -> list[object]:
            ended.wait(10)
            return []

        started = time.monotonic()
        try:
            with pytest.raises(TimeoutError, match="timed out"):
                Door(resolve=hang).resolve("mail.example", 587, timeout_s=0.2)
            assert time.monotonic() - started < 2
        finally:
            ended.set()

    def test_it_passes_the_resolvers_own_words_on(self):
        def fail(*_: object, **__: object) -> list[object]:
            raise socket.gaierror(-3, "Temporary failure in name resolution")

        with pytest.raises(socket.gaierror, match=r"\[Errno -3\] Temporary failure"):
            Door(resolve=fail).resolve("mail.example", 587, timeout_s=5)

    @pytest.mark.parametrize("host", ["a..example", "x" * 64 + ".example", "ä" * 64 + ".example"])
    def test_it_reports_names_that_cannot_be_asked_for_in_the_codecs_words(self, host):
        with pytest.raises(socket.gaierror, match=r"'idna' codec|label empty or too long|label too long"):
            Door().resolve(host, 587, timeout_s=5)

    @pytest.mark.parametrize("host", ["mail\x00.example", "mail\ud800.example"])
    def test_it_reports_impossible_names_as_such(self, host):
        with pytest.raises(socket.gaierror):
            Door().resolve(host, 587, timeout_s=5)

    def test_it_reports_no_usable_answer_as_an_unknown_name(self):
        with pytest.raises(socket.gaierror, match="Name or service not known"):
            door().resolve("mail.example", 587, timeout_s=5)


class TestConnect:
    def test_it_reaches_an_allowed_peer(self, serve):
        peer = serve(answer(), tls=False)
        with door("127.0.0.1", allow=f"mail.example:{peer.port}").connect(
            "mail.example", peer.port, timeout_s=5
        ) as sock:
            assert sock.getpeername() == ("127.0.0.1", peer.port)
            assert 0 < sock.gettimeout() <= 5
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    def test_it_dials_the_judged_address_even_if_the_name_has_moved_since(self, serve):
        peer = serve(answer(), tls=False, host="127.0.0.2")
        asked = []

        def rebind(host: str, port: int, *_: object, **__: object) -> list[object]:
            asked.append(host)
            return resolve_to("127.0.0.2" if len(asked) == 1 else "127.0.0.1")(host, port)

        rebinding = Door([AllowRule.parse(f"127.0.0.2:{peer.port}")], resolve=rebind)
        addresses = rebinding.resolve("mail.example", peer.port, timeout_s=5)
        with rebinding.connect("mail.example", peer.port, timeout_s=5, addresses=addresses) as sock:
            assert sock.getpeername()[0] == "127.0.0.2"
        assert len(asked) == 1
        with pytest.raises(Blocked):
            rebinding.connect("mail.example", peer.port, timeout_s=5)

    def test_it_judges_handed_in_addresses_too(self, serve):
        peer = serve(answer(), tls=False)
        forged = [Address(socket.AF_INET, ("127.0.0.1", peer.port), PUBLIC)]
        with pytest.raises(Blocked):
            Door().connect("mail.example", peer.port, timeout_s=5, addresses=forged)
        assert peer.connections == 0

    def test_it_refuses_in_the_same_words_whether_or_not_something_listens(self, serve, closed_port):
        peer = serve(answer(), tls=False)
        said = set()
        for port in (peer.port, closed_port):
            with pytest.raises(Blocked) as caught:
                door("127.0.0.1").connect("mail.example", port, timeout_s=5)
            said.add(str(caught.value).replace(str(port), "PORT"))
        assert len(said) == 1
        assert peer.connections == 0

    def test_it_tries_the_next_address_when_one_refuses(self, serve):
        peer = serve(answer(), tls=False, host="127.0.0.2")
        both = door("127.0.0.3", "127.0.0.2", allow=f"127.0.0.0/8:{peer.port}")
        with both.connect("mail.example", peer.port, timeout_s=5) as sock:
            assert sock.getpeername()[0] == "127.0.0.2"

    def test_it_leaves_time_for_the_next_address_when_one_swallows_packets(self, serve):
        # A full backlog: the kernel answers nothing to further connections.
        with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
            silent.bind(("127.0.0.3", 0))
            silent.listen(0)
            port = silent.getsockname()[1]
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.3", port))
            with socket.create_server(("127.0.0.2", port)):
                both = door("127.0.0.3", "127.0.0.2", allow=f"127.0.0.0/8:{port}")
                started = time.monotonic()
                with both.connect("mail.example", port, timeout_s=2) as sock:
                    assert sock.getpeername()[0] == "127.0.0.2"
                assert time.monotonic() - started < 2

    def test_it_gives_up_in_time_on_a_peer_that_swallows_packets(self):
        with socket.socket() as silent, socket.socket() as first, socket.socket() as second:
            silent.bind(("127.0.0.1", 0))
            silent.listen(0)
            port = silent.getsockname()[1]
            for filler in (first, second):
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            started = time.monotonic()
            with pytest.raises(TimeoutError, match="timed out"):
                door("127.0.0.1", allow=f"127.0.0.1:{port}").connect("mail.example", port, timeout_s=0.3)
            assert time.monotonic() - started < 2

    def test_it_says_when_nothing_listens(self, closed_port):
        with pytest.raises(ConnectionRefusedError, match=r"Errno 111\]|Errno 61\]"):
            door("127.0.0.1", allow=f"127.0.0.1:{closed_port}").connect("mail.example", closed_port, timeout_s=5)

    def test_it_prefers_the_error_that_says_more(self, closed_port):
        # There is no way to a broadcast address by TCP; the refusal of the other one is what helps.
        both = door("127.0.0.1", "127.255.255.255", allow=f"127.0.0.0/8:{closed_port}")
        with pytest.raises(OSError, match="refused"):
            both.connect("mail.example", closed_port, timeout_s=2)


class TestTLS:
    def test_it_verifies_names_and_old_versions_are_off(self):
        context = Door().tls_context
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.check_hostname
        assert context.minimum_version is ssl.TLSVersion.TLSv1_2

    def test_it_trusts_somebody_without_a_setting(self):
        context = Door().tls_context
        directory = ssl.get_default_verify_paths().capath
        assert context.cert_store_stats()["x509_ca"] or os.listdir(directory)

    def test_it_takes_the_authorities_of_requests_where_the_system_has_none(self, monkeypatch):
        monkeypatch.setattr(outbound, "_has_system_trust", lambda context: False)
        context = outbound._new_context.__wrapped__(None, None)
        assert context.cert_store_stats()["x509_ca"] > 50

    def test_it_adds_the_extra_authority_to_the_others(self, ca):
        plain = {cert["serialNumber"] for cert in Door().tls_context.get_ca_certs()}
        extended = {cert["serialNumber"] for cert in Door(ca_file=ca.cert_file).tls_context.get_ca_certs()}
        assert plain < extended
        assert int(next(iter(extended - plain)), 16) == ca.cert.serial_number

    def test_it_keeps_one_context_per_setting(self, ca, tmp_path):
        assert Door().tls_context is Door().tls_context
        assert Door(ca_file=ca.cert_file).tls_context is Door(ca_file=ca.cert_file).tls_context
        assert Door(ca_file=ca.cert_file).tls_context is not Door().tls_context
        assert Door(ca_file=make_ca(tmp_path).cert_file).tls_context is not Door(ca_file=ca.cert_file).tls_context

    def test_it_does_not_start_with_a_file_that_holds_no_certificates(self, empty_file, tmp_path):
        for path in (empty_file, str(tmp_path / "missing.pem"), str(tmp_path)):
            with pytest.raises(ValueError, match="cannot be read as PEM") as caught:
                Door(ca_file=path)
            assert path in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "proxy.example:3128",
        "https://proxy.example:3128",
        "socks5://proxy.example:1080",
        "http://",
        "http://user:FAKE-pw@:3128",
        "http://user:FAKE-pw@proxy.example:99999",
        "http://user:FAKE-pw@proxy.example:3128/path",
        "http://user:FAKE-pw@[proxy:3128",
    ],
)
def test_it_refuses_a_proxy_it_cannot_use_without_quoting_the_password(url):
    with pytest.raises(ValueError, match="token proxy") as caught:
        Door(token_proxy=url)
    assert "FAKE-pw" not in str(caught.value)
