"""Where the time of a play goes: Ansible's own parts, and what the way to the nodes adds (ansible/callback/anatomy.py)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator

from .measure import Row
from .play import FOLDER, Play

# Parts of a worker, which runs one task on one host, as the callback names them.
PARTS = {
    "fork": "forked by Ansible",
    "executor": "variables, templates, the result",
    "connection": "loading the connection plugin",
    "module": "building the module",
    "commands": "commands, the node's Python among them",
    "files": "files",
}
# Ansible's one process while no worker is there.
ALONE = "the controller between workers"


def of(play: Play) -> dict[str, float]:
    """Milliseconds of each part, a worker; and of the controller alone, a worker too."""
    path = play.folder / "anatomy"
    callbacks = [name for name in ("anatomy", play.way.variables.get("ANSIBLE_CALLBACKS_ENABLED")) if name]
    more = {"ANSIBLE_CALLBACK_PLUGINS": str(FOLDER / "callback"), "ANSIBLE_CALLBACKS_ENABLED": ",".join(callbacks), "BENCH_ANATOMY": str(path)}
    played = play.run(more=more)
    workers = [json.loads(line) for line in path.read_text().splitlines()]
    parts: Counter[str] = Counter()
    for worker in workers:
        parts.update(worker["parts"])
    parts[ALONE] = played.wall - covered([(worker["asked"], worker["ended"]) for worker in workers])
    return {name: seconds * 1000 / len(workers) for name, seconds in parts.items()}


def covered(spans: list[tuple[float, float]]) -> float:
    """How long at least one of them lasted."""
    total = end = 0.0
    for began, ended in sorted(spans):
        total += max(0.0, ended - max(began, end))
        end = max(end, ended)
    return total


def rows(parts: dict[str, dict[str, float]], ours: str) -> Iterator[Row]:
    """Each part beside that of every other way."""
    for other in [way for way in parts if way != ours]:
        for name, words in {**PARTS, ALONE: ALONE}.items():
            yield Row(f"  a task on a host: {words}, beside {other}", parts[ours].get(name, 0.0), parts[other].get(name, 0.0), "ms")
