"""Messages of a store: the list, one message, and what people may decide about those that are held."""

from __future__ import annotations

from flask import Blueprint, Response, abort, flash, request, url_for
from sqlalchemy import select
from sqlalchemy.orm import joinedload, selectinload

from blueprints.messages import deeds, listing, related, words
from blueprints.messages.forms import HeldForm, UncertainForm
from blueprints.messages.listing import FILTERS, Filters
from blueprints.web import actor, equipment, for_store, go_on, respond, wants_fragment
from extensions import db
from mail import audit, outbox, repeating
from mail import settings as email_settings
from models import EmailSettings, Message, Store
from models.access import Permission
from models.outbox import HoldReason, MessageStatus

bp = Blueprint("messages", __name__)


@bp.get("/stores/<int:store_id>/messages")
@for_store(Permission.VIEW_MESSAGES)
def index(store: Store) -> Response:
    return _list(store, UncertainForm(formdata=None, on_uncertain=store.email_settings.on_uncertain.value))


def _list(store: Store, form: UncertainForm, status: int = 200) -> Response:
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
        status=status,
        store=store,
        form=form,
        page_=page,
        filters=filters,
        links=links,
        held=listing.load_held(store),
        holds=words.HOLDS,
        emails_off=settings.emails_off,
        reasons={row.message.id: words.reason_in_short(row.message, settings) for row in page.rows},
        outlook=words.outlook,
        expiry=words.expiry,
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
        "messages/_followed.html",
        store=store,
        message=message,
        verdict=words.verdict(message, settings),
        attempts=attempts,
        deeds=deeds.of(message, emails_off=settings.emails_off),
        related=related.load(message),
        next_at=message.due_at if words.outlook(message) else None,
        expiry=words.expiry(message),
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


@bp.post("/stores/<int:store_id>/messages/<uid>/resend")
@for_store(Permission.MANAGE_MESSAGES)
def resend(store: Store, uid: str) -> Response:
    _load_message(store, uid)
    copy = repeating.send_again(store.id, uid, equipment=equipment())
    if copy is None:
        db.session.rollback()
        return _back(
            store,
            "It cannot be sent again: it has not ended, or its content is gone or cannot be read.",
            "warning",
            uid,
        )
    audit.record(actor(), "message_resent", store, detail=f"{uid} as {copy.uid}")
    db.session.commit()
    return _back(store, "Handed in again, as this new message.", uid=copy.uid)


@bp.post("/stores/<int:store_id>/messages/<uid>/send-now")
@for_store(Permission.MANAGE_MESSAGES)
def send_now(store: Store, uid: str) -> Response:
    _load_message(store, uid)
    hurried = outbox.retry_now(store.id, uid, equipment=equipment())
    if hurried:
        audit.record(actor(), "message_hurried", store, detail=uid)
    db.session.commit()
    if hurried:
        return _back(store, "The message is next in line.", uid=uid)
    return _back(store, "The message does not wait any more.", "warning", uid)


@bp.post("/stores/<int:store_id>/messages/<uid>/mark-sent")
@for_store(Permission.MANAGE_MESSAGES)
def mark_sent(store: Store, uid: str) -> Response:
    _load_message(store, uid)
    marked = outbox.mark_sent(store.id, uid)
    if marked:
        audit.record(actor(), "message_marked_sent", store, detail=uid)
    db.session.commit()
    if marked:
        return _back(store, "The message is marked as sent.", uid=uid)
    return _back(store, "Nobody is asked about this message any more.", "warning", uid)


@bp.post("/stores/<int:store_id>/messages/on-uncertain")
@for_store(Permission.MANAGE_MESSAGES)
def choose_on_uncertain(store: Store) -> Response:
    form = UncertainForm()
    if not form.validate_on_submit():
        return _uncertain_card(store, form, 422) if wants_fragment() else _list(store, form, 422)
    email_settings.choose_on_uncertain(store.email_settings, form.choice, actor=actor())
    db.session.commit()
    if wants_fragment():
        return _uncertain_card(store, form, saved=True)
    return _back(store, "Saved.")


def _uncertain_card(store: Store, form: UncertainForm, status: int = 200, *, saved: bool = False) -> Response:
    return respond("messages/_on_uncertain.html", status=status, store=store, form=form, just_saved=saved)


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
