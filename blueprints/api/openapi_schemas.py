"""The schemas of what the API answers; states, kinds and reasons are those of the models."""

from __future__ import annotations

import enum
from typing import Any

from mail.templates.kinds import Group, ValueType
from models.outbox import HoldReason, MessageStatus, Priority, RecipientKind, RecipientStatus

Schema = dict[str, Any]


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(description: str, optional: tuple[str, ...] = (), **properties: Schema) -> Schema:
    return {
        "type": "object",
        "description": description,
        "properties": properties,
        "required": [name for name in properties if name not in optional],
        "additionalProperties": False,
    }


def _text(description: str, **more: Any) -> Schema:
    return {"type": "string", "description": description, **more}


def _one_of(kind: type[enum.StrEnum], description: str, *, leave_out: tuple[enum.StrEnum, ...] = ()) -> Schema:
    return {"type": "string", "enum": [e.value for e in kind if e not in leave_out], "description": description}


def _or_null(schema: Schema) -> Schema:
    found = {**schema, "type": [schema["type"], "null"]}
    return {**found, "enum": [*schema["enum"], None]} if "enum" in schema else found


def _list(items: Schema, description: str) -> Schema:
    return {"type": "array", "items": items, "description": description}


_ID = _text("The message’s id.", pattern="^[0-9a-f]{32}$")
_INSTANT = {"type": "string", "format": "date-time"}
_STATUS = _one_of(
    MessageStatus,
    "Where it stands: queued waits for its turn, sending is on its way this moment, deferred failed for now and is "
    "tried again, held waits for a person, sent was accepted by the mail server, failed will not go, expired was not "
    "sent in time, cancelled was taken back, uncertain may have been sent.",
)
_HOLD_REASON = _one_of(
    HoldReason,
    "Why it is held: emails_off (turned off for the store), not_complete (settings lack something), "
    "needs_reauthorization (the mailbox must be connected again), settings_wrong (the mail server refuses them), "
    "unreadable (a stored secret does not open), uncertain (may have been sent, a person decides), poison (took its "
    "worker down too often).",
)
_REPLY_CODE = _or_null({"type": "integer", "description": "The mail server’s SMTP code."})
_REPLY = _text("The mail server’s words.")
_ERRORS = _list(
    _object(
        "One fault.",
        field=_text("Where it is, like attachments[0].content; empty where the whole is meant."),
        message=_text("What to do about it."),
    ),
    "Every fault that was found, 100 at most.",
)
_PROBLEM_PARTS: dict[str, Schema] = {
    "type": _text("about:blank: the status says it all.", format="uri-reference"),
    "title": _text("What is wrong, in short."),
    "status": {"type": "integer", "description": "The HTTP status."},
    "detail": _text("What is wrong, and what to do."),
    "errors": _ERRORS,
}

SCHEMAS: dict[str, Schema] = {
    "Accepted": _object(
        "A message that was accepted.", optional=("hold_reason",), id=_ID, status=_STATUS, hold_reason=_HOLD_REASON
    ),
    "BatchResults": _object(
        "What became of a batch.",
        results=_list(
            {"oneOf": [ref("BatchAccepted"), ref("BatchRefused")]}, "One for each message, in the same order."
        ),
    ),
    "BatchAccepted": _object(
        "A message of a batch that was accepted.",
        optional=("hold_reason", "replayed"),
        status={"type": "integer", "const": 202, "description": "202: accepted."},
        id=_ID,
        message_status=_STATUS,
        hold_reason=_HOLD_REASON,
        replayed={
            "type": "boolean",
            "const": True,
            "description": "true: accepted before under this Idempotency-Key, and answered again.",
        },
    ),
    "BatchRefused": _object(
        "A message of a batch that was refused.",
        optional=("detail", "errors"),
        **{**_PROBLEM_PARTS, "status": {"type": "integer", "const": 422, "description": "422: refused."}},
    ),
    "Message": _object(
        "A message and what became of it. What it says is not told.",
        id=_ID,
        status=_STATUS,
        hold_reason=_or_null(_HOLD_REASON),
        reason=_or_null(
            _object(
                "Why it is in this state, when it did not simply go out.",
                code=_text("A stable word."),
                detail=_text("The mail server’s words."),
            )
        ),
        maybe_sent_twice={"type": "boolean", "description": "Whether a broken connection may have doubled it."},
        subject=_text("Its subject, until that is purged."),
        message_id=_text("The Message-ID in its header."),
        priority={"type": "string", "enum": [one.name.lower() for one in Priority], "description": "Its priority."},
        created_at={**_INSTANT, "description": "When it was accepted."},
        due_at=_or_null({**_INSTANT, "description": "When it is due, while it has not ended."}),
        expires_at=_or_null({**_INSTANT, "description": "After when it is not sent any more."}),
        ended_at=_or_null({**_INSTANT, "description": "When it ended."}),
        recipients=_list(
            _object(
                "A recipient.",
                address=_text("The address."),
                kind=_one_of(RecipientKind, "Where it was named.", leave_out=(RecipientKind.STORE_BCC,)),
                status=_one_of(RecipientStatus, "What the mail server said of this one."),
                reply_code=_REPLY_CODE,
                reply=_REPLY,
            ),
            "What became of each recipient.",
        ),
        attempts=_list(
            _object(
                "An attempt to deliver it.",
                number={"type": "integer", "minimum": 1, "description": "Which one, from 1."},
                started_at={**_INSTANT, "description": "When it began."},
                finished_at=_or_null({**_INSTANT, "description": "When it ended; null while it lasts."}),
                outcome=_or_null(_text("The state it led to; null while it lasts.")),
                code=_or_null(_text("A stable word for what went wrong.")),
                reply_code=_REPLY_CODE,
                reply=_REPLY,
            ),
            "Every attempt, oldest first.",
        ),
    ),
    "MessageList": _object(
        "A page of messages.",
        messages=_list(ref("Message"), "Newest first."),
        next_cursor=_or_null(_text("What to send as cursor for older messages; null on the last page.")),
    ),
    "TemplateList": _object("The store’s templates.", templates=_list(ref("Template"), "Every template there is.")),
    "Template": _object(
        "A template and what it needs.",
        template=_text("Its key: what to send as template."),
        name=_text("What people call it."),
        group=_one_of(Group, "What kind of mail it is."),
        purpose=_text("When it is sent, and to whom."),
        is_on={"type": "boolean", "description": "false: the store has switched it off, and nothing is sent by it."},
        locales=_list({"type": "string"}, "Languages that it has texts in."),
        variables=_list(
            _object(
                "A name of its data.",
                path=_text("Where it stands, like order.lines[].name: [] is any item of a list."),
                type=_one_of(ValueType, "What it is. money is a number or a text like 12.50, date is RFC 3339."),
                meaning=_text("What to send."),
                required={"type": "boolean", "description": "false: it may be absent, null or empty."},
            ),
            "What its data has.",
        ),
        sample={"type": "object", "description": "Data that it renders with."},
    ),
    "Problem": _object(
        "A problem document (RFC 9457).",
        optional=("detail", "errors", "message_status", "incident"),
        **_PROBLEM_PARTS,
        message_status=_one_of(MessageStatus, "Where the message stands that could not be cancelled."),
        incident=_text("The number of our fault in the log."),
    ),
}
