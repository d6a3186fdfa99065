"""What the API tells about a message: that it was accepted, and where it stands."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from flask import Response
from sqlalchemy import Select, select
from sqlalchemy.orm import selectinload

from blueprints.api.bodies import REFUSED, faults
from mail.intake import Rejected
from mail.outbox import Enqueued
from mail.templates.handing_in import Offered
from models import Message
from models.outbox import Priority, RecipientKind

MESSAGES = "/api/v1/messages"
KEY_USED = "This Idempotency-Key was used before with another message."


def as_json(document: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(document), status=status, mimetype="application/json")


def accepted(one: Enqueued) -> Response:
    """202: it will go out, or is held for the reason given."""
    response = as_json({"id": one.uid, **_state(one)}, 202)
    response.headers["Location"] = f"{MESSAGES}/{one.uid}"
    if one.replayed:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def batch(results: Sequence[Enqueued | Rejected | None]) -> Response:
    """200 with what became of each message; None stands for an Idempotency-Key used for another message."""
    response = as_json({"results": [_result(one) for one in results]})
    taken = [one for one in results if isinstance(one, Enqueued)]
    if taken and all(one.replayed for one in taken):
        response.headers["Idempotent-Replayed"] = "true"
    return response


def _result(one: Enqueued | Rejected | None) -> dict[str, Any]:
    if isinstance(one, Enqueued):
        state = _state(one)
        found = {"status": 202, "id": one.uid, "message_status": state.pop("status"), **state}
        return {**found, "replayed": True} if one.replayed else found
    refused: dict[str, Any] = {"type": "about:blank", "title": REFUSED, "status": 422}
    return {**refused, "errors": faults(one)} if one is not None else {**refused, "detail": KEY_USED}


def _state(one: Enqueued) -> dict[str, str]:
    state = {"status": one.status.value}
    if one.hold_reason:
        state["hold_reason"] = one.hold_reason.value
    return state


def messages_of(store_id: int) -> Select[tuple[Message]]:
    """The messages of a store with their recipients and attempts: three queries, however many there are."""
    return (
        select(Message)
        .where(Message.store_id == store_id)
        .options(selectinload(Message.recipients), selectinload(Message.attempt_rows))
    )


def describe(message: Message) -> dict[str, Any]:
    """All that a program may know about a message of its store; never what it says."""
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


def describe_template(one: Offered) -> dict[str, Any]:
    """All that a program has to know to hand in mail by this template."""
    return {
        "template": one.kind.key,
        "name": one.kind.name,
        "group": one.kind.group.value,
        "purpose": one.kind.purpose,
        "is_on": one.is_on,
        "locales": list(one.locales),
        "variables": [
            {
                "path": variable.path,
                "type": variable.type.value,
                "meaning": variable.meaning,
                "required": not variable.is_optional,
            }
            for variable in one.kind.variables
        ],
        "sample": dict(one.sample),
    }


def _instant(at: Any) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
