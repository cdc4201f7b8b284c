# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a play has cost, from two looks at the broker."""

from __future__ import annotations

import typing as t

from .broker import Broker


class Cost(t.NamedTuple):
    """Counts since the broker's start, or between two moments. Whatever else runs through the broker is in them too."""

    commands: int
    to_nodes: int
    from_nodes: int
    sessions: int
    cut: int
    # The farthest upstream's, in seconds; none where nothing is connected.
    round_trip: float | None

    @classmethod
    def of(cls, broker: Broker) -> Cost:
        """The counts at this moment."""
        found = broker.metrics()
        return cls(
            commands=int(sum(found.get("natssh_command_wait_seconds_count", {}).values())),
            to_nodes=_bytes(found, "to_node"),
            from_nodes=_bytes(found, "from_node"),
            sessions=int(sum(found.get("natssh_session_open_seconds_count", {}).values())),
            cut=int(sum(found.get("natssh_commands_cut_total", {}).values())),
            round_trip=max(found.get("natssh_upstream_round_trip_seconds", {}).values(), default=None),
        )

    def __sub__(self, before: Cost) -> Cost:
        counts = (now - then for now, then in zip(self[:-1], before[:-1]))
        return Cost(*counts, round_trip=self.round_trip)


def summary(cost: Cost, hosts: int, took: t.Mapping[str, float]) -> str:
    """One line. ``took`` says how long the tasks of each host took, in seconds."""
    parts = [
        f"natssh: {_many(cost.commands, 'command')} on {_many(hosts, 'host')}",
        f"{_size(cost.to_nodes)} there and {_size(cost.from_nodes)} back",
        f"{_many(cost.sessions, 'session')} opened, {_many(cost.cut, 'command')} cut",
    ]
    if cost.round_trip is not None:
        parts.append(f"round trip {cost.round_trip * 1000:.1f} ms")
    if took:
        slowest = max(took, key=lambda host: took[host])
        parts.append(f"slowest {slowest} with {took[slowest]:.1f} s of tasks")
    return "; ".join(parts)


def _bytes(found: t.Mapping[str, t.Mapping[str, float]], direction: str) -> int:
    family = found.get("natssh_bytes_total", {})
    return int(sum(value for labels, value in family.items() if f'direction="{direction}"' in labels))


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _size(count: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
