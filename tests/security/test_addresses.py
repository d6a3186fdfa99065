import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from security.addresses import AllowRule, is_allowed, why_not_public, why_not_public_name

BAD = [
    ("0.0.0.0", "unspecified"),
    ("0.1.2.3", "unspecified"),
    ("127.0.0.1", "loopback"),
    ("127.255.255.254", "loopback"),
    ("10.0.0.1", "private"),
    ("172.16.0.1", "private"),
    ("172.31.255.255", "private"),
    ("192.168.1.1", "private"),
    ("100.64.0.1", "shared"),
    ("100.127.255.255", "shared"),
    ("169.254.169.254", "link-local"),
    ("192.0.2.1", "documentation"),
    ("198.51.100.7", "documentation"),
    ("203.0.113.9", "documentation"),
    ("198.18.0.1", "benchmarking"),
    ("198.19.255.255", "benchmarking"),
    ("224.0.0.1", "multicast"),
    ("239.255.255.250", "multicast"),
    ("192.0.0.8", "reserved"),
    ("192.88.99.1", "reserved"),
    ("240.0.0.1", "reserved"),
    ("255.255.255.255", "reserved"),
    ("::", "unspecified"),
    ("::1", "loopback"),
    ("fc00::1", "private"),
    ("fd12:3456:789a::1", "private"),
    ("fec0::1", "private"),
    ("fe80::1", "link-local"),
    ("fe80::1%eth0", "link-local"),
    ("ff02::1", "multicast"),
    ("2001:db8::1", "documentation"),
    ("3fff::1", "documentation"),
    ("2001:2::1", "benchmarking"),
    ("100::1", "reserved"),
    ("5f00::1", "reserved"),
    ("4000::1", "reserved"),
    # IPv4 inside: mapped, compatible, 6to4, Teredo, NAT64, NAT64 for local use, ISATAP.
    ("::ffff:127.0.0.1", "loopback"),
    ("::ffff:10.1.2.3", "private"),
    ("::ffff:169.254.169.254", "link-local"),
    ("::127.0.0.1", "reserved"),
    ("::10.0.0.1", "reserved"),
    ("2002:7f00:1::", "loopback"),
    ("2002:0a00:0001::1", "private"),
    ("2002:a9fe:a9fe::", "link-local"),
    ("2001:0:4136:e378:8000:63bf:80ff:fffe", "reserved"),
    ("64:ff9b::127.0.0.1", "loopback"),
    ("64:ff9b::a00:1", "private"),
    ("64:ff9b::169.254.169.254", "link-local"),
    ("64:ff9b:1::8.8.8.8", "reserved"),
    ("64:ff9b:1:7f00:0:100::", "reserved"),
    ("2a00:1450::5efe:10.0.0.1", "private"),
    ("2a00:1450::200:5efe:127.0.0.1", "loopback"),
    # Not an address at all.
    ("", "unreadable"),
    ("localhost", "unreadable"),
    ("0x7f000001", "unreadable"),
]
GOOD = [
    "8.8.8.8",
    "40.99.150.2",
    "172.15.255.255",
    "172.32.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "2603:1026:c0a::2",
    "2a00:1450:4001:82f::200e",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
    "2002:808:808::1",
    "2a00:1450::5efe:8.8.8.8",
]


@pytest.mark.parametrize(("address", "kind"), BAD, ids=[address or "empty" for address, _ in BAD])
def test_it_tells_what_is_not_public(address, kind):
    assert why_not_public(address) == kind


@pytest.mark.parametrize("address", GOOD)
def test_it_lets_public_addresses_pass(address):
    assert why_not_public(address) is None


@given(st.ip_addresses())
@settings(max_examples=400, deadline=None)
def test_it_is_never_laxer_than_the_standard_library(ip):
    embeds = isinstance(ip, ipaddress.IPv6Address) and ip in ipaddress.ip_network("64:ff9b::/96")
    if (not ip.is_global and not embeds) or ip.is_multicast:
        assert why_not_public(ip) is not None


@given(st.ip_addresses(v=4))
@settings(max_examples=200, deadline=None)
def test_it_judges_every_embedding_at_least_as_hard_as_the_address_inside(v4):
    number = int(v4)
    embeddings = [
        (0xFFFF << 32) | number,
        number,
        (0x2002 << 112) | (number << 80),
        (0x0064FF9B << 96) | number,
        (0x0064FF9B0001 << 80) | number,
        (0x2A001450 << 96) | (0x5EFE << 32) | number,
    ]
    if why_not_public(v4) is not None:
        assert all(why_not_public(ipaddress.IPv6Address(embedding)) is not None for embedding in embeddings)


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "0x7f.1",
        "2130706433",
        "017700000001",
        "[::1]",
        "::ffff:127.0.0.1",
        "10.0.0.1",
        "localhost",
        "LOCALHOST.",
        "a.localhost",
        "printer.local",
        "metadata.google.internal",
        "router.home.arpa",
        "intranet",
        "a b",
        "",
        ".",
        "a\x00.example.com",
        "ä\ud800",
    ],
)
def test_it_refuses_names_that_cannot_be_public_without_asking(host):
    assert why_not_public_name(host) is not None


@pytest.mark.parametrize(
    "host", ["login.microsoftonline.com", "8.8.8.8", "[2a00:1450::1]", "xn--bcher-kva.example.org"]
)
def test_it_lets_other_names_pass_to_the_proxy(host):
    assert why_not_public_name(host) is None


class TestAllowRule:
    @pytest.mark.parametrize(
        ("text", "host", "address", "port", "allowed"),
        [
            ("127.0.0.1:8027", "anything", "127.0.0.1", 8027, True),
            ("127.0.0.1:8027", "anything", "127.0.0.1", 8028, False),
            ("127.0.0.1:8027", "127.0.0.1", "127.0.0.2", 8027, False),
            ("127.0.0.1:8027", "anything", "::ffff:127.0.0.1", 8027, True),
            ("10.0.0.0/8:25", "relay", "10.9.8.7", 25, True),
            ("10.0.0.0/8:25", "relay", "11.0.0.1", 25, False),
            ("10.0.0.0/8:*", "relay", "10.9.8.7", 65535, True),
            ("[fd00::/8]:25", "relay", "fd00::9", 25, True),
            ("[fd00::]/8:25", "relay", "fd00::9", 25, True),
            ("[::1]:8587", "localhost", "::1", 8587, True),
            ("[::1]:8587", "localhost", "127.0.0.1", 8587, False),
            ("mail.corp.example:587,465", "mail.corp.example", "10.0.0.1", 465, True),
            ("mail.corp.example:587,465", "MAIL.corp.example.", "10.0.0.1", 587, True),
            ("mail.corp.example:587,465", "mail.corp.example", "10.0.0.1", 25, False),
            ("mail.corp.example:587", "xmail.corp.example", "10.0.0.1", 587, False),
            ("mail.corp.example:587", "sub.mail.corp.example", "10.0.0.1", 587, False),
            ("Mail.Corp.Example:587", "mail.corp.example", None, 587, True),
            ("10.0.0.0/8:25", "10.1.1.1", None, 25, True),
            ("10.0.0.0/8:25", "relay", None, 25, False),
        ],
    )
    def test_it_opens_what_it_says_and_no_more(self, text, host, address, port, allowed):
        assert AllowRule.parse(text).allows(host, address, port) is allowed

    def test_it_reads_lists_with_commas_blanks_and_more_ports(self):
        rules = AllowRule.parse_list(" mail.corp.example:587,465, 10.0.0.0/8:25\n[::1]:8027 ")
        assert [(rule.host or str(rule.network), rule.ports) for rule in rules] == [
            ("mail.corp.example", {587, 465}),
            ("10.0.0.0/8", {25}),
            ("::1/128", {8027}),
        ]
        assert is_allowed(rules, "mail.corp.example", "192.168.0.9", 465)
        assert not is_allowed(rules, "mail.corp.example", "192.168.0.9", 25)

    def test_it_reads_an_empty_list_as_no_openings(self):
        assert AllowRule.parse_list(" \n") == []

    @pytest.mark.parametrize(
        "text",
        [
            "mail.example",
            "10.0.0.0/8",
            ":25",
            "mail.example:",
            "mail.example:0",
            "mail.example:65536",
            "mail.example:+25",
            "mail.example:٢٥",
            "::1:25",
            "fd00::/8:25",
            "[fd00::/8:25",
            "[mail.example]:25",
            "10.0.0.1/8:25",
            "10.0.0.0/33:25",
            "*:25",
            "*.example:25",
            "https://mail.example:25",
            "mail..example:25",
            "25",
        ],
    )
    def test_it_refuses_in_a_sentence_what_it_does_not_understand(self, text):
        with pytest.raises(ValueError, match="“") as caught:
            AllowRule.parse_list(text)
        assert "\n" not in str(caught.value)
