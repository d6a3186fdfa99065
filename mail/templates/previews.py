"""What a mail would be, from texts that nobody has saved: rendered with their sample, or why that does not work."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mail.templates.drafts import Draft, Examined, examine
from mail.templates.finishing import CLIPPED_AT_BYTES
from mail.templates.kinds import Kind, ValueType, Variable
from mail.templates.rendering import DataMissing, DoesNotRender, Look, Problem, Rendered, render

# What the default samples call their products' pictures; files of the same names lie in static/samples.
_SAMPLE_PICTURE: Final = re.compile(
    r"https://shop\.example/images/(canvas-backpack|canvas-backpack-large|enamel-teapot|linen-shirt|merino-socks)\.jpg"
)
# Parts of the layout that a store's HTML may use: what each is for, and how it is written.
BLOCKS: Final = (
    ("button", "A link that looks like one", "{% render 'button', label: 'Visit us', url: store.url %}"),
    ("notice", "Sentences that stand out", "{% render 'notice', title: 'Good to know', text: 'Write it here.' %}"),
    ("detail", "A fact and its value", "{% render 'detail', label: 'Store', value: store.name %}"),
    ("divider", "A thin line", "{% render 'divider' %}"),
)


@dataclass(frozen=True)
class Preview:
    """Attributes:
    mail: None when there are errors among the problems.
    """

    examined: Examined
    mail: Rendered | None

    @property
    def size_bytes(self) -> int:
        """Of the HTML, as Gmail counts it."""
        return len(self.mail.html.encode()) if self.mail else 0

    @property
    def is_clipped(self) -> bool:
        return self.size_bytes > CLIPPED_AT_BYTES


def preview(kind: Kind, draft: Draft, look: Look, locale: str) -> Preview:
    """Return the mail of these texts and their sample, with everything that is wrong with them."""
    examined = examine(kind, draft, look, locale)
    if examined.errors or examined.data is None:
        return Preview(examined, None)
    try:
        return Preview(examined, render(kind, examined.draft.source, examined.data, look, locale))
    except DoesNotRender as trouble:
        problems = tuple(trouble.problems)
    except DataMissing as missing:
        problems = tuple(Problem("sample", None, f"{path}: {words}") for path, words in missing.faults)
    return Preview(Examined(examined.draft, problems + examined.problems, examined.data), None)


def with_pictures(html: str, folder_url: str) -> str:
    """Return a mail of a sample with pictures that are there, for those of the shop that the samples made up."""
    return _SAMPLE_PICTURE.sub(lambda found: f"{folder_url}/{found[1]}.png", html)


def snippet(variable: Variable, among: tuple[Variable, ...]) -> str:
    """Return the Liquid by which a text shows this value; empty for an object, whose own names stand below it.

    What belongs to each of a list's entries is called `item`, as in the loop that the list itself gives.
    """
    path = variable.path
    inside = path.rpartition("[].")[2]
    if inside != path:
        path = f"item.{inside}"
    match variable.type:
        case ValueType.OBJECT:
            return ""
        case ValueType.LIST:
            return f"{{% for item in {path} %}}\n{_first_of(variable, among)}\n{{% endfor %}}"
        case ValueType.FLAG:
            return f"{{% if {path} %}}{{% endif %}}"
        case ValueType.MONEY:
            currency = next((one.path for one in among if one.path.endswith("currency") and "[]" not in one.path), "")
            return f"{{{{ {path} | money{f': {currency}' if currency else ''} }}}}"
        case ValueType.DATE:
            return f"{{{{ {path} | date }}}}"
        case ValueType.URL:
            return f"{{{{ {path} | link }}}}"
    return f"{{{{ {path} }}}}"


def _first_of(entries: Variable, among: tuple[Variable, ...]) -> str:
    start = f"{entries.path.removesuffix('[]')}[]."
    first = next((one for one in among if one.path.startswith(start) and "[]" not in one.path[len(start) :]), None)
    return snippet(first, among) if first else "{{ item }}"
