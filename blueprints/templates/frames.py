"""What stands in the preview's frame: a mail as a light or a dark reader shows it, its text, or why there is none."""

from __future__ import annotations

import re
from typing import Final

from flask import Response, current_app, render_template, url_for

from blueprints.headers import as_mail
from mail.templates.previews import Preview, with_pictures

VIEWS: Final = ("desktop", "phone", "text", "dark")
_ASKS_FOR = re.compile(r"\(\s*prefers-color-scheme\s*:\s*(dark|light)\s*\)", re.IGNORECASE)
_OFFERS = re.compile(r"(color-scheme\"?\s*(?::|content=\")\s*)light dark\b", re.IGNORECASE)
_ALWAYS, _NEVER = "(min-width: 0)", "(max-width: 0)"


def view_of(asked: str) -> str:
    """One of `VIEWS`."""
    return asked if asked in VIEWS else VIEWS[0]


def show(preview: Preview, view: str) -> Response:
    """The document for a frame."""
    if preview.mail is None:
        return as_mail(render_template("templates/frame_broken.html", problems=preview.examined.errors))
    if view == "text":
        return as_mail(render_template("templates/frame_text.html", text=preview.mail.text))
    html = with_pictures(preview.mail.html, pictures_url())
    return as_mail(as_seen_in(html, "dark" if view == "dark" else "light"))


def pictures_url() -> str:
    """Where the pictures of the samples lie, for a mail: an address that says all of it."""
    return f"{current_app.config['PUBLIC_URL']}{url_for('static', filename='samples')}"


def as_seen_in(html: str, theme: str) -> str:
    """The mail as a reader with this theme shows it, whatever theme the person at this screen has."""
    fixed = _ASKS_FOR.sub(lambda found: _ALWAYS if found[1].lower() == theme else _NEVER, html)
    return _OFFERS.sub(lambda found: found[1] + theme, fixed)
