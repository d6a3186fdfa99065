"""The domain check: a card beside the settings, and the page that it is without JavaScript.

A check changes nothing, but it makes this server ask others, so it is a POST with a CSRF token and a limit. It looks
at what is on the screen where htmx sends that along, and at what is stored otherwise; no other field of the settings
form is ever posted here.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, current_app, request
from flask.blueprints import BlueprintSetupState

from blueprints.fields import UNREADABLE, unreadable_fields
from blueprints.web import equipment, for_store, respond, signed_in_user, wants_fragment
from mail.domain.check import Sender, check
from mail.domain.dkim import parse_selector
from mail.domain.dns import Asker
from mail.domain.limit import TooManyChecks, Turnstile
from mail.drafts import AdvancedDraft, current
from mail.text_rules import clean, hidden_character, parse_address, parse_host
from mail.tokens import end_transaction
from models import Store
from models.access import Permission
from models.database import reading
from models.email_settings import Method

bp = Blueprint("domain_check", __name__)

_URL = "/stores/<int:store_id>/domain-check/<any(smtp,advanced_smtp):method>"
_TURNSTILE = "storepost_domain_checks"
_NO_ADDRESS = "Enter a From Email Address first: its domain is what is checked."


@bp.record_once
def _set_up(state: BlueprintSetupState) -> None:
    state.app.extensions[_TURNSTILE] = Turnstile()


@bp.get(_URL)
@for_store(Permission.VIEW_STORE)
def show(store: Store, method: str) -> Response:
    return _answer(store, method)


@bp.post(_URL)
@for_store(Permission.TEST_SETTINGS)
def run(store: Store, method: str) -> Response:
    """Check the domain and show what was found; nothing is stored."""
    person, selector = signed_in_user().id, clean(request.form.get("dkim_selector", ""))[:200]
    try:
        sender = _sender(store, Method(method), selector)
    except ValueError as error:
        return _answer(store, method, 422, selector=selector, refusal=str(error))
    # Whoever waits for a name server must not keep others from writing.
    end_transaction()
    try:
        with current_app.extensions[_TURNSTILE].turn(person):
            report = check(sender, Asker(equipment().dns_servers))
    except TooManyChecks as error:
        words = f"Wait {error.wait_s} seconds, then check again. Nothing was looked up."
        answer = _answer(store, method, 429, selector=selector, refusal=words)
        answer.headers["Retry-After"] = str(error.wait_s)
        return answer
    return _answer(store, method, selector=selector, report=report)


def _answer(
    store: Store, method: str, status: int = 200, *, selector: str = "", refusal: str = "", report: Any = None
) -> Response:
    with reading():  # the check is done; what the page still reads must not wait for writers
        return respond(
            "domain_check/show.html",
            "domain_check/_card.html",
            status,
            store=store,
            tab=method,
            method=method,
            domain_report=report,
            domain_refusal=refusal,
            dkim_selector=selector,
            oob=wants_fragment(),
        )


def _sender(store: Store, method: Method, selector: str) -> Sender:
    """What is on the screen, or else stored.

    Raises:
        ValueError: what to enter first.
    """
    stored = current(store.email_settings, method, equipment())
    address = _typed("from_email", stored.general.from_email)
    if not address:
        raise ValueError(_NO_ADDRESS)
    try:
        parsed = parse_address(address)
    except ValueError as error:
        raise ValueError(f"From Email Address: {error}") from None
    host = _typed("smtp_host", stored.smtp_host)
    try:
        host = parse_host(host) if host else ""
    except ValueError as error:
        raise ValueError(f"SMTP Server: {error}") from None
    provider = ""
    if isinstance(stored, AdvancedDraft):
        known = equipment().providers.get(_typed("provider", stored.provider))
        provider = known.key if known else "other"
    try:
        selector = parse_selector(_typed("dkim_selector", "")) if selector else ""
    except ValueError as error:
        raise ValueError(f"DKIM selector: {error}") from None
    return Sender(parsed, provider, host, selector)


def _typed(name: str, stored: str) -> str:
    if unreadable_fields() & {name, "*"}:
        raise ValueError(UNREADABLE)
    text = clean(request.form.get(name, stored))
    if problem := hidden_character(text):
        raise ValueError(problem)
    return text
