"""What every page needs: who may, page or fragment, where to go next, the headers that go with it."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Callable
from typing import Any, cast
from urllib.parse import quote, urlsplit

from flask import Response, abort, current_app, g, make_response, redirect, render_template, request, url_for
from flask_login import current_user
from sqlalchemy.orm import joinedload

from extensions import db
from mail.audit import Actor
from mail.equipment import Equipment
from models import Store, User
from models.access import Permission, may, stores_for

View = Callable[..., Any]


def equipment() -> Equipment:
    """The vault, the door and the operator's settings, as made at start."""
    return cast(Equipment, current_app.extensions["storepost"])


def signed_in_user() -> User:
    """The person behind this request; the access decorators have made sure that there is one."""
    return cast(User, current_user._get_current_object())


def actor() -> Actor:
    user = signed_in_user()
    return Actor(user.display_name, user.id)


# --- Access. Every view carries exactly one of these; tests/house walks the URL map and fails on any without.


def public(why: str) -> Callable[[View], View]:
    """Anyone may call this view, for the stated reason."""

    def mark(view: View) -> View:
        view.access = f"public: {why}"  # type: ignore[attr-defined]  # a label read by the house test
        return view

    return mark


def requires(permission: Permission) -> Callable[[View], View]:
    """Only people with this permission for the installation."""

    def mark(view: View) -> View:
        @functools.wraps(view)
        def gated(*args: Any, **kwargs: Any) -> Any:
            if not current_user.is_authenticated:
                return ask_to_sign_in()
            if not may(signed_in_user(), permission):
                abort(403)
            return view(*args, **kwargs)

        gated.access = str(permission)  # type: ignore[attr-defined]  # as above
        return gated

    return mark


def signed_in(view: View) -> View:
    """Anyone who is signed in."""

    @functools.wraps(view)
    def gated(*args: Any, **kwargs: Any) -> Any:
        return view(*args, **kwargs) if current_user.is_authenticated else ask_to_sign_in()

    gated.access = "signed in"  # type: ignore[attr-defined]  # as above
    return gated


def for_store(permission: Permission) -> Callable[[View], View]:
    """Only people with this permission for the store in the URL; the view gets the `store` instead of its id.

    A foreign store answers 404, exactly like a missing one.
    """

    def mark(view: View) -> View:
        @functools.wraps(view)
        def gated(*args: Any, store_id: int, **kwargs: Any) -> Any:
            if not current_user.is_authenticated:
                return ask_to_sign_in()
            return view(*args, store=load_store(store_id, permission), **kwargs)

        gated.access = f"store: {permission}"  # type: ignore[attr-defined]  # as above
        return gated

    return mark


def load_store(store_id: int, permission: Permission) -> Store:
    """The store with its email settings; 404 when this person may not see it, 403 when only the deed is barred."""
    query = stores_for(signed_in_user()).where(Store.id == store_id).options(joinedload(Store.email_settings))
    store = db.session.scalar(query)
    if store is None:
        abort(404)
    if not may(signed_in_user(), permission, store):
        abort(403)
    return store


def ask_to_sign_in() -> Response:
    """Send the browser to the sign-in page, and back afterwards; a fragment request moves the whole page."""
    if request.htmx:
        target = _own_path(request.htmx.current_url or "")
    else:
        target = request.full_path.rstrip("?") if request.method == "GET" else ""
    url = url_for("auth.sign_in") + (f"?next={quote(target, safe='')}" if target not in ("", "/") else "")
    if request.htmx:
        response = Response(status=401)
        response.headers["HX-Redirect"] = url
        return response
    return see_other(url)


def _own_path(url: str) -> str:
    """Path and query of a page of ours; empty for any other address."""
    parts = urlsplit(url)
    if f"{parts.scheme}://{parts.netloc}" != current_app.config["PUBLIC_URL"]:
        return ""
    return parts.path + (f"?{parts.query}" if parts.query else "")


# --- Answers


def wants_fragment() -> bool:
    """The only place that decides page or fragment."""
    h = request.htmx
    return bool(h) and not h.history_restore_request and request.headers.get("HX-Request-Type") != "full"


def respond(page: str, fragment: str | None = None, /, status: int = 200, **context: Any) -> Response:
    """The page, or for htmx its fragment: the same file that the page includes, with the same context."""
    context.setdefault("has_errors", status == 422)
    template = fragment if fragment and wants_fragment() else page
    return make_response(render_template(template, **context), status)


def see_other(url: str) -> Response:
    """303: the way to go on after a plain post."""
    return cast(Response, redirect(url, code=303))


def go_on(url: str) -> Response:
    """To another page after success: 303 for a plain post, HX-Redirect for htmx (fetch would swallow a 303)."""
    if not wants_fragment():
        return see_other(url)
    response = Response(status=204)
    response.headers["HX-Redirect"] = url
    return response


def nonce() -> str:
    """The script nonce of this response."""
    if "nonce" not in g:
        g.nonce = secrets.token_urlsafe(16)
    return cast(str, g.nonce)
