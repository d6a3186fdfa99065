"""The headers of every answer, and the checks before every request that are not about people."""

from __future__ import annotations

import hashlib
from pathlib import Path

from flask import Flask, Response, abort, current_app, g, make_response, request, url_for

from blueprints.fields import note_unreadable_bytes
from blueprints.web import nonce
from models.database import set_reads_only

SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
# 100 custom fields, full of characters that take twelve bytes each when they are percent-encoded, and the rest of the
# page. Everything else people post is small; the API sets its own limit.
SETTINGS_BYTES_MAX = 6 * 1024 * 1024
FORM_BYTES_MAX = 256 * 1024
_SETTINGS_PAGES = {"email_settings", "connection_tests"}
# HTML, text and sample of a template, full of such characters.
TEMPLATE_BYTES_MAX = 3 * 1024 * 1024
# Parsing costs time for each field, and anybody may make us parse: more than ten times the largest page is no page.
FIELDS_MAX = 2500


_ALWAYS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
# Pictures of sample mails: a frame that is nobody's shows them, and so does a mail program.
_PICTURES = "/static/samples/"
_VARY = ("HX-Request", "HX-Request-Type")
# Inline styles are what a mail is made of; images are fetched as they will be for customers.
MAIL_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src 'self' https: data:; frame-ancestors 'self'; "
    "base-uri 'none'; form-action 'none'"
)


def register(app: Flask) -> None:
    app.url_value_preprocessor(_look_at_body)
    app.before_request(_begin)
    app.before_request(_refuse_nul)
    app.before_request(_refuse_foreign_origin)
    app.after_request(_finish)
    app.teardown_request(lambda error: set_reads_only(False))
    app.jinja_env.globals.update(asset=asset)


def _begin() -> None:
    # GETs read with deferred transactions; the OAuth callback, a GET that writes, says so itself.
    set_reads_only(request.method in SAFE_METHODS)


def _look_at_body(endpoint: str | None, values: dict[str, object] | None) -> None:
    # Before anything reads the form, the CSRF check included. The API reads its own bodies, after it has seen a key.
    if endpoint is None or request.blueprint == "api" or request.method in SAFE_METHODS:
        return
    request.max_content_length = _bytes_max(request.blueprint)
    note_unreadable_bytes(FIELDS_MAX)


def _bytes_max(room: str | None) -> int:
    if room in _SETTINGS_PAGES:
        return SETTINGS_BYTES_MAX
    return TEMPLATE_BYTES_MAX if room == "templates" else FORM_BYTES_MAX


def _refuse_nul() -> None:
    """No name or search of ours holds one, and PostgreSQL fails on it."""
    if "\0" in request.path:
        abort(404)
    if request.endpoint == "consent.callback":
        return  # its answers are judged one by one, each with a sentence of its own
    if b"%00" in request.query_string or b"\0" in request.query_string:
        abort(400)


def _refuse_foreign_origin() -> None:
    """A second lock beside the CSRF token: browsers say where an unsafe request comes from."""
    if request.method in SAFE_METHODS or request.blueprint == "api":
        return
    origin = request.headers.get("Origin")
    if origin not in (None, current_app.config["PUBLIC_URL"]):
        abort(403)
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        abort(403)


def _finish(response: Response) -> Response:
    # Every access to a header looks through all of them; this runs for each message that a program hands in.
    headers = response.headers
    wanted = dict(_ALWAYS)
    if current_app.config["PUBLIC_URL"].startswith("https://"):
        wanted["Strict-Transport-Security"] = "max-age=31536000"
    is_static = request.endpoint == "static"
    if is_static and request.path.startswith(_PICTURES):
        wanted["Cross-Origin-Resource-Policy"] = "cross-origin"
    if not is_static:
        wanted |= {"Content-Security-Policy": content_security_policy(), "Cache-Control": "no-store"}
    present = {name.lower() for name, _ in headers}
    for name, value in wanted.items():
        if name.lower() not in present:
            headers.add(name, value)
    if is_static:
        # Fonts are named by the style sheet, without a hash; their version is part of their name.
        if response.status_code == 200 and (request.args.get("v") or request.path.endswith(".woff2")):
            headers["Cache-Control"] = "public, max-age=31536000, immutable"
    elif "vary" in present:
        response.vary.update(_VARY)
    else:
        headers.add("Vary", ", ".join(_VARY))
    return response


def show_mail_frames() -> None:
    """Let the page that this request answers hold frames of ours, for mails: their answers are made by `as_mail`."""
    g.shows_mail_frames = True


def as_mail(html: str) -> Response:
    """The answer that a frame shows: a mail as it goes out, styles and remote images included.

    The policy makes it a document of nobody: no script, no form, no link out of the frame, no cookie of ours.
    """
    response = make_response(html)
    response.headers["Content-Security-Policy"] = MAIL_POLICY
    response.headers["X-Robots-Tag"] = "noindex"
    return response


def content_security_policy() -> str:
    """No inline script or style, nothing from elsewhere; scripts by nonce, Trusted Types for the DOM."""
    frames = "frame-src 'self'; " if g.get("shows_mail_frames") else ""
    return (
        f"default-src 'none'; script-src 'nonce-{nonce()}'; style-src 'self'; img-src 'self'; font-src 'self'; "
        f"connect-src 'self'; {frames}form-action 'self'; base-uri 'none'; frame-ancestors 'none'; object-src 'none'; "
        "require-trusted-types-for 'script'; trusted-types htmx"
    )


def asset(path: str) -> str:
    """The URL of a file in static/, with the hash of its content, so that browsers may keep it for good."""
    # A page names hundreds of icons. Files change only with a new program, but for somebody who works on them.
    known: dict[str, str] = current_app.extensions.setdefault("asset_urls", {})
    if path not in known or current_app.debug:
        content = (Path(current_app.static_folder or "") / path).read_bytes()
        known[path] = url_for("static", filename=path, v=hashlib.sha256(content).hexdigest()[:10])
    return known[path]
