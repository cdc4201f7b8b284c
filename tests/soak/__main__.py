"""Runs the soak, draws what it saw, and says whether it stayed flat."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from bench.lab import ROOT
from bench.processes import rss_kib

from . import picture
from .ground import Ground
from .load import QUICK_WAYS, Load, Tally

# Clients at a time: fewer than a server's line is long, so that what is measured is not waiting.
CLIENTS = 7
# What caches and pools need to fill, of the whole time.
WARM_UP = 0.2


@dataclass
class Sample:
    """The broker at one moment, and the streams since the one before."""

    seconds: float
    memory_mib: float
    descriptors: int
    threads: int
    opened: int
    p50_ms: float
    p99_ms: float


async def soak(ground: Ground, minutes: float, quick: int) -> tuple[list[Sample], Tally]:
    """Samples of the whole time, and everything that happened in it."""
    await ground.start()
    load = Load(ground, seed=int(time.time()))
    clients = [load.work() for _ in range(CLIENTS)] + [load.quick(way) for way in QUICK_WAYS * quick] + [load.ssh()]
    workers = [asyncio.create_task(client) for client in clients]
    pid, began, samples, total = ground.lab.broker_pid(), time.monotonic(), [], Tally()
    every = max(2.0, minutes * 60 / 240)
    while (elapsed := time.monotonic() - began) < minutes * 60:
        await asyncio.sleep(every)
        tally, load.tally = load.tally, Tally()
        total.opened += tally.opened
        total.failed += tally.failed
        if tally.walls:
            samples.append(look(pid, elapsed, sum(total.opened.values()), sorted(tally.walls)))
            show(samples[-1], total)
    load.stopping = True
    await asyncio.gather(*workers)
    return samples, total


def look(pid: int, seconds: float, opened: int, walls: list[float]) -> Sample:
    return Sample(
        seconds=round(seconds, 1),
        memory_mib=rss_kib(pid) / 1024,
        descriptors=len(os.listdir(f"/proc/{pid}/fd")),
        threads=len(os.listdir(f"/proc/{pid}/task")),
        opened=opened,
        p50_ms=statistics.median(walls) * 1e3,
        p99_ms=walls[int(len(walls) * 0.99)] * 1e3,
    )


def show(sample: Sample, total: Tally) -> None:
    line = f"{sample.seconds:7.0f} s  {sample.opened:8} streams  {sample.memory_mib:5.1f} MiB  {sample.descriptors:4} descriptors"
    print(f"{line}  {sample.p50_ms:6.1f} ms p50  {sample.p99_ms:7.1f} ms p99  {sum(total.failed.values())} failed", flush=True)


def verdicts(samples: list[Sample]) -> list[tuple[str, float, float, bool]]:
    """For each number: its median early and late, and whether it grew by more than the noise allows."""
    warm = [sample for sample in samples if sample.seconds >= samples[-1].seconds * WARM_UP]
    third = max(1, len(warm) // 3)
    found = []
    for name, slack, ratio in (("memory_mib", 1.0, 1.1), ("descriptors", 8.0, 1.1), ("threads", 2.0, 1.0), ("p50_ms", 1.0, 1.25)):
        early, late = (statistics.median(getattr(s, name) for s in part) for part in (warm[:third], warm[-third:]))
        found.append((name, early, late, late <= early * ratio + slack))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long")
    parser.add_argument(
        "--quick", type=int, default=1, metavar="N", help="clients over each kind of upstream that only open, read the greeting and leave"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "bench-results", help="where the JSON and the picture go")
    arguments = parser.parse_args()
    with Ground() as ground:
        samples, total = asyncio.run(soak(ground, arguments.minutes, arguments.quick))
    if len(samples) < 6:
        raise SystemExit("soak: too short to say anything; give it a minute at least")
    arguments.results.mkdir(exist_ok=True)
    stem = arguments.results / f"soak-{datetime.now(timezone.utc):%Y-%m-%dT%H%M%SZ}"
    report = {"streams": total.opened, "failed": total.failed, "samples": [asdict(sample) for sample in samples]}
    stem.with_suffix(".json").write_text(json.dumps(report, indent=1))
    stem.with_suffix(".svg").write_text(picture.draw(samples))
    print(f"\n{sum(total.opened.values())} streams: " + ", ".join(f"{way} {count}" for way, count in sorted(total.opened.items())))
    for why, count in total.failed.most_common(10):
        print(f"failed {count} ×: {why}")
    flat = verdicts(samples)
    for name, early, late, good in flat:
        print(f"{name:12} {early:8.1f} early {late:8.1f} late  {'flat' if good else 'GREW'}")
    print(f"written to {stem}.json and .svg")
    raise SystemExit(0 if not total.failed and all(good for *_, good in flat) else 1)


main()
