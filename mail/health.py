"""How a connection is: one state machine for token calls, sign-ins, sent mail and the schedule.

Whoever learns something reports it here. Whether it changes the state is decided by one conditional UPDATE on the
database's clock, so that of two processes that see the same trouble exactly one makes the transition; that one writes
the notice in the same transaction. Hence no alarm is lost and none is doubled.

    what is reported      moves from                                          to
    token granted         everything but a refused sign-in at the mail server connected, or expiring
    mail accepted         not connected, a refused sign-in                    connected, or expiring
    test passed           everything but a lost grant                         connected, or expiring
    grant gone            everything                                          needs reauthorization
    settings refused      everything (a sign-in: but a lost grant)            settings wrong
    passing trouble       not connected, connected, expiring                  temporarily failing
    end foreseen          connected                                           expiring

A trouble ends only by what would meet it again: a granted token says nothing about a mail server that refuses it, and
mail sent with a kept token says nothing about a grant that is gone. Source: product.md 4, security.md 44.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, case, exists, literal, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from extensions import db
from mail.errors import ConnectionLost, MailError, SettingsWrong, Stage, TryLater
from mail.held_by_connection import hold_for, release_for
from models import clock
from models.connection import Connection, Health
from models.database import writing
from models.email_settings import EmailSettings
from models.notice import Notice, NoticeKind
from models.types import new_uid

WORKING: Final = (Health.CONNECTED, Health.EXPIRING)
# Asking again changes nothing here, and providers punish those who do it nevertheless (providers.md 12).
FINAL: Final = (Health.NEEDS_REAUTHORIZATION, Health.SETTINGS_WRONG)
TROUBLES: Final = {
    Health.NEEDS_REAUTHORIZATION: NoticeKind.LOST,
    Health.SETTINGS_WRONG: NoticeKind.SETTINGS_WRONG,
    Health.TEMPORARILY_FAILING: NoticeKind.FAILING,
}
ANNOUNCEMENTS: Final = (NoticeKind.SECRET_ENDS, NoticeKind.TESTING_ENDS, NoticeKind.IDLE_ENDS)
_KINDS: Final[tuple[tuple[type[MailError], Health], ...]] = (
    (ConnectionLost, Health.NEEDS_REAUTHORIZATION),
    (SettingsWrong, Health.SETTINGS_WRONG),
    (TryLater, Health.TEMPORARILY_FAILING),
)
_HEALTH: Final = Connection.health.type


@dataclass(frozen=True)
class Finding:
    """What somebody learned. `stage`: where it was learned, token or auth; empty for mail that was accepted."""

    state: Health
    stage: str = ""
    code: str = ""
    detail: str = ""


GRANTED: Final = Finding(Health.CONNECTED, Stage.TOKEN.value)
SENT: Final = Finding(Health.CONNECTED)
TESTED: Final = Finding(Health.CONNECTED, "test")


def of_error(error: MailError, *, code: str = "") -> Finding:
    """Return what the failure of a token call shows; `code` when we know it better than the endpoint told."""
    state = next(state for kind, state in _KINDS if isinstance(error, kind))
    return Finding(state, Stage.TOKEN.value, code or error.code, error.detail)


def recorded(connection: Connection) -> type[MailError] | None:
    """Return the kind of error that the row tells of, None when it tells of none."""
    return next((kind for kind, state in _KINDS if connection.health is state), None)


def report(
    connection_id: int, finding: Finding, *conditions: ColumnElement[bool], values: dict[str, Any] | None = None
) -> bool:
    """Write down what was learned, and tell whether the conditions held; nothing is written when they did not.

    Commits transactions of its own. A transition into a trouble that concerns all stores of the connection holds their
    mail; one out of it lets that mail go.

    Args:
        values: further columns to set, whether the state changes or not.
    """
    values, target = values or {}, _target(connection_id, finding)
    stage = finding.stage if finding.state in TROUBLES else ""
    words = {"health_stage": stage, "health_code": finding.code[:80], "health_detail": finding.detail}
    lets_go = False
    with writing(), Session(db.engine) as session, session.begin():
        move = {**values, **words, "health": target, "health_since": clock.now()}
        moved = _change(session, connection_id, [*conditions, _may_move(finding), Connection.health != target], move)
        if not moved:
            is_same = and_(Connection.health == target, _is_worded_by(finding))
            kept: dict[str, Any] = {
                name: case((is_same, value), else_=getattr(Connection, name))
                for name, value in (words if finding.state in TROUBLES else {}).items()
            }
            # Even where nothing is to be set: whether the conditions held is what the caller wants to know.
            kept = {**kept, **values} or {"health": Connection.health}
            return _change(session, connection_id, conditions, kept)
        ended = _end_troubles(session, connection_id)
        lets_go = finding.state in WORKING and bool({NoticeKind.LOST, NoticeKind.SETTINGS_WRONG} & ended)
        if finding.state in TROUBLES:
            session.add(_notice(connection_id, finding))
    if lets_go:
        release_for(connection_id)
    elif finding.state in FINAL and finding.stage == Stage.TOKEN:
        hold_for(connection_id, finding.state, finding.code, finding.detail)
    return True


def set_by_person(connection: Connection, state: Health) -> None:
    """Put a connection that somebody connects, changes or disconnects into its new state; the caller commits.

    Troubles of what was before end, and so do announcements about the grant. Not of the client secret: it has its date.
    """
    if connection.health is not state:
        connection.health, connection.health_since = state, clock.now()
    connection.health_stage, connection.health_code, connection.health_detail = "", "", ""
    if connection.id is None:
        return
    # No flush from in here: the caller is in the middle of its changes.
    with db.session.no_autoflush:
        over = (*TROUBLES.values(), NoticeKind.TESTING_ENDS, NoticeKind.IDLE_ENDS)
        mine = (Notice.connection_id == connection.id, Notice.ended_at.is_(None))
        statement = update(Notice).where(*mine, Notice.kind.in_(over)).values(ended_at=clock.now())
        db.session.execute(statement.execution_options(synchronize_session=False))
        if state is Health.CONNECTED and db.session.scalar(select(Notice.id).where(*mine).limit(1)):
            connection.health = Health.EXPIRING


def doubt_the_loss(store_id: int) -> None:
    """Let the provider be asked once more about a grant that seemed to be gone; the caller commits.

    For a person who says that it is mended, such as an administrator who took a rule back.
    """
    connection = db.session.scalar(
        select(Connection).join(Connection.email_settings).where(EmailSettings.store_id == store_id)
    )
    if connection is not None and connection.health is Health.NEEDS_REAUTHORIZATION and connection.has_refresh_token:
        set_by_person(connection, Health.NOT_CONNECTED)


# Announcements -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Announcement:
    """Something that will end the connection. `occasion` is the same for everybody who foresees the same."""

    kind: NoticeKind
    occasion: str
    at: datetime


def announce(connection_id: int, announcements: Iterable[Announcement], *, foreseen: Iterable[str]) -> int:
    """Write the announcements that nobody has written, end those about what is not foreseen any more; return how many
    are new. Commits.

    Args:
        foreseen: beginnings of the occasions that are still true.
    """
    still = [Notice.occasion.startswith(beginning, autoescape=True) for beginning in foreseen]
    with writing(), Session(db.engine) as session, session.begin():
        count = sum(_announce(session, connection_id, one) for one in announcements)
        over = update(Notice).where(*_open(connection_id, ANNOUNCEMENTS), ~or_(*still) if still else literal(True))
        session.execute(over.values(ended_at=clock.now()).execution_options(synchronize_session=False))
        target = _target(connection_id, GRANTED)
        move = {"health": target, "health_since": clock.now()}
        _change(session, connection_id, [Connection.health.in_(WORKING), Connection.health != target], move)
    return count


def _announce(session: Session, connection_id: int, one: Announcement) -> int:
    insert = postgresql.insert if session.get_bind().dialect.name == "postgresql" else sqlite.insert
    row = insert(Notice).values(
        uid=new_uid(),
        connection_id=connection_id,
        kind=one.kind,
        occasion=one.occasion,
        begun_at=clock.now(),
        foreseen_at=one.at,
        stage="",
        code="",
        detail="",
    )
    row = row.on_conflict_do_nothing(index_elements=["connection_id", "kind", "occasion"])
    return int(session.execute(row.returning(Notice.id)).first() is not None)


# The one conditional UPDATE ----------------------------------------------------------------------------------------


def _target(connection_id: int, finding: Finding) -> ColumnElement[Any]:
    """The state it is in afterwards: a connection that works and whose end is announced is expiring."""
    if finding.state not in WORKING:
        return literal(finding.state, _HEALTH)
    is_announced = exists().where(*_open(connection_id, ANNOUNCEMENTS))
    return case((is_announced, literal(Health.EXPIRING, _HEALTH)), else_=literal(Health.CONNECTED, _HEALTH))


def _may_move(finding: Finding) -> ColumnElement[bool]:
    health, stage = Connection.health, Connection.health_stage
    if finding is TESTED:
        # The kept token may have served it, and outlives the grant.
        return health != Health.NEEDS_REAUTHORIZATION
    if finding.state in WORKING and finding.stage:
        return or_(health.not_in(FINAL), stage != Stage.AUTH.value)
    if finding.state in WORKING:
        return stage != Stage.TOKEN.value
    if finding.state is Health.TEMPORARILY_FAILING:
        return health.not_in(FINAL)
    if finding.stage == Stage.AUTH:
        return or_(health != Health.NEEDS_REAUTHORIZATION, stage == Stage.AUTH.value)
    return literal(True)


def _is_worded_by(finding: Finding) -> ColumnElement[bool]:
    """Whether the trouble that lasts is this one, so that its words may be renewed: the stage decides what ends it."""
    return or_(Connection.health_stage == finding.stage, Connection.health_stage == "")


def _change(session: Session, connection_id: int, conditions: Iterable[Any], values: dict[str, Any]) -> bool:
    statement = update(Connection).where(Connection.id == connection_id, *conditions).values(values)
    result = session.execute(statement.execution_options(synchronize_session=False))
    return bool(getattr(result, "rowcount", 0) == 1)


def _end_troubles(session: Session, connection_id: int) -> set[NoticeKind]:
    """End what is over and return of which kinds it was."""
    statement = update(Notice).where(*_open(connection_id, TROUBLES.values())).values(ended_at=clock.now())
    ended = session.execute(statement.returning(Notice.kind).execution_options(synchronize_session=False))
    return set(ended.scalars())


def _open(connection_id: int, kinds: Iterable[NoticeKind]) -> tuple[ColumnElement[bool], ...]:
    return Notice.connection_id == connection_id, Notice.kind.in_(tuple(kinds)), Notice.ended_at.is_(None)


def _notice(connection_id: int, finding: Finding) -> Notice:
    return Notice(
        connection_id=connection_id,
        kind=TROUBLES[finding.state],
        occasion=new_uid(),
        begun_at=clock.now(),
        stage=finding.stage,
        code=finding.code[:80],
        detail=finding.detail,
    )
