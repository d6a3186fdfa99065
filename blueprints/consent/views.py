"""Coming back from the provider's consent page, disconnecting, and the connection card.

Leaving is `email_settings.connect`: it saves the page first. The callback is the one GET that writes; its query string
holds the code and the state, so it is not logged, not kept in the address bar and told to no other site.
"""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, Response, flash, make_response, render_template, request, session, url_for
from flask_login import current_user

from blueprints.connection_tests.views import begin_after_consent
from blueprints.consent.card import card_of
from blueprints.sessions import StoredSession
from blueprints.web import actor, equipment, for_store, public, respond, see_other, signed_in, signed_in_user
from extensions import db
from mail import connection_care, consent, outbox
from mail.consent import Arrival, ConsentFailed
from mail.held_by_connection import expired_since
from models import Store
from models.access import Permission, may, stores_for
from models.database import writing

bp = Blueprint("consent", __name__)
bp.add_app_template_global(card_of, "connection_card")

# Where the outcome of a failed Connect waits for the page that shows it.
_OUTCOME = "consent_outcome"
_SIGNED_OUT = ConsentFailed(
    "signed_out",
    "You are not signed in to Storepost in this browser, so the answer of the sign-in page was not used.",
    "Sign in, open the store’s Advanced SMTP page and press Connect again. Nothing was changed.",
)


@bp.get("/oauth/callback")
@public("the session that asked is the permission; whoever is not signed in gets a sentence and nothing happens")
def callback() -> Response:
    if not current_user.is_authenticated:
        page = render_template("consent/failed.html", outcome=_outcome_of(_SIGNED_OUT), store=None)
        # No cookie: it could take the place of a session that the browser has and merely did not send along.
        session.modified = False
        return _hushed(make_response(page, 403))
    try:
        with writing():
            arrival = _finish()
            expired = expired_since(arrival.store_id, arrival.lost_at) if arrival.lost_at else 0
            released = outbox.release_mended(arrival.store_id, equipment=equipment())
            db.session.commit()
    except ConsentFailed as failure:
        session[_OUTCOME] = _outcome_of(failure)
        return _hushed(see_other(url_for("consent.outcome")))
    session.pop(_OUTCOME, None)
    _tell(arrival, released, expired)
    return _hushed(see_other(begin_after_consent(db.session.get_one(Store, arrival.store_id))))


def _finish() -> Arrival:
    return consent.finish(
        request.args.to_dict(flat=False),
        user_id=signed_in_user().id,
        session_hash=cast(StoredSession, session).hash,
        may_connect=_may_connect,
        actor=actor(),
        equipment=equipment(),
    )


def _may_connect(store_id: int) -> bool:
    """Ask again: a right can be lost while somebody is at the consent page (security.md 41)."""
    user = signed_in_user()
    store = db.session.scalar(stores_for(user).where(Store.id == store_id))
    return store is not None and may(user, Permission.CONNECT, store)


def _tell(arrival: Arrival, released: int, expired: int) -> None:
    account = f" as {arrival.account}" if arrival.account else ""
    held = f" Sending {released:,} held {'message' if released == 1 else 'messages'}, oldest first." if released else ""
    flash(f"Connected{account}.{held}", "success")
    if expired:
        words = "message expired while it was held and was" if expired == 1 else "messages expired while held and were"
        flash(f"{expired:,} {words} not sent.", "warning")
    if arrival.split_from:
        names = ", ".join(arrival.split_from)
        flash(f"This store has a connection of its own now. {names} keep the one they shared.", "message")
    for warning in arrival.warnings:
        flash(warning, "warning")


def _landing(store_id: int) -> str:
    """Where Connect ends: the page it started from, at a clean address."""
    return url_for("email_settings.edit_advanced", store_id=store_id)


def _hushed(response: Response) -> Response:
    """Keep the address with the code in it out of Referer headers and caches."""
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


@bp.get("/oauth/outcome")
@signed_in
def outcome() -> Response:
    """Why the last Connect of this session came to nothing."""
    found = session.get(_OUTCOME)
    if not found:
        return see_other(url_for("stores.index"))
    store = db.session.scalar(stores_for(signed_in_user()).where(Store.id == found["store_id"]))
    return respond("consent/failed.html", outcome=found, store=store)


def _outcome_of(failure: ConsentFailed) -> dict[str, Any]:
    explained = failure.explanation
    return {
        "sentence": failure.sentence,
        "meaning": explained.meaning if explained else "",
        "steps": list(explained.steps) if explained else [failure.way_out],
        "detail": failure.detail,
        "is_calm": failure.is_calm,
        "store_id": failure.store_id,
    }


@bp.route("/stores/<int:store_id>/disconnect", methods=["GET", "POST"])
@for_store(Permission.CONNECT)
def disconnect(store: Store) -> Response:
    card = card_of(store)
    if request.method == "GET":
        return respond("consent/disconnect.html", store=store, card=card)
    store_id, provider = store.id, card.provider.name
    farewell = connection_care.disconnect(store.email_settings, actor=actor(), equipment=equipment())
    db.session.commit()
    flash(f"Disconnected from {provider}. The tokens were removed.", "success")
    if farewell.is_revoked is False:
        words = f"{provider} did not confirm that it ended the grant. End it in the settings of the account as well."
        flash(words, "warning")
    if farewell.stores:
        flash(f"{', '.join(farewell.stores)} used the same connection and have to connect too.", "warning")
    return see_other(_landing(store_id))


@bp.post("/stores/<int:store_id>/tenant")
@for_store(Permission.CONNECT)
def use_tenant(store: Store) -> Response:
    """Put the tenant that consented in the place of `common`, after asking."""
    tenant = connection_care.use_learned_tenant(store.email_settings, actor=actor(), equipment=equipment())
    db.session.commit()
    if tenant:
        flash(f"Tenant Id is {tenant} now, in both URLs too.", "success")
    else:
        flash("The tenant was not changed: the settings are not those it was learned for any more.", "warning")
    return see_other(_landing(store.id))
