"""Plays by every way that Ansible has to the nodes, taken in turn, and what each took beside natssh's plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from . import anatomy
from .lab import Lab
from .measure import Row
from .play import EXECUTABLE, FLOOR, FREE, MITOGEN, PLUGIN, SSH, TASKS, WARM, Play, Played, Way

# A way's name, and whether it pipelines.
Key = tuple[str, bool]


def table(quick: bool) -> Iterator[Row]:
    """Two nodes far away; else two and ten, near and far. Each with pipelining and without."""
    yield from by_every_way(2, 40, rounds=2 if quick else 3, judged=True)
    if not quick:
        yield from by_every_way(2, 0, rounds=3)
        yield from by_every_way(10, 40, rounds=2)
        yield from by_every_way(10, 0, rounds=2)


def by_every_way(nodes: int, rtt_ms: int, rounds: int, judged: bool = False) -> Iterator[Row]:
    """The rows of one lab; with `judged`, those with a promise say whether it was kept."""
    where = f"{TASKS} tasks, {nodes} nodes, {rtt_ms} ms"
    with Lab(rtt_ms=rtt_ms, nodes=nodes) as lab, ExitStack() as stack:
        plays = every_play(lab, rtt_ms / 1000)
        for play in plays.values():
            stack.callback(play.close)
        if judged:
            ours, theirs = (plays[way.name, True].run() for way in (WARM, SSH))
            yield Row(f"{where}, pipelined, nothing open yet: beside {SSH.name}", ours.wall, theirs.wall, "s")
        for play in plays.values():
            play.warm_up()
        best = best_of(plays, rounds)
        parts = {way.name: anatomy.of(plays[way.name, True]) for way in (WARM, PLUGIN, SSH, FREE)} if judged else {}
    pipelined = [(way.name, True) for way in (SSH, EXECUTABLE, MITOGEN, PLUGIN, FLOOR) if way]
    not_pipelined = [(way.name, False) for way in (SSH, EXECUTABLE, FLOOR)]
    yield from compared(f"{where}, pipelined", best, (WARM.name, True), pipelined, 0.85 if judged else None)
    # Unasked, Ansible's own plugin does not pipeline, and natssh's does.
    yield from compared(f"{where}, unasked", best, (WARM.name, True), not_pipelined[:2], 0.45 if judged else None)
    yield from compared(f"{where}, not pipelined", best, (WARM.name, False), not_pipelined, None)
    if judged:
        yield from anatomy.rows(parts, WARM.name)


def compared(what: str, best: dict[Key, Played], our: Key, others: list[Key], target: float | None) -> Iterator[Row]:
    """natssh's plugin beside others; the first of these, the ssh plugin, is what the targets are about."""
    ours, judged = best[our], others[0]
    for key in others:
        yield Row(f"{what}: beside {key[0]}", ours.wall, best[key].wall, "s", target if key == judged else None)
    for key in others:
        yield Row(f"  controller's CPU, beside {key[0]}", ours.cpu, best[key].cpu, "s")
    for key in others:
        yield Row(f"  processes started, the nodes' too, beside {key[0]}", ours.started, best[key].started, "")
    # The floor has waited for the way there and back, once for each command and file.
    for nothing in (FLOOR, FREE):
        for key in others:
            if key[0] != FLOOR.name:
                limit = 0.5 if target and key == judged and nothing is FLOOR else None
                above = [transport(best, one, nothing) for one in (our, key)]
                yield Row(f"  transport a task, above {nothing.name}, beside {key[0]}", *above, "ms", limit)


def transport(best: dict[Key, Played], key: Key, nothing: Way) -> float:
    """Milliseconds a task: the wall above that of a play whose transport costs nothing, pipelined as this one."""
    above = best[key].wall - best[nothing.name, key[1]].wall
    return max(above, 0.001) / TASKS * 1000


def best_of(plays: dict[Key, Play], rounds: int) -> dict[Key, Played]:
    """Every way's quickest of some rounds: what else the machine does only ever adds."""
    played = [{key: play.run() for key, play in plays.items()} for _ in range(rounds)]
    return {key: min((one[key] for one in played), key=lambda one: one.wall) for key in plays}


def every_play(lab: Lab, round_trip: float) -> dict[Key, Play]:
    """Each way with pipelining and without, but for those to which that makes no difference, or none that is told."""
    pipelined = [way for way in (WARM, SSH, EXECUTABLE, PLUGIN, MITOGEN, FLOOR, FREE) if way]
    ways = [(way, True) for way in pipelined] + [(way, False) for way in (WARM, SSH, EXECUTABLE, FLOOR, FREE)]
    return {
        (way.name, pipelining): Play(lab, way, pipelining, round_trip=0.0 if way is FREE else round_trip) for way, pipelining in ways
    }
