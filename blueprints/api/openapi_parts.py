"""What the operations of the API share: problems, headers, parameters, each under its name in the document."""

from __future__ import annotations

from typing import Any

from blueprints.api import bodies
from blueprints.api.openapi_schemas import ref
from mail.api_rates import WINDOW_S
from models.outbox import MessageStatus

PROBLEM = "application/problem+json"
MESSAGE_ID = "5f0c8e6b1d2a4c3f9e7b6a5d4c3b2a10"

RATE_HEADERS = {name: {"$ref": f"#/components/headers/{name}"} for name in ("RateLimit-Policy", "RateLimit")}

FAULTS = [{"field": "to[0]", "message": "Enter a full email address, like admin@yourdomain.com"}]

# Status → name below, and what it says.
PROBLEMS: dict[str, tuple[Any, ...]] = {
    "BadRequest": (
        400,
        "The request is not what HTTP or JSON allow, or its Idempotency-Key has other characters than visible ASCII.",
        {"title": "Bad Request", "detail": "The body is not valid JSON."},
    ),
    "Unauthorized": (
        401,
        "No key, or none that is in use.",
        {"title": "Unauthorized", "detail": "Send the API key of a store as “Authorization: Bearer sp_…”."},
        "WWW-Authenticate",
    ),
    "Forbidden": (
        403,
        "The key lacks the scope.",
        {"title": "Forbidden", "detail": "This API key lacks the scope “send”."},
    ),
    "NotFound": (
        404,
        "The store of this key has no such message.",
        {"title": "Not Found", "detail": "There is no such message in this store."},
    ),
    "InProgress": (
        409,
        "Another request with this Idempotency-Key is being worked on.",
        {"title": "Conflict", "detail": "A request with this Idempotency-Key is being worked on."},
        "Retry-After",
    ),
    "TooLate": (
        409,
        "The message has gone or is on its way. message_status says where it stands.",
        {
            "title": "Conflict",
            "detail": "Too late: the message has gone or is on its way.",
            "message_status": MessageStatus.SENT.value,
        },
    ),
    "TooLarge": (
        413,
        f"The body has more than {bodies.BODY_BYTES_MAX // 1024 // 1024} MB.",
        {"title": "Request Entity Too Large"},
    ),
    "NotJSON": (
        415,
        "The body is announced as something else than JSON.",
        {"title": "Unsupported Media Type", "detail": "Send JSON, with the header “Content-Type: application/json”."},
    ),
    "Refused": (
        422,
        "What was sent is not acceptable; errors lists every fault.",
        {"title": bodies.REFUSED, "errors": FAULTS},
    ),
    "TooMany": (
        429,
        "The key has made its requests of this minute.",
        {"title": "Too Many Requests", "detail": "This API key has made its 12,000 requests of this minute."},
        "Retry-After",
    ),
    "Fault": (
        500,
        "Our fault. The number helps to find it in the log.",
        {"title": "Internal Server Error", "incident": "9f2c41d0"},
    ),
    "Away": (
        503,
        "The database does not answer. Nothing was accepted.",
        {
            "title": "Service Unavailable",
            "detail": "The message could not be stored. Nothing was accepted; send it again.",
        },
        "Retry-After",
    ),
}
_NAMES = {words[0]: name for name, words in reversed(PROBLEMS.items())}
USUAL = (401, 403, 429, 500, 503)

HEADERS: dict[str, Any] = {
    "RateLimit-Policy": {
        "description": "How many requests the key may make (q) in how many seconds (w). Absent where the operator "
        "set no limit. draft-ietf-httpapi-ratelimit-headers.",
        "schema": {"type": "string", "pattern": f'^"key";q=[0-9]+;w={WINDOW_S}$'},
        "example": f'"key";q=12000;w={WINDOW_S}',
    },
    "RateLimit": {
        "description": "How many of them remain (r), and in how many seconds a new minute begins (t).",
        "schema": {"type": "string", "pattern": '^"key";r=[0-9]+;t=[0-9]+$'},
        "example": '"key";r=11990;t=31',
    },
    "Retry-After": {
        "description": "Seconds to wait before asking again.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
        "example": 5,
    },
    "Location": {
        "description": "Where the message is to be seen.",
        "required": True,
        "schema": {"type": "string", "format": "uri-reference"},
        "example": f"/api/v1/messages/{MESSAGE_ID}",
    },
    "Idempotent-Replayed": {
        "description": "true: accepted before under this Idempotency-Key, and answered again.",
        "schema": {"type": "string", "enum": ["true"]},
        "example": "true",
    },
    "WWW-Authenticate": {
        "description": "That a Bearer key is wanted.",
        "required": True,
        "schema": {"type": "string"},
        "example": 'Bearer realm="Storepost"',
    },
}

PARAMETERS: dict[str, Any] = {
    "Idempotency-Key": {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A word of your own for this message or batch, like order-1001, so that sending it again sends "
        "it once. 1 to 255 visible ASCII characters.",
        "schema": {"type": "string", "pattern": f"^{bodies.IDEMPOTENCY_KEY}$"},
    },
    "id": {
        "name": "id",
        "in": "path",
        "required": True,
        "description": "The message’s id, as it was answered when the message was accepted.",
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
        "example": MESSAGE_ID,
    },
    "status": {
        "name": "status",
        "in": "query",
        "description": "Only messages in this state.",
        "schema": {"type": "string", "enum": [status.value for status in MessageStatus]},
        "example": "failed",
    },
    "cursor": {
        "name": "cursor",
        "in": "query",
        "description": "The next_cursor of the page before. Without it, the newest messages.",
        "schema": {"type": "string", "pattern": f"^{bodies.CURSOR}$"},
        "example": "m6bb",
    },
    "limit": {
        "name": "limit",
        "in": "query",
        "description": "How many messages at most.",
        "schema": {"type": "integer", "minimum": 1, "maximum": bodies.LIST_MAX, "default": bodies.LIST_DEFAULT},
    },
}


def problems(*statuses: int) -> dict[str, Any]:
    """The responses of an operation that are no success."""
    return {str(status): {"$ref": f"#/components/responses/{_NAMES[status]}"} for status in statuses}


def problem_response(status: int, description: str, example: dict[str, Any], *headers: str) -> dict[str, Any]:
    """One of them, as it stands among the components."""
    told = {name: {"$ref": f"#/components/headers/{name}"} for name in headers}
    shown = {"type": "about:blank", **example, "status": status}
    return {
        "description": description,
        "headers": told if status == 401 else {**told, **RATE_HEADERS},
        "content": {PROBLEM: {"schema": ref("Problem"), "example": shown}},
    }
