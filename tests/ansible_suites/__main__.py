"""The command line of the runner."""

from __future__ import annotations

import argparse
import sys

from . import executable, machine, targets
from .case import Case, run_all
from .core import MATRIX, Core, Missing, at_hand, fetch, is_at_hand, own_version
from .ground import PROXY, WAYS, Ground

# The exit status that tells that something is missing; nothing has failed then.
NOT_HERE = 77
# A case keeps a core busy half of the time.
AT_A_TIME = 4


def ssh(core: Core, way: str, only: list[str]) -> bool:
    """natssh as the executable; whether every case passed."""
    with Ground(core, way) as ground:
        cases = executable.cases(ground)
        if only:
            cases = [case for case in cases if any(case.name.startswith(name) for name in only)]
        return runs_well(ground, "natssh as ssh", cases)


def any_target(core: Core, way: str, connection: str, only: list[str]) -> bool:
    """Suites over a connection; whether every one passed."""
    with Ground(core, way) as ground:
        cases = targets.cases(ground, targets.connections()[connection], only)
        return runs_well(ground, f"suites over {connection}", cases)


def runs_well(ground: Ground, what: str, cases: list[Case]) -> bool:
    print(f"ansible-core {ground.core.version}, {what}, {ground.way}: {len(cases)} cases", flush=True)
    if not cases:
        raise SystemExit("ansible_suites: there is no such case")
    return run_all(ground, cases, AT_A_TIME)


def fetch_matrix() -> None:
    """Gets every version that this machine can run, and tells of the others."""
    for version in MATRIX:
        try:
            fetch(version)
        except Missing as why:
            print(f"SKIPPED ansible-core {version}: {why}", flush=True)


def matrix() -> bool:
    """Every version that is at hand, both ways; whether every case passed."""
    good = True
    for version in MATRIX:
        if not is_at_hand(version):
            continue
        for way in WAYS:
            core = at_hand(version)
            good = ssh(core, way, []) and good
            good = any_target(core, way, targets.PLUGIN, []) and good
    return good


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="ansible_suites", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    one = commands.add_parser("ssh", help="natssh as the ssh of the ssh plugin")
    many = commands.add_parser("targets", help="any suites over a connection")
    many.add_argument("--connection", choices=targets.connections(), default="ssh", help="the plugin that reaches the node")
    for parser_of in (one, many):
        parser_of.add_argument("--core", default=own_version(), metavar="VERSION", help="the ansible-core, by default the project's own")
        parser_of.add_argument("--way", choices=WAYS, default=PROXY, help="how the node is reached")
        parser_of.add_argument("--only", default="", metavar="NAMES", help="some of them, separated by commas")
    commands.add_parser("matrix", help="every ansible-core that this machine can run, both ways")
    commands.add_parser("fetch", help="only get what the tests need")
    return parser.parse_args()


def main() -> bool:
    chosen = arguments()
    if chosen.command == "fetch":
        return bool(fetch(own_version()))
    if chosen.command == "matrix" and not machine.own():
        # Before this becomes a machine of its own, which has no network.
        fetch_matrix()
    if not machine.gives_terminals():
        raise Missing("an ordinary user's sshd has no terminals to give here")
    machine.enter(__package__)
    machine.bring_up()
    if chosen.command == "matrix":
        return matrix()
    only = [name for name in chosen.only.split(",") if name]
    if chosen.command == "targets":
        return any_target(at_hand(chosen.core), chosen.way, chosen.connection, only)
    return ssh(at_hand(chosen.core), chosen.way, only)


if __name__ == "__main__":
    try:
        raise SystemExit(0 if main() else 1)
    except Missing as why:
        print(f"ansible_suites: {why}", file=sys.stderr)
        raise SystemExit(NOT_HERE) from None
