"""A rendered page made ready for mail programs: styles inlined, a text derived from it, and what will not be seen.

The libraries that do it go wrong on HTML of unusual shape: thousands of open tables overflow a stack, and each open <b>
is opened anew in every paragraph behind it. `fault_of_shape` refuses such pages before they see them. Nothing is loaded
from the network or from files. Source: product.md 7.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

# Gmail shows no more than this of a mail and puts a link in place of the rest.
CLIPPED_AT_BYTES = 102_400
_TAGS_MAX = 12_000  # 100 KB of mail have 2,000
_TAGS_ANYHOW = 1_500  # up to here nesting can do no harm, whatever it is
_REOPENED_MAX = 100_000
_DEPTH_MAX = 200
_RULES_TIMES_TAGS = 2_000_000

_START = re.compile(r"<[a-zA-Z]")
_REOPENED = re.compile(r"<(?:a|b|big|code|em|font|i|nobr|s|small|strike|strong|tt|u)\b", re.I)
_TOKEN = re.compile(r"<!--.*?-->|<[^<>]*>?", re.S)
_NAME = re.compile(r"<(/?)([a-zA-Z][^\s/>]*)")
_VOID = frozenset(
    {"area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track", "wbr"}
)
_RAW = frozenset({"style", "script", "title", "textarea", "xmp", "iframe", "noembed", "noframes", "plaintext"})
_FOREIGN = re.compile(r"<(svg|math|plaintext)\b", re.I)
_WHOLE_PAGE = re.compile(r"\s*<(?:!doctype|html)\b", re.I)
_CELL = "\ue000"  # stands for the end of a table's cell until blanks have been put together
_CELL_END = re.compile(rf"[ \t]*(?:{_CELL}[ \t]*)+")
_SAID_TWICE = re.compile(r"(?<!\S)(\S{1,2000}) <\1>")  # the words of a link are often the address itself
# Each element costs as much as a line of text; these change no word of it.
_SAYS_NOTHING = re.compile(r"</?(?:b|strong|i|em|u|small|span|font|tbody|center)(?: class=\"[^\"<>]*\")?>|<img [^<>]*>")
_BLANK_LINES = re.compile(r"\n{3,}")
_IMAGE = re.compile(r"<img\b[^>]*>", re.I)
_ALT = re.compile(r"\salt\s*=", re.I)
_PLAIN_IMAGE = re.compile(r"<img\b[^>]*?\ssrc\s*=\s*[\"']?http://", re.I)
_DROPPED = re.compile(r"<(script|iframe|form|input|object|embed|video|audio|svg)\b", re.I)


def is_whole_page(source: str) -> bool:
    """Whether this is a page of its own, which goes out without the layout."""
    return _WHOLE_PAGE.match(source) is not None


def fault_of_shape(html: str) -> str | None:
    """Return what to change in a page before anything can be done with it, or None. One pass over it."""
    if found := _FOREIGN.search(html):
        return f"Mail programs do not show <{found[1].lower()}>: use an image instead"
    tags = len(_START.findall(html))
    if tags > _TAGS_MAX:
        return f"Use {_TAGS_MAX:,} HTML tags or fewer: this mail has {tags:,}"
    if tags * html.count("{") > _RULES_TIMES_TAGS:
        return "Use fewer rules in <style>"
    if tags <= _TAGS_ANYHOW and tags * len(_REOPENED.findall(html)) <= _REOPENED_MAX:
        return None
    return _fault_of_nesting(html)


def _fault_of_nesting(html: str) -> str | None:
    """The same for a large page, in which every tag has to be closed in its turn."""
    still_open: list[str] = []
    for token in _TOKEN.finditer(html):
        found = _NAME.match(token[0])
        if found is None:
            if token[0].startswith(("<!-->", "<!--->")):
                return "Close comments by -->"
            continue
        name = found[2].lower()
        if still_open and still_open[-1] in _RAW and (not found[1] or name != still_open[-1]):
            return f"Keep tags out of <{still_open[-1]}>"
        if not token[0].endswith(">"):
            return f"Write &lt; for a < that begins no tag, near <{name[:20]}"
        if found[1]:
            if not still_open or still_open.pop() != name:
                return f"In a mail of this length every tag has to be closed in its turn: look at </{name[:20]}>"
        elif name not in _VOID:
            still_open.append(name)
            if len(still_open) > _DEPTH_MAX:
                return f"Nest HTML tags {_DEPTH_MAX} deep or less"
    if still_open:
        return f"In a mail of this length every tag has to be closed: look at <{still_open[-1][:20]}>"
    return None


def inlined(html: str) -> str:
    """Return the page with its styles in style attributes; rules for dark mode and phones stay in a <style>."""
    return str(_inliner().inline(html))


@lru_cache(1)
def _inliner() -> Any:
    import css_inline

    return css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)


# Text ---------------------------------------------------------------------------------------------------------------


def text_of(html: str) -> str:
    """Return the page as plain text, with the address behind each link. It is empty where the page shows none."""
    if not html.strip():
        return ""
    from inscriptis.html_engine import Inscriptis
    from lxml import etree

    parser = etree.HTMLParser(no_network=True, remove_comments=True, remove_pis=True, encoding="utf-8")
    tree = etree.fromstring(_SAYS_NOTHING.sub("", html).encode("utf-8"), parser=parser)
    if tree is None:  # nothing but comments
        return ""
    text = _CELL_END.sub(" ", Inscriptis(tree, _text_config()).get_text().replace("\n" + _CELL, "\n"))
    text = _SAID_TWICE.sub(r"\1", text)
    lines = (line.strip() for line in text.splitlines())
    return _BLANK_LINES.sub("\n\n", "\n".join(lines)).strip("\n")


@lru_cache(1)
def _text_config() -> Any:
    """Tables as lines: columns would be filled up with blanks, and phones break them anyway."""
    from inscriptis.css_profiles import STRICT_CSS_PROFILE
    from inscriptis.html_properties import Display, WhiteSpace
    from inscriptis.model.attribute import Attribute
    from inscriptis.model.config import ParserConfig
    from inscriptis.model.html_element import HtmlElement
    from inscriptis.model.tag import CustomHtmlTagHandlerMapping

    css = dict(STRICT_CSS_PROFILE)
    for name in ("ul", "ol"):
        css[name] = HtmlElement(display=Display.block, margin_before=1, margin_after=1)
    for name in ("table", "tr", "li", "blockquote"):
        css[name] = HtmlElement(display=Display.block)
    css["pre"] = HtmlElement(display=Display.block, whitespace=WhiteSpace.pre)
    for name in ("textarea", "template", "noscript", "object", "iframe"):
        css[name] = HtmlElement(display=Display.none)
    as_lines: Any = {"table": None, "tr": None, "td": None, "th": None}
    mapping = CustomHtmlTagHandlerMapping(
        start_tag_mapping={**as_lines, "a": _open_link},
        end_tag_mapping={**as_lines, "td": _close_cell, "th": _close_cell, "a": _close_link},
    )
    config = ParserConfig(css=css, custom_html_tag_handler_mapping=mapping)
    attributes = Attribute()
    attributes.attribute_mapping = {"style": _hide}
    config.attribute_handler = attributes
    return config


def _hide(style: str, element: Any) -> None:
    from inscriptis.html_properties import Display

    if "display:none" in style.replace(" ", "").lower():
        element.display = Display.none


def _open_link(state: Any, attributes: Any) -> None:
    state.link_target = attributes.get("href", "").strip()


def _close_link(state: Any) -> None:
    target, state.link_target = state.link_target, ""
    if target.startswith(("https://", "http://", "mailto:")):
        state.tags[-1].write(f" <{target.removeprefix('mailto:')}>")


def _close_cell(state: Any) -> None:
    state.tags[-1].write(_CELL)


def with_footer(text: str, lines: Sequence[str]) -> str:
    """The text with lines below it, behind the mark that mail programs know a signature by."""
    footer = "\n".join(line for line in lines if line)
    return f"{text}\n\n-- \n{footer}\n" if footer else f"{text}\n"


# What will not be seen ----------------------------------------------------------------------------------------------


def warnings_of(source: str) -> list[tuple[int, str]]:
    """Return what mail programs will not show of this HTML source, as pairs of position and sentence."""
    found = []
    for one in _DROPPED.finditer(source):
        found.append((one.start(), f"Mail programs drop <{one[1].lower()}>. Take it out"))
    for one in _IMAGE.finditer(source):
        if not _ALT.search(one[0]):
            found.append((one.start(), 'Give this image words for whom images are switched off: alt="…"'))
        if _PLAIN_IMAGE.match(one[0]):
            found.append((one.start(), "Use https:// for this image: mail programs block http://"))
    return sorted(found)
