"""Several messages in flight on one session, so that a backlog does not wait a round trip for each (RFC 2920, 3030).

Every message in flight is one that a crash may double, so the window is the caller's to choose: 1 unless the backlog
is long. It is filled by halves: while the server works on one half, the other is made ready, asked about at once (a
caller that writes down what goes out then pays for one commit instead of many), and sent in one write.

What cannot go out in one write (long contents, many recipients, a server without the extensions) goes alone, after the
answers to those before it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from mail.errors import MailError, Stage, TryLater
from mail.smtp import faults as smtp_faults
from mail.smtp.records import Envelope, SendResult, Sent
from mail.smtp.session import Session
from mail.smtp.transfer import ONE_WRITE_BYTES, Transfer, withdrawn

# Postfix hangs up after 20 errors. Its 421 can be lost when more was on its way to it, and then nobody knows what
# became of that; so a client that collects errors sends nothing ahead any more.
CAREFUL_AFTER = 6

# Asked right before a group goes out: which of these may. A message that may not is withdrawn.
AskAll = Callable[[Sequence[Envelope]], Sequence[bool]]


def send_in_window(
    session: Session, envelopes: Iterable[Envelope], window: int, ask_all: AskAll | None = None
) -> Iterator[Sent]:
    """Hand over one envelope after another, up to `window` in flight, and yield what became of each, in order.

    The next envelope is taken only when there is room for it and the session is open: nothing is taken that is not
    tried. A caller that stops early drops the connection, because answers are still to come.

    Args:
        ask_all: asked for each group right before its write, in place of the envelopes' own `before_commit`.
    """
    return _Window(session, iter(envelopes), max(window, 1), ask_all or _ask_each).run()


def _ask_each(group: Sequence[Envelope]) -> Sequence[bool]:
    return [envelope.before_commit is None or envelope.before_commit() for envelope in group]


class _Window:
    def __init__(self, session: Session, source: Iterator[Envelope], window: int, ask_all: AskAll) -> None:
        self._session = session
        self._source = source
        self._window = window
        self._ask_all = ask_all
        # Both in the order in which they were taken: on the wire, and made ready to go there next.
        self._in_flight: deque[tuple[Envelope, Transfer | Sent]] = deque()
        self._ready: list[tuple[Envelope, Transfer | Sent]] = []

    def run(self) -> Iterator[Sent]:
        try:
            while self._session.wire is not None and (envelope := next(self._source, None)) is not None:
                transfer = self._prepared(envelope)
                if isinstance(transfer, Transfer) and not transfer.fits_one_write:
                    yield from self._conclude_all()
                    yield self._alone(envelope)
                    continue
                self._ready.append((envelope, transfer))
                if self._is_group_full:
                    # Between two groups only: what is ready never waits for answers, which may end the session.
                    self._send_group()
                    while len(self._in_flight) + self._group > self._room:
                        yield self._conclude()
            yield from self._conclude_all()
        finally:
            if self._in_flight:
                self._session.abort()
            self._session.has_others_out = False

    @property
    def _room(self) -> int:
        return self._window if self._session.refusals < CAREFUL_AFTER else 1

    @property
    def _group(self) -> int:
        return max(1, self._room // 2)

    @property
    def _is_group_full(self) -> bool:
        if len(self._ready) >= self._group:
            return True
        return sum(len(envelope.content) for envelope, _ in self._ready) >= ONE_WRITE_BYTES

    def _prepared(self, envelope: Envelope) -> Transfer | Sent:
        transfer = Transfer(self._session, envelope)
        try:
            transfer.prepare()
        except MailError as error:
            # Its turn comes after those before it.
            return Sent(envelope, error=error)
        return transfer

    def _send_group(self) -> None:
        """Ask about what is ready, and send what may go in one write."""
        group, self._ready = self._ready, []
        asked = [envelope for envelope, transfer in group if isinstance(transfer, Transfer)]
        may_go = iter(self._ask_all(asked) if asked else ())
        going: list[Transfer] = []
        pieces: list[bytes] = []
        for envelope, transfer in group:
            if isinstance(transfer, Transfer):
                if next(may_go):
                    pieces.append(transfer.in_one_piece(after_another=bool(self._in_flight)))
                    going.append(transfer)
                else:
                    transfer = Sent(envelope, error=withdrawn())
            self._in_flight.append((envelope, transfer))
        if going:
            self._write(b"".join(pieces), going)

    def _write(self, pieces: bytes, going: Sequence[Transfer]) -> None:
        session = self._session
        session.begin_attempt()
        try:
            session.live_wire(Stage.SENDER).write(pieces, session.deadline(session.timeouts.data_s))
        except smtp_faults.FAULTS as fault:
            session.abort()
            for transfer in going:
                transfer.lose(fault)

    def _conclude_all(self) -> Iterator[Sent]:
        if self._ready:
            self._send_group()
        while self._in_flight:
            yield self._conclude()

    def _alone(self, envelope: Envelope) -> Sent:
        if self._session.wire is None:
            gone = TryLater("not_connected", "The connection ended before this message.", stage=Stage.SENDER)
            return Sent(envelope, error=gone)
        self._session.has_others_out = False
        self._session.begin_attempt()
        return _settled(envelope, Transfer(self._session, envelope).run)

    def _conclude(self) -> Sent:
        envelope, oldest = self._in_flight.popleft()
        if isinstance(oldest, Sent):
            return oldest
        self._session.has_others_out = any(isinstance(one, Transfer) for _, one in self._in_flight)
        return _settled(envelope, oldest.conclude)


def _settled(envelope: Envelope, step: Callable[[], SendResult]) -> Sent:
    try:
        return Sent(envelope, result=step())
    except MailError as error:
        return Sent(envelope, error=error)
