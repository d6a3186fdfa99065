"""The delivery benchmarks measure what they say: the sink remembers, the reports judge, ours runs from outside."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from bench import accepting, deep, delivery, delivery_report, engine, faults, scale
from bench.delivery_sides import Took
from bench.figures import Figures, at_least, at_most, percentile
from bench.http_load import exchange
from bench.installation import Installation
from bench.processes import Child, Failed, Program, cpu_s, forget_peak, memory_bytes, wait_for
from bench.recording_sink import SIGNED, Desk, Log, RecordingSink, Window, message_id

MAIL = b"From: a@shop.example\r\nMessage-ID: <one@shop.example>\r\n\r\nHello\r\n"


@pytest.fixture
def sink() -> Iterator[Child]:
    with Child.module("bench.recording_sink") as running:
        yield running


# The sink -----------------------------------------------------------------------------------------------------------


def _say(sink: RecordingSink, *mails: bytes) -> bytes:
    replies = sink.feed(b"EHLO shop.example\r\nAUTH XOAUTH2 dG9rZW4=\r\n")
    for mail in mails:
        replies = sink.feed(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\nBDAT %d LAST\r\n" % len(mail) + mail)
    return replies


def test_the_sink_tells_when_each_message_came_and_which_it_was() -> None:
    log = Log()
    before = time.monotonic()
    assert b"250 2.0.0" in _say(RecordingSink(SIGNED, log), MAIL, MAIL.replace(b"one@", b"two@"))
    assert [identity for _, identity in log.arrivals] == ["one@shop.example", "two@shop.example"]
    counts = Desk(log).answer("counts")
    assert before <= counts["first_at"] <= counts["last_at"] <= time.monotonic()
    assert counts["messages"] == 2
    assert Desk(log).answer("reset")["messages"] == 0


def test_the_sink_waits_for_as_many_as_are_asked_for() -> None:
    log = Log()
    late = threading.Timer(0.1, lambda: _say(RecordingSink(SIGNED, log), MAIL, MAIL))
    late.start()
    assert Desk(log).answer("wait 2 5")["messages"] == 2
    late.join()
    assert Desk(log).answer("wait 3 0.01")["messages"] == 2


def test_a_strict_sink_answers_421_beyond_its_limit_and_hangs_up() -> None:
    log = Log()
    strict = RecordingSink(SIGNED, log, window=Window(1, 60))
    assert _say(strict, MAIL, MAIL).endswith(b"421 4.4.2 Too many messages, come back later\r\n")
    assert strict.wants == "close"
    assert (len(log.arrivals), log.throttled) == (1, 1)


def test_a_window_slides() -> None:
    window = Window(2, 60)
    answers = [window.takes_one(at) for at in (0.0, 30.0, 59.9, 60.0, 60.1, 90.0)]
    assert answers == [True, True, False, True, False, True]


@pytest.mark.parametrize(
    ("head", "expected"),
    [(b"message-id: <x@y>\r\n\r\n", "x@y"), (b"Message-ID:\r\n <x@y>\r\n\r\n", "x@y"), (b"Subject: none\r\n\r\n", "")],
)
def test_the_message_id_is_found_as_it_is_written(head: bytes, expected: str) -> None:
    assert message_id(head) == expected


# Processes ----------------------------------------------------------------------------------------------------------


def test_the_cpu_of_a_process_has_that_of_its_children_in_it() -> None:
    work = "import subprocess, sys, time; subprocess.run([sys.executable, '-c', 'sum(range(9000000))']); time.sleep(60)"
    before = cpu_s(os.getpid())
    with Program([sys.executable, "-c", work]) as busy:
        wait_for(lambda: cpu_s(busy.pid) > 0.1, timeout_s=20, words="the child did not work")
        assert cpu_s(os.getpid()) >= before + 0.1


def test_the_peak_of_memory_can_be_measured_anew() -> None:
    block = bytearray(60_000_000)
    assert memory_bytes(os.getpid(), peak=True) > len(block)
    del block
    now = memory_bytes(os.getpid())
    forget_peak(os.getpid())
    assert memory_bytes(os.getpid(), peak=True) < now + 30_000_000


def test_a_program_that_was_stopped_can_still_be_ended() -> None:
    program = Program([sys.executable, "-c", "import time; time.sleep(60)"])
    program.signal(signal.SIGSTOP)
    began = time.monotonic()
    program.close()
    assert not program.is_running
    assert time.monotonic() - began < 10


def test_waiting_ends_with_words() -> None:
    with pytest.raises(Failed, match="the moon: not within 0 s"):
        wait_for(lambda: False, timeout_s=0, words="the moon")


@pytest.mark.parametrize("pieces", [1, 7])
def test_an_exchange_reads_the_whole_answer(pieces: int) -> None:
    answer = b"HTTP/1.1 202 ACCEPTED\r\nContent-Length: 4\r\n\r\nwell"
    here, there = socket.socketpair()
    with here, there:

        def serve() -> None:
            for _ in range(2):
                assert there.recv(100)
                for start in range(0, len(answer), pieces):
                    there.sendall(answer[start : start + pieces])

        server = threading.Thread(target=serve)
        server.start()
        assert [exchange(here, b"GET /\r\n\r\n") for _ in range(2)] == [202, 202]
        server.join()


# Figures and what they say ------------------------------------------------------------------------------------------


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(number) for number in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.5, 0.99, 1.0)] == [1, 50, 99, 100]
    assert percentile([7.0], 0.99) == 7


def test_budgets_are_judged_in_their_own_direction() -> None:
    def missing() -> float:
        raise KeyError("huey")

    assert at_least("more", 2, lambda: 2.0) == "| more | ≥ 2 | 2.00 | reached |"
    assert at_least("more", 2, lambda: 1.9) == "| more | ≥ 2 | 1.90 | **not reached** |"
    assert at_most("less", 2, lambda: 1.9) == "| less | ≤ 2 | 1.90 | reached |"
    assert at_most("less", 2, lambda: 2.1) == "| less | ≤ 2 | 2.10 | **not reached** |"
    assert at_most("less", 2, missing) == "| less | ≤ 2 | – | not measured: no huey |"


def _measured(accept_s: float, deliver_s: float, cpu_s: float) -> delivery.Measured:
    measured = delivery.Measured()
    for _ in range(3):
        delivery.note(measured, 100, Took(accept_s, cpu_s), Took(deliver_s, cpu_s))
    return measured


def test_the_delivery_report_compares_within_the_same_database_and_distance() -> None:
    results = delivery.Results(rounds=3, messages=100)
    near = results.figures["near"]
    near["ours sqlite 1"], near["django sqlite 1"] = _measured(1, 1, 0.1), _measured(2, 4, 0.5)
    near["nodemailer 1"] = _measured(0, 1, 0.1)
    results.missing["celery redis 1, near"] = "Redis is not installed"
    report = "\n".join(delivery_report.section(results))
    assert report.startswith("## Delivery (3 alternating rounds")
    assert "| Storepost | SQLite | 1 | 100 | 100 | 50 | 1.00 | 2.00 |" in report
    assert "| Nodemailer, pooled, from memory | memory | 1 | – | 100 | – | 1.00 | – |" in report
    assert "| 0 ms, SQLite: × django-post_office | ≥ 3 | 4.00 | reached |" in report
    assert "| CPU, both, SQLite: × django-post_office | ≤ 0.45 | 0.20 | reached |" in report
    assert "× a Celery task each | ≥ 5 | – | not measured: no celery redis 1 |" in report
    assert "Not measured: celery redis 1, near (Redis is not installed)." in report


def test_the_nudge_is_what_telling_adds_against_the_bare_insert() -> None:
    # 1 ms bare, 2 ms with all we do, 2.19 ms with a nudge.
    figures = {"bare": Figures([1000.0]), "quiet": Figures([500.0]), "nudged": Figures([1000 / 2.19])}
    assert accepting.nudge_share(figures) == pytest.approx(0.19)
    results = accepting.Results(rounds=1, messages=1, inside={"sqlite": figures}, memory=[3.0, 3.9])
    report = "\n".join(accepting.section(results))
    assert "| In process, SQLite: the nudge, × bare insert | ≤ 0.2 | 0.19 | reached |" in report
    assert "| Memory for an attachment of 25 MB, × its size | ≤ 4 | 3.90 | reached |" in report
    assert "| In process, PostgreSQL: the nudge, × bare insert | ≤ 0.3 | – | not measured: no postgresql |" in report


def test_the_engine_report_takes_the_rows_of_the_same_database() -> None:
    results = engine.Results(rounds=1, messages=1)
    rates = {"ours sqlite": 600.0, "huey sqlite": 100.0, "ours postgresql": 100.0, "huey postgresql": 100.0}
    results.drained = {key: Figures([rate], [1.0]) for key, rate in rates.items()}
    results.picked_up["redis"], results.idle["redis"] = [0.010] * 98 + [0.020] * 2, 0.005
    report = "\n".join(engine.section(results))
    assert "| Drain: × Huey on SQLite, rows in SQLite | ≥ 5 | 6.00 | reached |" in report
    assert "| Drain: × Huey on PostgreSQL, rows in PostgreSQL | ≥ 5 | 1.00 | **not reached** |" in report
    assert "| PostgreSQL, nudges by Redis | 10 | 20 | 0.5 % |" in report


def test_arrivals_tell_the_lost_and_the_doubled_that_nobody_was_told_of() -> None:
    arrivals = [(float(at), f"{uid}@shop.example") for at, uid in enumerate(["a", "b", "b", "c", "c", "c", "old"])]
    assert faults.judge_arrivals(["a", "b", "c", "d"], arrivals, {"b"}) == {"lost": 1, "doubled": 3, "unmarked": 1}


def test_a_messages_first_delivery_after_an_event_is_one_accepted_after_it() -> None:
    committed, arrived = {"before": 9.0, "after": 11.0, "never": 12.0}, {"before": 10.5, "after": 13.0}
    assert faults.first_after(10.0, committed, arrived) == 3.0
    assert faults.first_after(12.5, committed, arrived) == float("inf")


def test_the_pace_is_what_was_used_of_the_limit() -> None:
    perfect = [(float(60 * (number // 30)), "") for number in range(90)]
    assert faults.pace_of(perfect, 0).share == 1.0
    slower = [(at * 1.25, identity) for at, identity in perfect]
    assert faults.pace_of(slower, 2) == faults.Pace(2, 0.8)
    assert faults.pace_of(perfect[:45], 0).share == 0.5


def test_the_faults_report_judges_what_was_found() -> None:
    results = faults.Results(paces={1: faults.Pace(0, 0.98), 2: faults.Pace(3, 0.5)})
    results.crashes["sqlite"] = faults.Crashes(10, 1000, lost=0, doubled=15, unmarked=0, recovered_s=6.5)
    report = "\n".join(faults.section(results))
    assert "| Kills, SQLite: doubles per kill and message in flight | ≤ 1 | 0.50 | reached |" in report
    assert "| Provider’s limit, processes: 1: share used | ≥ 0.97 | 0.98 | reached |" in report
    assert "| Provider’s limit, processes: 2: throttling replies | ≤ 0 | 3.00 | **not reached** |" in report
    assert "| Broker: messages not accepted | ≤ 0 | – | not measured: no Redis |" in report


def test_stores_are_told_apart_by_their_domain_and_compared_place_by_place() -> None:
    arrivals = [(11.0, "1@a.example"), (12.0, "2@a.example"), (14.0, "3@b.example")]
    assert scale.first_waits(arrivals, 10.0) == [1.0, 4.0]
    assert scale.longest_more([1.0, 4.0], [2.5, 5.0]) == 1.5


def test_the_reports_of_nothing_measured_say_so() -> None:
    empty: list[Callable[[], list[str]]] = [
        lambda: scale.section(scale.Results(10, missing={"many stores": "no answer"})),
        lambda: deep.section(deep.Results(1, 1, 1, missing={"SQLite": "no answer"})),
        lambda: engine.section(engine.Results(1, 1, missing={"ours": "no answer"})),
    ]
    for section in empty:
        lines = section()
        assert any("(no answer)." in line for line in lines)
        budgets = lines[lines.index("### Budgets") + 4 :]
        assert budgets
        assert all("not measured: no " in line for line in budgets)


# Ours, from outside -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    with Installation() as running:
        yield running


def test_an_installation_delivers_what_was_handed_in_while_its_worker_was_held_still(
    installation: Installation, sink: Child
) -> None:
    stores = installation.ask("stores", port=sink.greeting["ports"]["signed"], fields={"max_connections": "1"})["ids"]
    with installation.start_worker(threads=2) as worker:
        installation.hold_still(worker)
        handed_in = installation.ask("enqueue", stores=stores, count=3, per_commit=2)
        sink.ask("reset")
        assert sink.ask("wait 1 0.3")["messages"] == 0
        worker.signal(signal.SIGCONT)
        assert sink.ask("wait 3 20")["messages"] == 3
        installation.wait_until_done(timeout_s=10)
    arrived = {identity.partition("@")[0] for _, identity in sink.ask("arrivals")["arrivals"]}
    assert arrived == set(handed_in["uids"])
    assert installation.ask("facts")["states"] == {"sent": 3}
    installation.ask("clear")


def test_an_instant_worker_ends_its_messages_without_any_server(installation: Installation) -> None:
    stores = installation.ask("stores", port=9)["ids"]
    with installation.start_worker(threads=2, instant=[]):
        installation.ask("enqueue", stores=stores, count=3)
        installation.wait_until_done(timeout_s=20)
    assert installation.ask("facts")["states"] == {"sent": 3}


def test_the_bare_insert_writes_what_handing_in_writes(installation: Installation) -> None:
    (store,) = installation.ask("stores", port=9)["ids"]
    installation.ask("enqueue", stores=[store])
    before = installation.ask("facts")["states"].get("queued", 0)
    installation.ask("insert_bare", store=store, count=2)
    assert installation.ask("facts")["states"]["queued"] == before + 2
    installation.ask("clear")
