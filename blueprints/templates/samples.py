"""A sample of a mail, sent to who edits it, the way the store's own mail goes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import select

from blueprints.messages import words
from blueprints.templates import frames
from blueprints.web import actor, equipment, signed_in_user
from extensions import db
from mail import audit, outbox
from mail.outbox_content import NewMessage
from mail.templates.kinds import Kind
from mail.templates.previews import with_pictures
from mail.templates.rendering import Rendered
from models import EmailSettings, Message, Store
from models.outbox import MessageStatus, Priority
from models.types import utcnow

SOURCE = "sample"
# Then the page stops asking: without a worker the answer would never change.
_PATIENCE = timedelta(minutes=1)
_ON_THE_WAY = (MessageStatus.QUEUED, MessageStatus.SENDING)


@dataclass(frozen=True)
class SampleState:
    """What became of a sample. `kind` is that of a note; `uid` names the message, empty when there is none."""

    kind: str
    title: str
    text: str = ""
    uid: str = ""
    is_on_the_way: bool = False


def send(store: Store, kind: Kind, locale: str, mail: Rendered) -> SampleState:
    """Hand the sample in; commits. With emails turned off nothing is handed in."""
    recipient = signed_in_user().email
    if store.email_settings.emails_off:
        title = f"Emails are turned off for {store.name}, so no sample was sent"
        return SampleState("warn", title, "Turn them on in the store’s email settings, then send the sample again.")
    html = with_pictures(mail.html, frames.pictures_url())
    new = NewMessage(to=(recipient,), subject=mail.subject, text=mail.text, html=html, priority=Priority.HIGH)
    taken = outbox.enqueue(store.id, new, equipment=equipment(), source=SOURCE)
    audit.record(actor(), "template_sample_sent", store, fields=[kind.key], detail=f"{kind.name} ({locale})")
    db.session.commit()
    return SampleState("", f"Sending the sample to {recipient}", uid=taken.uid, is_on_the_way=True)


def state_of(store: Store, uid: str) -> SampleState | None:
    """How far a sample has come; None when there is no such sample."""
    message = db.session.scalar(
        select(Message).where(Message.store_id == store.id, Message.uid == uid, Message.source == SOURCE)
    )
    if message is None:
        return None
    recipient = message.recipients[0].address
    if message.status in _ON_THE_WAY and utcnow() - message.created_at > _PATIENCE:
        return SampleState("warn", "The sample still waits to be sent", "Its message says what for.", uid)
    if message.status in _ON_THE_WAY:
        return SampleState("", f"Sending the sample to {recipient}", uid=uid, is_on_the_way=True)
    if message.status is MessageStatus.SENT:
        return SampleState("ok", f"The server accepted the sample for {recipient}", "Look into that inbox.", uid)
    settings = db.session.scalars(select(EmailSettings).where(EmailSettings.store_id == store.id)).one()
    verdict = words.verdict(message, settings)
    return SampleState("warn" if verdict.kind == "off" else verdict.kind or "warn", verdict.title, verdict.text, uid)
