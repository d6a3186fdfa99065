"""How a store's mails look and what stands below them, with one of its mails beside it."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, abort, flash, make_response, render_template, request, url_for

from blueprints import headers
from blueprints.brand.forms import BrandForm
from blueprints.fields import PAGE_NOT_WHOLE
from blueprints.templates import frames
from blueprints.templates.pages import is_readonly
from blueprints.web import actor, for_store, respond, see_other, wants_fragment
from extensions import db
from mail.templates import brand, kinds, locales, previews, stored
from mail.templates.brand import FIELDS, BrandDraft
from mail.templates.rendering import Look
from mail.templates.stored import StaleSave
from models import Store
from models.access import Permission

bp = Blueprint("brand", __name__)

# The mail beside the form: it has a button, amounts, a date, and most shops' customers know it.
SHOWN_KIND = "order_confirmation"


@bp.get("/stores/<int:store_id>/templates/brand")
@for_store(Permission.VIEW_TEMPLATES)
def edit(store: Store) -> Response:
    return _show(store, _form(store, formdata=None))


@bp.post("/stores/<int:store_id>/templates/brand")
@for_store(Permission.EDIT_TEMPLATES)
def save(store: Store) -> Response:
    form = _form(store)
    if not _is_right(form) or form.expected_version is None:
        return _show(store, form, "brand/_form.html", 422)
    try:
        brand.save(store, form.draft(), expected_version=form.expected_version, actor=actor())
    except StaleSave:
        return _show_both(store, form)
    db.session.commit()
    if wants_fragment():
        return _show(store, _form(store, formdata=None), "brand/_saved.html", saved_just_now=True)
    flash("The brand is saved.", "success")
    return see_other(url_for("brand.edit", store_id=store.id))


def _is_right(form: BrandForm) -> bool:
    valid = bool(form.validate_on_submit())
    if any(name not in request.form for name in (*FIELDS, "version")) or form.expected_version is None:
        form.form_errors.append(PAGE_NOT_WHOLE)
        valid = False
    return valid


def _form(store: Store, **more: Any) -> BrandForm:
    row = brand.load(store)
    return BrandForm.of(brand.draft_of(row), row.version if row else 0, **more)


def _show_both(store: Store, form: BrandForm) -> Response:
    # The form is now over the version that was saved meanwhile: saving again is a decision with both in view.
    db.session.rollback()
    row = brand.load(store)
    theirs = brand.draft_of(row)
    form.version.data = str(row.version if row else 0)
    differences = [
        (name, form[name].label.text, form[name].data, str(getattr(theirs, name)))
        for name in FIELDS
        if form[name].parsed != getattr(theirs, name)
    ]
    return _show(store, form, "brand/_form.html", 409, differences=differences)


def _show(store: Store, form: BrandForm, fragment: str | None = None, status: int = 200, **more: Any) -> Response:
    headers.show_mail_frames()
    row = brand.load(store)
    return respond(
        "brand/edit.html",
        fragment,
        status=status,
        store=store,
        form=form,
        brand_row=row,
        saved={name: str(value) for name, value in vars(brand.draft_of(row)).items()},
        readonly=is_readonly(store),
        view=frames.view_of(request.form.get("view", "")),
        **{"differences": None, "saved_just_now": False} | more,
    )


@bp.post("/stores/<int:store_id>/templates/brand/field/<name>")
@for_store(Permission.EDIT_TEMPLATES)
def check_field(store: Store, name: str) -> Response:
    """One field as it was just left: what is wrong with it."""
    if name not in FIELDS:
        abort(404)
    form = _form(store)
    valid = form.check(name)
    page = render_template("brand/_field.html", store=store, form=form, name=name, saved={}, readonly=False)
    return make_response(page, 200 if valid else 422)


@bp.route("/stores/<int:store_id>/templates/brand/preview", methods=["GET", "POST"])
@for_store(Permission.VIEW_TEMPLATES)
def preview(store: Store) -> Response:
    """The document of the frame: one mail in the look on the screen, or in the one that is saved."""
    draft, asked = brand.draft_of(brand.load(store)), request.args
    if request.method == "POST":
        draft, asked = _form(store).draft_so_far(draft), request.form
    return frames.show(_preview(store, draft), frames.view_of(asked.get("view", "")))


def _preview(store: Store, draft: BrandDraft) -> previews.Preview:
    kind = kinds.find(SHOWN_KIND) or abort(404)
    look: Look = brand.look_from(store, draft)
    present = stored.in_force(store.id, kind, look.locale, look.locale)
    return previews.preview(kind, present.draft, look, present.locale)


@bp.get("/stores/<int:store_id>/templates/brand/choices/<name>")
@for_store(Permission.VIEW_TEMPLATES)
def choices(store: Store, name: str) -> Response:
    """What a field may hold, as options: hundreds, so they come when somebody goes into the field."""
    known = {"locale": locales.known, "time-zone": brand.time_zone_choices, "currency": brand.currency_choices}
    options = known[name]() if name in known else abort(404)
    return respond("brand/_choices.html", options=options)
