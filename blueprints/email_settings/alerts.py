"""What the pages of a store say about its connection before anybody asks: lost, refused, about to end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select

from blueprints.times import day
from blueprints.web import equipment
from extensions import db
from mail import settings as email_settings
from mail.consent import provider_of
from mail.errors import Stage
from mail.foresight import Foreseen, foreseen
from mail.lifetimes import TESTING_ENDED
from models import Message, Store
from models.connection import Connection, GrantType, Health
from models.notice import NoticeKind
from models.outbox import HoldReason, MessageStatus
from models.types import utcnow

_HELD_FOR = (HoldReason.NEEDS_REAUTHORIZATION, HoldReason.SETTINGS_WRONG)


@dataclass(frozen=True)
class Alert:
    """One banner. `since`: when the trouble began; `oldest`: when the oldest held message came in.

    Attributes:
        kind: bad or warn.
        reconnects: whether Reconnect is the way out.
        held: messages that wait for it.
    """

    kind: str
    icon: str
    title: str
    text: str
    reconnects: bool = False
    since: datetime | None = None
    held: int = 0
    oldest: datetime | None = None


def alerts_of(store: Store) -> list[Alert]:
    """The banners of a store's connection, the worst first; what is stored, and no network."""
    settings = store.email_settings
    connection = settings.connection
    if connection is None:
        return []
    who = provider_of(connection, equipment()).short_name
    sharers = [other.name for other in email_settings.sharers(settings)]
    found = []
    if connection.health in (Health.NEEDS_REAUTHORIZATION, Health.SETTINGS_WRONG):
        found.append(_stopped(store, connection, who, sharers))
    if connection.health is not Health.NEEDS_REAUTHORIZATION:
        found += [_ending(end, who, sharers) for end in foreseen(connection, utcnow())]
    return found


def _stopped(store: Store, connection: Connection, who: str, sharers: list[str]) -> Alert:
    mine = (Message.store_id == store.id, Message.status == MessageStatus.HELD, Message.hold_reason.in_(_HELD_FOR))
    held, oldest = db.session.execute(select(func.count(), func.min(Message.created_at)).where(*mine)).one()
    facts = {"since": connection.health_since, "held": held, "oldest": oldest}
    goes = "Held messages go out oldest first, at the rate the provider allows; those that expire first are not sent."
    if connection.health is Health.NEEDS_REAUTHORIZATION:
        title = f"{who} revoked this store’s authorization"
        if connection.health_code == TESTING_ENDED:
            title = f"{who} ended this store’s authorization after 7 days"
            goes = f"The app is in Testing: publish it or make it Internal, then reconnect. {goes}"
        also = _also(sharers, "lost it too and", "has to be connected as well", "have to be connected as well")
        return Alert("bad", "unplug", title, f"{also}{goes}", reconnects=not _is_app_only(connection), **facts)
    what = "refuses the sign-in" if connection.health_stage == Stage.AUTH else "refuses these settings"
    also = _also(sharers, "uses the same connection and", "is stopped too", "are stopped too")
    way_out = "The connection card says why and what to do; a passed test lets the mail go. "
    return Alert("bad", "circle-alert", f"{who} {what}", f"{also}{way_out}{goes}", **facts)


def _also(sharers: list[str], middle: str, one: str, many: str) -> str:
    if not sharers:
        return ""
    names = _names(sharers)
    if len(sharers) > 1:
        middle = middle.replace("uses ", "use ")
    return f"{names} {middle} {one if len(sharers) == 1 else many}. "


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _is_app_only(connection: Connection) -> bool:
    return connection.grant_type is GrantType.CLIENT_CREDENTIALS


def _ending(end: Foreseen, who: str, sharers: list[str]) -> Alert:
    is_near = end.days_left <= 1
    kind = "bad" if is_near else "warn"
    when = _when(end)
    also = f" {_names(sharers)} {'sends' if len(sharers) == 1 else 'send'} by the same connection." if sharers else ""
    match end.kind:
        case NoticeKind.SECRET_ENDS:
            verb = "expired" if end.days_left < 0 else "expires"
            text = (
                f"Make a second secret at {who}, enter it as Client Secret and press Test Email Settings before you "
                f"save. The old one is used until then, so no mail waits.{also}"
            )
            return Alert(kind, "key-round", f"The client secret {verb} {when}", text)
        case NoticeKind.TESTING_ENDS:
            text = (
                "Its app is in Testing, where authorizations live for 7 days. Publish the app, or make it Internal, "
                f"then reconnect.{also}"
            )
            return Alert(kind, "clock", f"{who} ends this connection {when}", text, reconnects=True)
        case _:
            text = (
                "A grant that is not used for too long ends, and renewing it has not worked so far. Send a test, or "
                f"reconnect.{also}"
            )
            return Alert(kind, "clock", f"{who} ends this unused connection {when}", text, reconnects=True)


def _when(end: Foreseen) -> str:
    on = f"on {day(end.at)}"
    if end.days_left < 0:
        return on
    if end.days_left == 0:
        return "today"
    return f"in {end.days_left} day{'' if end.days_left == 1 else 's'}, {on}"
