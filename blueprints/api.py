"""Messages come in from other programs: 202 after the commit, problem details (RFC 9457) for everything else.

No cookies and no sessions here: the Bearer key of a store is the only proof, so there is nothing for CSRF to abuse.
"""

from __future__ import annotations

import functools
import json
import re
from typing import Any

from flask import Blueprint, Response, request, url_for
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.orm import selectinload

from blueprints import streamed_json, strict_json
from blueprints.problems import problem
from blueprints.web import View, equipment
from extensions import csrf, db
from mail import api_keys, intake, outbox
from mail.api_keys import KeyHolder
from models import Message
from models.database import reading
from models.outbox import Priority, RecipientKind

bp = Blueprint("api", __name__, url_prefix="/api/v1")
csrf.exempt(bp)

# 25 MB of attachments grow by a third in base64; the rest is room for bodies and names.
BODY_BYTES_MAX = 36 * 1024 * 1024
RETRY_AFTER_S = 5
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def with_key(scope: str) -> Any:
    """Only holders of a good API key with this scope; the view gets the `holder`."""

    def mark(view: View) -> View:
        @functools.wraps(view)
        def gated(*args: Any, **kwargs: Any) -> Any:
            # Read before the body arrives, and as a reader: a large upload must not keep SQLite's only writer waiting.
            try:
                with reading():
                    holder = api_keys.holder_of(request.headers.get("Authorization"))
                    db.session.rollback()
            except SQLAlchemyError:
                return _database_away()
            if holder is None:
                response = problem(401, detail="Send the API key of a store as “Authorization: Bearer sp_…”.")
                response.headers["WWW-Authenticate"] = 'Bearer realm="Storepost"'
                return response
            if scope not in holder.scopes:
                return problem(403, detail=f"This API key lacks the scope “{scope}”.")
            return view(*args, holder=holder, **kwargs)

        gated.access = f"api key: {scope}"  # type: ignore[attr-defined]  # a label read by the house test
        return gated

    return mark


@bp.post("/messages")
@with_key("send")
def send(holder: KeyHolder) -> Response:
    request.max_content_length = BODY_BYTES_MAX
    if request.mimetype != "application/json":
        return problem(415, detail="Send the message as application/json.")
    idempotency_key = request.headers.get("Idempotency-Key")
    if idempotency_key is not None and not _IDEMPOTENCY_KEY.fullmatch(idempotency_key):
        return problem(400, detail="An Idempotency-Key has 1 to 255 visible ASCII characters.")
    try:
        document = streamed_json.read_object(request.stream)
    except strict_json.BadJSON as error:
        return problem(400, detail=str(error))
    body_hash = intake.fingerprint(document) if idempotency_key else None
    try:
        new = intake.read_message(document)
    except intake.Rejected as error:
        errors = [{"field": one.field, "message": one.message} for one in error.errors]
        return problem(422, title="The message cannot be accepted as it is", errors=errors)
    return _store(holder, new, idempotency_key, body_hash)


def _store(holder: KeyHolder, new: intake.NewMessage, key: str | None, body_hash: str | None) -> Response:
    """Write the message down for good, then say so."""
    try:
        accepted = outbox.enqueue(
            holder.store_id,
            new,
            equipment=equipment(),
            api_key_id=holder.key_id,
            idempotency_key=key,
            idempotency_hash=body_hash,
        )
        api_keys.touch(holder)
        db.session.commit()
    except outbox.IdempotencyConflict:
        db.session.rollback()
        return problem(422, detail="This Idempotency-Key was used before with another message.")
    except IntegrityError:
        db.session.rollback()
        return _after_collision(holder, key, body_hash)
    except DBAPIError:
        db.session.rollback()
        return _database_away()
    return _accepted(accepted)


def _after_collision(holder: KeyHolder, key: str | None, body_hash: str | None) -> Response:
    """Another request with the same key was faster: its message is ours, unless it is still being written."""
    try:
        earlier = outbox.find_replay(holder.store_id, key, body_hash) if key and body_hash else None
    except outbox.IdempotencyConflict:
        return problem(422, detail="This Idempotency-Key was used before with another message.")
    finally:
        db.session.rollback()
    if earlier is not None:
        return _accepted(earlier)
    response = problem(409, detail="A request with this Idempotency-Key is being worked on.")
    response.headers["Retry-After"] = "1"
    return response


def _accepted(accepted: outbox.Enqueued) -> Response:
    body = {"id": accepted.uid, "status": accepted.status.value}
    if accepted.hold_reason:
        body["hold_reason"] = accepted.hold_reason.value
    response = Response(json.dumps(body), status=202, mimetype="application/json")
    response.headers["Location"] = url_for("api.show", uid=accepted.uid)
    if accepted.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


@bp.get("/messages/<uid>")
@with_key("read")
def show(uid: str, holder: KeyHolder) -> Response:
    query = (
        select(Message)
        .where(Message.uid == uid, Message.store_id == holder.store_id)
        .options(selectinload(Message.recipients), selectinload(Message.attempt_rows))
    )
    try:
        message = db.session.scalar(query)
    except DBAPIError:
        db.session.rollback()
        return _database_away()
    if message is None:
        return problem(404, detail="There is no such message in this store.")
    return Response(json.dumps(_as_json(message)), mimetype="application/json")


def _as_json(message: Message) -> dict[str, Any]:
    return {
        "id": message.uid,
        "status": message.status.value,
        "hold_reason": message.hold_reason.value if message.hold_reason else None,
        "reason": {"code": message.reason_code, "detail": message.reason_detail} if message.reason_code else None,
        "maybe_sent_twice": message.maybe_sent_twice,
        "subject": message.subject,
        "message_id": message.message_id,
        "priority": Priority(message.priority).name.lower(),
        "created_at": _instant(message.created_at),
        "due_at": _instant(message.due_at) if message.ended_at is None else None,
        "expires_at": _instant(message.expires_at),
        "ended_at": _instant(message.ended_at),
        # The store's own Bcc is its administrator's business, not the application's.
        "recipients": [
            {
                "address": one.address,
                "kind": one.kind.value,
                "status": one.status.value,
                "reply_code": one.reply_code,
                "reply": one.reply,
            }
            for one in message.recipients
            if one.kind is not RecipientKind.STORE_BCC
        ],
        "attempts": [
            {
                "number": one.number,
                "started_at": _instant(one.started_at),
                "finished_at": _instant(one.finished_at),
                "outcome": one.outcome or None,
                "code": one.code or None,
                "reply_code": one.reply_code,
                "reply": one.reply,
            }
            for one in reversed(message.attempt_rows)
        ],
    }


def _instant(at: Any) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _database_away() -> Response:
    response = problem(503, detail="The message could not be stored. Nothing was accepted; send it again.")
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response
