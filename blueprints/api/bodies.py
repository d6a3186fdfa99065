"""What a request brings: its JSON, its Idempotency-Key, its question. Each fault ends the request with a problem."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from flask import Response, abort, request

from blueprints import streamed_json, strict_json
from blueprints.problems import problem
from mail.intake import Rejected
from models.outbox import MessageStatus

# 25 MB of attachments grow by a third in base64; the rest is room for bodies and names.
BODY_BYTES_MAX = 36 * 1024 * 1024
IDEMPOTENCY_KEY = r"[\x21-\x7e]{1,255}"
CURSOR = r"m[0-9a-f]{1,15}"
LIST_MAX = 100
LIST_DEFAULT = 50
REFUSED = "The message cannot be accepted as it is"
_NO_CURSOR = -1


def read_object() -> dict[str, Any]:
    """The JSON object of this request's body."""
    request.max_content_length = BODY_BYTES_MAX
    if request.mimetype != "application/json":
        abort(problem(415, detail="Send JSON, with the header “Content-Type: application/json”."))
    try:
        return streamed_json.read_object(request.stream)
    except strict_json.BadJSON as error:
        abort(problem(400, detail=str(error)))


def read_idempotency_key() -> str | None:
    """The request's Idempotency-Key, if it has one."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not re.fullmatch(IDEMPOTENCY_KEY, key):
        abort(problem(400, detail="An Idempotency-Key has 1 to 255 visible ASCII characters."))
    return key


def key_of_item(key: str, position: int) -> str:
    """The Idempotency-Key of one message of a batch: its own, so that a batch sent again is judged item by item."""
    return "batch:" + hashlib.sha256(f"{position}:{key}".encode("ascii")).hexdigest()


def refusal(error: Rejected) -> Response:
    """422 with every fault by field."""
    return problem(422, title=REFUSED, errors=faults(error))


def faults(error: Rejected) -> list[dict[str, str]]:
    return [{"field": one.field, "message": one.message} for one in error.errors]


# Lists --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """Which messages a program wants to see: of one state or of any, older than that row, so many at most."""

    status: MessageStatus | None
    older_than: int | None
    limit: int


def read_question() -> Question:
    """The query of a list. A name that we do not know would answer another question than was asked."""
    errors = []
    for name in sorted(set(request.args) - {"status", "cursor", "limit"}):
        errors.append({"field": name[:100], "message": "There is no such parameter"})
    for name in ("status", "cursor", "limit"):
        if len(request.args.getlist(name)) > 1:
            errors.append({"field": name, "message": "Send this parameter once"})
    status, limit = request.args.get("status"), request.args.get("limit", str(LIST_DEFAULT))
    older_than = _row_behind(request.args.get("cursor"))
    if status is not None and status not in set(MessageStatus):
        errors.append({"field": "status", "message": f"Use one of {', '.join(MessageStatus)}"})
    if older_than is _NO_CURSOR:
        errors.append({"field": "cursor", "message": "Use the next_cursor of the page before"})
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= LIST_MAX:
        errors.append({"field": "limit", "message": f"Use a number from 1 to {LIST_MAX}"})
    if errors:
        abort(problem(422, title="The list cannot be made as asked", errors=errors))
    return Question(MessageStatus(status) if status else None, older_than, int(limit))


def cursor_behind(row_id: int) -> str:
    """An opaque word for "older than this row"."""
    return f"m{row_id:x}"


def _row_behind(cursor: str | None) -> int | None:
    if cursor is None:
        return None
    return int(cursor[1:], 16) if re.fullmatch(CURSOR, cursor) else _NO_CURSOR
