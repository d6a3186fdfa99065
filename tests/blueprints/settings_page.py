"""A settings page as a browser without JavaScript sees it: its controls, their values, what stands beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html import unescape
from html.parser import HTMLParser


@dataclass
class Page:
    """The form `smtp-form` of a page: `values` as it would be posted; `secrets` are the names of password inputs."""

    text: str
    values: dict[str, str] = field(default_factory=dict)
    secrets: list[str] = field(default_factory=list)

    def error_of(self, name: str) -> str:
        """The words beside a field, empty when there are none."""
        found = re.search(rf'id="{re.escape(name)}-error".*?</span>(.*?)</span>', self.text, re.S)
        return unescape(found.group(1)) if found else ""

    def with_(self, **changes: str | None) -> dict[str, str]:
        """What would be posted after these changes; None unticks a checkbox or leaves the control out."""
        posted = dict(self.values)
        for name, value in changes.items():
            name = name.replace("__", "-")
            if value is None:
                posted.pop(name, None)
            else:
                posted[name] = value
        return posted


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.values: dict[str, str] = {}
        self.secrets: list[str] = []
        self._inside = False
        self._select = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        at = dict(attrs)
        if tag == "form":
            self._inside = at.get("id") == "smtp-form"
        if not self._inside and at.get("form") != "smtp-form":
            return
        name, kind = at.get("name") or "", at.get("type") or "text"
        if tag == "input" and name and "disabled" not in at:
            if kind == "password":
                self.secrets.append(name)
                assert "value" not in at, name
            if kind not in ("checkbox", "radio") or "checked" in at:
                self.values[name] = at.get("value") or ""
        elif tag == "select":
            self._select = name
        elif tag == "option" and self._select and "selected" in at:
            self.values[self._select] = at.get("value") or ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False
        elif tag == "select":
            self._select = ""


def read(text: str) -> Page:
    reader = _Reader()
    reader.feed(text)
    return Page(text, reader.values, reader.secrets)
