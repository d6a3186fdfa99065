"""What tests of the API share: a message, and what their fixtures are."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import func, select
from werkzeug.test import TestResponse

from extensions import db as database
from mail import api_keys
from mail.audit import SYSTEM
from models import Message
from tests import factories

MESSAGE = {"to": ["lena@shop.example"], "subject": "Your order", "text": "Thanks."}
Send = Callable[..., TestResponse]
Call = Callable[..., TestResponse]


def count() -> int:
    """How many messages there are."""
    database.session.rollback()
    return database.session.scalar(select(func.count()).select_from(Message)) or 0


def the_message() -> Message:
    """The newest one."""
    database.session.rollback()
    return database.session.scalars(select(Message).order_by(Message.id.desc()).limit(1)).one()


def key_of_another_store() -> str:
    """The Authorization header of somebody else."""
    _, secret = api_keys.create(factories.make_store("Other Store"), "x", actor=SYSTEM)
    database.session.commit()
    return f"Bearer {secret.reveal()}"
