"""Error pages: a sentence and, for our own faults, an incident number; never a trace."""

from __future__ import annotations

import logging
import secrets

from flask import Flask, Response, current_app, make_response, render_template, request
from flask_login import current_user
from flask_wtf.csrf import CSRFError
from werkzeug.exceptions import HTTPException, SecurityError

from blueprints.problems import problem
from blueprints.web import ask_to_sign_in, wants_fragment
from extensions import db

logger = logging.getLogger(__name__)

# Which page speaks for a status that has none of its own
PAGES = {400, 403, 404, 409, 413, 429, 500}


def register(app: Flask) -> None:
    app.register_error_handler(SecurityError, _unknown_host)
    app.register_error_handler(CSRFError, _csrf)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _fault)


def _unknown_host(error: SecurityError) -> Response:
    # No page: with an unknown host there is no address to build links from.
    words = "This is not the address Storepost is configured for."
    if _is_api():
        return problem(400, detail=words)
    return Response(f"{words}\n", 400, mimetype="text/plain")


def _csrf(error: CSRFError) -> Response:
    view = current_app.view_functions.get(request.endpoint or "")
    if not current_user.is_authenticated and not getattr(view, "access", "public").startswith("public"):
        # The token went with the session. To sign in is what helps, and what the view itself would have answered.
        return ask_to_sign_in()
    message = "This page was open too long, or your session ended. Load it again, then repeat what you did."
    return _page(400, message)


def _http(error: HTTPException) -> Response:
    if error.response is not None:
        return make_response(error.response)
    response = _page(error.code or 500, None)
    for name, value in error.get_headers():
        if name.lower() in ("allow", "retry-after"):
            response.headers[name] = value
    return response


def _fault(error: Exception) -> Response:
    incident = secrets.token_hex(4)
    db.session.rollback()
    logger.exception("incident %s at %s %s", incident, request.method, request.endpoint, extra={"incident": incident})
    return _page(500, None, incident=incident)


def _page(status: int, message: str | None, *, incident: str = "") -> Response:
    if _is_api():
        return problem(status, detail=message or "", **({"incident": incident} if incident else {}))
    code = status if status in PAGES else (500 if status >= 500 else 400)
    if not wants_fragment():
        return make_response(render_template(f"errors/{code}.html", message=message, reference=incident), status)
    # The form on the page stays as it is; the message appears in the page's own place for trouble.
    response = make_response(render_template("errors/_banner.html", code=code, message=message), status)
    response.headers["HX-Retarget"] = "#net-error"
    response.headers["HX-Reswap"] = "innerHTML"
    return response


def _is_api() -> bool:
    return request.path.startswith("/api/")
