"""The calls of the API: 202 after the commit, problem details (RFC 9457) for everything else.

Hand in one message or many, see one or a list, cancel one while it has not gone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, current_app
from flask.blueprints import BlueprintSetupState
from sqlalchemy.exc import DBAPIError, IntegrityError, NoResultFound

from blueprints.api import answers, bodies, gate, reference
from blueprints.api.gate import NOT_READ, NOT_STORED, PERHAPS_STORED, database_away, with_key
from blueprints.extensions import csrf
from blueprints.problems import problem
from blueprints.web import equipment, public
from extensions import db
from mail import audit, intake, outbox
from mail.accepting_together import PerhapsStored, Together
from mail.api_keys import KeyHolder
from mail.api_rates import RequestRates
from mail.outbox import Enqueued, HandedIn, IdempotencyConflict
from mail.templates import handing_in
from models import Message, Store
from models.api_key import Scope
from models.outbox import MessageStatus

logger = logging.getLogger(__name__)

bp = Blueprint("api", __name__, url_prefix="/api/v1")
csrf.exempt(bp)
bp.after_request(gate.tell_rates)

# As long as a message's name is: "batch" is none.
_UID = "<string(length=32):uid>"
_TOGETHER = "storepost_accepting_together"
# Two requests with the same Idempotency-Key at once: the slower one finds the other's message the second time.
_TRIES = 3


@bp.record_once
def _set_up(state: BlueprintSetupState) -> None:
    state.app.extensions[_TOGETHER] = Together()
    state.app.extensions[gate.RATES] = RequestRates(state.app.config.get("API_REQUESTS_PER_MINUTE", 12_000))


# Handing in


@bp.post("/messages")
@with_key(Scope.SEND)
def send(holder: KeyHolder) -> Response:
    key = bodies.read_idempotency_key()
    found = _take_in(holder, [bodies.read_object()], [key])
    if isinstance(found, Response):
        return found
    (one,) = found
    if isinstance(one, Enqueued):
        return answers.accepted(one)
    return bodies.refusal(one) if one else problem(422, detail=answers.KEY_USED)


@bp.post("/messages/batch")
@with_key(Scope.SEND)
def send_batch(holder: KeyHolder) -> Response:
    key = bodies.read_idempotency_key()
    try:
        items = intake.items_of_batch(bodies.read_object())
    except intake.Rejected as error:
        return bodies.refusal(error)
    keys = [bodies.key_of_item(key, position) if key else None for position in range(len(items))]
    found = _take_in(holder, items, keys)
    return found if isinstance(found, Response) else answers.batch(found)


def _take_in(
    holder: KeyHolder, documents: Sequence[Any], keys: Sequence[str | None]
) -> list[Enqueued | intake.Rejected | None] | Response:
    """Read messages, store those that are good, and return what became of each; or why nothing could be done.

    None stands for an Idempotency-Key that was used for another message.
    """
    try:
        read = handing_in.read_messages(holder.store_id, documents, keys)
    except NoResultFound:
        return gate.no_key()  # the store went meanwhile, and its keys with it
    except DBAPIError:
        return database_away(NOT_STORED)
    good = [one for one in read if isinstance(one, HandedIn)]
    found = _store(holder, good) if good else []
    if isinstance(found, Response):
        return found
    stored = iter(found)
    told = [next(stored) if isinstance(one, HandedIn) else one for one in read]
    return [None if isinstance(one, IdempotencyConflict) else one for one in told]


def _store(holder: KeyHolder, many: Sequence[HandedIn]) -> list[Enqueued | None] | Response:
    """Write messages down for good and return what became of each; or why not. In one commit, shared with others.

    None stands for an Idempotency-Key that was used for another message.
    """
    together: Together = current_app.extensions[_TOGETHER]
    for _ in range(_TRIES):
        try:
            found = together.accept(holder.store_id, many, equipment=equipment(), api_key_id=holder.key_id)
        except IntegrityError:
            continue  # somebody else was faster with the same key
        except NoResultFound:
            return gate.no_key()  # the store went meanwhile, and its keys with it
        except PerhapsStored:
            logger.warning("nobody knows whether messages of store %d were stored", holder.store_id, exc_info=True)
            return database_away(PERHAPS_STORED)
        except DBAPIError:
            return database_away(NOT_STORED)
        else:
            return [one if isinstance(one, Enqueued) else None for one in found]
    response = problem(409, detail="A request with this Idempotency-Key is being worked on.")
    response.headers["Retry-After"] = "1"
    return response


# Looking back


@bp.get("/messages")
@with_key(Scope.READ)
def index(holder: KeyHolder) -> Response:
    question = bodies.read_question()
    query = answers.messages_of(holder.store_id).order_by(Message.id.desc()).limit(question.limit + 1)
    if question.status is not None:
        query = query.where(Message.status == question.status)
    if question.older_than is not None:
        query = query.where(Message.id < question.older_than)
    try:
        found = list(db.session.scalars(query))
    except DBAPIError:
        db.session.rollback()
        return database_away(NOT_READ)
    shown = found[: question.limit]
    return answers.as_json(
        {
            "messages": [answers.describe(message) for message in shown],
            "next_cursor": bodies.cursor_behind(shown[-1].id) if len(found) > len(shown) else None,
        }
    )


@bp.get(f"/messages/{_UID}")
@with_key(Scope.READ)
def show(uid: str, holder: KeyHolder) -> Response:
    try:
        message = _load(holder, uid)
    except DBAPIError:
        db.session.rollback()
        return database_away(NOT_READ)
    return answers.as_json(answers.describe(message)) if message else _no_such_message()


@bp.post(f"/messages/{_UID}/cancel")
@with_key(Scope.SEND)
def cancel(uid: str, holder: KeyHolder) -> Response:
    """Cancelling what is cancelled already changes nothing and says so again."""
    try:
        if outbox.cancel(holder.store_id, uid):
            audit.record(holder.actor, "message_cancelled", db.session.get(Store, holder.store_id), detail=uid)
        message = _load(holder, uid)
        found = answers.describe(message) if message else None
        db.session.commit()
    except DBAPIError:
        db.session.rollback()
        return database_away("Nothing was cancelled; ask again.")
    if found is None:
        return _no_such_message()
    if found["status"] != MessageStatus.CANCELLED:
        detail = "Too late: the message has gone or is on its way."
        return problem(409, detail=detail, message_status=found["status"])
    return answers.as_json(found)


def _load(holder: KeyHolder, uid: str) -> Message | None:
    message: Message | None = db.session.scalar(answers.messages_of(holder.store_id).where(Message.uid == uid))
    return message


def _no_such_message() -> Response:
    return problem(404, detail="There is no such message in this store.")


@bp.get("/templates")
@with_key(Scope.SEND)
def templates(holder: KeyHolder) -> Response:
    """For those who hand in: it says what to send, and nothing of what was sent."""
    try:
        offered = handing_in.offered(holder.store_id)
    except NoResultFound:
        return gate.no_key()
    except DBAPIError:
        db.session.rollback()
        return database_away(NOT_READ)
    return answers.as_json({"templates": [answers.describe_template(one) for one in offered]})


# What the API is


@bp.get("/openapi.json")
@public("what programs read before they have a key")
def openapi() -> Response:
    return reference.document()


@bp.get("/docs")
@public("what people read before they have a key")
def docs() -> Response:
    return reference.page()
