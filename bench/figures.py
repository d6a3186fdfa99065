"""What was measured, round by round, and what that says: medians, ratios of each round, budgets."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

BUDGETS_HEAD = ["| budget | to reach | measured | |", "|---|---:|---:|---|"]


@dataclass
class Figures:
    """What one client did in one scene: per round messages (or connections) a second, and CPU milliseconds of each."""

    rates: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return statistics.median(self.rates)

    @property
    def cpu(self) -> float:
        return statistics.median(self.cpu_ms)

    def add(self, rate: float, cpu_ms: float) -> None:
        """Note one round."""
        self.rates.append(rate)
        self.cpu_ms.append(cpu_ms)

    def faster_than(self, other: Figures) -> float:
        """The median of the ratios of each round, which the machine's load in between does not move."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.rates, other.rates, strict=True))

    def cpu_against(self, other: Figures) -> float:
        return statistics.median(mine / theirs for mine, theirs in zip(self.cpu_ms, other.cpu_ms, strict=True))


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed (0.5: the lower median)."""
    ranked = sorted(values)
    return ranked[max(math.ceil(share * len(ranked)) - 1, 0)]


def in_turn(keys: list[str], turn: int) -> list[str]:
    """The keys as they run in this round: nobody is always the one who runs after the same other."""
    start = turn % len(keys) if keys else 0
    return keys[start:] + keys[:start]


def at_least(name: str, to_reach: float, measure: Callable[[], float]) -> str:
    """A row of the table of budgets; a KeyError of `measure` names the client that could not be measured."""
    return _budget(name, to_reach, measure, upwards=True)


def at_most(name: str, to_reach: float, measure: Callable[[], float]) -> str:
    """The same for a figure that must stay low."""
    return _budget(name, to_reach, measure, upwards=False)


def _budget(name: str, to_reach: float, measure: Callable[[], float], *, upwards: bool) -> str:
    sign = "≥" if upwards else "≤"
    try:
        value = measure()
    except KeyError as missing:
        return f"| {name} | {sign} {to_reach:g} | – | not measured: no {missing.args[0]} |"
    reached = value >= to_reach if upwards else value <= to_reach
    return f"| {name} | {sign} {to_reach:g} | {value:.2f} | {'reached' if reached else '**not reached**'} |"
