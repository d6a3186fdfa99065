"""Problem details (RFC 9457): how the API says no."""

from __future__ import annotations

from typing import Any

from flask import Response, json
from werkzeug.http import HTTP_STATUS_CODES


def problem(status: int, *, title: str = "", detail: str = "", **members: Any) -> Response:
    """An `application/problem+json` answer; `members` are extension members like `errors`."""
    body = {"type": "about:blank", "title": title or HTTP_STATUS_CODES.get(status, "Error"), "status": status}
    if detail:
        body["detail"] = detail
    return Response(json.dumps(body | members), status=status, mimetype="application/problem+json")
