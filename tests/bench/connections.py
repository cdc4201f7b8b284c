"""Stock ssh: one command at a time, many connections at once, and a large answer."""

from __future__ import annotations

import itertools
import resource
import statistics
import subprocess
import uuid
from collections.abc import Iterator
from functools import partial

from .lab import CURVE25519, DIRECT, NATSSH, NESTED, Lab
from .measure import Row, by_turns, in_turn, seconds
from .processes import MARK, cpu_seconds, marked, on_cpu_seconds, pss_kib

MANY = 200
GIB = 1 << 30


def one_command(lab: Lab, target: float, rounds: int) -> list[Row]:
    """`ssh NODE true`, the trunk warm; with the key exchange of Teleport's own nodes and with ssh's default.

    An sshd waits before it answers whom it does not trust yet, each for a time of its
    own (auth2.c, user_specific_delay), so the nodes take turns.
    """
    rows = []
    far = f"{lab.rtt_ms} ms away" if lab.rtt_ms else "loopback"
    for kex, limit in ((CURVE25519, target), (None, None)):
        natssh, nested = one_at_a_time(lab, [NATSSH, NESTED], kex, rounds)
        rows.append(Row(f"ssh NODE true, {far}, {kex or 'default kex'}", natssh, nested, "ms", limit))
    return rows


def one_and_no_proxy(lab: Lab, rounds: int) -> list[Row]:
    """The same where each ssh may start its node's sshd itself: what no proxy can be quicker than."""
    natssh, nested, direct = one_at_a_time(lab, [NATSSH, NESTED, DIRECT], CURVE25519, rounds)
    return [
        Row("ssh NODE true, loopback, an sshd started for each", natssh, nested, "ms"),
        Row("  with no proxy on its way, beside the same", direct, nested, "ms"),
    ]


def one_at_a_time(lab: Lab, ways: list[str], kex: str | None, rounds: int) -> list[float]:
    """Each way's median in ms for a command, on one node after the other."""
    return [took * 1e3 for took in in_turn(rounds, *(partial(on_the_next, lab, way, kex, itertools.count()) for way in ways))]


def on_the_next(lab: Lab, way: str, kex: str | None, turn: Iterator[int]) -> float:
    """Seconds for a command on the next node."""
    return seconds(lambda: run(lab, lab.ssh(way, kex, "true", next(turn))))


def many_at_once(lab: Lab, rounds: int) -> list[Row]:
    """MANY connections started together: until all commands run, and what they hold then."""
    ways = [NATSSH, NESTED, DIRECT]
    seen: dict[str, list[tuple[float, int, int, float]]] = {way: [] for way in ways}
    run(lab, lab.ssh(NATSSH, CURVE25519, "true"))
    for which in by_turns(rounds, len(ways)):
        seen[ways[which]].append(hold(lab, ways[which]))
    walls, memory, processes, cpu = (
        [statistics.median(values[i] for values in seen[way]) for way in ways] for i in range(4)
    )
    *wall, least = walls
    memory, processes, cpu = memory[:2], processes[:2], cpu[:2]
    return [
        Row(f"{MANY} connections at once: until all commands run", *wall, "s", 0.75),
        Row("  those with no proxy on their way, beside the same", least, wall[1], "s"),
        Row("  their memory (PSS), the broker's included", memory[0] / 1024, memory[1] / 1024, "MiB", 0.6),
        # What is left of the wall is the nodes' and the proxy's, which have machines of their own elsewhere.
        Row("  their time on the CPU, the broker's included", *cpu, "s"),
        # One process a connection for two, and one broker.
        Row("  their processes, the broker included", *processes, "", 0.5 + 1 / (2 * MANY)),
    ]


def hold(lab: Lab, way: str) -> tuple[float, int, int, float]:
    """Seconds until all are up; PSS in KiB and number of processes while all are; seconds on the CPU until the end."""
    mark = uuid.uuid4().hex
    environment = lab.environment | {MARK: mark}
    clients: list[subprocess.Popen[bytes]] = []
    broker = [lab.broker_pid()] if way == NATSSH else []
    cpu = -used(broker)

    def start_all() -> None:
        for number in range(MANY):
            words = lab.ssh(way, CURVE25519, "echo up; read end", number)
            clients.append(
                subprocess.Popen(
                    words,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                )
            )
        for client in clients:
            assert client.stdout is not None
            if client.stdout.readline() != b"up\n":
                raise SystemExit(f"bench: one of {MANY} connections at once failed ({way})")

    try:
        wall = seconds(start_all)
        pids = marked(mark)
        memory, processes = pss_kib(pids + broker), len(pids + broker)
        # The second ssh is nobody's to wait for: the first one kills it and leaves.
        cpu += sum(on_cpu_seconds(pid) for pid in set(pids) - {client.pid for client in clients})
    finally:
        for client in clients:
            client.stdin and client.stdin.close()
        for client in clients:
            client.wait()
    return wall, memory, processes, cpu + used(broker)


def used(broker: list[int]) -> float:
    """Seconds on the CPU by the broker, and by all that was waited for here and by what was waited for there."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(map(cpu_seconds, broker))


def inside_tls(lab: Lab, rounds: int) -> list[Row]:
    """A proxy with TLS routing. Its second ssh gets there by `openssl s_client`: tsh's own way is nothing that a build can fetch."""
    natssh, nested = one_at_a_time(lab, [NATSSH, NESTED], CURVE25519, rounds)
    far = f"{lab.rtt_ms} ms away" if lab.rtt_ms else "loopback"
    return [Row(f"ssh NODE true, TLS routing, {far}", natssh, nested, "ms")]


def large_answer(lab: Lab, rounds: int) -> list[Row]:
    """1 GiB from the node to /dev/null."""
    command = f"head -c {GIB} /dev/zero"
    natssh, nested = in_turn(
        rounds,
        lambda: seconds(lambda: run(lab, lab.ssh(NATSSH, CURVE25519, command))),
        lambda: seconds(lambda: run(lab, lab.ssh(NESTED, CURVE25519, command))),
    )
    return [Row("1 GiB through ssh", 1024 / natssh, 1024 / nested, "MiB/s", 0.9, at_least=True)]


def run(lab: Lab, words: list[str]) -> None:
    done = subprocess.run(words, env=lab.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise SystemExit(f"bench: {' '.join(words)} failed: {done.stderr.decode(errors='replace').strip()}")
