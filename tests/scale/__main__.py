"""A hundred nodes, fifty forks, twenty tasks: no failure, and what it takes beside the ssh plugin."""

from __future__ import annotations

import argparse

from bench.lab import Lab
from bench.play import PLUGIN, SSH, TASKS, WARM, Play


def main() -> None:
    parser = argparse.ArgumentParser(prog="make scale", description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--forks", type=int, default=50)
    arguments = parser.parse_args()
    with Lab(rootless=True, nodes=arguments.nodes) as lab:
        print(f"{arguments.nodes} rootless nodes, {arguments.forks} forks, {TASKS} tasks, pipelined; a failed host would end this")
        print(f"{'':24} {'wall':>9} {'CPU':>9} {'memory':>9} {'started':>9}", flush=True)
        for way in (WARM, SSH, PLUGIN):
            play = Play(lab, way, pipelining=True, forks=arguments.forks)
            try:
                played = play.run(watch=True)
            finally:
                play.close()
            print(f"{way.name:24} {played.wall:7.1f} s {played.cpu:7.1f} s {played.peak:5.0f} MiB {played.started:9}", flush=True)


main()
