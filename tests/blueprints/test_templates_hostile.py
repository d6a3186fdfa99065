"""Nothing that anybody sends to the pages of templates makes a 500, on either database; refusals change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote_from_bytes

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from extensions import db
from models import AuditEntry, Brand, Message, Store, TemplateSwitch, TemplateVersion
from tests.blueprints.template_pages import open_, url_of
from tests.conftest import Browser, running, settings_for

FORM = "application/x-www-form-urlencoded"
BOUNDED = settings(
    max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
ODD = st.one_of(
    st.text(max_size=40),
    st.text(alphabet=st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Nd", "Mn"]), max_size=8),
    st.text(alphabet="{}%|.[]()'\"= \n\r-<>!/aforincludeif", max_size=40),
    st.sampled_from(
        [
            "{{", "{% raw %}", "{% for a in (1..9999999) %}{{ a }}{% endfor %}", "{{ '' | default: x.y }}", "[" * 3000,
            '{"customer": null}', '{"a": 1e400}', "{{ store.__class__ }}", "{% include 'layout' %}",
            "{% render '../x' %}",
            "<script>alert(1)</script>", "x" * 120_000, "https://[", "#" * 9, "-1", "9" * 12, "٣", "\x00", "\ud800",
        ]
    ),
)  # fmt: skip


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def app(request: pytest.FixtureRequest) -> Iterator[Flask]:
    url = request.getfixturevalue("database_url" if request.param == "sqlite" else "postgres_url")
    with running(settings_for(url, PROPAGATE_EXCEPTIONS=False)) as application:
        yield application


def counted() -> list[int]:
    db.session.rollback()
    models = (TemplateVersion, TemplateSwitch, Brand, Message, AuditEntry)
    found = [db.session.scalar(select(func.count()).select_from(model)) or 0 for model in models]
    db.session.rollback()
    return found


def send(browser: Browser, url: str, fields: dict[str, str], *, is_fragment: bool) -> int:
    body = "&".join(
        f"{quote_from_bytes(name.encode())}={quote_from_bytes(value.encode('utf-8', 'surrogatepass'))}"
        for name, value in {"csrf_token": browser.csrf, **fields}.items()
    )
    headers = {"HX-Request": "true", "HX-Request-Type": "partial"} if is_fragment else {}
    return browser.open("POST", url, data=body, content_type=FORM, headers=headers).status_code


def test_any_text_in_the_editor_is_saved_or_refused(alice: Browser, store: Store) -> None:
    page = open_(alice, store)

    @BOUNDED
    @given(
        odd=st.dictionaries(st.sampled_from([*page, "view"]), ODD, min_size=1, max_size=3),
        part=st.sampled_from([(), ("check",), ("preview",), ("sample",), ("reset",)]),
        is_fragment=st.booleans(),
    )
    def post(odd: dict[str, str], part: tuple[str, ...], is_fragment: bool) -> None:
        before = counted()
        status = send(alice, url_of(store, "password-reset", "en", *part), page | odd, is_fragment=is_fragment)
        assert status in (200, 204, 303, 409, 422), (status, odd, part)
        if status in (409, 422) or part in (("check",), ("preview",)):
            assert counted() == before, (odd, part)

    post()


def test_any_text_on_the_brand_page_is_saved_or_refused(alice: Browser, store: Store) -> None:
    page = {
        "version": "0", "display_name": "", "logo_url": "", "logo_width": "160", "accent": "#2153d4",
        "header_color": "#ffffff", "website_url": "", "support_email": "", "address": "", "legal": "", "locale": "en",
        "time_zone": "UTC", "currency": "EUR",
    }  # fmt: skip

    @BOUNDED
    @given(
        odd=st.dictionaries(st.sampled_from([*page, "view"]), ODD, min_size=1, max_size=3),
        part=st.sampled_from(["", "/preview", "/field/accent", "/field/address"]),
        is_fragment=st.booleans(),
    )
    def post(odd: dict[str, str], part: str, is_fragment: bool) -> None:
        before = counted()
        status = send(alice, f"/stores/{store.id}/templates/brand{part}", page | odd, is_fragment=is_fragment)
        assert status in (200, 303, 409, 422), (status, odd, part)
        if status in (409, 422) or part:
            assert counted() == before, (odd, part)

    post()


def test_bytes_that_are_no_text_are_named_and_change_nothing(alice: Browser, store: Store) -> None:
    page, before = open_(alice, store), counted()
    for name in page:
        pairs = [
            f"{key}={'%ff%fe' if key == name else quote_from_bytes(value.encode())}"
            for key, value in {**page, "csrf_token": alice.csrf}.items()
        ]
        answer = alice.open("POST", url_of(store), data="&".join(pairs), content_type=FORM)
        assert answer.status_code == 422, name
        assert "could not be read" in answer.text or name == "expected"
    assert counted() == before
