"""Times two ways in turn, and says whether the ratio is as promised."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Row:
    """One line of the table: natssh's number beside the other side's."""

    what: str
    natssh: float
    other: float | None
    unit: str
    # The most that natssh's number may be: times the other's, or by itself if there is
    # none. `at_least` turns both around. Without a target the row is only reported.
    target: float | None = None
    at_least: bool = False
    note: str = ""

    @property
    def value(self) -> float:
        """What the target is about."""
        return self.natssh if self.other is None else self.natssh / self.other

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        met = self.value >= self.target if self.at_least else self.value <= self.target
        return "ok" if met else "MISS"


def in_turn(rounds: int, natssh: Callable[[], float], other: Callable[[], float]) -> tuple[float, float]:
    """The medians of so many measurements of each, taken alternately after one of each to warm up."""
    natssh(), other()
    pairs = []
    for turn in range(rounds):
        # Who goes first changes, so that neither always finds the caches warm.
        if turn % 2:
            second = other()
            pairs.append((natssh(), second))
        else:
            first = natssh()
            pairs.append((first, other()))
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def seconds(action: Callable[[], None]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
