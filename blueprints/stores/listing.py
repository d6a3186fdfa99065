"""The list of stores: one page of it, in a constant number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ScalarSelect, Select, func, or_, select, text
from sqlalchemy.orm import joinedload

from extensions import db
from mail.foresight import foreseen
from models import Connection, EmailSettings, Message, Store, User
from models.access import stores_for
from models.connection import GrantType, Health
from models.email_settings import Method
from models.notice import NoticeKind
from models.outbox import SENT_SQL, WAITING_SQL, MessageStatus
from models.types import utcnow

PAGE_SIZE = 50
# A longer queue is not counted to its end: the list of stores must not cost more while much is waiting.
COUNTED_MAX = 10_000

CONNECTION_FILTERS = {
    "working": "Connected",
    "attention": "Needs attention",
    "unfinished": "Setup not finished",
}
TROUBLE = (Health.NEEDS_REAUTHORIZATION, Health.SETTINGS_WRONG, Health.TEMPORARILY_FAILING, Health.EXPIRING)


@dataclass(frozen=True)
class State:
    """How a store's sending stands: a shape (ok, warn, bad, off), a word, one fact."""

    shape: str
    word: str
    fact: str = ""
    at: datetime | None = None


@dataclass(frozen=True)
class Row:
    store: Store
    state: State
    last_delivery: datetime | None
    held: int
    waiting: int


@dataclass(frozen=True)
class Page:
    rows: list[Row]
    number: int
    total: int

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // PAGE_SIZE))

    @property
    def words(self) -> str:
        first = (self.number - 1) * PAGE_SIZE + 1
        return f"{first:,}–{first + len(self.rows) - 1:,} of {self.total:,} stores" if self.rows else "0 stores"


def load_page(user: User, *, search: str = "", method: str = "", connection: str = "", number: int = 1) -> Page:
    """One page of the stores this person may see, by name."""
    wanted = stores_for(user).join(Store.email_settings).outerjoin(EmailSettings.connection)
    if search:
        pattern = f"%{search.replace('%', '').replace('_', '')}%"
        wanted = wanted.where(or_(*(column.ilike(pattern) for column in (Store.name, Store.code, Store.domain))))
    if method in tuple(Method):
        wanted = wanted.where(EmailSettings.method == Method(method))
    if connection:
        wanted = wanted.where(_in_state(connection))
    total = db.session.scalar(select(func.count()).select_from(wanted.with_only_columns(Store.id).subquery())) or 0
    number = min(max(1, number), max(1, -(-total // PAGE_SIZE)))
    last = (
        select(Message.ended_at)
        .where(Message.store_id == Store.id, text(SENT_SQL))
        .order_by(Message.ended_at.desc())
        .limit(1)
        .correlate(Store)
        .scalar_subquery()
    )
    held = _counted(select(Message.id).where(Message.status == MessageStatus.HELD))
    waiting = _counted(select(Message.id).where(text(WAITING_SQL)))
    found = db.session.execute(
        wanted.add_columns(last, held, waiting)
        .options(joinedload(Store.email_settings).joinedload(EmailSettings.connection))
        .order_by(func.lower(Store.name), Store.id)
        .limit(PAGE_SIZE)
        .offset((number - 1) * PAGE_SIZE)
    )
    rows = [Row(store, state_of(store.email_settings), *figures) for store, *figures in found]
    return Page(rows, number, total)


def _counted(messages: Select[tuple[int]]) -> ScalarSelect[int]:
    """How many of these messages a store of the list has, at most one more than are counted."""
    of_store = messages.where(Message.store_id == Store.id).correlate(Store).limit(COUNTED_MAX + 1).subquery()
    return select(func.count()).select_from(of_store).scalar_subquery()


def count_words(count: int) -> str:
    """ "1,204", and "10,000+" for what was not counted to its end."""
    return f"{COUNTED_MAX:,}+" if count > COUNTED_MAX else f"{count:,}"


def state_of(settings: EmailSettings) -> State:
    """How sending stands for these settings, by what is stored: no network, no further query."""
    if settings.emails_off:
        return State("off", "Emails turned off", f"By {settings.emails_off_by}" if settings.emails_off_by else "")
    if settings.method == Method.SMTP:
        if not (settings.from_email and settings.smtp_host and settings.smtp_port):
            return State("off", "Setup not finished", "Enter server and port")
        return State("ok", "Ready", "Password sign-in" if settings.username else "Without sign-in")
    connection = settings.connection
    if connection is None:
        return State("off", "Setup not finished", "Choose a provider")
    return _connection_state(connection)


def _connection_state(connection: Connection) -> State:
    match connection.health:
        case Health.CONNECTED:
            return State("ok", "Connected", "Refreshed", connection.refreshed_at)
        case Health.EXPIRING:
            return State("warn", "Expiring soon", _what_ends(connection))
        case Health.NEEDS_REAUTHORIZATION:
            return State("bad", "Access revoked", "Since", connection.health_since)
        case Health.SETTINGS_WRONG:
            return State("bad", "Settings wrong", "Since", connection.health_since)
        case Health.TEMPORARILY_FAILING:
            return State("warn", "Trying again", "Since", connection.health_since)
    if connection.grant_type == GrantType.CLIENT_CREDENTIALS or connection.has_refresh_token:
        return State("off", "Not tested yet", "Send a test email")
    return State("off", "Setup not finished", "Connect to start sending")


def _what_ends(connection: Connection) -> str:
    ends = foreseen(connection, utcnow())
    if ends and ends[0].kind is NoticeKind.SECRET_ENDS:
        return "Replace the client secret"
    return "Reconnect to stay connected"


def _in_state(name: str):  # type: ignore[no-untyped-def]  # SQLAlchemy's own column expression types say less than this
    advanced = EmailSettings.method == Method.ADVANCED_SMTP
    if name == "working":
        return or_(~advanced, Connection.health == Health.CONNECTED)
    if name == "attention":
        return advanced & Connection.health.in_(TROUBLE)
    return advanced & or_(Connection.id.is_(None), Connection.health == Health.NOT_CONNECTED)
