"""Messages of a store: the list, one message, and what people may decide about those that are held."""

from __future__ import annotations

from flask import Blueprint, Response, abort, flash, request, url_for
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from blueprints.messages import listing, words
from blueprints.messages.forms import HeldForm
from blueprints.messages.listing import FILTERS, Filters
from blueprints.web import actor, equipment, for_store, go_on, respond
from extensions import db
from mail import audit, outbox
from models import EmailSettings, Message, Store
from models.access import Permission
from models.outbox import END_STATES, HoldReason, MessageStatus

bp = Blueprint("messages", __name__)


@bp.get("/stores/<int:store_id>/messages")
@for_store(Permission.VIEW_MESSAGES)
def index(store: Store) -> Response:
    filters = Filters.of(request.args.get("status", ""), request.args.get("q", ""))
    page = listing.load_page(store, filters, before=request.args.get("before", ""), after=request.args.get("after", ""))
    settings = _load_settings(store)
    links = [
        {"label": label, "url": Filters(value, filters.q).url(store), "current": value == filters.status}
        for value, (label, _) in FILTERS.items()
    ]
    return respond(
        "messages/index.html",
        "messages/_table.html",
        store=store,
        page_=page,
        filters=filters,
        links=links,
        held=listing.load_held(store),
        holds=words.HOLDS,
        emails_off=settings.emails_off,
        reasons={row.message.id: words.reason_in_short(row.message, settings) for row in page.rows},
    )


@bp.get("/stores/<int:store_id>/messages/<uid>")
@for_store(Permission.VIEW_MESSAGES)
def show(store: Store, uid: str) -> Response:
    message = _load_message(store, uid)
    settings = _load_settings(store)
    attempts = [
        (one, *words.attempt_line(one, is_running=message.status is MessageStatus.SENDING and number == 0))
        for number, one in enumerate(message.attempt_rows)
    ]
    return respond(
        "messages/show.html",
        store=store,
        message=message,
        verdict=words.verdict(message, settings),
        attempts=attempts,
        hold=words.HOLDS.get(message.hold_reason) if message.status is MessageStatus.HELD else None,
        emails_off=settings.emails_off,
        can_cancel=message.status not in (*END_STATES, MessageStatus.SENDING),
    )


@bp.post("/stores/<int:store_id>/messages/release")
@for_store(Permission.MANAGE_MESSAGES)
def release(store: Store) -> Response:
    reason = _posted_reason()
    if reason is HoldReason.EMAILS_OFF and store.email_settings.emails_off:
        return _back(store, "Emails are still turned off for this store. Turn them on first.", "warning")
    count = outbox.release(store.id, reason, equipment=equipment())
    audit.record(actor(), "messages_released", store, detail=f"{count} held: {reason.value}")
    db.session.commit()
    return _back(store, f"{_messages(count)} on the way, oldest first.")


@bp.post("/stores/<int:store_id>/messages/discard")
@for_store(Permission.MANAGE_MESSAGES)
def discard(store: Store) -> Response:
    reason = _posted_reason()
    count = outbox.discard(store.id, reason)
    audit.record(actor(), "messages_discarded", store, detail=f"{count} held: {reason.value}")
    db.session.commit()
    return _back(store, f"{_messages(count)} discarded.")


@bp.post("/stores/<int:store_id>/messages/<uid>/release")
@for_store(Permission.MANAGE_MESSAGES)
def release_one(store: Store, uid: str) -> Response:
    message = _load_message(store, uid)
    if message.hold_reason is HoldReason.EMAILS_OFF and store.email_settings.emails_off:
        return _back(store, "Emails are still turned off for this store. Turn them on first.", "warning", uid)
    count = outbox.release(store.id, message.hold_reason, uid=uid, equipment=equipment()) if message.hold_reason else 0
    if count:
        audit.record(actor(), "message_released", store, detail=uid)
    db.session.commit()
    return _back(store, "The message is on the way." if count else "The message is not held any more.", uid=uid)


@bp.post("/stores/<int:store_id>/messages/<uid>/cancel")
@for_store(Permission.MANAGE_MESSAGES)
def cancel(store: Store, uid: str) -> Response:
    _load_message(store, uid)
    cancelled = outbox.cancel(store.id, uid)
    if cancelled:
        audit.record(actor(), "message_cancelled", store, detail=uid)
    db.session.commit()
    if cancelled:
        return _back(store, "The message is cancelled.", uid=uid)
    return _back(store, "Too late: the message has gone or is on its way.", "warning", uid)


def _posted_reason() -> HoldReason:
    form = HeldForm()
    if not form.validate_on_submit():
        abort(400)
    return form.hold_reason


def _load_message(store: Store, uid: str) -> Message:
    query = (
        select(Message)
        .where(Message.store_id == store.id, Message.uid == uid)
        .options(selectinload(Message.recipients), selectinload(Message.attempt_rows))
    )
    return db.session.scalar(query) or abort(404)


def _load_settings(store: Store) -> EmailSettings:
    query = select(EmailSettings).where(EmailSettings.store_id == store.id)
    return db.session.scalars(query.options(joinedload(EmailSettings.connection))).one()


def _messages(count: int) -> str:
    return "1 message is" if count == 1 else f"{count:,} messages are"


def _back(store: Store, words: str, category: str = "success", uid: str = "") -> Response:
    flash(words, category)
    if uid:
        return go_on(url_for("messages.show", store_id=store.id, uid=uid))
    return go_on(url_for("messages.index", store_id=store.id))
