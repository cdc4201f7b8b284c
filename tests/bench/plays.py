"""A play of twenty tasks, by each way that Ansible has to the nodes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from . import processes
from .lab import BIN, NATSSH, NESTED, ROOT, Lab
from .measure import Row

PLAYBOOK = Path(__file__).with_name("ansible") / "twenty.yml"
TASKS = 20
SSH, EXECUTABLE, PLUGIN, FLOOR = "ssh plugin, nested", "natssh as ssh", "natssh.broker.ssh", "floor"


@dataclass
class Played:
    """What a play took."""

    wall: float
    # Of Ansible with everything that it started, and of the broker.
    cpu: float
    # Processes that this machine started meanwhile, the nodes' own among them.
    started: int
    # Of Ansible with everything that it started, and of the broker, in MiB; only where it was watched.
    peak: float = 0.0


@dataclass
class Play:
    """One way of running it."""

    lab: Lab
    way: str
    pipelining: bool
    forks: int = 10
    # Seconds; a floor alone has to be told.
    round_trip: float = 0.0
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="natssh-play.")))

    def run(self, watch: bool = False) -> Played:
        """Plays it once. A failed or unreachable host ends the benchmark."""
        mark = f"{os.getpid()}-{self.folder.name}"
        environment = self.environment() | {processes.MARK: mark}
        words = [str(program("ansible-playbook")), "-i", ",".join(self.lab.nodes) + ",", *self.words(), str(PLAYBOOK)]
        before, broker = started(), self.broker_cpu()
        began = time.perf_counter()
        log = self.folder / "log"
        with log.open("wb") as out:
            child = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        peak = Peak(mark, self.lab.broker_pid()) if watch else None
        _pid, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - began
        if child.returncode != 0:
            raise SystemExit(f"bench: the play by {self.way} ended with {child.returncode}:\n{log.read_text()[-4000:]}")
        cpu = usage.ru_utime + usage.ru_stime + self.broker_cpu() - broker + leave(mark)
        played = Played(wall, cpu, started() - before, peak.stop() if peak else 0.0)
        return played

    def close(self) -> None:
        """Removes what it has written."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def broker_cpu(self) -> float:
        return processes.cpu_seconds(self.lab.broker_pid())

    def words(self) -> list[str]:
        variables = f"ansible_python_interpreter={self.lab.environment['LAB_PYTHON'] or '/usr/bin/python3'} place={self.folder}/there"
        connection = {PLUGIN: "natssh.broker.ssh", FLOOR: "floor"}.get(self.way, "ssh")
        return ["-f", str(self.forks), "-u", self.lab.environment["LAB_LOGIN"], "-c", connection, "-e", variables]

    def environment(self) -> dict[str, str]:
        """Ansible's defaults, but for what makes the way."""
        (self.folder / "there").mkdir(exist_ok=True)
        collections = self.folder / "collections/ansible_collections/natssh"
        if not collections.exists():
            collections.mkdir(parents=True)
            (collections / "broker").symlink_to(ROOT / "ansible")
        environment = self.lab.environment | {
            "PATH": f"{BIN}:{program('ansible-playbook').parent}:{self.lab.environment['PATH']}",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_CONNECTION_PLUGINS": str(PLAYBOOK.parent),
            "ANSIBLE_PIPELINING": "1" if self.pipelining else "0",
            "ANSIBLE_SSH_COMMON_ARGS": f"-F {self.lab.ssh_config(NESTED if self.way == SSH else NATSSH, None)}",
            "BENCH_ROUND_TRIP": str(self.round_trip),
            "LC_ALL": "C.UTF-8",
        }
        if self.way == EXECUTABLE:
            natssh = BIN / "natssh"
            environment |= {"ANSIBLE_SSH_EXECUTABLE": str(natssh), "ANSIBLE_SFTP_EXTRA_ARGS": f"-S {natssh}"}
        return environment


class Peak:
    """Watches the memory of a play until it is stopped."""

    def __init__(self, mark: str, broker: int) -> None:
        self.mark, self.broker = mark, broker
        self.kib = 0
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def watch(self) -> None:
        while not self.over.wait(0.5):
            self.kib = max(self.kib, processes.pss_kib([*processes.marked(self.mark), self.broker]))

    def stop(self) -> float:
        """The most, in MiB."""
        self.over.set()
        self.thread.join()
        return self.kib / 1024


def by_every_way(lab: Lab, pipelining: bool, round_trip: float, targets: bool) -> Iterator[Row]:
    """The plugin beside each other way. One play before the measured one, so that every way finds what it keeps."""
    where = f"{len(lab.nodes)} nodes, {round_trip * 1000:.0f} ms, {'pipelined' if pipelining else 'not pipelined'}"
    played = {way: best_of(lab, way, pipelining, round_trip) for way in (SSH, EXECUTABLE, PLUGIN, FLOOR)}
    nothing = best_of(lab, FLOOR, pipelining, 0.0)
    ours = played[PLUGIN]
    for way in (SSH, EXECUTABLE, FLOOR):
        target = (0.85 if pipelining else 0.45) if targets and way == SSH else None
        yield Row(f"{TASKS} tasks, {where}, beside {way}", ours.wall, played[way].wall, "s", target)
    for way in (SSH, EXECUTABLE, FLOOR):
        yield Row("  CPU of Ansible, its children and the broker", ours.cpu, played[way].cpu, "s")
    yield Row("  processes started, the nodes' too, beside ssh", ours.started, played[SSH].started, "")
    transport = {way: max(one.wall - nothing.wall, 0.001) / TASKS * 1000 for way, one in played.items()}
    target = 0.5 if targets else None
    yield Row("  transport a task: wall above a free transport, beside ssh", transport[PLUGIN], transport[SSH], "ms", target)
    yield Row("  the same, beside the floor", transport[PLUGIN], transport[FLOOR], "ms")


def best_of(lab: Lab, way: str, pipelining: bool, round_trip: float, rounds: int = 2) -> Played:
    """The quickest of some: what else the machine does only ever adds."""
    play = Play(lab, way, pipelining, round_trip=round_trip)
    try:
        return min((play.run() for _ in range(rounds + 1)), key=lambda played: played.wall)
    finally:
        play.close()


def started() -> int:
    """Processes and threads that this machine has started."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("processes "))


def leave(mark: str) -> float:
    """Ends what a play has left behind, ssh's masters; the CPU that it has used."""
    used = 0.0
    for pid in processes.marked(mark):
        try:
            used += processes.cpu_seconds(pid)
            os.kill(pid, signal.SIGTERM)
        except OSError:
            pass  # It has just ended.
    return used


def program(name: str) -> Path:
    """One of Ansible's, of the project's own environment."""
    own = ROOT / ".venv" / "bin" / name
    found = own if own.exists() else shutil.which(name)
    if not found:
        raise SystemExit(f"bench: {name} is not there; type: make setup")
    return Path(found)


def table(quick: bool) -> Iterator[Row]:
    """Two nodes far away; else two and ten, near and far. Each with pipelining and without."""
    for nodes in (2,) if quick else (2, 10):
        for rtt_ms in (40,) if quick else (0, 40):
            with Lab(rtt_ms=rtt_ms, nodes=nodes) as lab:
                for pipelining in (True, False):
                    yield from by_every_way(lab, pipelining, rtt_ms / 1000, targets=nodes == 2 and rtt_ms == 40)
