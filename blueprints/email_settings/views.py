"""A store's email settings: the SMTP and the Advanced SMTP tab, the parts of them that htmx asks for, the switch."""

from __future__ import annotations

from typing import cast

from flask import Blueprint, Response, abort, flash, make_response, render_template, request, session, url_for
from werkzeug.datastructures import MultiDict

from blueprints.email_settings import history, issuers, pages
from blueprints.email_settings.alerts import alerts_of
from blueprints.email_settings.forms import SettingsForm
from blueprints.email_settings.pages import Notice, refuse, show
from blueprints.email_settings.posted import (
    Posted,
    advanced_form,
    fill,
    follow_tenant,
    mend_rows,
    put_rows,
    read_advanced,
    read_smtp,
    smtp_form,
)
from blueprints.fields import whole_number
from blueprints.sessions import StoredSession
from blueprints.web import actor, equipment, for_store, go_on, respond, see_other, signed_in_user, wants_fragment
from extensions import db
from mail import consent, discovery, outbox, presets
from mail import settings as email_settings
from mail.drafts import current_advanced, current_smtp
from mail.settings import Missing, SaveResult, SecretsNeeded, StaleSave
from models import Store
from models.access import Permission
from models.email_settings import CUSTOM_FIELDS_MAX, Method
from models.outbox import HoldReason

bp = Blueprint("email_settings", __name__)
bp.add_app_template_global(alerts_of, "connection_alerts")
bp.add_app_template_filter(history.words, "change_words")
bp.add_app_template_filter(history.icon, "change_icon")

# Checked while typing; secrets never are.
CHECKED = {
    Method.SMTP: {"from_name", "from_email", "bcc", "smtp_host", "smtp_port", "username"},
    Method.ADVANCED_SMTP: {
        "from_name", "from_email", "bcc", "smtp_host", "smtp_port", "client_id", "tenant_id",
        "client_secret_expires_on", "grant_type", "issuer", "client_auth", "authorization_url", "token_url", "scope",
        "login",
    },
}  # fmt: skip


NO_ISSUER = "Enter the issuer as the provider gives it, like https://login.example.com/realms/shop"


# --- The two tabs


@bp.get("/stores/<int:store_id>/smtp")
@for_store(Permission.VIEW_STORE)
def edit_smtp(store: Store) -> Response:
    return pages.show_prefilled(store, request.args.get("provider", ""))


@bp.post("/stores/<int:store_id>/smtp")
@for_store(Permission.EDIT_SETTINGS)
def save_smtp(store: Store) -> Response:
    return _save(read_smtp(store), Method.SMTP)


@bp.get("/stores/<int:store_id>/advanced-smtp")
@for_store(Permission.VIEW_STORE)
def edit_advanced(store: Store) -> Response:
    return show(store, Method.ADVANCED_SMTP)


@bp.post("/stores/<int:store_id>/advanced-smtp")
@for_store(Permission.EDIT_SETTINGS)
def save_advanced(store: Store) -> Response:
    return _save(read_advanced(store), Method.ADVANCED_SMTP)


def _save(posted: Posted, method: Method) -> Response:
    refusal, notices = _store_posted(posted, method)
    if refusal:
        return refusal
    db.session.commit()
    if wants_fragment():
        changed = pages.changes_guide(posted)
        return show(posted.store, method, notices=notices, saved_just_now=True, guide_changed=changed)
    flash("All changes saved.", "success")
    for notice in notices:
        flash(f"{notice.title}. {notice.text}".strip(), notice.kind)
    return see_other(request.path)


@bp.post("/stores/<int:store_id>/connect")
@for_store(Permission.CONNECT)
def connect(store: Store) -> Response:
    """Save the page, then show where the journey goes; Continue on that page is a link to the provider."""
    posted = read_advanced(store)
    refusal, _ = _store_posted(posted, Method.ADVANCED_SMTP, connecting=True)
    if refusal:
        return refusal
    user, settings = signed_in_user(), posted.settings
    try:
        departure = consent.begin(
            settings,
            user_id=user.id,
            session_hash=cast(StoredSession, session).hash,
            equipment=equipment(),
        )
    except consent.NotReady as error:
        # What was typed is right as far as it goes, so it is kept; the page says what Connect still needs.
        db.session.commit()
        form = advanced_form(current_advanced(settings, equipment()), settings.version)
        _put_missing(form, error.missing)
        return show(store, Method.ADVANCED_SMTP, form, status=422, fragment="email_settings/_form.html")
    db.session.commit()
    answer = respond("consent/leave.html", store=store, settings=settings, departure=departure)
    if wants_fragment():  # the button is plain; whoever asks by htmx all the same gets the whole page to stand on
        answer.headers["HX-Retarget"] = "body"
        answer.headers["HX-Reswap"] = "innerHTML"
    return answer


# --- Saving


def _store_posted(posted: Posted, method: Method, *, connecting: bool = False) -> tuple[Response | None, list[Notice]]:
    """Put a posted page into the session; a refusal to send instead, or what to tell beside "saved"."""
    waiting = _waiting_choice(posted)
    if posted.draft is None or waiting is None:
        return refuse(posted, method, retype=not wants_fragment() and bool(pages.typed_secrets(posted.form))), []
    try:
        result = email_settings.save(
            posted.settings,
            posted.draft,
            expected_version=posted.version,
            actor=actor(),
            equipment=equipment(),
            connecting=connecting,
        )
    except SecretsNeeded as needed:
        db.session.rollback()
        for name, sentence in needed.fields.items():
            posted.form[name].errors = [sentence]
        return refuse(posted, method), []
    except StaleSave:
        return _show_both(posted, method), []
    return None, _notices(posted, result) + _settle_waiting(posted, result, waiting)


def _waiting_choice(posted: Posted) -> str | None:
    """What to do with mail that waited while emails were off: send, discard, "" when there is none; None: not said."""
    settings, choice = posted.settings, posted.form.waiting_mail.data
    if not settings.emails_off or posted.form.emails_off.data:
        return ""
    count = outbox.held_count(settings.store_id, HoldReason.EMAILS_OFF)
    if count == 0 or choice in ("send", "discard"):
        return choice or ""
    emails = f"{count:,} email{'' if count == 1 else 's'}"
    posted.form.waiting_mail.errors = [f"Choose what happens to the {emails} that waited: send or discard"]
    return None


def _settle_waiting(posted: Posted, result: SaveResult, choice: str) -> list[Notice]:
    """Let mail go that waited for these settings."""
    if not result.changed:
        return []
    store_id, notices = posted.settings.store_id, []
    if "emails_off" in result.changed and not posted.settings.emails_off:
        if choice == "discard":
            count = outbox.discard(store_id, HoldReason.EMAILS_OFF)
        else:
            count = outbox.release(store_id, HoldReason.EMAILS_OFF, equipment=equipment())
        if count:
            words = "discarded" if choice == "discard" else "now on the way, oldest first"
            notices.append(
                Notice("ok", f"Emails are on again. {count:,} that waited {'is' if count == 1 else 'are'} {words}")
            )
    # A changed setting may be what held mail was waiting for; a replaced client secret mends the sharers as well.
    outbox.release_mended(store_id, equipment=equipment())
    for other in email_settings.sharers(posted.settings) if result.sharers else ():
        outbox.release_mended(other.id, equipment=equipment())
    return notices


def _notices(posted: Posted, result: SaveResult) -> list[Notice]:
    name = posted.store.name
    if result.split_from:
        return [
            Notice(
                "warn",
                f"{name} now has a connection of its own, no longer shared with {_list(result.split_from)}",
                "It starts without the old tokens: press Connect to sign in for it.",
            )
        ]
    if result.sharers:
        return [Notice("", f"The new client secret applies to {_list(result.sharers)} as well")]
    return []


def _show_both(posted: Posted, method: Method) -> Response:
    db.session.rollback()
    settings = posted.settings
    fresh = current_smtp(settings, equipment()) if method == Method.SMTP else current_advanced(settings, equipment())
    now = Posted(posted.store, settings, posted.form, posted.draft, fresh, settings.version)
    # Saving again is then a decision made with both versions in view.
    posted.form.version.data = str(settings.version)
    secrets = pages.typed_secrets(posted.form)
    retype = bool(secrets) and not wants_fragment()
    return refuse(now, method, status=409, differences=pages.differences(now), stale=True, dirty=True, retype=retype)


def _put_missing(form: SettingsForm, missing: tuple[Missing, ...]) -> None:
    for item in missing:
        if item.field in form:
            form[item.field].errors = [item.sentence]
        else:
            form.form_errors.append(item.sentence)


def _list(names: tuple[str, ...]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


# --- Parts that htmx asks for


@bp.post("/stores/<int:store_id>/smtp/field/<name>")
@for_store(Permission.EDIT_SETTINGS)
def check_smtp_field(store: Store, name: str) -> Response:
    settings = store.email_settings
    form = smtp_form(current_smtp(settings, equipment()), settings.version, request.form)
    return _check(store, Method.SMTP, form, name)


@bp.post("/stores/<int:store_id>/advanced-smtp/field/<name>")
@for_store(Permission.EDIT_SETTINGS)
def check_advanced_field(store: Store, name: str) -> Response:
    settings = store.email_settings
    stored = current_advanced(settings, equipment())
    typed = MultiDict(request.form)
    provider = equipment().providers.get(typed.get("provider", stored.provider))
    followed = False
    if provider and name == "tenant_id" and "token_url" in typed:
        followed = advanced_form(stored, 1, typed).check(name) and follow_tenant(typed, provider, stored)
    if provider and name == "grant_type" and "scope" in typed:
        scope = presets.follow_grant(typed["scope"].strip(), provider, typed.get("grant_type", ""))
        followed, typed["scope"] = scope != typed["scope"], scope
    form = advanced_form(stored, settings.version, typed)
    return _check(store, Method.ADVANCED_SMTP, form, name, followed=followed)


def _check(store: Store, method: Method, form: SettingsForm, name: str, *, followed: bool = False) -> Response:
    if name not in CHECKED[method]:
        abort(404)
    valid = form.check(name)
    values = pages.context(store, method, form, name=name, followed=followed)
    return make_response(render_template("email_settings/_field.html", **values), 200 if valid else 422)


@bp.post("/stores/<int:store_id>/advanced-smtp/provider")
@for_store(Permission.EDIT_SETTINGS)
def choose_provider(store: Store) -> Response:
    """Fill in what the catalogue knows; nothing is saved yet."""
    settings = store.email_settings
    stored = current_advanced(settings, equipment())
    typed = MultiDict(request.form)
    mend_rows(typed, stored)
    provider = equipment().providers.get(typed.get("provider", ""))
    filled = fill(typed, provider, stored) if provider else []
    form = advanced_form(stored, settings.version, typed)
    if provider is None:
        form.check("provider")
    return show(
        store,
        Method.ADVANCED_SMTP,
        form,
        status=200 if provider else 422,
        fragment="email_settings/_provider.html",
        filled=[form[name].label.text for name in filled],
        dirty=True,
        retype=bool(pages.typed_secrets(form)),
    )


@bp.post("/stores/<int:store_id>/advanced-smtp/issuer")
@for_store(Permission.EDIT_SETTINGS)
def look_up_issuer(store: Store) -> Response:
    """Fill in what the server of the typed issuer says about itself; nothing is saved yet."""
    store_id, settings = store.id, store.email_settings
    typed = MultiDict(request.form)
    mend_rows(typed, current_advanced(settings, equipment()))
    form = advanced_form(current_advanced(settings, equipment()), settings.version, typed)
    problem = "" if form.check("issuer") and form.issuer.parsed else form.issuer.errors[:1] or [NO_ISSUER]
    if not problem:
        db.session.rollback()  # nobody shall wait for the database while a stranger answers
        try:
            issuers.put(discovery.discover(form.issuer.parsed, door=equipment().door), typed, store_id)
        except discovery.IssuerRefused as refused:
            problem = [str(refused)]
        form = advanced_form(current_advanced(settings, equipment()), settings.version, typed)
    form.issuer.errors = problem or ()
    return show(
        store,
        Method.ADVANCED_SMTP,
        form,
        status=422 if problem else 200,
        fragment="email_settings/_issuer_found.html",
        dirty=True,
        retype=bool(pages.typed_secrets(form)),
    )


@bp.post("/stores/<int:store_id>/advanced-smtp/custom-fields")
@for_store(Permission.EDIT_SETTINGS)
def custom_fields(store: Store) -> Response:
    """The rows with one more, or one less; nothing is saved yet."""
    settings = store.email_settings
    stored = current_advanced(settings, equipment())
    typed = MultiDict(request.form)
    problem = mend_rows(typed, stored)
    form = advanced_form(stored, settings.version, typed)
    rows = [(entry.form.key.data or "", entry.form.value.data or "") for entry in form.custom_fields.entries]
    remove, focus = whole_number(typed.get("remove")), {}
    if not problem and "add" in typed:
        if len(rows) >= CUSTOM_FIELDS_MAX:
            problem = f"Use {CUSTOM_FIELDS_MAX} custom fields or fewer"
        else:
            rows.append(("", ""))
            focus = {"focus_row": len(rows) - 1}
    elif not problem and remove is not None and remove < len(rows):
        del rows[remove]
        focus = {"focus_remove": min(remove, len(rows) - 1)}
    for name in [name for name in typed if name.startswith("custom_fields-")]:
        del typed[name]
    put_rows(typed, rows)
    form = advanced_form(stored, settings.version, typed)
    if problem:
        form.custom_fields.errors = [problem]
    return show(
        store,
        Method.ADVANCED_SMTP,
        form,
        status=422 if problem else 200,
        fragment="email_settings/_custom_fields.html",
        dirty=True,
        retype=bool(pages.typed_secrets(form)),
        **focus,
    )


# --- The switch


@bp.get("/stores/<int:store_id>/method")
@for_store(Permission.VIEW_STORE)
def switch_method(store: Store) -> Response:
    return _ask_to_switch(store)


@bp.post("/stores/<int:store_id>/method")
@for_store(Permission.EDIT_SETTINGS)
def save_method(store: Store) -> Response:
    wanted, version = request.form.get("method", ""), whole_number(request.form.get("version"))
    if wanted not in list(Method) or version is None:
        return _ask_to_switch(store, status=422, problem="The question did not arrive whole. Answer it again.")
    try:
        email_settings.switch_method(store.email_settings, Method(wanted), expected_version=version, actor=actor())
    except StaleSave:
        db.session.rollback()
        return _ask_to_switch(
            store, status=409, problem="Somebody changed these settings meanwhile. Look at them, then answer again."
        )
    outbox.release_mended(store.id, equipment=equipment())
    db.session.commit()
    flash(f"{store.name} sends with {'SMTP' if wanted == Method.SMTP else 'Advanced SMTP'} now.", "success")
    return go_on(
        url_for(f"email_settings.{'edit_smtp' if wanted == Method.SMTP else 'edit_advanced'}", store_id=store.id)
    )


def _ask_to_switch(store: Store, *, status: int = 200, problem: str = "") -> Response:
    settings = store.email_settings
    other = Method.SMTP if settings.method == Method.ADVANCED_SMTP else Method.ADVANCED_SMTP
    missing = email_settings.missing(settings, equipment(), method=other)
    return respond(
        "email_settings/switch.html",
        status=status,
        store=store,
        settings=settings,
        tab="",
        other=str(other),
        other_missing=missing,
        problem=problem,
    )
