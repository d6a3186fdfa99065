"""API keys of a store: list, create (the key is shown once, on the answer), revoke."""

from __future__ import annotations

from flask import Blueprint, Response, abort, flash, url_for

from blueprints.api_keys.forms import NewKeyForm
from blueprints.api_keys.smtp import smtp_access
from blueprints.web import actor, equipment, for_store, go_on, respond
from extensions import db
from mail import api_keys
from models import Store
from models.access import Permission
from models.api_key import Scope

bp = Blueprint("api_keys", __name__)


@bp.get("/stores/<int:store_id>/api-keys")
@for_store(Permission.MANAGE_API_KEYS)
def index(store: Store) -> Response:
    return _page(store, NewKeyForm())


@bp.post("/stores/<int:store_id>/api-keys")
@for_store(Permission.MANAGE_API_KEYS)
def create(store: Store) -> Response:
    form = NewKeyForm()
    if not form.validate_on_submit():
        return _page(store, form, 422)
    row, key = api_keys.create(store, form.name.data, actor=actor(), scopes=form.scopes)
    db.session.commit()
    # Not a 303: the key exists in this answer only, which nobody may store.
    return respond(
        "api_keys/created.html",
        store=store,
        row=row,
        may_send=Scope.SEND in form.scopes,
        key=key.reveal(),
        messages_url=equipment().public_url + url_for("api.send"),
    )


@bp.post("/stores/<int:store_id>/api-keys/<int:key_id>/revoke")
@for_store(Permission.MANAGE_API_KEYS)
def revoke(store: Store, key_id: int) -> Response:
    row = api_keys.revoke(store, key_id, actor=actor())
    if row is None:
        abort(404)
    name = row.name
    db.session.commit()
    flash(f"The key “{name}” is revoked. Requests with it are refused from now on.", "success")
    return go_on(url_for("api_keys.index", store_id=store.id))


def _page(store: Store, form: NewKeyForm, status: int = 200) -> Response:
    return respond(
        "api_keys/index.html",
        status=status,
        store=store,
        form=form,
        keys=api_keys.keys_of(store),
        has_errors=status == 422,
        smtp=smtp_access(),
        messages_url=equipment().public_url + url_for("api.send"),
    )
