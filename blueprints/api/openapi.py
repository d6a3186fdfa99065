"""The API in OpenAPI 3.1: one description, from which both the document and the page for people are made.

What a message may be comes from `mail/intake_schema.py`, states and reasons from the models: nothing is said twice.
"""

from __future__ import annotations

from typing import Any

from blueprints.api import bodies
from blueprints.api.openapi_parts import (
    FAULTS,
    HEADERS,
    MESSAGE_ID,
    PARAMETERS,
    PROBLEMS,
    RATE_HEADERS,
    USUAL,
    problem_response,
    problems,
)
from blueprints.api.openapi_schemas import SCHEMAS, ref
from mail import intake, intake_schema
from mail.templates import data_schema, locales
from mail.templates.kinds import KINDS, Kind
from models.api_key import Scope
from models.outbox import MessageStatus

JSON = "application/json"

# What people should know before they call anything: title → paragraphs.
GUIDE: dict[str, tuple[str, ...]] = {
    "Keys": (
        "A store’s administrator makes a key on the tab API keys. Send it with every request, as the header "
        "“Authorization: Bearer sp_…”. A key speaks for one store. Its scopes say what it may do: send hands in and "
        "cancels mail, read sees what became of it. A revoked key is refused at the next request.",
    ),
    "What 202 means": (
        "The message is stored for good and will be delivered: now, at send_at, or when what holds it is mended. "
        "Without a 202 nothing was accepted: send the message again, with the same Idempotency-Key.",
    ),
    "Once and only once": (
        "Send an Idempotency-Key of your own, like your order’s number, with a message or a batch. The same key with "
        "the same message answers with the first one and sends nothing; the header Idempotent-Replayed says so. The "
        "same key with another message is refused with 422. In a batch this holds for each message by its place in "
        "the list: sent again, what was accepted is answered again and what was refused is judged anew.",
    ),
    "Templates": (
        "In place of subject, text and html, a message may name a template and bring its data: "
        '"template": "sign_in_code", "data": {"sign_in": {"code": "481516", "minutes": 10}}. '
        "The store’s people write how it reads. What goes out is fixed when the message is accepted. A template that "
        "the store has switched off sends nothing: the message is accepted and ends at once as cancelled, with the "
        "reason template_off.",
    ),
    "Limits": (
        "Each key may make a number of requests in each minute; a batch is one request. The headers RateLimit-Policy "
        "and RateLimit tell the number (q), what remains of it (r) and for how many seconds the minute still lasts "
        "(t). Beyond it, the answer is 429 with Retry-After.",
    ),
    "When something is wrong": (
        "Every answer that is no success is a problem document (RFC 9457). 422 lists every fault with the field and "
        "what to do about it. 409, 429 and 503 are worth repeating, after as many seconds as Retry-After says, where "
        "it stands; 400, 401, 403, 404, 413, 415 and 422 are not, before something is changed.",
    ),
}


def document(public_url: str) -> dict[str, Any]:
    """Return the whole document; `public_url` is where this installation is reached."""
    return {
        "openapi": "3.1.0",
        "jsonSchemaDialect": "https://json-schema.org/draft/2020-12/schema",
        "info": {
            "title": "Storepost",
            "version": "1",
            "summary": "Hands in mail for a store, and tells what became of it.",
            "description": "\n\n".join("\n\n".join((f"## {title}", *parts)) for title, parts in GUIDE.items()),
        },
        "servers": [{"url": public_url}],
        "tags": [
            {"name": "Sending", "description": "Handing in mail, and taking it back while it has not gone."},
            {"name": "Looking back", "description": "What became of it."},
            {"name": "About", "description": "This description."},
        ],
        "security": [{"apiKey": []}],
        "paths": _paths(),
        "components": {
            "securitySchemes": {
                "apiKey": {"type": "http", "scheme": "bearer", "description": GUIDE["Keys"][0]},
            },
            "schemas": {
                "NewMessage": intake_schema.new_message(
                    {kind.key: ref(_data_name(kind)) for kind in KINDS}, locales.TAG
                ),
                "NewBatch": intake_schema.new_batch(ref("NewMessage")),
                **SCHEMAS,
                **{_data_name(kind): data_schema.data_of(kind) for kind in KINDS},
            },
            "headers": HEADERS,
            "parameters": PARAMETERS,
            "responses": {name: problem_response(*words) for name, words in PROBLEMS.items()},
        },
    }


def _data_name(kind: Kind) -> str:
    """Of its schema: "OrderConfirmationData"."""
    return "".join(word.capitalize() for word in kind.key.split("_")) + "Data"


# Operations ---------------------------------------------------------------------------------------------------------


def _paths() -> dict[str, Any]:
    return {
        "/api/v1/messages": {"post": _SEND, "get": _INDEX},
        "/api/v1/messages/batch": {"post": _SEND_BATCH},
        "/api/v1/messages/{id}": {"get": _SHOW},
        "/api/v1/messages/{id}/cancel": {"post": _CANCEL},
        "/api/v1/templates": {"get": _TEMPLATES},
        "/api/v1/openapi.json": {"get": _OPENAPI},
    }


def _success(description: str, schema: str, example: Any, **headers: str) -> dict[str, Any]:
    return {
        "description": description,
        "headers": {
            **{name: {"$ref": f"#/components/headers/{header}"} for name, header in headers.items()},
            **RATE_HEADERS,
        },
        "content": {JSON: {"schema": ref(schema), "example": example}},
    }


def _parameters(*names: str) -> list[dict[str, Any]]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]


def _body(schema: str, example: Any) -> dict[str, Any]:
    return {"required": True, "content": {JSON: {"schema": ref(schema), "example": example}}}


_ACCEPTED = {"id": MESSAGE_ID, "status": MessageStatus.QUEUED.value}
_SECOND = {"to": ["tom"], "subject": "Your order 1002", "text": "Thank you."}

_SEND: dict[str, Any] = {
    "operationId": "send",
    "tags": ["Sending"],
    "summary": "Hand in a message",
    "description": "Answers when the message is stored for good. It then waits for its turn, or is held for the "
    "reason in hold_reason until somebody mends that.",
    "security": [{"apiKey": [Scope.SEND.value]}],
    "parameters": _parameters("Idempotency-Key"),
    "requestBody": _body("NewMessage", intake_schema.EXAMPLE),
    "responses": {
        "202": {
            **_success(
                "Stored for good.",
                "Accepted",
                _ACCEPTED,
                **{"Location": "Location", "Idempotent-Replayed": "Idempotent-Replayed"},
            ),
            "links": {
                "see": {"operationId": "show", "parameters": {"id": "$response.body#/id"}},
                "cancel": {"operationId": "cancel", "parameters": {"id": "$response.body#/id"}},
            },
        },
        **problems(400, 409, 413, 415, 422, *USUAL),
    },
}

_SEND_BATCH: dict[str, Any] = {
    "operationId": "sendBatch",
    "tags": ["Sending"],
    "summary": "Hand in several messages",
    "description": f"Up to {intake.BATCH_MAX} messages in one request. Each is accepted or refused for itself: look "
    "at each result, which stand in the order of the messages. All that are accepted are stored together.",
    "security": [{"apiKey": [Scope.SEND.value]}],
    "parameters": _parameters("Idempotency-Key"),
    "requestBody": _body("NewBatch", {"messages": [intake_schema.EXAMPLE, _SECOND]}),
    "responses": {
        "200": _success(
            "What became of each message.",
            "BatchResults",
            {
                "results": [
                    {"status": 202, "id": MESSAGE_ID, "message_status": MessageStatus.QUEUED.value},
                    {"type": "about:blank", "title": bodies.REFUSED, "status": 422, "errors": FAULTS},
                ]
            },
            **{"Idempotent-Replayed": "Idempotent-Replayed"},
        ),
        **problems(400, 409, 413, 415, 422, *USUAL),
    },
}

_MESSAGE_EXAMPLE: dict[str, Any] = {
    "id": MESSAGE_ID,
    "status": "sent",
    "hold_reason": None,
    "reason": None,
    "maybe_sent_twice": False,
    "subject": "Your order 1001",
    "message_id": f"<{MESSAGE_ID}@shop.example>",
    "priority": "high",
    "created_at": "2027-01-31T08:59:58.120Z",
    "due_at": None,
    "expires_at": "2027-01-31T09:59:58.120Z",
    "ended_at": "2027-01-31T08:59:59.470Z",
    "recipients": [
        {"address": "lena@example.com", "kind": "to", "status": "accepted", "reply_code": 250, "reply": "2.1.5 Ok"}
    ],
    "attempts": [
        {
            "number": 1,
            "started_at": "2027-01-31T08:59:58.300Z",
            "finished_at": "2027-01-31T08:59:59.470Z",
            "outcome": "sent",
            "code": None,
            "reply_code": 250,
            "reply": "2.0.0 Ok: queued",
        }
    ],
}

_INDEX: dict[str, Any] = {
    "operationId": "index",
    "tags": ["Looking back"],
    "summary": "List messages",
    "description": "The store’s messages, newest first. Ask for the next page with next_cursor until it is null.",
    "security": [{"apiKey": [Scope.READ.value]}],
    "parameters": _parameters("status", "cursor", "limit"),
    "responses": {
        "200": _success("A page of messages.", "MessageList", {"messages": [_MESSAGE_EXAMPLE], "next_cursor": "m6bb"}),
        **problems(400, 422, *USUAL),
    },
}

_SHOW: dict[str, Any] = {
    "operationId": "show",
    "tags": ["Looking back"],
    "summary": "See a message",
    "description": "Where the message stands, what became of each recipient, and every attempt to deliver it.",
    "security": [{"apiKey": [Scope.READ.value]}],
    "parameters": _parameters("id"),
    "responses": {"200": _success("The message.", "Message", _MESSAGE_EXAMPLE), **problems(404, *USUAL)},
}

_CANCELLED = _MESSAGE_EXAMPLE | {
    "status": "cancelled",
    "recipients": [{**_MESSAGE_EXAMPLE["recipients"][0], "status": "waiting", "reply_code": None, "reply": ""}],
    "attempts": [],
}

_CANCEL: dict[str, Any] = {
    "operationId": "cancel",
    "tags": ["Sending"],
    "summary": "Cancel a message",
    "description": "While it has not gone and is not on its way this moment. Cancelling it twice changes nothing.",
    "security": [{"apiKey": [Scope.SEND.value]}],
    "parameters": _parameters("id"),
    "responses": {
        "200": _success("The message, cancelled.", "Message", _CANCELLED),
        **problems(404, *USUAL),
        "409": {"$ref": "#/components/responses/TooLate"},
    },
}

_TEMPLATES: dict[str, Any] = {
    "operationId": "templates",
    "tags": ["Sending"],
    "summary": "List templates",
    "description": "The templates of the store: what each is for, whether it is on, and the data that it needs. A key "
    "that may send may ask; nothing is told of what was sent.",
    "security": [{"apiKey": [Scope.SEND.value]}],
    "responses": {
        "200": _success(
            "Every template.",
            "TemplateList",
            {
                "templates": [
                    {
                        "template": "sign_in_code",
                        "name": "Sign-in code",
                        "group": "notification",
                        "purpose": "Goes to a customer who is signing in, with the code to type.",
                        "is_on": True,
                        "locales": ["de", "en"],
                        "variables": [
                            {"path": "sign_in.code", "type": "text", "meaning": "The code to type", "required": True}
                        ],
                        "sample": {"sign_in": {"code": "481516", "minutes": 10}},
                    }
                ]
            },
        ),
        **problems(*USUAL),
    },
}

_OPENAPI: dict[str, Any] = {
    "operationId": "openapi",
    "tags": ["About"],
    "summary": "This description",
    "description": "The API in OpenAPI 3.1. Needs no key.",
    "security": [],
    "responses": {
        "200": {"description": "The document.", "content": {JSON: {"schema": {"type": "object"}}}},
        **problems(500),
    },
}
