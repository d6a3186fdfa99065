"""What was looked up for an issuer, on its way through the page: nothing is stored before somebody saves.

The browser carries it signed. Otherwise whoever posts the form could call any two endpoints a pair of some issuer,
and have a code that belongs to one server sent to another (security.md 40).
"""

from __future__ import annotations

import dataclasses
from typing import Any

from flask import current_app
from itsdangerous import BadData, URLSafeSerializer
from werkzeug.datastructures import MultiDict

from blueprints.email_settings.forms import AdvancedForm
from mail.discovery import Discovered
from mail.drafts import AdvancedDraft
from models.connection import ClientAuth

LOOK_UP = "Press Look up, so that the endpoints are those of this issuer, or leave it empty"
EDITED = "The endpoints were changed after they were looked up. Press Look up once more, or leave Issuer empty"
NO_FACTS: dict[str, Any] = {"issuer": "", "iss_required": False, "revocation_url": "", "pkce_method": ""}


def signed(found: Discovered, store_id: int) -> str:
    """The metadata as a text that only this page of this store takes back."""
    return _signer(store_id).dumps(dataclasses.asdict(found))


def looked_up(text: str | None, store_id: int) -> Discovered | None:
    """What `signed` made into that text, or None."""
    try:
        values = _signer(store_id).loads(text or "")
        return Discovered(
            **{**values, "scopes": tuple(values["scopes"]), "client_auth": ClientAuth(values["client_auth"])}
        )
    except (BadData, TypeError, KeyError, ValueError):
        return None


def put(found: Discovered, typed: MultiDict[str, str], store_id: int) -> None:
    """Fill the form with what was found; a scope that somebody typed stays."""
    typed["issuer"] = found.issuer
    typed["authorization_url"], typed["token_url"] = found.authorization_url, found.token_url
    typed["client_auth"] = found.client_auth.value
    if not typed.get("scope", "").strip():
        typed["scope"] = " ".join(found.scopes)
    typed["looked_up"] = signed(found, store_id)


def facts(form: AdvancedForm, stored: AdvancedDraft, store_id: int) -> dict[str, Any] | str:
    """What to store of the issuer of a form that is right otherwise, or what is wrong with it."""
    issuer = form.issuer.parsed
    if form.provider.data != "other" or not issuer:
        return NO_FACTS
    urls = (form.authorization_url.parsed, form.token_url.parsed)
    found = looked_up(form.looked_up.data, store_id)
    if found and found.issuer == issuer:
        if urls != (found.authorization_url, found.token_url):
            return EDITED
        return {name: getattr(found, name) for name in NO_FACTS}
    if stored.issuer != issuer:
        return LOOK_UP
    if urls != (stored.authorization_url, stored.token_url):
        return EDITED
    return {name: getattr(stored, name) for name in NO_FACTS}


def promises(form: AdvancedForm, stored: AdvancedDraft, store_id: int) -> list[str]:
    """What the server of the issuer on the page says it does, in words; empty before it was looked up."""
    found: Any = looked_up(form.looked_up.data, store_id)
    known = found or stored
    if not known.issuer or form.issuer.data != known.issuer:
        return []
    said = ["PKCE with S256" if known.pkce_method else "", "its name in every answer" if known.iss_required else ""]
    said.append("ending a grant on Disconnect" if known.revocation_url else "")
    return [words for words in said if words] or ["nothing beyond its two endpoints"]


def _signer(store_id: int) -> URLSafeSerializer:
    return URLSafeSerializer(current_app.secret_key or "", salt=f"issuer-metadata-{store_id}")
