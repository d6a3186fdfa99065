"""Liquid cut into tokens in one pass over its source, with every block tag matched and every size bounded.

The tokens are python-liquid's; its own scanner looks ahead to the end of the source from each opening bracket, so that
a hostile source keeps it busy for minutes. What is wrong is said here with its line, before anything is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from liquid.exceptions import FilterArgumentError
from liquid.token import TOKEN_CONTENT, TOKEN_EXPRESSION, TOKEN_OUTPUT, TOKEN_TAG, Token

from models.template import SOURCE_MAX

# A long order confirmation has about 150 tags and 5,000 characters in them; parsing costs by both.
TAGS_MAX = 1_000
EXPRESSION_MAX = 1_000
EXPRESSIONS_MAX = 20_000
NESTING_MAX = 15
BRACKETS_MAX = 10  # within one expression; each is a level of recursion, or a look to its end

# Tag that opens a block → what may stand between it and its end.
_BLOCKS = {
    "if": frozenset({"elsif", "else"}),
    "unless": frozenset({"elsif", "else"}),
    "case": frozenset({"when", "else"}),
    "for": frozenset({"else"}),
    "capture": frozenset(),
}
_ENDS = {f"end{name}": name for name in _BLOCKS}
_MIDDLES = frozenset({"elsif", "else", "when"})
_SINGLE = frozenset({"assign", "break", "continue", "render"})
TAGS = (*_BLOCKS, "assign", "render", "break", "continue", "comment", "raw")

_OPEN = re.compile(r"\{[{%]")
_NAME = re.compile(r"\s*(\w+)\s*")
_END_RAW = re.compile(r"\{%-?\s*endraw\s*(-?)%\}")
_COMMENT = re.compile(r"\{%-?\s*(end)?comment\s*(-?)%\}")
_SHOWN_MAX = 40


class Fault(FilterArgumentError):
    """What is wrong in a template, in a sentence for who writes it.

    It is one of the engine's errors, so that the engine adds the token where it happened.

    Attributes:
        name: the name that does not exist, as in "order.numbr".
        is_limit: nothing is wrong with the text as such, but it asks for too much.
    """

    def __init__(
        self, sentence: str, *, token: Token | None = None, name: str | None = None, is_limit: bool = False
    ) -> None:
        super().__init__(sentence, token=token)
        self.sentence = sentence
        self.name = name
        self.is_limit = is_limit

    def line_in(self, source: str) -> int | None:
        """The line in this source where it happened, from 1; None where that is not known."""
        if self.token is None or self.token.start_index < 0 or self.token.source != source:
            return None
        return line_of(source, self.token.start_index)


def line_of(source: str, index: int) -> int:
    """The line at this position, from 1."""
    return source.count("\n", 0, index) + 1


def shorten(text: str, limit: int = _SHOWN_MAX) -> str:
    """The text in one line, cut to what fits into a sentence."""
    text = " ".join(text[: limit * 4].split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def tokens_of(source: str) -> Iterator[Token]:
    """The source's tokens, as the engine's parser takes them; comments are left out.

    Raises:
        Fault: it is too long, has too many tags, or its tags do not match.
    """
    if len(source) > SOURCE_MAX:
        raise Fault(f"Use {SOURCE_MAX:,} characters or fewer", is_limit=True)
    return _Lexer(source).tokens()


class _Lexer:
    def __init__(self, source: str) -> None:
        self._source = source
        self._position = 0
        self._strips = False  # whether the tag before took the blanks behind it
        self._tags = 0
        self._expressions = 0
        self._open: list[tuple[str, Token]] = []

    def tokens(self) -> Iterator[Token]:
        source = self._source
        while found := _OPEN.search(source, self._position):
            yield from self._content(found.start(), strips=source.startswith("-", found.end()))
            yield from self._output(found) if found[0] == "{{" else self._tag(found)
        yield from self._content(len(source))
        if self._open:
            name, token = self._open[-1]
            raise Fault(f"{{% {name} %}} is never closed. Put {{% end{name} %}} where it ends", token=token)

    def _token(self, kind: str, value: str, index: int) -> Token:
        return Token(kind, value, index, self._source)

    def _content(self, end: int, *, strips: bool = False) -> Iterator[Token]:
        text = self._source[self._position : end]
        text = text.lstrip() if self._strips else text
        text = text.rstrip() if strips else text
        self._strips = False
        if text:
            yield self._token(TOKEN_CONTENT, text, self._position)

    def _inside(self, found: re.Match[str]) -> tuple[str, int]:
        """What stands between the brackets, and where; goes on behind them."""
        closing = "}}" if found[0] == "{{" else "%}"
        end = self._source.find(closing, found.end())
        if end < 0:
            token = self._token(TOKEN_OUTPUT, found[0], found.start())
            raise Fault(f"{found[0]} is never closed. Put {closing} where it ends", token=token)
        self._tags += 1
        if self._tags > TAGS_MAX:
            token = self._token(TOKEN_OUTPUT, found[0], found.start())
            raise Fault(f"Use {TAGS_MAX:,} tags or fewer", token=token, is_limit=True)
        start = found.end() + self._source.startswith("-", found.end())
        self._position = end + 2
        self._strips = end > start and self._source[end - 1] == "-"
        return self._source[start : end - self._strips], start

    def _output(self, found: re.Match[str]) -> Iterator[Token]:
        inside, start = self._inside(found)
        token = self._token(TOKEN_OUTPUT, found[0], found.start())
        if not inside.strip():
            raise Fault("Put a name between {{ and }}, as in {{ store.name }}", token=token)
        yield token
        yield self._expression(inside, start)

    def _expression(self, text: str, index: int) -> Token:
        bare = text.strip()
        token = self._token(TOKEN_EXPRESSION, bare, index + len(text) - len(text.lstrip()))
        self._expressions += len(bare)
        if len(bare) > EXPRESSION_MAX or self._expressions > EXPRESSIONS_MAX:
            raise Fault(f"This tag is too long: use {EXPRESSION_MAX:,} characters or fewer", token=token, is_limit=True)
        if bare.count("[") > BRACKETS_MAX or bare.count("(") > BRACKETS_MAX:
            raise Fault(f"Use {BRACKETS_MAX} brackets or fewer in one tag", token=token, is_limit=True)
        return token

    def _tag(self, found: re.Match[str]) -> Iterator[Token]:
        inside, start = self._inside(found)
        if inside.lstrip().startswith("#"):
            return
        named = _NAME.match(inside)
        name = named[1] if named else ""
        token = self._token(TOKEN_TAG, name, found.start())
        if name == "raw":
            yield from self._raw(token)
            return
        if name == "comment":
            self._skip_comment(token)
            return
        self._match(name, token)
        yield token
        rest = inside[named.end() :] if named else ""
        if rest.strip():
            yield self._expression(rest, start + len(inside) - len(rest))

    def _raw(self, token: Token) -> Iterator[Token]:
        end = _END_RAW.search(self._source, self._position)
        if end is None:
            raise Fault("{% raw %} is never closed. Put {% endraw %} where it ends", token=token)
        yield from self._content(end.start())
        self._position, self._strips = end.end(), bool(end[1])

    def _skip_comment(self, token: Token) -> None:
        depth = 1
        while depth:
            found = _COMMENT.search(self._source, self._position)
            if found is None:
                raise Fault("{% comment %} is never closed. Put {% endcomment %} where it ends", token=token)
            depth += -1 if found[1] else 1
            self._position, self._strips = found.end(), bool(found[2])

    def _match(self, name: str, token: Token) -> None:
        """Keep count of the open blocks; refuse what does not belong here."""
        inner = self._open[-1][0] if self._open else None
        if name in _BLOCKS:
            self._open.append((name, token))
            if len(self._open) > NESTING_MAX:
                raise Fault(f"Nest tags {NESTING_MAX} deep or less", token=token, is_limit=True)
        elif name in _ENDS:
            if inner != _ENDS[name]:
                raise Fault(self._stray_end(name, inner), token=token)
            self._open.pop()
        elif name in _MIDDLES:
            if inner is None or name not in _BLOCKS[inner]:
                raise Fault(f"{{% {name} %}} has no place here: take it out, or open its block before it", token=token)
        elif name not in _SINGLE:
            raise Fault(f"There is no tag “{shorten(name)}”. Use one of {', '.join(TAGS)}", token=token)

    def _stray_end(self, name: str, inner: str | None) -> str:
        opener = _ENDS[name]
        if inner is None:
            return f"{{% {name} %}} has no {{% {opener} %}} before it"
        line = line_of(self._source, self._open[-1][1].start_index)
        return f"Close {{% {inner} %}} of line {line} by {{% end{inner} %}} before {{% {name} %}}"
