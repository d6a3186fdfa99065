"""Every route says who may call it, is named kebab-case, and no GET changes the database."""

from __future__ import annotations

import re

from flask import Flask
from sqlalchemy import event

from extensions import db as database
from models import Store, User
from tests import factories
from tests.conftest import Browser

# The OAuth callback is the one GET that writes, by the provider's redirect.
WRITING_GETS = {"consent.callback"}


def _routes(app: Flask) -> list:  # type: ignore[type-arg]
    return [rule for rule in app.url_map.iter_rules() if rule.endpoint != "static"]


def test_every_route_declares_the_permission_it_needs(app: Flask) -> None:
    bare = [r.rule for r in _routes(app) if not getattr(app.view_functions[r.endpoint], "access", "")]
    assert not bare


def test_only_the_doors_that_must_be_open_are_public(app: Flask) -> None:
    public = {r.endpoint for r in _routes(app) if app.view_functions[r.endpoint].access.startswith("public")}
    allowed = {"auth.sign_in", "auth.welcome", "auth.set_theme", "health.alive", "health.ready", "consent.callback"}
    assert {endpoint for endpoint in public if not endpoint.startswith("api.")} <= allowed


def test_url_paths_are_kebab_case(app: Flask) -> None:
    for rule in _routes(app):
        fixed = re.sub(r"<[^>]+>", "", rule.rule)
        assert re.fullmatch(r"[a-z0-9/.-]*", fixed), rule.rule


def test_signed_out_people_reach_no_store(app: Flask, client: Browser, store: Store) -> None:
    for rule in _routes(app):
        if "store_id" not in rule.arguments:
            continue
        url = _url(rule, store)
        for method in (rule.methods or set()) & {"GET", "POST"}:
            answer = client.get(url) if method == "GET" else client.post(url)
            assert answer.status_code == 303, (method, url, answer.status_code)
            assert answer.location.startswith("/sign-in")


def test_strangers_find_a_store_no_more_than_a_missing_one(app: Flask, client: Browser, store: Store) -> None:
    stranger = factories.make_user(password="a stranger to all of them 7")
    client.post("/sign-in", {"email": stranger.email, "password": "a stranger to all of them 7"})
    for rule in _routes(app):
        if "store_id" in rule.arguments:
            for method in (rule.methods or set()) & {"GET", "POST"}:
                answers = [
                    client.open(
                        method, _url(rule, number), data={"csrf_token": _token(client)} if method == "POST" else None
                    )
                    for number in (store.id, 999_999)
                ]
                assert [a.status_code for a in answers] == [404, 404], rule.rule
                assert answers[0].text.replace(str(store.id), "").count("Acme") == 0


def _token(client: Browser) -> str:
    found = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', client.get("/stores").text)
    assert found
    return found.group(1)


def test_no_get_writes(app: Flask, alice: Browser, store: Store, admin: User) -> None:
    alice.get("/stores")
    written: list[str] = []

    def watch(connection, cursor, statement, parameters, context, many) -> None:  # type: ignore[no-untyped-def]
        if re.match(r"\s*(INSERT|UPDATE|DELETE)", statement, re.IGNORECASE):
            written.append(statement)

    event.listen(database.engine, "before_cursor_execute", watch)
    try:
        for rule in _routes(app):
            if "GET" in (rule.methods or set()) and rule.endpoint not in WRITING_GETS:
                answer = alice.get(_url(rule, store))
                assert answer.status_code < 500, rule.rule
                assert not written, (rule.rule, written)
    finally:
        event.remove(database.engine, "before_cursor_execute", watch)


PLAUSIBLE = {"kind": "order-confirmation", "locale": "en"}


def _url(rule, store) -> str:  # type: ignore[no-untyped-def]
    """The rule's address with the store's id, and a plausible value for everything else."""
    store_id = store if isinstance(store, int) else store.id
    values = {
        name: store_id
        if name == "store_id"
        else (1 if "Integer" in type(converter).__name__ else PLAUSIBLE.get(name, "smtp"))
        for name, converter in rule._converters.items()
    }
    built = rule.build(values, append_unknown=False)
    assert built is not None
    return str(built[1])
