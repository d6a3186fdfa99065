"""A settings page and its Test button, as a browser with or without JavaScript uses them."""

from __future__ import annotations

from html import unescape

from sqlalchemy import select
from werkzeug.test import TestResponse

from extensions import db as database
from models import TestRun
from models.email_settings import Method
from tests.blueprints.settings_page import read
from tests.conftest import Browser
from tests.fakes import sandboxed


class Tab:
    """A settings page of one store, and its Test button."""

    def __init__(self, browser: Browser, store_id: int, method: Method) -> None:
        self.browser, self.store_id, self.method = browser, store_id, method
        self.url = f"/stores/{store_id}/{'smtp' if method is Method.SMTP else 'advanced-smtp'}"
        self.test_url = f"/stores/{store_id}/test/{method}"

    def values(self, **changes: str | None) -> dict[str, str]:
        return read(self.browser.get(self.url).text).with_(**changes)

    def press(self, **changes: str | None) -> TestResponse:
        return self.browser.htmx_post(self.test_url, self.values(**changes))

    def press_plainly(self, **changes: str | None) -> TestResponse:
        return self.browser.post(self.test_url, self.values(**changes))

    def finish(self) -> str:
        """Wait for the newest run; the URL that the panel asks."""
        uid = database.session.scalars(select(TestRun.uid).order_by(TestRun.id.desc())).first()
        database.session.remove()
        assert uid is not None
        sandboxed.wait_for(uid)
        return f"/stores/{self.store_id}/tests/{uid}"

    def result(self, **changes: str | None) -> str:
        """What the panel says after a test."""
        answer = self.press(**changes)
        assert answer.status_code == 200, answer.text
        return unescape(self.browser.htmx_get(self.finish()).text)
