"""How fast a store may send and does: a card beside its settings that brings itself up to date."""

from __future__ import annotations

from flask import Blueprint, Response

from blueprints.sending_rate.card import card_of, clock_time, soon
from blueprints.web import for_store, respond
from models import Store
from models.access import Permission

bp = Blueprint("sending_rate", __name__)
bp.add_app_template_global(card_of, "rate_card")
bp.add_app_template_filter(clock_time, "clock_time")
bp.add_app_template_filter(soon, "soon")


@bp.get("/stores/<int:store_id>/email/rate")
@for_store(Permission.VIEW_STORE)
def show(store: Store) -> Response:
    """The card, and without htmx a page around it."""
    method = store.email_settings.method
    return respond(
        "sending_rate/show.html", "sending_rate/_card.html", store=store, method=str(method), tab=str(method)
    )
