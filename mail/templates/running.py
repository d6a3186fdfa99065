"""What rendering one mail may use up: iterations, output, kept values and processor time; and which names it sees.

Names are asked of dictionaries and lists alone, never of Python objects. Source: security.md 59.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import StringIO
from typing import Any, TextIO

from liquid import BoundTemplate, RenderContext
from liquid.token import Token
from liquid.utils import ReadOnlyChainMap

from mail.templates.lexing import Fault, shorten
from mail.templates.values import item

RENDER_CPU_S = 0.06  # of this thread's processor, over all texts of one mail: a usual mail takes 2 ms
STEPS_MAX = 15_000  # names asked and filters applied: a usual mail takes 150
ITERATIONS_MAX = 10_000
OUTPUT_MAX = 400_000  # characters over all texts of one mail; Gmail clips at 100 KB
LOCALS_MAX = 1_000_000


@dataclass
class Run:
    """What rendering the texts of one mail has used so far, and what its filters go by.

    Attributes:
        shared: names that every text and every part sees.
        locale: of amounts and dates, like "de-AT"; time_zone: IANA; currency: ISO 4217.
    """

    shared: Mapping[str, object] = field(default_factory=dict)
    locale: str = "en"
    time_zone: str = "UTC"
    currency: str = "EUR"
    iterations: int = 0
    written: int = 0
    steps: int = 0
    _began_at: float = field(default_factory=lambda: _worked())

    def look_at_clock(self) -> None:
        """Raise `Fault` when the time is over."""
        if _worked() - self._began_at > RENDER_CPU_S:
            raise Fault("Rendering this takes too long. Use fewer or shorter loops", is_limit=True)

    def step(self) -> None:
        """Count a name or a filter, and look at the clock now and then: that costs as much as a name does."""
        self.steps += 1
        if self.steps > STEPS_MAX:
            raise Fault("This uses too many names and filters. Use fewer or shorter loops", is_limit=True)
        if not self.steps & 31:
            self.look_at_clock()

    def iterate(self) -> None:
        """Count one turn of a loop."""
        self.iterations += 1
        if self.iterations > ITERATIONS_MAX:
            raise Fault(f"Loops may turn {ITERATIONS_MAX:,} times in all. Use limit: in the loop", is_limit=True)
        self.look_at_clock()


class _Collector(threading.local):
    """What this thread spent on collecting garbage all over the heap: no template can be blamed for the moment."""

    spent = 0.0
    began_at = 0.0

    def note(self, phase: str, details: Mapping[str, int]) -> None:
        if details["generation"] < 2:
            return
        if phase == "start":
            self.began_at = time.thread_time()
        else:
            self.spent += time.thread_time() - self.began_at


_collector = _Collector()
gc.callbacks.append(_collector.note)


def _worked() -> float:
    return time.thread_time() - _collector.spent


class Sink(StringIO):
    """Where a text is written: a list with a count."""

    def __init__(self, run: Run) -> None:
        super().__init__()
        self._run = run
        self._pieces: list[str] = []

    def write(self, text: str) -> int:
        self._run.written += len(text)
        if self._run.written > OUTPUT_MAX:
            raise Fault(f"The mail grows beyond {OUTPUT_MAX:,} characters. Use fewer or shorter loops", is_limit=True)
        self._pieces.append(text)
        return len(text)

    def getvalue(self) -> str:
        return "".join(self._pieces)


class Context(RenderContext):
    """Names of one text: what it assigned itself, then the data. Nothing else, and no clock.

    A part takes lists of several kinds, whose items have more names or fewer: to it, what is not there is empty.
    """

    def __init__(
        self, template: BoundTemplate, names: Mapping[str, object], run: Run, *, is_part: bool = False
    ) -> None:
        super().__init__(template, globals=names)
        self.scope = ReadOnlyChainMap(self.locals, self.globals)
        self.run = run
        self._is_part = is_part
        self._sizes: dict[str, int] = {}

    def get(self, path: list[object], *, token: Token | None, default: object = None) -> object:
        self.run.step()
        known = 1
        try:
            value = self.scope[str(path[0])]
            for segment in path[1:]:
                known += 1
                value = item(value, segment)
        except KeyError:
            if self._is_part:
                return None
            name = _spell(path[:known])
            raise Fault(f"There is no {name} here", token=token, name=name) from None
        return value

    def assign(self, key: str, val: Any) -> None:
        self._sizes[key] = len(val) if isinstance(val, str | list) else 8
        if sum(self._sizes.values()) > LOCALS_MAX:
            raise Fault("Keep less in assign and capture", is_limit=True)
        self.locals[key] = val

    def get_buffer(self, buf: TextIO | None = None) -> StringIO:
        return Sink(self.run)


def _spell(path: Sequence[object]) -> str:
    return shorten(".".join(str(one) for one in path), 100)
