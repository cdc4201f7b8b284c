"""Times two ways in turn, and says whether the ratio is as promised."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
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


def by_turns(rounds: int, ways: int) -> Iterator[int]:
    """Each of so many ways once a round. Who goes first changes, so that nobody always finds the caches warm."""
    return ((turn + place) % ways for turn in range(rounds) for place in range(ways))


def in_turn(rounds: int, *ways: Callable[[], float]) -> tuple[float, ...]:
    """The medians of so many measurements of each, taken alternately after one of each to warm up."""
    taken: list[list[float]] = [[] for _ in ways]
    for way in ways:
        way()
    for which in by_turns(rounds, len(ways)):
        taken[which].append(ways[which]())
    return tuple(statistics.median(times) for times in taken)


def seconds(action: Callable[[], None]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began
