"""Test Email Settings: a press on either settings page, the panel that follows the run, the page of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

from flask import Blueprint, Flask, Response, current_app, make_response, render_template, request, url_for

from blueprints.email_settings import pages
from blueprints.email_settings.posted import Posted, read_advanced, read_smtp
from blueprints.web import actor, equipment, for_store, respond, see_other, signed_in_user, wants_fragment
from extensions import db
from mail import doctor
from mail.doctor.records import Report
from mail.doctor.report import report_on
from mail.drafts import SecretsNeeded
from mail.text_rules import clean, parse_address
from models import Store
from models.access import Permission, may
from models.database import reading
from models.email_settings import Method

bp = Blueprint("connection_tests", __name__)

_NOT_KEPT = "This test is not kept any more."


@bp.post("/stores/<int:store_id>/test/<any(smtp,advanced_smtp):method>")
@for_store(Permission.TEST_SETTINGS)
def start(store: Store, method: str) -> Response:
    """Test what is on the screen, saved or not. Nothing of it is stored."""
    of_tab = Method(method)
    posted = read_advanced(store) if of_tab is Method.ADVANCED_SMTP else read_smtp(store)
    recipient = _recipient(posted)
    if posted.draft is None or recipient is None:
        return _refuse(posted, of_tab)
    try:
        started = doctor.start_run(
            posted.settings,
            posted.draft,
            recipient=recipient,
            actor=actor(),
            equipment=equipment(),
            context=_application().app_context,
        )
    except SecretsNeeded as needed:
        for name, sentence in needed.fields.items():
            posted.form[name].errors = [sentence]
        return _refuse(posted, of_tab)
    except doctor.TooManyTests as error:
        db.session.rollback()
        return _ask_to_wait(posted, of_tab, error.wait_s)
    if not wants_fragment():
        return see_other(url_for("connection_tests.show", store_id=store.id, uid=started.uid))
    with reading():  # from here on this request must not keep the thread from writing
        return make_response(render_template("connection_tests/_panel.html", **_panel(store, started.uid)))


@bp.get("/stores/<int:store_id>/tests/<uid>")
@for_store(Permission.VIEW_STORE)
def show(store: Store, uid: str) -> Response:
    """A run as it is now: a page that refreshes itself, or the panel for htmx, which asks until the run has ended."""
    context = _panel(store, uid)
    if context["report"] is None:
        return respond("errors/404.html", "connection_tests/_gone.html", 404, message=_NOT_KEPT)
    return respond("connection_tests/show.html", "connection_tests/_panel.html", **context)


@bp.post("/stores/<int:store_id>/tests/<uid>/cancel")
@for_store(Permission.TEST_SETTINGS)
def cancel(store: Store, uid: str) -> Response:
    """End a test, and show it as it is then: cancelled, or past the point where that was possible (409)."""
    was_cancelled = doctor.cancel(store, uid[:32], actor=actor())
    if not wants_fragment():
        return see_other(url_for("connection_tests.show", store_id=store.id, uid=uid))
    with reading():
        context = _panel(store, uid)
        if context["report"] is None:
            return make_response(render_template("connection_tests/_gone.html", message=_NOT_KEPT), 404)
        status = 409 if context["report"].is_running else 200
        panel = render_template("connection_tests/_panel.html", **context, focus_again=was_cancelled)
        return make_response(panel, status)


@bp.get("/stores/<int:store_id>/tests")
@for_store(Permission.VIEW_STORE)
def index(store: Store) -> Response:
    """The last tests of a store, newest first."""
    rows = [Row(_report(store, one.found), one.by) for one in doctor.history(store.id)]
    return respond("connection_tests/index.html", store=store, rows=rows, kept=doctor.KEPT_PER_STORE)


def begin_after_consent(store: Store) -> str:
    """Begin the test that follows Connect, and return the address of the page that shows it going on.

    For the callback, which has committed. Where no test can begin, the same page without one.
    """
    try:
        started = doctor.start_after_consent(
            store.email_settings,
            recipient=signed_in_user().email,
            actor=actor(),
            equipment=equipment(),
            context=_application().app_context,
        )
    except doctor.TooManyTests:
        db.session.rollback()
        return url_for("email_settings.edit_advanced", store_id=store.id)
    return url_for("email_settings.edit_advanced", store_id=store.id, test=started.uid)


@dataclass(frozen=True)
class Row:
    """One line of the list of tests. `by` is empty when whoever started it is not here any more."""

    report: Report
    by: str


@dataclass(frozen=True)
class TestShown:
    """What stands above a settings form: the newest test of this tab, in full when it is under way or was asked for."""

    __test__ = False

    report: Report | None
    is_open: bool


@bp.app_template_global("test_shown")
def test_shown(store: Store, method: str) -> TestShown:
    """The test to show on this tab. `?test=` names one: Connect ends on such an address."""
    asked = doctor.find(store.id, request.args.get("test", "")[:32])
    if asked is not None and asked.run.method == method:
        return TestShown(_report(store, asked), is_open=True)
    newest = doctor.last_runs(store.id, 1, Method(method))
    if not newest:
        return TestShown(None, is_open=False)
    report = _report(store, newest[0])
    return TestShown(report, is_open=report.is_running)


def _panel(store: Store, uid: str) -> dict[str, Any]:
    """The context of the panel. `alone`: it stands on the page of the run, where there is no form to mend or submit."""
    found = doctor.find(store.id, uid[:32])
    report = None if found is None else _report(store, found)
    fragment = wants_fragment()
    return {
        "store": store,
        "report": report,
        "tab": str(report.method) if report else "",
        "alone": not fragment or "alone" in request.args,
        # What changed beside the panel goes along once, with the answer that ends the polling.
        "oob": fragment and report is not None and not report.is_running,
    }


def _report(store: Store, found: doctor.Found) -> Report:
    return report_on(found.run, found.status, store_name=store.name, providers=equipment().providers)


def _recipient(posted: Posted) -> str | None:
    """Who gets the test: by default whoever is signed in; None when what was typed is no address."""
    typed = clean(request.form.get("test_recipient", "")) or signed_in_user().email
    try:
        return parse_address(typed)
    except ValueError as error:
        posted.form.form_errors.append(f"Send the test to: {error}")
        return None


def _refuse(posted: Posted, method: Method) -> Response:
    return pages.refuse(posted, method, **_typed(posted))


def _typed(posted: Posted) -> dict[str, Any]:
    """What the page gives back besides the form."""
    return {
        "test_recipient": request.form.get("test_recipient", "") or signed_in_user().email,
        "retype": not wants_fragment() and bool(pages.typed_secrets(posted.form)),
    }


def _ask_to_wait(posted: Posted, method: Method, wait_s: int) -> Response:
    words = f"Wait {wait_s} second{'' if wait_s == 1 else 's'}, then press Test Email Settings again. Nothing was sent."
    if wants_fragment():
        answer = make_response(render_template("connection_tests/_refused.html", test_refusal=words), 429)
    else:
        answer = pages.show(
            posted.store, method, posted.form, status=429, test_refusal=words, dirty=True, **_typed(posted)
        )
    answer.headers["Retry-After"] = str(wait_s)
    return answer


def _application() -> Flask:
    # The thread outlives the request, so it needs the application itself and not this request's proxy for it.
    return cast(Flask, cast(Any, current_app)._get_current_object())


@bp.app_template_global("may_test")
def _may_test(store: Store) -> bool:
    return may(signed_in_user(), Permission.TEST_SETTINGS, store)


@bp.app_template_global("sandbox_inbox_url")
def _sandbox_inbox_url() -> str:
    web = current_app.config.get("SANDBOX_WEB_URL") or ""
    return f"{web}/inbox" if web else ""
