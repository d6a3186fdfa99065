"""The domain check against a real name server on loopback: the verdict as a whole, and a network that fails."""

from __future__ import annotations

import time

import pytest

from mail.domain.check import Sender, check
from mail.domain.dns import Asker, Status
from mail.domain.findings import Verdict
from mail.domain.limit import AT_ONCE, PER_MINUTE, TooManyChecks, Turnstile
from tests.fakes.dns import NameServer
from tests.mail.domain.zones import (
    BOTH,
    CLASSIC,
    GOOD,
    GOOGLE,
    MICROSOFT,
    OUTLOOK,
    WORLD,
    Ask,
    D,
    asking,
    part,
    spf,
    words,
)
from tests.patience import SOON_S


@pytest.fixture
def ask() -> Ask:
    return asking()


# --- The verdict as a whole


def test_a_domain_in_order_is_set_up_for_its_provider(ask: Ask) -> None:
    report = ask()
    assert (report.verdict, report.headline) == (Verdict.OK, f"Mail from {D} is set up for Microsoft 365")
    assert {finding.verdict for finding in report.findings} == {Verdict.OK}


def test_it_counts_what_is_to_mend(ask: Ask) -> None:
    report = ask(spf("v=spf1 -all"), without=(f"_dmarc.{D}",))
    assert (report.verdict, report.headline) == (Verdict.MEND, f"2 things to mend for {D}")
    assert "SPF and DMARC need a change" in report.sentence


def test_a_domain_that_does_not_exist_is_told_alone(ask: Ask) -> None:
    report = ask(address="orders@nowhere.example")
    assert (report.verdict, report.findings) == (Verdict.MEND, ())
    assert "does not exist" in report.headline


@pytest.mark.parametrize("domain", ["intranet.local", "shop.internal", "printer.localhost"])
def test_names_of_private_networks_are_not_asked_for(ask: Ask, domain: str) -> None:
    report = ask(address=f"orders@{domain}")
    assert "not a domain of the internet" in report.headline
    assert ask.asked == [0]  # type: ignore[attr-defined]


def test_an_international_domain_is_looked_up_by_its_ascii_name(ask: Ask) -> None:
    report = ask({"xn--bcher-kva.example": {"TXT": [f"v=spf1 include:{OUTLOOK} -all"]}}, address="a@bücher.example")
    assert (report.domain, report.name) == ("bücher.example", "xn--bcher-kva.example")
    assert part(report, "SPF").verdict is Verdict.OK
    assert part(report, "DMARC").publish[0].name == "_dmarc.xn--bcher-kva.example"


def test_the_sandbox_needs_nothing(ask: Ask) -> None:
    assert ask(by=("sandbox", "localhost")).verdict is Verdict.OK
    assert ask.asked == [0]  # type: ignore[attr-defined]


# --- Domains of providers


@pytest.mark.parametrize(
    ("address", "by", "verdict", "said"),
    [
        ("shop@gmail.com", GOOGLE, Verdict.OK, "nothing to do"),
        ("shop@outlook.com", MICROSOFT, Verdict.OK, "nothing to do"),
        ("shop@hotmail.co.uk", MICROSOFT, Verdict.OK, "nothing to do"),
        ("shop@acme.onmicrosoft.com", MICROSOFT, Verdict.OK, "nothing to do"),
        ("shop@yahoo.de", ("", "smtp.mail.yahoo.com"), Verdict.OK, "nothing to do"),
        ("shop@gmail.com", MICROSOFT, Verdict.MEND, "Microsoft 365 sends"),
        ("shop@yahoo.com", CLASSIC, Verdict.MEND, "mail.host.example.net sends"),
    ],
    ids=["gmail", "outlook", "hotmail", "onmicrosoft", "yahoo", "gmail-by-microsoft", "yahoo-by-own-server"],
)
def test_a_domain_that_a_provider_keeps(
    ask: Ask, address: str, by: tuple[str, str], verdict: Verdict, said: str
) -> None:
    report = ask(address=address, by=by)
    assert (report.verdict, said in report.headline) == (verdict, True)
    assert ask.asked == [0]  # type: ignore[attr-defined]


def test_onmicrosoft_addresses_come_with_their_cap(ask: Ask) -> None:
    report = ask(address="shop@acme.onmicrosoft.com")
    assert "100 external recipients" in words(part(report, "Domain"))


# --- A network that does not play along


def test_a_silent_name_server_is_no_fault_of_the_domain(ask: Ask) -> None:
    started = time.monotonic()
    report = ask(faults={"*": "silent"}, patience_s=0.3)
    assert (report.verdict, report.findings) == (Verdict.UNKNOWN, ())
    assert "could not be reached" in report.headline
    assert time.monotonic() - started < SOON_S


@pytest.mark.parametrize("fault", ["servfail", "refused"])
def test_a_name_server_that_fails_for_every_name_is_not_reachable(ask: Ask, fault: str) -> None:
    assert "could not be reached" in ask(faults={"*": fault}).headline


def test_a_name_server_that_knows_no_name_at_all_is_not_reachable(ask: Ask) -> None:
    report = ask(address="a@nowhere.example", without=("com", *(name for name in WORLD if name.endswith(".com"))))
    assert (report.verdict, "could not be reached" in report.headline) == (Verdict.UNKNOWN, True)


def test_servfail_of_the_domain_is_told_apart(ask: Ask) -> None:
    report = ask(faults={D: "servfail"})
    assert (report.verdict, "SERVFAIL" in report.sentence) == (Verdict.UNKNOWN, True)


def test_nobody_listening_is_not_reachable() -> None:
    with NameServer({}) as server:
        servers = server.servers
    report = check(Sender(f"a@{D}", *MICROSOFT), Asker(servers, patience_s=0.3))
    assert "could not be reached" in report.headline


def test_one_silent_part_leaves_the_others_judged(ask: Ask) -> None:
    report = ask(faults={f"_dmarc.{D}": "silent"}, patience_s=0.3)
    assert [finding.verdict for finding in report.findings] == [Verdict.OK, Verdict.OK, Verdict.UNKNOWN]
    assert report.headline == f"DMARC of {D} could not be judged"


def test_an_include_that_fails_makes_spf_unknown_and_not_wrong(ask: Ask) -> None:
    finding = part(ask(spf("v=spf1 include:x.example -all"), faults={"x.example": "servfail"}), "SPF")
    assert finding.verdict is Verdict.UNKNOWN


def test_answers_too_long_for_udp_are_asked_for_again_over_tcp() -> None:
    zone = {D: {"TXT": [f"{n:0200}" for n in range(30)] + ["v=spf1 -all"]}}
    with NameServer(zone) as server:
        reply = Asker(server.servers).ask(D)
        assert (D, "TXT", True) in server.asked
    assert "v=spf1 -all" in reply.texts


def test_a_server_that_cuts_every_answer_is_asked_over_tcp(ask: Ask) -> None:
    assert ask(faults={"*": "truncated"}).verdict is Verdict.OK


def test_missing_and_empty_names_are_told_apart() -> None:
    with NameServer(GOOD) as server:
        asker = Asker(server.servers)
        assert asker.ask(f"_domainkey.{D}").status is Status.EMPTY
        assert asker.ask(f"nothing.{D}").status is Status.MISSING
        assert asker.ask("x" * 64 + ".example").status is Status.NO_NAME


def test_a_check_ends_by_its_deadline(ask: Ask) -> None:
    faults = dict.fromkeys((*BOTH, f"_dmarc.{D}", f"_domainkey.{D}", OUTLOOK), "silent")
    started = time.monotonic()
    report = ask(faults=faults, deadline_s=0.8)
    assert time.monotonic() - started < SOON_S
    assert report.verdict is Verdict.UNKNOWN


def test_a_zone_that_never_ends_is_left(ask: Ask) -> None:
    """Each record includes ten more: the questions run out before the zone does."""
    zone = {
        f"n{i}.{D}": {"TXT": ["v=spf1 " + "".join(f"include:n{i * 10 + j}.{D} " for j in range(10))]}
        for i in range(200)
    }
    report = ask(zone | spf(f"v=spf1 include:n1.{D} -all"), queries_max=60)
    assert ask.asked[0] <= 60  # type: ignore[attr-defined]
    assert "only 10 are allowed" in words(part(report, "SPF"))


def test_a_tree_of_includes_for_one_address_is_left(ask: Ask) -> None:
    names = [f"t{i}.{D}" for i in range(8)]
    tree = "v=spf1 " + " ".join(f"include:{name}" for name in names * 20)
    started = time.monotonic()
    ask({name: {"TXT": [tree]} for name in names} | spf(tree), CLASSIC)
    assert time.monotonic() - started < SOON_S


def test_hostile_texts_stay_texts(ask: Ask) -> None:
    report = ask(spf("v=spf1 <script>\x00\x1b[31m\xff -all"))
    [(_, text)] = part(report, "SPF").found
    assert text.isprintable()


# --- How often


def test_a_person_may_check_a_few_times_a_minute() -> None:
    now = [0.0]
    turnstile = Turnstile(now=lambda: now[0])
    for _ in range(PER_MINUTE):
        with turnstile.turn(1):
            pass
    with pytest.raises(TooManyChecks) as caught, turnstile.turn(1):
        pass
    assert 0 < caught.value.wait_s <= 61
    with turnstile.turn(2):
        pass
    now[0] = 61
    with turnstile.turn(1):
        pass


def test_only_a_few_checks_run_at_the_same_time() -> None:
    turnstile = Turnstile()
    entered = [turnstile.turn(person) for person in range(AT_ONCE)]
    for turn in entered:
        turn.__enter__()
    with pytest.raises(TooManyChecks), turnstile.turn(99):
        pass
    entered[0].__exit__(None, None, None)
    with turnstile.turn(99):
        pass
    entered[1].__exit__(None, None, None)
