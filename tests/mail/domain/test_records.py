"""SPF, DKIM and DMARC records as texts: what they say, and what is said about those that break a rule."""

from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mail.domain.records import dmarc_records, parse_dkim, parse_dmarc, parse_spf, spf_records


def packed_key(bits: int, form: PublicFormat = PublicFormat.SubjectPublicKeyInfo) -> str:
    # Short keys are made by a number that is none: only their length counts here.
    numbers = rsa.RSAPublicNumbers(65537, (1 << (bits - 1)) + 1)
    return base64.b64encode(numbers.public_key().public_bytes(Encoding.DER, form)).decode()


@pytest.mark.parametrize(
    ("texts", "number"),
    [
        (["v=spf1 -all"], 1),
        (["V=SPF1 -all"], 1),
        (["v=spf1"], 1),
        (["v=spf10 -all"], 0),
        (["v=spf1\t-all"], 0),
        (["google-site-verification=x", "v=spf1 a", "v=spf1 mx"], 2),
        (["spf2.0/pra -all"], 0),
    ],
    ids=["plain", "capitals", "empty", "ten", "tab", "two", "sender-id"],
)
def test_it_finds_spf_records(texts: list[str], number: int) -> None:
    assert len(spf_records(texts)) == number


@pytest.mark.parametrize(
    ("words", "kinds"),
    [
        ("ip4:192.0.2.1 ip4:198.51.100.0/24 -all", ["ip4", "ip4", "all"]),
        ("ip6:2001:db8::/32 ~all", ["ip6", "all"]),
        ("a mx a:mail.acme.example/28 mx/24//64 ?all", ["a", "mx", "a", "mx", "all"]),
        ("include:_spf.google.com. redirect=_spf.acme.example", ["include", "redirect"]),
        ("exists:%{i}._spf.%{d} exp=why.acme.example x-other=1 -all", ["exists", "exp", "x-other", "all"]),
        ("INCLUDE:SPF.Acme.Example -ALL", ["include", "all"]),
    ],
    ids=["ip4", "ip6", "hosts", "redirect", "macros", "capitals"],
)
def test_it_reads_spf_terms(words: str, kinds: list[str]) -> None:
    record = parse_spf(f"v=spf1 {words}")
    assert ([term.kind for term in record.terms], record.errors) == (kinds, ())


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("ip4:192.0.2.999", "no IPv4 address"),
        ("ip4=192.0.2.1", "needs a colon"),
        ("ip6:192.0.2.1", "no IPv6 address"),
        ("include:", "lacks the name"),
        ("include", "lacks the name"),
        ("include:localhost", "names no domain"),
        ("include:a..b", "names no domain"),
        ("include=spf.acme.example", "needs a colon"),
        ("a/33", "network length"),
        ("mx//129", "network length"),
        ("all:x", "nothing may follow"),
        ("inlcude:spf.acme.example", "no word that SPF knows"),
        ("include:aninclude:b.example", "names no domain"),
        ("\ufffd", "no word that SPF knows"),
        ("<script>", "no word that SPF knows"),
        ("redirect=", "names no domain"),
        ("redirect=a.example redirect=b.example", "more than once"),
    ],
    ids=lambda value: None if " " in str(value) and not str(value).startswith("redirect") else ascii(value),
)
def test_it_says_what_is_wrong_with_an_spf_word(word: str, said: str) -> None:
    [error] = parse_spf(f"v=spf1 {word} -all").errors
    assert said in error


def test_an_spf_record_ends_at_all() -> None:
    record = parse_spf("v=spf1 a ~all include:late.example redirect=other.example")
    assert [term.kind for term in record.effective] == ["a", "all"]


def test_an_endless_spf_record_is_read_to_a_limit() -> None:
    assert len(parse_spf("v=spf1 " + "a " * 5000).terms) == 200


@pytest.mark.parametrize("bits", [1024, 2048, 4096])
@pytest.mark.parametrize("form", [PublicFormat.SubjectPublicKeyInfo, PublicFormat.PKCS1], ids=["spki", "pkcs1"])
def test_it_measures_an_rsa_key(bits: int, form: PublicFormat) -> None:
    key = parse_dkim(f"v=DKIM1; k=rsa; p={packed_key(bits, form)}")
    assert (key.bits, key.errors, key.is_revoked) == (bits, (), False)


def test_it_reads_an_ed25519_key() -> None:
    raw = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    key = parse_dkim(f"v=DKIM1; k=ed25519; p={base64.b64encode(raw).decode()}")
    assert (key.kind, key.bits, key.errors) == ("ed25519", None, ())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("v=DKIM2; p=AAAA", "DKIM1"),
        ("p=AAAA; v=DKIM1", "stand first"),
        ("v=DKIM1; k=rsa", "no “p=”"),
        ("v=DKIM1; p=!!!", "damaged"),
        ("v=DKIM1; p=AAAA", "damaged"),
        ("v=DKIM1; k=ed25519; p=AAAA", "damaged"),
        ("v=DKIM1; k=dsa; p=AAAA", "no kind of key"),
        ("v=DKIM1; s=tlsrpt; p=", "leaves out email"),
        ("v=DKIM1; h=sha1; p=", "sha256"),
        ("v=DKIM1; nonsense; p=", "no “name=value”"),
        ("v=DKIM1; p=; p=", "more than once"),
    ],
    ids=["version", "order", "no-key", "no-base64", "no-rsa", "no-ed25519", "kind", "service", "hash", "tag", "twice"],
)
def test_it_says_what_is_wrong_with_a_key(text: str, said: str) -> None:
    assert any(said in error for error in parse_dkim(text).errors)


def test_a_withdrawn_key_and_a_test_key_are_told() -> None:
    assert parse_dkim("v=DKIM1; p=").is_revoked
    assert parse_dkim("v=DKIM1; t=y:s; p=").is_testing


def test_blanks_inside_a_key_do_not_matter() -> None:
    key = packed_key(2048)
    assert parse_dkim(f"v=DKIM1; p={key[:100]} {key[100:]}").bits == 2048


@pytest.mark.parametrize(
    ("text", "policy", "sub"),
    [
        ("v=DMARC1; p=reject", "reject", "reject"),
        ("v=DMARC1;p=Quarantine;sp=none", "quarantine", "none"),
        ("v=DMARC1; p=none; pct=50; rua=mailto:a@b.example!10m,mailto:c@d.example", "none", "none"),
    ],
    ids=["reject", "subdomains", "reports"],
)
def test_it_reads_a_policy(text: str, policy: str, sub: str) -> None:
    record = parse_dmarc(text)
    assert (record.policy, record.subdomain_policy, record.errors) == (policy, sub, ())


@pytest.mark.parametrize(
    ("tags", "said"),
    [
        ("p=rejct", "is no policy"),
        ("sp=reject", "no “p=”"),
        ("p=none; pct=101", "no number"),
        ("p=none; rua=dmarc@acme.example", "no address like"),
        ("p=none; adkim=x", "r or s"),
        ("p=none; sp=maybe", "is no policy"),
        ("p=none rua=mailto:a@b.example", "is no policy"),
    ],
    ids=["typing-error", "missing", "percent", "address", "alignment", "subdomains", "no-semicolon"],
)
def test_it_says_what_is_wrong_with_a_policy(tags: str, said: str) -> None:
    assert any(said in error for error in parse_dmarc(f"v=DMARC1; {tags}").errors)


def test_only_texts_that_begin_with_the_version_are_policies() -> None:
    assert dmarc_records(["v=DMARC1; p=none", "p=none; v=DMARC1", "v=dmarc1; p=none", "v=DMARC12; p=none"]) == [
        "v=DMARC1; p=none"
    ]
