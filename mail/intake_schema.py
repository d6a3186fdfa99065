"""What `mail/intake.py` takes, as JSON Schema: the same limits and patterns, so that the two cannot drift apart.

Source: JSON Schema 2020-12, as OpenAPI 3.1 uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mail import intake, text_rules
from models.outbox import SUBJECT_MAX
from models.template import LOCALE_MAX

Schema = dict[str, Any]

# Blanks around a line are taken off before it is judged (security.md 20), hence the \s on both sides.
_LINE = rf"^\s*[^{text_rules.HIDDEN}]*\s*$"
_FILENAME = rf"^\s*[^/\\\s{text_rules.HIDDEN}][^/\\{text_rules.HIDDEN}]*\s*$"
_BODY = f"^[^{intake.BAD_IN_BODY}]*$"
_BASE64 = r"^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
_NOTHING = {"type": "null"}
_MEGABYTES = intake.TOTAL_BYTES_MAX // 1024 // 1024

EXAMPLE: dict[str, Any] = {
    "to": ["lena@example.com"],
    "reply_to": ["orders@shop.example"],
    "subject": "Your order 1001",
    "text": "Thank you for your order.",
    "html": "<p>Thank you for your order.</p>",
    "headers": {"X-Order": "1001"},
    "attachments": [{"filename": "invoice.pdf", "content_type": "application/pdf", "content": "JVBERi0xLjQK"}],
    "priority": "high",
    "expires_in": 3600,
}


def new_message(data: Mapping[str, Schema], locale: str) -> Schema:
    """Return the schema of a message as it is handed in.

    Args:
        data: of each template, by its key.
        locale: pattern of a locale.
    """
    return {
        "type": "object",
        "description": "A message to send. The store’s settings say who it is from.",
        "properties": {
            "to": _addresses("Recipients that everybody sees."),
            "cc": _addresses("Recipients of a copy, which everybody sees."),
            "bcc": _addresses("Recipients that nobody sees."),
            "reply_to": _addresses("Where answers go, when not to the sender."),
            "subject": {
                "type": ["string", "null"],
                "maxLength": SUBJECT_MAX,
                "pattern": _LINE,
                "description": "One line. No subject means an empty one.",
            },
            "text": _body("The message as plain text."),
            "html": _body("The message as HTML. With text too, mail programs choose."),
            "headers": _headers(),
            "attachments": _attachments(),
            "priority": {
                "type": ["string", "null"],
                "enum": [*intake.PRIORITIES, None],
                "default": "normal",
                "description": "high for sign-in codes and the like, low for bulk: of what waits, high goes first.",
            },
            "expires_in": {
                "type": ["integer", "null"],
                "minimum": 1,
                "maximum": intake.EXPIRES_IN_MAX_S,
                "description": "Seconds after which the message is worthless: later it is not sent any more. "
                "Counted from send_at, where that is given.",
            },
            "send_at": {
                "type": ["string", "null"],
                "format": "date-time",
                "description": f"When to send it, with a time zone, within {intake.SEND_AT_MAX.days} days. "
                "A time that has passed means now.",
                "examples": ["2027-01-31T09:00:00Z"],
            },
            "template": {
                "type": ["string", "null"],
                "enum": [*data, None],
                "description": "A template of the store, in place of subject, text and html.",
            },
            "data": {
                "type": ["object", "null"],
                "description": "What the template puts in: see the data of each template. A store’s own texts may ask "
                "for more names; the list of templates has a sample.",
            },
            "locale": {
                "type": ["string", "null"],
                "maxLength": LOCALE_MAX,
                "pattern": f"^{locale}$",
                "description": "The language of the recipient, for the template. Without it, the store’s.",
                "examples": ["de-AT"],
            },
        },
        "additionalProperties": False,
        "allOf": [
            {"anyOf": [_has_some(name) for name in ("to", "cc", "bcc")]},
            {
                "anyOf": [
                    *(_written_out(name) for name in ("text", "html")),
                    *(_by_template(key, schema) for key, schema in data.items()),
                ]
            },
        ],
        "examples": [EXAMPLE],
    }


def new_batch(message: Schema) -> Schema:
    """Return the schema of a batch; `message` refers to the schema of its items.

    Anything may stand among them: one that is refused does not make the batch a bad one.
    """
    return {
        "type": "object",
        "description": "Several messages at once.",
        "properties": {
            "messages": {
                "type": "array",
                "minItems": 1,
                "maxItems": intake.BATCH_MAX,
                "items": {"anyOf": [message, {"description": "Anything else is refused for itself."}]},
                "description": "Each is accepted or refused for itself.",
            }
        },
        "required": ["messages"],
        "additionalProperties": False,
    }


def _addresses(description: str) -> Schema:
    return {
        "type": ["array", "null"],
        "items": {"type": "string", "format": "idn-email", "maxLength": 320},
        "maxItems": text_rules.ADDRESSES_MAX,
        "description": f"{description} Plain addresses without names, {text_rules.ADDRESSES_MAX} at most.",
        "examples": [["lena@example.com"]],
    }


def _body(description: str) -> Schema:
    return {"type": ["string", "null"], "pattern": _BODY, "description": description}


def _headers() -> Schema:
    return {
        "type": ["object", "null"],
        "propertyNames": {"pattern": f"^{intake.HEADER_NAME}$", "maxLength": intake.HEADER_NAME_MAX},
        "additionalProperties": {"type": "string", "maxLength": intake.HEADER_VALUE_MAX, "pattern": _LINE},
        "maxProperties": intake.HEADERS_MAX,
        "description": "Further header fields. Names that other fields or servers set (From, To, Cc, Bcc, Sender, "
        "Reply-To, Return-Path, Subject, Date, Message-ID, Received, MIME-…, Content-…, DKIM-…, ARC-…, Resent-…) are "
        "refused, and so is the same name twice in another case.",
        "examples": [{"X-Order": "1001"}],
    }


def _attachments() -> Schema:
    return {
        "type": ["array", "null"],
        "maxItems": intake.ATTACHMENTS_MAX,
        "items": {
            "type": "object",
            "properties": {
                "filename": {
                    "type": "string",
                    "maxLength": intake.FILENAME_MAX,
                    "pattern": _FILENAME,
                    "description": "The file’s name without a path.",
                },
                "content_type": {
                    "type": "string",
                    "pattern": f"^{intake.CONTENT_TYPE}$",
                    "default": intake.CONTENT_TYPE_DEFAULT,
                    "description": "Its media type.",
                },
                "content": {
                    "type": "string",
                    "contentEncoding": "base64",
                    "pattern": _BASE64,
                    "description": "Its bytes in base64, with padding and without line breaks.",
                },
            },
            "required": ["filename", "content"],
            "additionalProperties": False,
        },
        "description": f"Files to go along. Text, HTML and attachments may have {_MEGABYTES} MB together.",
    }


def _has_some(name: str) -> Schema:
    return {"properties": {name: {"type": "array", "minItems": 1}}, "required": [name]}


def _written_out(name: str) -> Schema:
    nothing = dict.fromkeys(("template", "data", "locale"), _NOTHING)
    return {"properties": {name: {"type": "string"}, **nothing}, "required": [name]}


def _by_template(key: str, data: Schema) -> Schema:
    nothing = dict.fromkeys(("subject", "text", "html"), _NOTHING)
    return {"properties": {"template": {"const": key}, "data": data, **nothing}, "required": ["template", "data"]}
