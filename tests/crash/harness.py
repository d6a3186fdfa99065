"""A Storepost whose workers may be killed at any moment, and the judgement on what came of its mail.

    with Site(directory, database, queue_url, sinks=sinks, threads=2) as site:
        shop = site.add_store(port=sinks.ports[0])
        site.start_worker()
        uids = site.hand_in(shop, 100)
        ...
        site.kill(worker)
        site.wait_until_through()
        site.judge()

Workers are processes as operators start them; they are ended by their process id and nothing else. Mail is handed in
and looked at by the test's own process, over the same rules as everybody's.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from sqlalchemy import BigInteger, ColumnElement, Table, and_, func, not_, select, type_coerce
from sqlalchemy.exc import OperationalError

from app import create_app
from extensions import db
from mail import outbox
from mail.drafts import connection_place, custom_value_place
from mail.nudges import HueyNudges
from mail.outbox import NewMessage
from mail.outbox_work import DUE_STATES, messages
from models import Message, clock
from models.connection import GrantType
from models.database import reading
from models.email_settings import CustomField, EmailSettings, Method
from models.outbox import Attempt, HoldReason, MessageStatus
from models.pace import Lane
from models.types import Instant, new_uid, utcnow
from tests import factories
from tests.crash import sockets
from tests.crash.sinks import Copy, Sinks
from tests.fakes.installation import BIN, ROOT, free_port

# Long enough for a worker to renew it on a busy machine, short enough for a test to wait for its end.
LEASE_S = 3
THROUGH = (MessageStatus.SENT, MessageStatus.FAILED, MessageStatus.EXPIRED, MessageStatus.CANCELLED)
POLL_S = 0.05
lanes = cast(Table, Lane.__table__)


@dataclass(frozen=True)
class Verdict:
    """What a run came to. `doubles` are copies beyond the first, `retried` attempts beyond the first, `at_risk`
    the messages that were in flight at the kills."""

    messages: int
    sent: int
    doubles: int
    marked: int
    parked: int
    kills: int
    at_risk: int
    retried: int


@dataclass(frozen=True)
class Fate:
    """One message as the outbox has it in the end."""

    uid: str
    message_id: str
    status: MessageStatus
    hold_reason: HoldReason | None
    code: str
    maybe_sent_twice: bool
    attempts: int


class Worker:
    """One `flask worker` process."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process, self._log = process, log
        self.pid = process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def has_started(self) -> bool:
        """Whether it said so; then it can be told to stop in peace."""
        return "worker started" in self.log


class Site:
    """One installation: database, queue, stores, workers. Started on entering, stopped on leaving.

    Args:
        database_url: of a database that has all tables.
        queue_url: how nudges travel; empty: a file beside an SQLite database.
        more: settings of the workers beside and above the usual ones.
        program: the module that workers run, with the number of their threads, in place of `flask worker`.
    """

    def __init__(
        self,
        directory: Path,
        database_url: str,
        queue_url: str = "",
        *,
        sinks: Sinks,
        keyring: str,
        threads: int = 4,
        window: int = 1,
        lease_s: int = LEASE_S,
        more: Mapping[str, str] | None = None,
        program: str = "",
    ) -> None:
        self.directory, self.sinks = directory, sinks
        self.threads, self.window, self.lease_s = threads, window, lease_s
        self._program = program
        self.workers: list[Worker] = []
        # Of every worker that was ever started, dead ones too
        self.pids: list[int] = []
        self.kills = 0
        # Messages that killed workers may have had beyond their mark, by the connections they had
        self.at_risk = 0
        self._keyring = keyring
        self._started = 0
        self._accepted: list[str] = []
        self._stack = ExitStack()
        secret = directory / "secret_key"
        secret.write_text(secrets.token_urlsafe(48))
        (directory / "keyring").write_text(keyring)
        (directory / "keyring").chmod(0o600)
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "FLASK_APP": "app",
            "STOREPOST_PUBLIC_URL": f"http://localhost:{free_port()}",
            "STOREPOST_SECRET_KEY_FILE": str(secret),
            "STOREPOST_KEYRING_FILE": str(directory / "keyring"),
            "STOREPOST_DATABASE_URL": database_url.replace("postgresql+psycopg://", "postgresql://"),
            "STOREPOST_EGRESS_ALLOW": f"localhost:* {sinks.host}:*",
            "STOREPOST_PLAINTEXT_AUTH_HOSTS": sinks.host,
            "STOREPOST_DNS_SERVERS": "127.0.0.1:9",  # nobody answers there
            "STOREPOST_LEASE_S": str(lease_s),
            "STOREPOST_SMTP_WINDOW": str(window),
            **({"STOREPOST_QUEUE_URL": queue_url} if queue_url else {}),
            **(more or {}),
        }
        self._settings = {
            "TESTING": True,
            "PUBLIC_URL": self.environment["STOREPOST_PUBLIC_URL"],
            "SECRET_KEY": secret.read_text(),
            "SQLALCHEMY_DATABASE_URI": database_url,
            "QUEUE_URL": queue_url or _queue_file(database_url, directory),
            "KEYRING": keyring,
            "TRUSTED_HOSTS": ["localhost"],
            "EGRESS_ALLOW": "localhost:*",
            "PLAINTEXT_AUTH_HOSTS": frozenset({sinks.host}),
            "LEASE_S": lease_s,
            "SMTP_WINDOW": window,
        }
        if database_url.startswith("postgresql") and not queue_url:
            self.environment["STOREPOST_QUEUE_URL"] = _queue_file(database_url, directory)

    def __enter__(self) -> Self:
        self.app = create_app(self._settings)
        self._stack.enter_context(self.app.app_context())
        self.equipment = self.app.extensions["storepost"]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.process.kill()
            worker.process.wait()
        with suppress(OperationalError):  # the test may have taken the database away
            db.session.remove()
        db.engine.dispose()
        if isinstance(self.equipment.nudges, HueyNudges):
            # It has a connection of its own for the thread that hands mail in.
            self.equipment.nudges.huey.storage.close()
        self._stack.close()
        if kind is not None:
            for worker in self.workers:
                print(f"--- worker {worker.pid}\n{worker.log[-4000:]}")

    # Stores and mail -------------------------------------------------------------------------------------------------

    def add_store(self, name: str, *, port: int, fields: Mapping[str, str] | None = None, use_ssl: bool = False) -> int:
        """Add a store that sends to this port of the sinks by a token that lasts all day, and return its id."""
        store = factories.make_store(name)
        settings = store.email_settings
        settings.method, settings.use_ssl = Method.ADVANCED_SMTP, use_ssl
        settings.from_name, settings.from_email = name, f"orders@{store.code}.example"
        # A certificate is made out for a name, not for an address.
        settings.advanced_smtp_host, settings.advanced_smtp_port = ("localhost" if use_ssl else self.sinks.host), port
        self._connect(settings)
        for position, (key, value) in enumerate((fields or {}).items()):
            uid = new_uid()
            sealed = self.equipment.vault.seal(value, custom_value_place(uid))
            settings.custom_fields.append(CustomField(uid=uid, position=position, key=key, value_sealed=sealed))
        store_id = store.id
        db.session.commit()
        return store_id

    def _connect(self, settings: EmailSettings) -> None:
        connection = settings.connection
        assert connection is not None
        connection.provider, connection.grant_type = "other", GrantType.REFRESH_TOKEN
        connection.client_id, connection.token_url = "fake-client", "https://localhost:1/token"
        for column in ("client_secret", "refresh_token", "access_token"):
            sealed = self.equipment.vault.seal(f"fake-{column}", connection_place(connection, f"{column}_sealed"))
            setattr(connection, f"{column}_sealed", sealed)
        connection.access_token_expires_at = utcnow() + timedelta(hours=20)
        connection.refreshed_at = utcnow()

    def hand_in(
        self, store_id: int, count: int = 1, *, text: str = "Thank you for your order.\n", due_in_s: float = 0
    ) -> list[str]:
        """Accept messages, fifty to a commit, and return their ids; from here on they must not be lost."""
        send_at = utcnow() + timedelta(seconds=due_in_s) if due_in_s else None
        uids: list[str] = []
        for start in range(0, count, 50):
            batch = []
            for number in range(start, min(start + 50, count)):
                new = NewMessage(
                    to=(f"customer{number}@shop.example",), subject=f"Order {number}", text=text, send_at=send_at
                )
                batch.append(outbox.enqueue(store_id, new, equipment=self.equipment).uid)
            db.session.commit()
            uids += batch
            self._accepted += batch
        return uids

    def hand_in_everywhere(self, store_ids: Sequence[int], count: int = 1) -> list[str]:
        """Accept so many messages for each of these stores, in one commit."""
        new = NewMessage(to=("lena@shop.example",), subject="Order", text="Thank you for your order.\n")
        uids = [
            outbox.enqueue(store_id, new, equipment=self.equipment).uid for _ in range(count) for store_id in store_ids
        ]
        db.session.commit()
        self._accepted += uids
        return uids

    def fates(self, uids: Sequence[str] = ()) -> list[Fate]:
        """Return where these messages stand, or all that were accepted."""
        columns = (
            Message.uid, Message.message_id, Message.status, Message.hold_reason,
            Message.reason_code, Message.maybe_sent_twice, Message.attempts,
        )  # fmt: skip
        with reading():
            try:
                rows = db.session.execute(select(*columns).order_by(Message.id)).all()
            finally:
                db.session.remove()
        wanted = set(uids)
        return [Fate(*row) for row in rows if not wanted or row.uid in wanted]

    def states(self, uids: Sequence[str] = ()) -> Counter[MessageStatus]:
        return Counter(fate.status for fate in self.fates(uids))

    def copies_of(self, fate: Fate) -> list[Copy]:
        return [copy for copy in self.sinks.ledger() if copy.message_id == fate.message_id]

    def let_time_pass(self, by: timedelta) -> None:
        """Bring what waits for a later moment this much nearer, as if that time had gone by."""
        due = messages.update().where(messages.c.status.in_(DUE_STATES), messages.c.due_at > clock.now())
        db.session.execute(due.values(due_at=_earlier(messages.c.due_at, by)))
        for column in (lanes.c.paused_until, lanes.c.slow_until):
            db.session.execute(lanes.update().values({column: _earlier(column, by)}))
        db.session.commit()

    # Workers ---------------------------------------------------------------------------------------------------------

    def start_worker(self, *, before: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> Worker:
        """Start one more worker; `before` are words in front of its command, such as those that change its network."""
        self._started += 1
        log = self.directory / f"worker-{self._started}.log"
        command = [str(BIN / "flask"), "worker", "--threads", str(self.threads)]
        if self._program:
            command = [sys.executable, "-m", self._program, str(self.threads)]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*before, *command], cwd=ROOT, env={**self.environment, **(environment or {})}, stdout=out, stderr=out
            )
        worker = Worker(process, log)
        self.workers.append(worker)
        self.pids.append(worker.pid)
        return worker

    def kill(self, worker: Worker) -> None:
        """End this worker in the middle of whatever it does."""
        os.kill(worker.pid, signal.SIGSTOP)  # so that the count is that of the moment
        self.at_risk += sockets.connections_to(worker.pid, self.sinks.ports) * self.window
        os.kill(worker.pid, signal.SIGKILL)
        worker.process.wait()
        self.workers.remove(worker)
        self.kills += 1

    def is_sending(self, worker: Worker) -> bool:
        """Whether this worker has a connection to any of the servers."""
        return sockets.connections_to(worker.pid, self.sinks.ports) > 0

    def at_work(self, peer: tuple[str, int]) -> Worker:
        """Return the worker at the other end of this connection."""
        for worker in self.workers:
            if worker.is_alive and sockets.owns(worker.pid, peer):
                return worker
        raise AssertionError(f"no worker of ours has the connection from {peer}")

    # Waiting and judging ---------------------------------------------------------------------------------------------

    def wait(self, check: Callable[[], bool], what: str, within_s: float) -> float:
        """Wait until it is so and return how many seconds that took; a worker that ended by itself is a failure."""
        began = time.monotonic()
        while not check():
            for worker in self.workers:
                assert worker.is_alive, f"a worker ended by itself:\n{worker.log[-3000:]}"
            assert time.monotonic() - began < within_s, f"not within {within_s} s: {what}; {dict(self.states())}"
            time.sleep(POLL_S)
        return time.monotonic() - began

    def wait_until_through(self, uids: Sequence[str] = (), within_s: float = 20) -> float:
        """Wait until these messages (or all) have come to an end, or are parked as poison."""

        def is_through() -> bool:
            try:
                return not self._open(uids)
            except OperationalError:
                return False  # the test took the database away, and it may not be quite back

        return self.wait(is_through, "all mail is through", within_s)

    def _open(self, uids: Sequence[str]) -> int:
        """How many messages have not come to an end, and are not parked as poison either."""
        poison = and_(Message.status == MessageStatus.HELD, Message.hold_reason == HoldReason.POISON)
        still = select(func.count()).select_from(Message).where(Message.status.not_in(THROUGH), not_(poison))
        with reading():
            try:
                return db.session.scalar(still.where(Message.uid.in_(uids)) if uids else still) or 0
            finally:
                db.session.remove()

    def judge(self, *, uncertain: int = 0, may_park: bool = False) -> Verdict:
        """Hold the outbox against the ledger: nothing lost, nothing doubled unmarked, nothing left half done.

        Args:
            uncertain: how many messages may have gone twice for another reason than a kill.
            may_park: whether messages may have been parked because too many workers died with them.
        """
        copies: dict[str, list[Copy]] = {}
        for copy in self.sinks.ledger():
            copies.setdefault(copy.message_id, []).append(copy)
        fates = self.fates()
        self._judge_loss(fates, copies, may_park=may_park)
        doubles = _judge_doubles(fates, copies)
        allowed = self.at_risk + uncertain
        assert doubles <= allowed, f"{doubles} doubles; {self.kills} kills and what else happened allow {allowed}"
        return Verdict(
            messages=len(fates),
            sent=sum(fate.status is MessageStatus.SENT for fate in fates),
            doubles=doubles,
            marked=sum(fate.maybe_sent_twice for fate in fates),
            parked=sum(fate.hold_reason is HoldReason.POISON for fate in fates),
            kills=self.kills,
            at_risk=self.at_risk,
            retried=_begun_attempts() - len(fates),
        )

    def _judge_loss(self, fates: Iterable[Fate], copies: Mapping[str, list[Copy]], *, may_park: bool) -> None:
        by_uid = {fate.uid: fate for fate in fates}
        missing = [uid for uid in self._accepted if uid not in by_uid]
        assert not missing, f"accepted and no longer there: {missing[:5]}"
        for fate in by_uid.values():
            if may_park and fate.hold_reason is HoldReason.POISON:
                continue
            assert fate.status is MessageStatus.SENT, fate
            assert fate.message_id in copies, f"said to be sent, and nobody has it: {fate}"
        unknown = set(copies) - {fate.message_id for fate in by_uid.values()}
        assert not unknown, f"nobody handed these in: {unknown}"


def _judge_doubles(fates: Iterable[Fate], copies: Mapping[str, list[Copy]]) -> int:
    doubles = 0
    for fate in fates:
        found = copies.get(fate.message_id, [])
        if len(found) < 2:
            continue
        doubles += len(found) - 1
        assert fate.maybe_sent_twice, f"{len(found)} copies, and the message is not marked: {fate}"
        assert len({copy.sha256 for copy in found}) == 1, f"its copies differ: {fate}"
        assert len({copy.recipients for copy in found}) == 1, f"its copies went to different people: {fate}"
    return doubles


def _begun_attempts() -> int:
    with reading():
        count = db.session.scalar(select(func.count()).select_from(Attempt)) or 0
        db.session.remove()
    return count


def _earlier(column: ColumnElement[Any], by: timedelta) -> ColumnElement[Any]:
    """An instant that much earlier; in the tables, instants are milliseconds."""
    return type_coerce(type_coerce(column, BigInteger()) - round(by.total_seconds() * 1000), Instant())


def _queue_file(database_url: str, directory: Path) -> str:
    if database_url.startswith("sqlite:///"):
        return "sqlite:///" + str(Path(database_url.removeprefix("sqlite:///")).with_suffix(".queue.sqlite3"))
    return f"sqlite:///{directory / 'queue.sqlite3'}"
