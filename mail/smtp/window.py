"""Several messages in flight on one session, so that a backlog does not wait a round trip for each (RFC 2920, 3030).

Every message in flight is one that a crash may double, so the window is the caller's to choose: 1 unless the backlog
is long. What cannot go out in one write (long contents, many recipients, a server without the extensions) goes alone,
after the answers to those before it.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator

from mail.errors import MailError, Stage, TryLater
from mail.smtp.records import Envelope, SendResult, Sent
from mail.smtp.session import Session
from mail.smtp.transfer import Transfer

# Postfix hangs up after 20 errors. Its 421 can be lost when more was on its way to it, and then nobody knows what
# became of that; so a client that collects errors sends nothing ahead any more.
CAREFUL_AFTER = 6


def send_in_window(session: Session, envelopes: Iterable[Envelope], window: int) -> Iterator[Sent]:
    """Hand over one envelope after another, up to `window` in flight, and yield what became of each, in order.

    The next envelope is taken only when there is room for it and the session is open: nothing is taken that is not
    tried. A caller that stops early drops the connection, because answers are still to come.
    """
    return _Window(session, iter(envelopes), max(window, 1)).run()


class _Window:
    def __init__(self, session: Session, source: Iterator[Envelope], window: int) -> None:
        self._session = session
        self._source = source
        self._window = window
        self._in_flight: deque[tuple[Envelope, Transfer | Sent]] = deque()

    def run(self) -> Iterator[Sent]:
        try:
            while self._session.wire is not None and (envelope := next(self._source, None)) is not None:
                yield from self._begin(envelope)
                while len(self._in_flight) >= self._room:
                    yield self._conclude()
            while self._in_flight:
                yield self._conclude()
        finally:
            if self._in_flight:
                self._session.abort()
            self._session.has_others_out = False

    @property
    def _room(self) -> int:
        return self._window if self._session.refusals < CAREFUL_AFTER else 1

    def _begin(self, envelope: Envelope) -> Iterator[Sent]:
        transfer = Transfer(self._session, envelope)
        self._session.begin_attempt()
        try:
            transfer.prepare()
            if transfer.fits_one_write:
                transfer.begin(after_another=bool(self._in_flight))
                self._in_flight.append((envelope, transfer))
                return
        except MailError as error:
            # Its turn comes after those before it.
            self._in_flight.append((envelope, Sent(envelope, error=error)))
            return
        while self._in_flight:
            yield self._conclude()
        yield self._alone(envelope)

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
