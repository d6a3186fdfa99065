import socket
import string
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from urllib3.util import parse_url

from security.urls import LONGEST_URL, parse_endpoint_url

ACCEPTED = [
    (
        "https://login.microsoftonline.com/common/oauth2/v2.0/token",
        "https://login.microsoftonline.com/common/oauth2/v2.0/token",
    ),
    ("  https://oauth2.googleapis.com/token \n", "https://oauth2.googleapis.com/token"),
    ("HTTPS://Login.Example.COM", "https://login.example.com/"),
    ("https://login.example.com:443/t", "https://login.example.com/t"),
    ("https://login.example.com:0443/t", "https://login.example.com/t"),
    ("https://localhost:8027/token", "https://localhost:8027/token"),
    ("https://login.example.com./t", "https://login.example.com/t"),
    ("https://login.example.com?p=B2C_1", "https://login.example.com/?p=B2C_1"),
    ("https://login.example.com/t?", "https://login.example.com/t"),
    ("https://login.example.com/%7Euser/a%2fb", "https://login.example.com/~user/a%2Fb"),
    ("https://login.example.com/ä", "https://login.example.com/%C3%A4"),
    ("https://login.example.com/a\u0308", "https://login.example.com/%C3%A4"),
    ("https://bücher.example/t", "https://xn--bcher-kva.example/t"),
    ("https://straße.example/t", "https://xn--strae-oqa.example/t"),
    ("https://8.8.8.8/t", "https://8.8.8.8/t"),
    ("https://[2A00:1450:0:0::1]:8443/t", "https://[2a00:1450::1]:8443/t"),
    ("https://login.example.com/a[b]{c}|^`", "https://login.example.com/a%5Bb%5D%7Bc%7D%7C%5E%60"),
]
REFUSED = [
    ("", "Enter a URL"),
    ("   ", "Enter a URL"),
    ("http://login.example.com/t", "Start the URL with https://"),
    ("login.example.com/t", "Start the URL with https://"),
    ("//login.example.com/t", "Start the URL with https://"),
    ("https:login.example.com", "Start the URL with https://"),
    ("https:/login.example.com", "Start the URL with https://"),
    ("javascript:alert(1)//https://", "Start the URL with https://"),
    ("https://", "Enter a host name"),
    ("https:///token", "Enter a host name"),
    ("https://?x", "Enter a host name"),
    ("https://:443/", "Enter a host name"),
    ("https://user@login.example.com/", "user name and password"),
    ("https://user:pw@login.example.com/", "user name and password"),
    ("https://login.example.com@evil.example/", "user name and password"),
    ("https://login.example.com/#", "Leave out #"),
    ("https://login.example.com/t#frag", "Leave out #"),
    ("https://login.example.com\\@evil.example/", "Use / instead of"),
    ("https://login.example.com/a\\b", "Use / instead of"),
    ("https://login.example.com/a b", "spaces and invisible"),
    ("https://login.exa mple.com/", "spaces and invisible"),
    ("https://login.example.com/a\tb", "spaces and invisible"),
    ("https://login.example.com/a\r\nHost: x", "spaces and invisible"),
    ("https://login.example.com/\x00", "spaces and invisible"),
    ("https://login.example.com/\u202e", "spaces and invisible"),
    ("https://login.example.com/\u2028x", "spaces and invisible"),
    ("https://login.example.com/\ud800", "spaces and invisible"),
    ("https://log\u200bin.example.com/", "spaces and invisible"),
    ("https://login%2eexample.com/", "without % signs"),
    ("https://%6c%6f%63%61lhost/", "without % signs"),
    ("https://[fe80::1%25eth0]/", "without % signs"),
    ("https://login.example.com:0/", "port from 1 to 65535"),
    ("https://login.example.com:65536/", "port from 1 to 65535"),
    ("https://login.example.com:/", "port from 1 to 65535"),
    ("https://login.example.com:+443/", "port from 1 to 65535"),
    ("https://login.example.com:4_43/", "port from 1 to 65535"),
    ("https://login.example.com:٤٤٣/", "port from 1 to 65535"),
    ("https://login.example.com:443:443/", "port from 1 to 65535"),
    ("https://login..example.com/", "as the provider gives it"),
    ("https://-login.example.com/", "as the provider gives it"),
    ("https://login.example.com../", "as the provider gives it"),
    ("https://" + "a" * 64 + ".example/", "as the provider gives it"),
    ("https://" + "a." * 130 + "example/", "as the provider gives it"),
    ("https://login.example.com,evil.example/", "as the provider gives it"),
    ("https://login.example.com;x/", "as the provider gives it"),
    ("https://2130706433/", "as the provider gives it"),
    ("https://0x7f000001/", "as the provider gives it"),
    ("https://127.1/", "as the provider gives it"),
    ("https://0177.0.0.1/", "as the provider gives it"),
    ("https://login.example.com.127/", "as the provider gives it"),
    ("https://ｌｏｃａｌｈｏｓｔ/", "as the provider gives it"),
    ("https://login。example/", "as the provider gives it"),
    ("https://①.example/", "as the provider gives it"),
    ("https://xn--/", "as the provider gives it"),
    ("https://[::1/", "right after https://"),
    ("https://::1/", "Enter a host name"),
    ("https://[::1]x/", "right after https://"),
    ("https://[127.0.0.1]/", "IPv6 address in brackets"),
    ("https://login.example.com/a/../b", "without . and .."),
    ("https://login.example.com/%2e%2E/b", "without . and .."),
    ("https://login.example.com/./b", "without . and .."),
    ("https://login.example.com/%zz", "percent sign"),
    ("https://login.example.com/t?x=100%", "percent sign"),
    ("https://login.example.com/" + "a" * LONGEST_URL, "characters or fewer"),
    ("https://login.example.com/" + "ä" * (LONGEST_URL // 4), "characters or fewer"),
]


@pytest.mark.parametrize(("typed", "kept"), ACCEPTED)
def test_it_keeps_one_spelling(typed, kept):
    assert parse_endpoint_url(typed) == kept


@pytest.mark.parametrize(("typed", "words"), REFUSED, ids=[repr(typed[:40]) for typed, _ in REFUSED])
def test_it_says_what_to_type_instead(typed, words):
    with pytest.raises(ValueError, match=words) as caught:
        parse_endpoint_url(typed)
    said = str(caught.value)
    assert said[0].isupper()
    assert not said.endswith((".", "!"))
    assert said.isprintable()


hosts = st.one_of(
    st.from_regex(r"[a-zA-Z0-9_ä\.-]{1,20}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map("[{}]".format),
    st.text(max_size=10),
)
tails = st.one_of(st.text(string.printable, max_size=30), st.text(max_size=15))


@given(host=hosts, port=st.one_of(st.just(""), st.integers(-1, 70000).map(":{}".format)), tail=tails)
@settings(max_examples=500, deadline=None)
def test_it_is_read_alike_by_everybody_who_reads_it_later(host, port, tail):
    try:
        url = parse_endpoint_url(f"https://{host}{port}/{tail}")
    except ValueError:
        return
    assert parse_endpoint_url(url) == url
    standard, ours = urlsplit(url), parse_url(url)
    assert url.isascii()
    assert (standard.username, standard.password, standard.fragment) == (None, None, "")
    assert (ours.auth, ours.fragment) == (None, None)
    assert standard.hostname == (ours.host or "").strip("[]")
    assert (standard.port or 443) == (ours.port or 443)
    assert ours.url == url
    assert requests.Request("POST", url).prepare().url == url


@given(st.text(max_size=60))
@settings(max_examples=300, deadline=None)
def test_it_answers_any_text_with_a_url_or_an_instruction(text):
    for typed in (text, f"https://{text}"):
        refusal = None
        try:
            url = parse_endpoint_url(typed)
        except ValueError as error:
            refusal, url = error, ""
        # Not one of its subclasses: a UnicodeError would mean that something else than a rule said no.
        assert url.startswith("https://") if refusal is None else type(refusal) is ValueError
        assert "\n" not in str(refusal)


def test_it_leaves_only_hosts_that_resolve_as_they_read():
    # What the C library takes for an IPv4 number must not pass as a name.
    for host in ("1", "0x1", "1.2.3", "00.1", "0xa.0xb", "0x7f.0.0.1"):
        assert socket.inet_aton(host)
        with pytest.raises(ValueError, match="host name"):
            parse_endpoint_url(f"https://{host}/")
