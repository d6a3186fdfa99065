"""Trouble: workers killed, a broker emptied and stopped, a provider that counts. Nothing may be lost, little late."""

from __future__ import annotations

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from bench.figures import BUDGETS_HEAD, at_least, at_most
from bench.installation import Installation
from bench.processes import Child, Failed, Program, progress
from bench.scenery import Scenery

LEASE_S = 5
CONNECTIONS = 3
PER_KILL = 100
PER_MINUTE, WINDOWS = 30, 2
PROCESSES = (1, 2, 4)
# What has not come by then will not come by itself; today's longest lease is in it.
PATIENCE_S = 150.0
DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


@dataclass(frozen=True)
class Crashes:
    """What a run of kills left: of the messages accepted, and of the last ones' delay after the last kill."""

    kills: int
    accepted: int
    lost: int
    doubled: int
    unmarked: int
    recovered_s: float

    @property
    def doubled_of_allowed(self) -> float:
        """Doubles against one for each kill and each message that may be in flight."""
        return self.doubled / (self.kills * CONNECTIONS)


@dataclass(frozen=True)
class Broker:
    """What became of messages accepted while Redis was emptied, stopped and started again."""

    accepted: int
    refused: int
    delivered: int
    slowest_accept_s: float
    after_emptied_s: float
    after_stopped_s: float


@dataclass(frozen=True)
class Pace:
    """How a provider's limit was used: throttling replies, and the share of what it allows."""

    throttled: int
    share: float


@dataclass
class Results:
    crashes: dict[str, Crashes] = field(default_factory=dict)
    broker: Broker | None = None
    paces: dict[int, Pace] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)


def run(*, kills: int = 10, seed: int = 4) -> list[str]:
    """Measure everything and return the section as Markdown lines."""
    results = Results()
    dice = random.Random(seed)
    with Scenery(cores=0) as scenery:
        for kind in DATABASES:
            with _noting(results, f"crashes on {DATABASES[kind]}"):
                url = "" if kind == "sqlite" else scenery.new_database(kind, "crashes")
                results.crashes[kind] = measure_crashes(scenery, url, kills, dice)
        with _noting(results, "broker"):
            results.broker = measure_broker(scenery)
    with _noting(results, "provider’s limit"):
        results.paces = measure_paces()
    return section(results)


@contextlib.contextmanager
def _noting(results: Results, what: str) -> Iterator[None]:
    try:
        yield
    except Failed as reason:
        results.missing[what] = str(reason)
        progress(f"{what}: not measured: {reason}")


# Kills ---------------------------------------------------------------------------------------------------------------


def measure_crashes(scenery: Scenery, database_url: str, kills: int, dice: random.Random) -> Crashes:
    """Two workers, one of them killed again and again while messages come in; then everything must arrive."""
    sink, port = scenery.sink, scenery.sink.greeting["ports"]["brisk"]
    more = {"STOREPOST_LEASE_S": str(LEASE_S), "STOREPOST_SMTP_WINDOW": "1"}
    with Installation(database_url=database_url, more=more) as installation:
        fields = {"max_connections": str(CONNECTIONS)}
        stores = installation.ask("stores", port=port, fields=fields)["ids"]
        workers = [installation.start_worker() for _ in range(2)]
        sink.ask("reset")
        accepted: list[str] = []
        killed_at = 0.0
        for number in range(kills):
            before = sink.ask("counts")["messages"]
            accepted += installation.ask("enqueue", stores=stores, count=PER_KILL, per_commit=PER_KILL)["uids"]
            # In the midst of it, so that messages are in flight.
            sink.ask(f"wait {before + dice.randint(5, PER_KILL // 2)} {PATIENCE_S}", timeout_s=PATIENCE_S + 10)
            victim = workers.pop(dice.randrange(2))
            victim.kill()
            killed_at = time.monotonic()
            if number + 1 < kills:
                workers.append(installation.start_worker())
        installation.wait_until_done(timeout_s=PATIENCE_S)
        arrivals = sink.ask("arrivals")["arrivals"]
        marked = set(installation.ask("facts")["marked"])
        found = judge_arrivals(accepted, arrivals, marked)
        recovered_s = max(at for at, _ in arrivals) - killed_at
        progress(f"{kills} kills: {found}, all delivered {recovered_s:.1f} s after the last one")
        return Crashes(kills, len(accepted), recovered_s=recovered_s, **found)


def judge_arrivals(accepted: list[str], arrivals: list[tuple[float, str]], marked: set[str]) -> dict[str, int]:
    """How many messages never came, how many copies came too many, and how many of these nobody was told of."""
    times = Counter(message_id.partition("@")[0] for _, message_id in arrivals)
    doubled = {uid: times[uid] - 1 for uid in accepted if times[uid] > 1}
    return {
        "lost": sum(1 for uid in accepted if not times[uid]),
        "doubled": sum(doubled.values()),
        "unmarked": len(set(doubled) - marked),
    }


# A broker that forgets -----------------------------------------------------------------------------------------------


def measure_broker(scenery: Scenery) -> Broker:
    """A message every tenth of a second, while Redis loses everything, goes away and comes back."""
    sink, port = scenery.sink, scenery.sink.greeting["ports"]["open"]
    redis = scenery.redis
    with Installation(queue_url=redis.url) as installation:
        stores = installation.ask("stores", port=port)["ids"]
        installation.start_worker()
        sink.ask("reset")
        committed: dict[str, float] = {}
        refused, slowest = 0, 0.0
        events: list[tuple[float, str, Callable[[], None]]] = [
            (2.0, "emptied", redis.empty), (6.0, "stopped", redis.stop), (14.0, "started", redis.start),
        ]  # fmt: skip
        happened: dict[str, float] = {}
        began = time.monotonic()
        while time.monotonic() - began < 18:
            if events and time.monotonic() - began > events[0][0]:
                _, name, happen = events.pop(0)
                happen()
                happened[name] = time.monotonic()
            try:
                answer = installation.ask("enqueue", stores=stores)
                committed[answer["uids"][0]] = answer["last_at"]
                slowest = max(slowest, answer["seconds"])
            except Failed:
                refused += 1
            time.sleep(0.1)
        sink.ask(f"wait {len(committed)} 30", timeout_s=40)
        arrived = {message_id.partition("@")[0]: at for at, message_id in sink.ask("arrivals")["arrivals"]}
    return Broker(
        accepted=len(committed),
        refused=refused,
        delivered=sum(1 for uid in committed if uid in arrived),
        slowest_accept_s=slowest,
        after_emptied_s=first_after(happened["emptied"], committed, arrived),
        after_stopped_s=first_after(happened["stopped"], committed, arrived),
    )


def first_after(event_at: float, committed: dict[str, float], arrived: dict[str, float]) -> float:
    """Seconds from the event until the first of the messages that were accepted after it was delivered."""
    later = [arrived[uid] for uid, at in committed.items() if at > event_at and uid in arrived]
    return min(later, default=float("inf")) - event_at


# A provider that counts ----------------------------------------------------------------------------------------------


def measure_paces() -> dict[int, Pace]:
    """Installations with 1, 2 and 4 worker processes at the same time, each with a strict provider of its own."""
    with contextlib.ExitStack() as stack:
        sinks: dict[int, Child] = {}
        for processes in PROCESSES:
            sink = Child.module("bench.recording_sink", "--limit", str(PER_MINUTE), "--window-s", "60")
            sinks[processes] = stack.enter_context(sink)
            installation = stack.enter_context(Installation())
            fields = {"messages_per_minute": str(PER_MINUTE), "max_connections": str(CONNECTIONS)}
            stores = installation.ask("stores", port=sink.greeting["ports"]["limited"], fields=fields)["ids"]
            workers: list[Program] = [installation.start_worker() for _ in range(processes)]
            progress(f"{len(workers)} worker processes at {PER_MINUTE} a minute")
            sink.ask("reset")
            installation.ask("enqueue", stores=stores, count=PER_MINUTE * (WINDOWS + 1), per_commit=PER_MINUTE)
        ends = time.monotonic() + 60 * WINDOWS + 30
        found = {}
        for processes, sink in sinks.items():
            wanted = PER_MINUTE * WINDOWS + 1
            left_s = max(ends - time.monotonic(), 0.1)
            counts = sink.ask(f"wait {wanted} {left_s}", timeout_s=left_s + 30)
            found[processes] = pace_of(sink.ask("arrivals")["arrivals"], counts["throttled"])
        return found


def pace_of(arrivals: list[tuple[float, str]], throttled: int) -> Pace:
    """Of the limit: the windows that the provider allows against the time until the first message beyond them."""
    wanted = PER_MINUTE * WINDOWS
    times = sorted(at for at, _ in arrivals)
    if len(times) > wanted:
        return Pace(throttled, 60 * WINDOWS / (times[wanted] - times[0]))
    return Pace(throttled, len(times) / (PER_MINUTE * (WINDOWS + 1)))


# What that says ------------------------------------------------------------------------------------------------------


def section(results: Results) -> list[str]:
    """The part of docs/benchmarks.md about trouble."""
    lines = ["## Faults", ""]
    for kind, one in results.crashes.items():
        lines.append(
            f"{DATABASES[kind]}: two workers, {one.kills} times one of them killed with -9, lease of {LEASE_S} s, "
            f"{CONNECTIONS} connections: of {one.accepted:,} messages {one.lost} lost, {one.doubled} doubled, "
            f"{one.unmarked} of these without a mark; all delivered {one.recovered_s:.1f} s after the last kill."
        )
    if results.broker:
        broker = results.broker
        lines.append(
            f"Redis emptied, stopped, started: of {broker.accepted + broker.refused} messages {broker.refused} not "
            f"accepted, {broker.delivered} delivered; the slowest acceptance took {broker.slowest_accept_s:.2f} s."
        )
    lines += [
        f"A provider that takes {PER_MINUTE} a minute, {processes} worker processes: {one.throttled} throttling "
        f"replies, {one.share * 100:.1f} % of what it allows."
        for processes, one in results.paces.items()
    ]
    lines += [f"Not measured: {key} ({reason})." for key, reason in results.missing.items()]
    return [*_as_paragraphs(lines), "### Budgets", "", *BUDGETS_HEAD, *_budgets(results)]


def _as_paragraphs(lines: list[str]) -> list[str]:
    heading, blank, *rest = lines
    return [heading, blank, *(part for line in rest for part in (line, ""))]


def _budgets(results: Results) -> Iterator[str]:
    def crash(kind: str, what: str) -> Callable[[], float]:
        return lambda: float(getattr(results.crashes[kind], what))

    def broker(what: str) -> Callable[[], float]:
        return lambda: float(getattr(_found(results.broker, "Redis"), what))

    for kind, name in DATABASES.items():
        yield at_most(f"Kills, {name}: messages lost", 0, crash(kind, "lost"))
        yield at_most(f"Kills, {name}: doubles per kill and message in flight", 1, crash(kind, "doubled_of_allowed"))
        yield at_most(f"Kills, {name}: doubles without a mark", 0, crash(kind, "unmarked"))
        yield at_most(f"Kills, {name}: s until all is delivered", LEASE_S + 2, crash(kind, "recovered_s"))
    yield at_least(
        "Broker: share delivered",
        1,
        lambda: broker("delivered")() / (broker("accepted")() + broker("refused")()),
    )
    yield at_most("Broker: messages not accepted", 0, broker("refused"))
    yield at_most("Broker: s until the first delivery after it was emptied", 6, broker("after_emptied_s"))
    yield at_most("Broker: s until the first delivery after it was stopped", 6, broker("after_stopped_s"))
    for processes in PROCESSES:
        yield at_most(
            f"Provider’s limit, processes: {processes}: throttling replies",
            0,
            lambda p=processes: results.paces[p].throttled,
        )
        yield at_least(
            f"Provider’s limit, processes: {processes}: share used", 0.97, lambda p=processes: results.paces[p].share
        )


def _found(value: Any, name: str) -> Any:
    if value is None:
        raise KeyError(name)
    return value
