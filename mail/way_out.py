"""A store's way out by the settings of this moment, with what tells later whether they are still the same."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.orm import joinedload

from extensions import db
from mail import outbox_finish, outcomes
from mail import settings as email_settings
from mail.equipment import Equipment
from mail.errors import Stage
from mail.health import WORKING
from mail.held_by_connection import trouble_of
from mail.outbox_work import ClaimedMessage
from mail.outcomes import Outcome
from mail.settings import Route, SettingsIncomplete
from models.connection import Health
from models.database import reading
from models.email_settings import EmailSettings, Method, UncertainChoice
from models.outbox import HoldReason, MessageStatus
from security.vault import Unreadable

SETTINGS_CHANGED = "settings_changed"
METHOD_SWITCHED = "method_switched"
# Somebody else has the message, or the mailbox may send nothing just now.
WITHDRAWN = "withdrawn"
# Nothing happened to the message itself: it goes back to where it was.
NOT_BEGUN = frozenset({SETTINGS_CHANGED, METHOD_SWITCHED, WITHDRAWN})


@dataclass(frozen=True)
class WayOut:
    """How a store's mail leaves now.

    Attributes:
        settings_version: counts the saves of the settings; asked again right before a message commits.
        connection_edition: counts what people change in the connection.
        is_healthy: whether the connection is known to work, so that a success is no news.
        asks_when_uncertain: the store wants to be asked before a message that may have been sent goes again.
    """

    route: Route
    settings_version: int
    connection_edition: int = 1
    is_healthy: bool = True
    asks_when_uncertain: bool = False


def load_way_out(store_id: int, equipment: Equipment) -> WayOut | Outcome:
    """Return the way out, or the hold that says why there is none. Ends the caller's transaction.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: the database is away.
    """
    db.session.rollback()  # what the caller left open may be a writer's transaction
    try:
        with reading():
            settings = _load_settings(store_id)
            if settings.emails_off:
                return outcomes.held(HoldReason.EMAILS_OFF)
            if (lost := _lost_grant(settings)) is not None:
                return lost
            return WayOut(
                route=email_settings.route_for(settings, equipment),
                settings_version=settings.version,
                connection_edition=settings.connection.edition if settings.connection else 1,
                is_healthy=settings.connection is None or settings.connection.health in WORKING,
                asks_when_uncertain=settings.on_uncertain is UncertainChoice.ASK,
            )
    except SettingsIncomplete as trouble:
        return outcomes.held(HoldReason.NOT_COMPLETE, code="incomplete", detail=str(trouble))
    except Unreadable as trouble:
        return outcomes.held(HoldReason.UNREADABLE, code="secret_unreadable", detail=str(trouble))
    finally:
        db.session.remove()


def why_withdrawn(claimed: ClaimedMessage, way: WayOut) -> Outcome:
    """Say why the last check refused this message: emails off, another method, other settings, or too late.

    None of these: the claim was lost and nobody asks us, or the mailbox's rate is used up.
    """
    expired = outbox_finish.has_expired(claimed)
    with reading():
        settings = _load_settings(claimed.store_id)
        emails_off, method, version = settings.emails_off, settings.method, settings.version
        db.session.remove()
    if emails_off:
        return outcomes.held(HoldReason.EMAILS_OFF)
    if expired:
        return Outcome(MessageStatus.EXPIRED)
    if method is not way.route.method:
        return Outcome(MessageStatus.QUEUED, code=METHOD_SWITCHED)
    return Outcome(MessageStatus.QUEUED, code=WITHDRAWN if version == way.settings_version else SETTINGS_CHANGED)


def _lost_grant(settings: EmailSettings) -> Outcome | None:
    """Return the hold of mail whose grant is gone: the provider is not asked about it again (providers.md 12)."""
    connection = settings.connection
    if settings.method is not Method.ADVANCED_SMTP or connection is None:
        return None
    if connection.health is not Health.NEEDS_REAUTHORIZATION or connection.health_stage == Stage.AUTH:
        return None
    return trouble_of(connection.health, connection.health_code, connection.health_detail)


def _load_settings(store_id: int) -> EmailSettings:
    query = (
        select(EmailSettings).where(EmailSettings.store_id == store_id).options(joinedload(EmailSettings.connection))
    )
    return db.session.execute(query.execution_options(populate_existing=True)).scalar_one()
