"""A store's templates: the list, switching a kind off, the editor with its preview, versions."""

from __future__ import annotations

from flask import Blueprint, Response, abort, flash, request, url_for

from blueprints.templates import diffs, frames, pages, samples
from blueprints.templates.forms import LABELS, NumberForm, SwitchForm, TemplateForm
from blueprints.templates.pages import is_readonly, load_kind, load_locale, open_editor, show_editor, url_of
from blueprints.web import actor, for_store, go_on, respond, see_other, wants_fragment
from extensions import db
from mail.templates import brand, locales, previews, stored
from mail.templates.drafts import Draft
from mail.templates.kinds import Kind
from mail.templates.stored import NotAccepted, StaleSave
from models import Store
from models.access import Permission

bp = Blueprint("templates", __name__)
bp.add_app_template_filter(pages.slug, "kind_slug")
bp.add_app_template_filter(locales.name, "locale_name")
bp.add_app_template_filter(locales.own_name, "locale_own_name")

_STALE = "Somebody else saved this template meanwhile. Look at it as it is now, then decide again."


# --- The list


@bp.get("/stores/<int:store_id>/templates")
@for_store(Permission.VIEW_TEMPLATES)
def index(store: Store) -> Response:
    look = stored.look_of(store)
    return respond(
        "templates/index.html",
        store=store,
        look=look,
        brand_row=brand.load(store),
        groups=pages.GROUPS,
        rows=pages.load_rows(store, look),
        readonly=is_readonly(store),
    )


@bp.post("/stores/<int:store_id>/templates/<kind>/switch")
@for_store(Permission.EDIT_TEMPLATES)
def switch(store: Store, kind: str) -> Response:
    known, form = load_kind(kind), SwitchForm()
    if not form.validate_on_submit():
        abort(422)
    changed = stored.switch(store, known, off=not form.on.data, actor=actor())
    db.session.commit()
    words = f"{known.name} is {'on' if form.on.data else 'off'} now."
    if wants_fragment():
        row = pages.load_row(store, known, stored.look_of(store))
        return respond(
            "templates/_row.html", "templates/_switched.html", store=store, row=row, readonly=False, said=words
        )
    flash(words if changed else f"{known.name} was {'on' if form.on.data else 'off'} already.", "success")
    return see_other(url_for("templates.index", store_id=store.id, _anchor=f"kind-{kind}"))


# --- The editor


@bp.get("/stores/<int:store_id>/templates/<kind>")
@for_store(Permission.VIEW_TEMPLATES)
def choose_language(store: Store, kind: str) -> Response:
    """Lead to the editor in the locale asked for; nothing is written before somebody saves there."""
    known, asked = load_kind(kind), request.args.get("locale", "")
    if not asked:
        return see_other(url_of(store, "edit", known, pages.load_row(store, known, stored.look_of(store)).opens))
    try:
        return see_other(url_of(store, "edit", known, locales.parse_locale(asked[:100])))
    except ValueError as error:
        row = pages.load_row(store, known, stored.look_of(store))
        editor = open_editor(store, known, row.opens)
        return show_editor(editor, status=422, language_error=str(error), language=asked[:100])


@bp.get("/stores/<int:store_id>/templates/<kind>/<locale>")
@for_store(Permission.VIEW_TEMPLATES)
def edit(store: Store, kind: str, locale: str) -> Response:
    return show_editor(open_editor(store, load_kind(kind), load_locale(locale)))


@bp.post("/stores/<int:store_id>/templates/<kind>/<locale>")
@for_store(Permission.EDIT_TEMPLATES)
def save(store: Store, kind: str, locale: str) -> Response:
    known, tag, form = load_kind(kind), load_locale(locale), TemplateForm()
    if not form.arrived_whole() or form.expected_number is None:
        return _refuse(store, known, tag, form)
    try:
        changed = stored.save(store, known, tag, form.draft, expected_number=form.expected_number, actor=actor())
    except NotAccepted as refused:
        db.session.rollback()
        return _refuse(store, known, tag, form, problems=refused.problems)
    except StaleSave:
        return _show_both(store, known, tag, form.draft)
    db.session.commit()
    if wants_fragment():
        return show_editor(open_editor(store, known, tag, saved_just_now=True), "templates/_saved.html")
    flash("Saved." if changed else "Nothing had changed, so there is no new version.", "success")
    return see_other(url_of(store, "edit", known, tag))


def _refuse(store: Store, kind: Kind, locale: str, form: TemplateForm, **more: object) -> Response:
    errors = tuple(f"{field.label.text}: {words}" for field in form for words in field.errors)
    errors += tuple(map(str, form.form_errors))
    asked = {"expected": form.expected_number} if form.expected_number is not None else {}
    editor = open_editor(store, kind, locale, form.draft, form_errors=errors, **asked, **more)
    return show_editor(editor, "templates/_refused.html", status=422)


def _show_both(store: Store, kind: Kind, locale: str, draft: Draft) -> Response:
    # The form is now over the version that was saved meanwhile: saving again is a decision with both in view.
    db.session.rollback()
    editor = open_editor(store, kind, locale, draft)
    editor.conflict = diffs.compare(editor.present.draft, draft)
    return show_editor(editor, "templates/_refused.html", status=409)


@bp.post("/stores/<int:store_id>/templates/<kind>/<locale>/check")
@for_store(Permission.VIEW_TEMPLATES)
def check(store: Store, kind: str, locale: str) -> Response:
    """What is wrong with the texts on the screen, and how the mail stands in a list of mails; nothing is saved."""
    known, tag = load_kind(kind), load_locale(locale)
    preview = _preview_posted(store, known, tag)
    problems = preview.examined.problems
    return respond(
        "templates/_checked.html", store=store, preview=preview, by_part=pages.by_part(problems), labels=LABELS
    )


@bp.route("/stores/<int:store_id>/templates/<kind>/<locale>/preview", methods=["GET", "POST"])
@for_store(Permission.VIEW_TEMPLATES)
def preview(store: Store, kind: str, locale: str) -> Response:
    """The document of the preview's frame: of the texts on the screen, or of those in force."""
    known, tag = load_kind(kind), load_locale(locale)
    if request.method == "POST":
        return frames.show(_preview_posted(store, known, tag), frames.view_of(request.form.get("view", "")))
    look = stored.look_of(store)
    present = stored.in_force(store.id, known, tag, look.locale)
    shown = previews.preview(known, present.draft, look, tag)
    return frames.show(shown, frames.view_of(request.args.get("view", "")))


def _preview_posted(store: Store, kind: Kind, locale: str) -> previews.Preview:
    form = TemplateForm()
    if not form.arrived_whole():
        abort(422)
    return previews.preview(kind, form.draft, stored.look_of(store), locale)


@bp.post("/stores/<int:store_id>/templates/<kind>/<locale>/reset")
@for_store(Permission.EDIT_TEMPLATES)
def reset(store: Store, kind: str, locale: str) -> Response:
    known, tag = load_kind(kind), load_locale(locale)
    try:
        changed = stored.reset(store, known, tag, expected_number=_expected(), actor=actor())
    except StaleSave:
        db.session.rollback()
        flash(_STALE, "warning")
        return go_on(url_of(store, "edit", known, tag))
    db.session.commit()
    has_default = tag in stored.DEFAULT_LOCALES
    done = "The default is in force again." if has_default else f"The {locales.name(tag)} texts are taken out."
    flash(f"{done} The earlier texts stay among the versions." if changed else "There was nothing to reset.", "success")
    return go_on(url_of(store, "edit", known, tag))


def _expected() -> int:
    form = NumberForm()
    if not form.validate_on_submit() or form.expected_number is None:
        abort(422)
    return form.expected_number


# --- A sample by mail


@bp.post("/stores/<int:store_id>/templates/<kind>/<locale>/sample")
@for_store(Permission.EDIT_TEMPLATES)
def send_sample(store: Store, kind: str, locale: str) -> Response:
    """Send what is on the screen, with its sample data, to the person who asks."""
    known, tag, form = load_kind(kind), load_locale(locale), TemplateForm()
    if not form.arrived_whole():
        return _refuse(store, known, tag, form)
    shown = previews.preview(known, form.draft, stored.look_of(store), tag)
    if shown.mail is None:
        words = "The sample was not sent: mend the problems in the template first"
        sample = samples.SampleState("bad", words, shown.examined.errors[0].message)
    else:
        sample = samples.send(store, known, tag, shown.mail)
    editor = open_editor(store, known, tag, form.draft, expected=form.expected_number)
    editor.problems = shown.examined.problems
    return show_editor(
        editor, "templates/_sample.html", status=200 if shown.mail else 422, sample=sample, is_answer=wants_fragment()
    )


@bp.get("/stores/<int:store_id>/templates/samples/<uid>")
@for_store(Permission.VIEW_TEMPLATES)
def follow_sample(store: Store, uid: str) -> Response:
    """How far a sample has come; a page of its own is that of the message."""
    sample = samples.state_of(store, uid) or abort(404)
    if not wants_fragment():
        return see_other(url_for("messages.show", store_id=store.id, uid=uid))
    is_over = not sample.is_on_the_way
    return respond("templates/_sample.html", "templates/_sample.html", store=store, sample=sample, is_answer=is_over)


# --- Versions


@bp.get("/stores/<int:store_id>/templates/<kind>/<locale>/versions")
@for_store(Permission.VIEW_TEMPLATES)
def versions(store: Store, kind: str, locale: str) -> Response:
    known, tag = load_kind(kind), load_locale(locale)
    editor = open_editor(store, known, tag)
    number = request.args.get("compare", "")
    compared = None
    if number.isascii() and number.isdigit() and len(number) < 9:
        compared = stored.version(store.id, known, tag, int(number)) or abort(404)
    return respond(
        "templates/versions.html",
        store=store,
        editor=editor,
        versions=stored.versions(store.id, known, tag),
        compared=compared,
        differences=_compare(editor, compared) if compared else None,
        labels=LABELS,
        readonly=is_readonly(store),
    )


def _compare(editor: pages.Editor, version: stored.TemplateVersion) -> list[diffs.PartDiff]:
    if version.is_default:
        before = stored.without_own(editor.store.id, editor.kind, editor.locale, editor.look.locale).draft
    else:
        before = stored.draft_of(version)
    return diffs.compare(before, editor.present.draft)


@bp.post("/stores/<int:store_id>/templates/<kind>/<locale>/versions/<int:number>/restore")
@for_store(Permission.EDIT_TEMPLATES)
def restore(store: Store, kind: str, locale: str, number: int) -> Response:
    known, tag = load_kind(kind), load_locale(locale)
    try:
        changed = stored.restore(store, known, tag, number, expected_number=_expected(), actor=actor())
    except StaleSave:
        db.session.rollback()
        flash(_STALE, "warning")
        return go_on(url_of(store, "versions", known, tag))
    except NotAccepted as refused:
        db.session.rollback()
        first = refused.problems[0]
        flash(f"Version {number} does not fit any more. {LABELS[first.part]}: {first.message}", "error")
        return go_on(url_of(store, "versions", known, tag, compare=number))
    db.session.commit()
    flash(f"Version {number} is in force again." if changed else f"Version {number} is in force already.", "success")
    return go_on(url_of(store, "edit", known, tag))
