"""Signing in and out, the one-time link of an empty installation, the theme."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from flask import Blueprint, Response, current_app, request, session, url_for
from flask_login import current_user
from flask_security import hash_password as hash_it
from flask_security import login_user, logout_user, verify_and_update_password, verify_password
from sqlalchemy import select
from werkzeug.exceptions import HTTPException
from werkzeug.routing import RequestRedirect

from blueprints.auth import accounts, throttle
from blueprints.auth.forms import SignInForm, WelcomeForm
from blueprints.web import actor, public, respond, see_other, signed_in
from extensions import db
from mail import audit
from models import User

bp = Blueprint("auth", __name__)

WRONG = "Email or password is not right"
# A path of ours as browsers read it: they take a backslash for a slash, and drop tabs and line ends.
_LOCAL = re.compile(r"/(?![/\\])[^\s\\\x00-\x20\x7f]*")


@bp.route("/sign-in", methods=["GET", "POST"])
@public("the way in")
def sign_in() -> Response:
    if current_user.is_authenticated:
        return see_other(_next())
    form = SignInForm()
    if not form.validate_on_submit():
        return _sign_in_page(form, 422 if form.is_submitted() else 200)
    address = request.remote_addr or ""
    if wait := throttle.wait_s(form.email.data, address):
        response = _sign_in_page(form, 429, pause_min=-(-wait // 60))
        response.headers["Retry-After"] = str(wait)
        return response
    user = _check(form.email.data, form.password.data)
    if user is None:
        throttle.record_failure(form.email.data, address)
        return _sign_in_page(form, 422, wrong=True)
    throttle.forget(form.email.data)
    _begin_session(user)
    audit.record(audit.Actor(user.display_name, user.id), "signed_in")
    db.session.commit()
    return see_other(_next())


def _check(email: str, password: str) -> User | None:
    """The active person with this password; unknown people cost the same work as known ones."""
    try:
        address = accounts.normalize_email(email)
    except accounts.AccountError:
        address = ""
    if len(password) > accounts.PASSWORD_MAX:
        # Nobody's: the hashing library refuses to work on longer ones. The same work as for any other wrong one.
        address, password = "", password[: accounts.PASSWORD_MAX]
    user = db.session.scalar(select(User).where(User.email == address, User.active))
    if user is None:
        verify_password(password, _nobody())
        return None
    return user if verify_and_update_password(password, user) else None


def _nobody() -> str:
    """A hash that no password opens, made once with the parameters in force."""
    if "nobody_hash" not in current_app.extensions:
        current_app.extensions["nobody_hash"] = hash_it("nobody signs in with this")
    return str(current_app.extensions["nobody_hash"])


def _begin_session(user: User) -> None:
    session.clear()
    session.renew()  # type: ignore[attr-defined]  # our StoredSession
    login_user(user, remember=False)


def _sign_in_page(form: SignInForm, status: int, *, wrong: bool = False, pause_min: int = 0) -> Response:
    return respond(
        "auth/sign_in.html",
        status=status,
        form=form,
        wrong=wrong,
        pause_min=pause_min,
        next=request.args.get("next", ""),
    )


def _next() -> str:
    """Where sign-in was asked from, if that is one of our own pages."""
    home = url_for("stores.index")
    target = request.args.get("next", "")
    try:
        parts = urlsplit(target)
    except ValueError:  # half an IPv6 address, and other things that are no address at all
        return home
    if parts.scheme or parts.netloc or not _LOCAL.fullmatch(target):
        return home
    try:
        current_app.url_map.bind("localhost").match(parts.path, method="GET")
    except (HTTPException, RequestRedirect):
        return home
    return target


@bp.post("/sign-out")
@signed_in
def sign_out() -> Response:
    audit.record(actor(), "signed_out")
    logout_user()
    session.clear()
    session.renew()  # type: ignore[attr-defined]  # our StoredSession
    db.session.commit()
    return see_other(url_for("auth.sign_in"))


@bp.route("/welcome/<token>", methods=["GET", "POST"])
@public("the one-time link is the permission, and only an empty installation accepts it")
def welcome(token: str) -> Response:
    form = WelcomeForm()
    if not accounts.link_is_good(token):
        return respond("auth/link_used.html", status=410, empty=accounts.installation_is_empty())
    if not form.validate_on_submit():
        return respond("auth/welcome.html", status=422 if form.is_submitted() else 200, form=form)
    try:
        user = accounts.use_first_link(token, form.email.data, form.name.data or "", form.password.data)
    except accounts.AccountError as error:
        for field, sentence in error.by_field.items():
            form[field].errors = [sentence]
        return respond("auth/welcome.html", status=422, form=form)
    if user is None:
        return respond("auth/link_used.html", status=410, empty=False)
    _begin_session(user)
    return see_other(url_for("stores.index"))


@bp.post("/theme")
@public("a cookie about looks only")
def set_theme() -> Response:
    response = see_other(_came_from() or url_for("stores.index"))
    theme = request.form.get("theme", "")
    if theme in ("light", "dark"):
        response.set_cookie(
            "theme",
            theme,
            max_age=31536000,
            samesite="Lax",
            httponly=True,
            secure=current_app.config["SESSION_COOKIE_SECURE"],
        )
    else:
        response.delete_cookie("theme")
    return response


def _came_from() -> str:
    """The path of the page that this request came from, empty when it cannot be told."""
    try:
        path = urlsplit(request.headers.get("Referer", "")).path
    except ValueError:
        return ""
    return path if _LOCAL.fullmatch(path) else ""


@bp.get("/")
@signed_in
def home() -> Response:
    return see_other(url_for("stores.index"))
