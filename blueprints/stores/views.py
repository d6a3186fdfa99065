"""Stores → Manage Stores: list, new, edit, copy, delete."""

from __future__ import annotations

import re

from flask import Blueprint, Response, flash, request, url_for
from sqlalchemy import func, select

from blueprints.stores import listing
from blueprints.stores.forms import CopyForm, DeleteForm, StoreForm
from blueprints.web import actor, equipment, for_store, requires, respond, see_other, signed_in, signed_in_user
from extensions import db
from mail import audit
from mail import settings as email_settings
from mail.templates import stored
from models import Message, Store
from models.access import Permission
from models.connection import delete_unused
from models.outbox import END_STATES

bp = Blueprint("stores", __name__)


@bp.get("/stores")
@signed_in
def index() -> Response:
    wanted = {name: request.args.get(name, "").strip()[:100] for name in ("search", "method", "connection")}
    number = request.args.get("page", "1")
    page = listing.load_page(
        signed_in_user(), **wanted, number=int(number) if re.fullmatch(r"[0-9]{1,6}", number) else 1
    )
    filters = {name: value for name, value in wanted.items() if value}
    return respond(
        "stores/index.html",
        "stores/_table.html",
        page=page,
        filters=filters,
        states=listing.CONNECTION_FILTERS,
        count_words=listing.count_words,
        provider_names={p.key: p.name for p in equipment().providers.choices()},
    )


@bp.route("/stores/new", methods=["GET", "POST"])
@requires(Permission.CREATE_STORE)
def new() -> Response:
    form = StoreForm()
    if not form.validate_on_submit():
        return respond("stores/new.html", status=422 if form.is_submitted() else 200, form=form)
    store = _add(form)
    email_settings.create_for(store, from_name=store.name)
    audit.record(actor(), "store_created", store)
    db.session.commit()
    return see_other(url_for("email_settings.edit_advanced", store_id=store.id))


def _add(form: StoreForm) -> Store:
    store = Store(name=form.name.data, code=form.code.data, domain=form.domain.data)
    db.session.add(store)
    db.session.flush()  # the settings row and the audit entry need the id
    return store


@bp.route("/stores/<int:store_id>/edit", methods=["GET", "POST"])
@for_store(Permission.EDIT_STORE)
def edit(store: Store) -> Response:
    form = StoreForm(obj=store, store=store)
    if not form.validate_on_submit():
        return respond("stores/edit.html", status=422 if form.is_submitted() else 200, form=form, store=store)
    changed = [name for name in ("name", "code", "domain") if getattr(store, name) != form[name].data]
    for name in changed:
        setattr(store, name, form[name].data)
    if changed:
        audit.record(actor(), "store_edited", store, fields=changed)
    db.session.commit()
    flash("Details saved.", "success")
    return see_other(url_for("stores.edit", store_id=store.id))


@bp.route("/stores/<int:store_id>/copy", methods=["GET", "POST"])
@for_store(Permission.COPY_STORE)
def copy(store: Store) -> Response:
    form = CopyForm(data={"name": f"{store.name} (copy)", "code": f"{store.code}-copy", "emails_off": True})
    if not form.validate_on_submit():
        return _ask_to_copy(store, form)
    source, target = store.email_settings, _add(form)
    try:
        email_settings.copy_to(source, target, emails_off=form.emails_off.data, actor=actor(), equipment=equipment())
    except email_settings.CannotCopy:
        db.session.rollback()
        form.form_errors.append(
            f"A saved secret of {store.name} does not open, so it cannot be copied. Enter its credentials again first."
        )
        return _ask_to_copy(store, form)
    stored.copy_to(store, target, actor=actor())
    db.session.commit()
    flash(f"{target.name} is a copy of {store.name}, with all its email settings and templates.", "success")
    return see_other(url_for("email_settings.edit_advanced", store_id=target.id))


def _ask_to_copy(store: Store, form: CopyForm) -> Response:
    mailbox = email_settings.mailbox_of(store.email_settings)
    status = 422 if form.is_submitted() else 200
    return respond("stores/copy.html", status=status, form=form, store=store, mailbox=mailbox)


@bp.route("/stores/<int:store_id>/delete", methods=["GET", "POST"])
@for_store(Permission.DELETE_STORE)
def delete(store: Store) -> Response:
    form = DeleteForm(store=store)
    if not form.validate_on_submit():
        waiting = db.session.scalar(
            select(func.count()).where(Message.store_id == store.id, Message.status.not_in(END_STATES))
        )
        return respond(
            "stores/delete.html", status=422 if form.is_submitted() else 200, form=form, store=store, waiting=waiting
        )
    audit.record(actor(), "store_deleted", store)
    name = store.name
    db.session.delete(store)
    db.session.flush()  # its settings must be gone before unused connections are looked for
    delete_unused()
    db.session.commit()
    flash(f"{name} is deleted.", "success")
    return see_other(url_for("stores.index"))
