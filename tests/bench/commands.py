"""Commands on nodes: natssh in ssh's place, beside ssh with ControlPersist, and beside no program at all."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .bastion import Ground
from .lab import BIN, CURVE25519, NESTED, Lab
from .measure import Row, in_turn, seconds
from .processes import rss_kib
from .shim import TRUE, start

MIB = 1 << 20
GIB = 1 << 30
IDLE, COMMANDS = 1000, 10_000
# Of the commands; caches and pools fill before.
SETTLED = 1000


class Node(Ground):
    """The bastion's ground, where the node can be reached directly as well, and has a thousand names."""

    def write_configs(self) -> None:
        known_hosts = self.folder / "known_hosts"
        host_key = known_hosts.read_text().split()[1:3]
        known_hosts.write_text(known_hosts.read_text() + f"node* {' '.join(host_key)}\n")
        (self.folder / "natssh.toml").write_text("")
        common = (
            f"  User {getpass.getuser()}\n  IdentityFile {self.folder}/id\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  BatchMode yes\n  UserKnownHostsFile {known_hosts}\n  HostKeyAlias node\n  KexAlgorithms {CURVE25519}\n"
        )
        node = f"Host node\n  HostName 127.0.0.1\n  Port {self.ports[1]}\n"
        (self.folder / "cold.conf").write_text(f"{node}Host *\n{common}")
        (self.folder / "kept.conf").write_text(f"{node}Host *\n  ControlPath {self.folder}/kept\n{common}")
        # Of files that were written a moment ago the broker keeps no answer of `ssh -G`.
        time.sleep(3.5)
        subprocess.run(["ssh", "-F", self.folder / "kept.conf", "-fNM", "node"], env=self.environment, check=True, stdin=subprocess.DEVNULL)

    def natssh(self, *words: str) -> list[str]:
        return [str(BIN / "natssh"), "-F", str(self.folder / "cold.conf"), *words]

    def ssh(self, config: str, *words: str) -> list[str]:
        return ["ssh", "-F", str(self.folder / f"{config}.conf"), *words]

    def timed(self, words: list[str], stdin: Path | None = None) -> float:
        return timed(words, self.environment, stdin)

    def __exit__(self, *more: object) -> None:
        subprocess.run(self.ssh("kept", "-O", "exit", "node"), env=self.environment, capture_output=True)
        super().__exit__(*more)


def timed(words: list[str], environment: dict[str, str], stdin: Path | None = None) -> float:
    """The seconds that it takes; its failure ends the benchmark, after its own words.

    It is started as cheaply as Python can: what `subprocess` does beside would be half of the fastest rows.
    """
    program = shutil.which(words[0]) or words[0]
    files = [(os.POSIX_SPAWN_OPEN, 0, str(stdin or os.devnull), os.O_RDONLY, 0), (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    began = time.perf_counter()
    _, status = os.waitpid(os.posix_spawn(program, words, environment, file_actions=files), 0)
    wall = time.perf_counter() - began
    if status != 0:
        raise SystemExit(f"bench: {' '.join(words)} failed")
    return wall


def on_loopback(node: Node, rounds: int) -> Iterator[Row]:
    """Warm, and a GiB each way."""
    def warm() -> float:
        return node.timed(node.natssh("node", "true"))

    natssh, kept = in_turn(rounds, warm, lambda: node.timed(node.ssh("kept", "node", "true")))
    yield Row("natssh NODE true, warm, beside ssh with ControlPersist", natssh * 1e3, kept * 1e3, "ms", 0.5)
    with InProcess(node) as program:
        natssh, least = in_turn(rounds * 3, warm, lambda: program.once() + seconds(true))
    yield Row("  beside a channel in one process, and /bin/true", natssh * 1e3, least * 1e3, "ms", 1.25)

    zeroes = node.folder / "zeroes"
    with zeroes.open("wb") as file:
        file.truncate(GIB)
    out, into = f"head -c {GIB} /dev/zero", "cat >/dev/null"
    natssh, kept = in_turn(
        3, lambda: node.timed(node.natssh("node", out)), lambda: node.timed(node.ssh("kept", "node", out))
    )
    yield Row("1 GiB of stdout, beside ssh with ControlPersist", natssh, kept, "s", 1.1)
    natssh, kept = in_turn(
        3, lambda: node.timed(node.natssh("node", into), zeroes), lambda: node.timed(node.ssh("kept", "node", into), zeroes)
    )
    yield Row("1 GiB of stdin", natssh, kept, "s", 1.1)


def cold(node: Node, rounds: int) -> Iterator[Row]:
    """The first command on a node, whose sshd has joined a proxy and is reached directly as well."""
    with Lab(rootless=True) as lab, Joined(lab, node) as joined:
        def first() -> float:
            close_sessions(lab.environment)
            return timed(joined.natssh("true"), lab.environment)

        ours, direct = in_turn(rounds, first, lambda: node.timed(node.ssh("cold", "node", "true")))
    yield Row("natssh NODE true, cold over a warm trunk, beside ssh cold and direct", ours * 1e3, direct * 1e3, "ms", 0.5)


def close_sessions(environment: dict[str, str]) -> None:
    """The next command authenticates."""
    subprocess.run([BIN / "natssh", "sessions", "close", "--all"], env=environment, check=True, stdout=subprocess.DEVNULL)


class Joined:
    """A node's sshd as one more node of a lab, by the orders of another."""

    NAME = "joined"

    def __init__(self, lab: Lab, node: Node) -> None:
        self.lab = lab
        self.config = lab.folder / "joined.conf"
        way = f"Host {self.NAME}\n  Port 22\n  ProxyCommand {BIN / 'natssh'} proxy %h %p\n"
        self.config.write_text(way + (node.folder / "cold.conf").read_text())
        first = Path(lab.environment["NATSSH_LAB"]) / "nodes" / lab.nodes[0] / "agent.json"
        orders = json.loads(first.read_text())
        orders |= {"name": {"hostname": self.NAME, "uuid": str(uuid.uuid4())}, "connect": f"127.0.0.1:{node.ports[1]}"}
        self.orders = lab.folder / "joined.json"
        self.orders.touch(mode=0o600)
        self.orders.write_text(json.dumps(orders))

    def __enter__(self) -> Joined:
        # It ends with its end of the pipe, whatever happens to this process.
        self.agent = subprocess.Popen([BIN / "natssh-lab", "agent", self.orders], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        # Of files that were written a moment ago the broker keeps no answer of `ssh -G`.
        time.sleep(3.5)
        for _ in range(100):
            if subprocess.run(self.natssh("true"), env=self.lab.environment, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0:
                return self
            time.sleep(0.05)
        self.__exit__()
        raise SystemExit(f"bench: the node {self.NAME} did not join")

    def __exit__(self, *_: object) -> None:
        self.agent.terminate()
        self.agent.wait()

    def natssh(self, command: str) -> list[str]:
        return [str(BIN / "natssh"), "-F", str(self.config), self.NAME, command]


def far_away(lab: Lab, rounds: int) -> Iterator[Row]:
    """The lab's nodes through its proxy; ssh keeps its connection through a nested one."""
    nested = lab.ssh_config(NESTED, CURVE25519)
    keep = ["-o", f"ControlPath={lab.folder}/kept"]
    node = lab.nodes[0]

    def natssh(command: str) -> float:
        return timed([str(BIN / "natssh"), "-F", str(lab.ssh_config("natssh", CURVE25519)), node, command], lab.environment)

    def kept(command: str) -> float:
        return timed(["ssh", "-F", str(nested), *keep, node, command], lab.environment)

    def first() -> float:
        close_sessions(lab.environment)
        return natssh("true")

    far = f"{lab.rtt_ms} ms away"
    subprocess.run(["ssh", "-F", nested, *keep, "-fNM", node], env=lab.environment, check=True, stdin=subprocess.DEVNULL)
    try:
        ours, theirs = in_turn(rounds, lambda: natssh("true"), lambda: kept("true"))
        yield Row(f"natssh NODE true, {far}, warm, beside ControlPersist", ours * 1e3, theirs * 1e3, "ms", 0.6)
        ours, theirs = in_turn(rounds, first, lambda: timed(lab.ssh(NESTED, CURVE25519, "true"), lab.environment))
        yield Row("  cold over a warm trunk, beside the nested way cold", ours * 1e3, theirs * 1e3, "ms", 0.5)
        command = f"head -c {256 * MIB} /dev/zero"
        ours, theirs = in_turn(3, lambda: natssh(command), lambda: kept(command))
        yield Row("  256 MiB of stdout, beside ControlPersist", ours, theirs, "s", 0.5)
    finally:
        subprocess.run(["ssh", "-F", nested, *keep, "-O", "exit", node], env=lab.environment, capture_output=True)


def many_sessions(node: Node) -> Iterator[Row]:
    """One node under IDLE names, each of which has a session of its own."""
    node.timed(node.natssh("node", "true"))
    before = rss_kib(node.broker_pid())
    with ThreadPoolExecutor(8) as clients:
        list(clients.map(lambda name: node.timed(node.natssh("-o", f"HostKeyAlias=node{name}", "node", "true")), range(IDLE)))
    time.sleep(1)
    full = rss_kib(node.broker_pid())
    yield Row(f"broker's memory with {IDLE} idle sessions (RSS)", full / 1024, None, "MiB", 150)
    yield Row("  what each adds", (full - before) / IDLE, None, "KiB", 100)


def many_commands(node: Node) -> Iterator[Row]:
    """One broker, one session, and COMMANDS commands, four at a time."""
    def run(count: int) -> tuple[int, int]:
        with ThreadPoolExecutor(4) as clients:
            list(clients.map(lambda _: node.timed(node.natssh("node", "true")), range(count)))
        time.sleep(1)
        pid = node.broker_pid()
        return rss_kib(pid), len(os.listdir(f"/proc/{pid}/fd"))

    memory, descriptors = run(SETTLED)
    more_memory, more_descriptors = run(COMMANDS - SETTLED)
    # An allocator that finds its places anew each time is not flat to the page.
    yield Row(f"broker's memory after {COMMANDS} commands, beside {SETTLED}", more_memory / 1024, memory / 1024, "MiB", 1.05)
    yield Row("  its descriptors", more_descriptors, descriptors, "", 1.0)


class InProcess:
    """The program that holds a session in itself; see tests/examples/in_process_exec.rs."""

    def __init__(self, node: Node) -> None:
        words = [BIN / "in_process_exec", str(node.ports[1]), getpass.getuser(), node.folder / "id", node.folder / "host.pub"]
        self.program = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.program.communicate()

    def once(self) -> float:
        assert self.program.stdin is not None and self.program.stdout is not None
        self.program.stdin.write("\n")
        self.program.stdin.flush()
        said = self.program.stdout.readline()
        if not said:
            raise SystemExit("bench: in_process_exec ended")
        return int(said) / 1e9


def true() -> None:
    os.waitpid(start([TRUE], {}), 0)
