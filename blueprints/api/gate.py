"""Who may use the API, and how often: the Bearer key of a store, its scopes, its requests in a minute.

No cookies and no sessions here: the key is the only proof, so there is nothing for CSRF to abuse.
"""

from __future__ import annotations

import functools
from typing import Any, cast

from flask import Response, current_app, g, request
from sqlalchemy.exc import SQLAlchemyError

from blueprints.problems import problem
from blueprints.web import View
from mail import api_keys
from mail.api_rates import WINDOW_S, RequestRates, Usage
from models.api_key import Scope

RATES = "storepost_api_rates"
RETRY_AFTER_S = 5
NOT_STORED = "The message could not be stored. Nothing was accepted; send it again."
PERHAPS_STORED = (
    "The database broke off while it stored the message, which may have been accepted. Send it again only with the "
    "Idempotency-Key that it had, or look for it first."
)
NOT_READ = "The database does not answer at the moment. Ask again."


def with_key(scope: Scope) -> Any:
    """Only holders of a good API key with this scope, within its limit; the view gets the `holder`."""

    def mark(view: View) -> View:
        @functools.wraps(view)
        def gated(*args: Any, **kwargs: Any) -> Any:
            try:
                holder = api_keys.holder_of(request.headers.get("Authorization"))
            except SQLAlchemyError:
                return database_away(NOT_STORED if scope is Scope.SEND else NOT_READ)
            if holder is None:
                return no_key()
            g.api_usage = usage = _rates().count(holder)
            if usage is not None and usage.is_over:
                return _too_many(usage)
            if scope not in holder.scopes:
                return problem(403, detail=f"This API key lacks the scope “{scope}”.")
            return view(*args, holder=holder, **kwargs)

        gated.access = f"api key: {scope}"  # type: ignore[attr-defined]  # a label read by the house test
        return gated

    return mark


def tell_rates(response: Response) -> Response:
    """Add the rate headers to an answer, whatever it says. Source: draft-ietf-httpapi-ratelimit-headers-10."""
    usage: Usage | None = g.get("api_usage")
    if usage is not None:
        response.headers["RateLimit-Policy"] = f'"key";q={usage.limit};w={WINDOW_S}'
        response.headers["RateLimit"] = f'"key";r={usage.remaining};t={usage.resets_in_s}'
    return response


def database_away(detail: str) -> Response:
    """503: what is known of it, and when to come again."""
    response = problem(503, detail=detail)
    response.headers["Retry-After"] = str(RETRY_AFTER_S)
    return response


def no_key() -> Response:
    """401: no key, or none that is in use."""
    response = problem(401, detail="Send the API key of a store as “Authorization: Bearer sp_…”.")
    response.headers["WWW-Authenticate"] = 'Bearer realm="Storepost"'
    return response


def _too_many(usage: Usage) -> Response:
    response = problem(429, detail=f"This API key has made its {usage.limit:,} requests of this minute.")
    response.headers["Retry-After"] = str(usage.resets_in_s)
    return response


def _rates() -> RequestRates:
    return cast(RequestRates, current_app.extensions[RATES])
