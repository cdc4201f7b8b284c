"""Plays by every way that Ansible has to the nodes, taken in turn, and what each took beside natssh's plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from .lab import Lab
from .measure import Row
from .play import EXECUTABLE, FLOOR, MITOGEN, PLUGIN, SSH, TASKS, Play, Played, Way

# The floor without even the way there: what is above it is transport.
FREE = Way("no transport", FLOOR.connection)
Key = tuple[str, bool]


def table(quick: bool) -> Iterator[Row]:
    """Two nodes far away; else two and ten, near and far. Each with pipelining and without."""
    yield from by_every_way(2, 40, rounds=3, judged=True)
    if not quick:
        yield from by_every_way(2, 0, rounds=2)
        yield from by_every_way(10, 40, rounds=1)
        yield from by_every_way(10, 0, rounds=1)


def by_every_way(nodes: int, rtt_ms: int, rounds: int, judged: bool = False) -> Iterator[Row]:
    """The rows of one lab; with `judged`, those with a promise say whether it was kept."""
    with Lab(rtt_ms=rtt_ms, nodes=nodes) as lab:
        best = best_of(lab, rtt_ms / 1000, rounds)
    where = f"{nodes} nodes, {rtt_ms} ms"
    pipelined = [(way.name, True) for way in (SSH, EXECUTABLE, MITOGEN, FLOOR) if way]
    not_pipelined = [(way.name, False) for way in (SSH, EXECUTABLE, FLOOR)]
    yield from compared(f"{where}, pipelined", best, True, pipelined, 0.85 if judged else None)
    # Unasked, Ansible's own plugin does not pipeline, and natssh's does.
    yield from compared(f"{where}, unasked", best, True, not_pipelined[:2], 0.45 if judged else None)
    yield from compared(f"{where}, not pipelined", best, False, not_pipelined, None)


def compared(what: str, best: dict[Key, Played], pipelining: bool, others: list[Key], target: float | None) -> Iterator[Row]:
    """natssh's plugin beside others; the first of these, the ssh plugin, is what the targets are about."""
    ours = best[PLUGIN.name, pipelining]
    judged = others[0]
    for key in others:
        yield Row(f"{TASKS} tasks, {what}: beside {key[0]}", ours.wall, best[key].wall, "s", target if key == judged else None)
    for key in others:
        yield Row(f"  controller's CPU, beside {key[0]}", ours.cpu, best[key].cpu, "s")
    for key in others:
        yield Row(f"  processes started, the nodes' too, beside {key[0]}", ours.started, best[key].started, "")
    for key in others:
        limit = 0.5 if target and key == judged else None
        yield Row(f"  transport a task, beside {key[0]}", transport(best, (PLUGIN.name, pipelining)), transport(best, key), "ms", limit)


def transport(best: dict[Key, Played], key: Key) -> float:
    """Milliseconds a task: the wall above that of a play whose transport costs nothing, pipelined as this one."""
    above = best[key].wall - best[FREE.name, key[1]].wall
    return max(above, 0.001) / TASKS * 1000


def best_of(lab: Lab, round_trip: float, rounds: int) -> dict[Key, Played]:
    """Every way's quickest of some rounds: what else the machine does only ever adds."""
    with ExitStack() as stack:
        plays = every_play(lab, round_trip)
        for play in plays.values():
            stack.callback(play.close)
            play.warm_up()
        played = [{key: play.run() for key, play in plays.items()} for _ in range(rounds)]
    return {key: min((one[key] for one in played), key=lambda one: one.wall) for key in plays}


def every_play(lab: Lab, round_trip: float) -> dict[Key, Play]:
    """Each way with pipelining and without. Mitogen knows no such thing."""
    plays = {}
    for pipelining in (True, False):
        for way in (SSH, EXECUTABLE, PLUGIN, FLOOR, FREE):
            plays[way.name, pipelining] = Play(lab, way, pipelining, round_trip=0.0 if way is FREE else round_trip)
    if MITOGEN:
        plays[MITOGEN.name, True] = Play(lab, MITOGEN, True)
    return plays
