"""Measures everything, prints the table as it grows, and writes it down."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

from . import bastion, commands, connections, files, keys, plays, report, shim, streams
from .lab import ROOT, Lab
from .measure import Row

# Of single commands; an odd number has a middle.
ROUNDS = 15


def measure() -> Iterator[Row]:
    yield from shim.start_up(rounds=201)
    with Lab(rootless=True) as lab:
        yield from streams.a_thousand(lab)
    with Lab(rootless=True) as lab:
        yield from connections.many_at_once(lab, rounds=5)
        yield from connections.one_and_no_proxy(lab, rounds=ROUNDS)
    with Lab(nodes=5) as lab:
        yield from connections.one_command(lab, target=0.5, rounds=5 * lab.count)
        yield from connections.large_answer(lab, rounds=3)
    with Lab(rtt_ms=40) as lab:
        yield from connections.one_command(lab, target=0.65, rounds=ROUNDS)
        yield from commands.far_away(lab, rounds=ROUNDS)
        yield from keys.echoes(lab, keys=101)
        yield from files.far(lab, rounds=3)
    for rtt_ms in (0, 40):
        with Lab(rtt_ms=rtt_ms, tls_routing=True) as lab:
            yield from connections.inside_tls(lab, rounds=ROUNDS)
    with commands.Node() as node:
        yield from commands.on_loopback(node, rounds=ROUNDS)
        yield from commands.cold(node, rounds=ROUNDS)
    with commands.Node() as node:
        yield from files.near(node, rounds=3)
    with commands.Node() as node:
        yield from commands.many_commands(node)
        yield from commands.many_sessions(node)
    with bastion.Ground() as ground:
        yield from bastion.through(ground, rounds=ROUNDS)
        yield from bastion.openings(ground, opens=200)
        yield from bastion.relayed(ground, rounds=3)
    yield from plays.table(quick=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--results", type=Path, default=ROOT / "bench-results", help="where the JSON goes")
    parser.add_argument("--plays", action="store_true", help="only Ansible's plays, on two nodes and on ten, near and far")
    arguments = parser.parse_args()
    print("natssh beside stock ssh with ProxyCommand ssh -s PROXY proxy:%h:%p; medians, taken in turn")
    print(report.head())
    rows = []
    for row in plays.table(quick=False) if arguments.plays else measure():
        rows.append(row)
        print(report.line(row), flush=True)
    missed = sum(row.verdict == "MISS" for row in rows)
    print(f"\n{missed} of {sum(row.target is not None for row in rows)} targets missed" if missed else "\nall targets met")
    print(f"written to {report.save(rows, arguments.results)}")


main()
