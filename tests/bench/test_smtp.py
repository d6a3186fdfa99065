"""The SMTP benchmark measures what it says: the sink judges, the road delays, every client delivers."""

from __future__ import annotations

import smtplib
import socket
import time
from collections.abc import Iterator

import pytest

from bench import smtp_messages, smtp_report
from bench.__main__ import with_sections
from bench.processes import Failed
from bench.smtp import SCENES, Figures, Results, Scene, SmtpBench
from bench.smtp_sink import OFFERS, Counts, Sink

MESSAGES = smtp_messages.make()
ENVELOPE = b"MAIL FROM:<a@shop.example> SIZE=5120\r\nRCPT TO:<b@mail.example>\r\n"
PYTHON_CLIENTS = ["ours", "ours-8", "smtplib", "smtplib-each", "aiosmtplib"]


@pytest.fixture
def counts() -> Counts:
    return Counts(expected=frozenset(MESSAGES))


@pytest.fixture(scope="module")
def bench() -> Iterator[SmtpBench]:
    with SmtpBench() as running:
        yield running


def _signed_in(offer: str, counts: Counts) -> Sink:
    sink = Sink(OFFERS[offer], counts)
    assert b"334" in sink.feed(b"EHLO shop.example\r\n") + sink.feed(b"AUTH XOAUTH2\r\n")
    assert sink.feed(b"dG9rZW4=\r\n").startswith(b"235")
    return sink


def _codes(replies: bytes) -> list[int]:
    return [int(line[:3]) for line in replies.splitlines()]


def _chunked(message: bytes) -> bytes:
    return ENVELOPE + b"BDAT %d LAST\r\n" % len(message) + message


def test_the_messages_are_5_kb_differ_and_need_dot_stuffing() -> None:
    assert {len(message) for message in MESSAGES} == {smtp_messages.MESSAGE_BYTES}
    assert len(set(MESSAGES)) == smtp_messages.DIFFERENT
    assert all(b"\r\n." in message and message.endswith(b"\r\n") for message in MESSAGES)


def test_the_sink_takes_groups_with_chunks_resets_and_further_messages_in_one_read(counts: Counts) -> None:
    group = _chunked(MESSAGES[0]) + ENVELOPE + b"RSET\r\n" + _chunked(MESSAGES[1])
    assert _codes(_signed_in("full", counts).feed(group)) == [250] * 9
    assert (counts.messages, counts.damaged, counts.violations) == (2, 0, 0)


def test_the_sink_takes_the_same_bytes_one_at_a_time(counts: Counts) -> None:
    sink = _signed_in("full", counts)
    replies = b"".join(sink.feed(bytes([octet])) for octet in _chunked(MESSAGES[0]))
    assert _codes(replies) == [250] * 3
    assert counts.messages == 1


def test_the_sink_reads_a_refused_chunk_to_its_end(counts: Counts) -> None:
    refused = b"BDAT %d LAST\r\n" % len(MESSAGES[0]) + MESSAGES[0]
    assert _codes(_signed_in("full", counts).feed(refused + b"NOOP\r\n")) == [503, 250]
    assert counts.messages == 0


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_the_sink_undoes_doubled_dots(counts: Counts, step: int) -> None:
    sink = _signed_in("full", counts)
    assert _codes(sink.feed(ENVELOPE + b"DATA\r\n")) == [250, 250, 354]
    block = MESSAGES[0].replace(b"\r\n.", b"\r\n..") + b".\r\n"
    replies = b"".join(sink.feed(block[start : start + step]) for start in range(0, len(block), step))
    assert _codes(replies) == [250]
    assert (counts.messages, counts.damaged) == (1, 0)


def test_the_sink_notices_a_message_that_lost_something(counts: Counts) -> None:
    assert _codes(_signed_in("full", counts).feed(_chunked(MESSAGES[0][:-2]))) == [250, 250, 554]
    assert (counts.messages, counts.damaged) == (0, 1)


@pytest.mark.parametrize("offer", ["pipelining", "plain"])
def test_the_sink_notices_what_it_did_not_offer(counts: Counts, offer: str) -> None:
    _signed_in(offer, counts).feed(_chunked(MESSAGES[0]))
    assert counts.violations > 0


def test_the_sink_wants_a_sign_in_before_a_message(counts: Counts) -> None:
    assert _codes(Sink(OFFERS["full"], counts).feed(ENVELOPE))[0] == 530


def test_the_sink_upgrades_to_tls(bench: SmtpBench) -> None:
    with smtplib.SMTP("127.0.0.1", bench.ports["starttls"], local_hostname="localhost", timeout=5) as server:
        server.starttls()
        server.ehlo()
        assert server.has_extn("AUTH")
        assert not server.has_extn("STARTTLS")


@pytest.mark.parametrize("client", PYTHON_CLIENTS)
def test_every_client_delivers_its_messages_undamaged(bench: SmtpBench, client: str) -> None:
    runner = bench.start(client, Scene("near", "full", False, ()))
    try:
        rate, cpu_ms = bench.run_checked(runner, 20)
    finally:
        runner.close()
    assert rate > 0
    assert cpu_ms > 0


@pytest.mark.parametrize("offer", ["pipelining", "plain"])
def test_ours_keeps_to_what_is_offered(bench: SmtpBench, offer: str) -> None:
    runner = bench.start("ours", Scene("near", offer, False, ()))
    try:
        bench.run_checked(runner, 20)
    finally:
        runner.close()


def test_a_client_that_cannot_run_says_why(bench: SmtpBench) -> None:
    with pytest.raises(Failed, match="invalid choice"):
        bench.start("nobody", Scene("near", "full", False, ()))


def test_the_road_takes_its_time_and_keeps_the_order(bench: SmtpBench) -> None:
    with (
        socket.create_connection(("127.0.0.1", bench.far_ports["full"]), timeout=5) as sock,
        sock.makefile("rb") as lines,
    ):
        assert lines.readline().startswith(b"220")
        began = time.perf_counter()
        # The pause makes two packets; they may not overtake each other.
        sock.sendall(b"HELO shop.example\r\n")
        time.sleep(0.005)
        sock.sendall(b"BDAT 3 LAST\r\n...NOOP\r\n")
        codes = [lines.readline()[:3]]
        assert time.perf_counter() - began >= 0.04
        codes += [lines.readline()[:3], lines.readline()[:3]]
        assert time.perf_counter() - began >= 0.045
    assert codes == [b"250", b"503", b"250"]


def test_the_report_judges_every_budget() -> None:
    results = Results(rounds=1, cores=2, sink={"messages": 1, "damaged": 0, "violations": 0})
    for scene in SCENES:
        results.figures[scene.key] = {client: Figures([10.0], [1.0]) for client in scene.clients}
    results.figures["near"]["ours"] = Figures([50.0], [0.2])
    del results.figures["far"]["nodemailer"]
    report = "\n".join(smtp_report.section(results))
    assert "| 0 ms, 1 in flight: × smtplib kept open | ≥ 4 | 5.00 | reached |" in report
    assert "| 0 ms, 1 in flight: CPU × smtplib kept open | ≤ 0.25 | 0.20 | reached |" in report
    assert "| 40 ms, 1 in flight: × smtplib kept open | ≥ 3.8 | 1.00 | **not reached** |" in report
    assert "| 40 ms, 1 in flight: × Nodemailer | ≥ 2 | – | not measured: no nodemailer |" in report


def test_the_document_keeps_the_sections_that_were_not_measured() -> None:
    old = (
        "# Benchmarks\n\nold words\n\n## Later part\n\nkept too\n\n## Pages (5 rounds)\n\n| kept |\n\n## SMTP\n\nold\n"
    )
    new = with_sections(old, {"SMTP": ["## SMTP", "", "fresh"]})
    assert new.index("## Pages (5 rounds)\n\n| kept |\n") < new.index("## SMTP\n\nfresh") < new.index("## Later part")
    assert "old" not in new
    assert with_sections(new, {}) == new
