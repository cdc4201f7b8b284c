"""A play of twenty tasks, run by one of the ways that Ansible has to the nodes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import processes
from .lab import BIN, NATSSH, NESTED, ROOT, Lab

FOLDER = Path(__file__).with_name("ansible")
TASKS = 20


@dataclass(frozen=True)
class Way:
    """What a user would have set. All else is Ansible's default."""

    name: str
    connection: str = "ssh"
    # Whose ProxyCommand leads to the nodes.
    config: str = NATSSH
    variables: dict[str, str] = field(default_factory=dict)


# ssh's masters are kept for as long as natssh keeps its sessions, so that neither opens a connection in a measured play.
KEPT = {"ANSIBLE_SSH_ARGS": "-C -o ControlMaster=auto -o ControlPersist=10m"}
SSH = Way("ssh plugin, nested", config=NESTED, variables=KEPT)
EXECUTABLE = Way(
    "natssh as ssh", variables=KEPT | {"ANSIBLE_SSH_EXECUTABLE": str(BIN / "natssh"), "ANSIBLE_SFTP_EXTRA_ARGS": f"-S {BIN / 'natssh'}"}
)
PLUGIN = Way("natssh.broker.ssh", "natssh.broker.ssh")
# With the callback, which has Ansible load the plugin before it forks its workers.
WARM = Way("natssh.broker.ssh, warm", PLUGIN.connection, variables={"ANSIBLE_CALLBACKS_ENABLED": "natssh.broker.warm"})
# Commands run here, one round trip later; and at once, so that what is above it is transport.
FLOOR = Way("the floor", "floor")
FREE = Way("no way at all", FLOOR.connection)


def mitogen() -> Way | None:
    """The ssh plugin's settings under Mitogen's strategy, where setup could have it."""
    found = importlib.util.find_spec("ansible_mitogen")
    if found is None or found.origin is None:
        return None
    strategies = Path(found.origin).parent / "plugins" / "strategy"
    variables = {"ANSIBLE_STRATEGY": "mitogen_linear", "ANSIBLE_STRATEGY_PLUGINS": str(strategies)}
    return Way("mitogen_linear", config=NESTED, variables=KEPT | variables)


MITOGEN = mitogen()


@dataclass
class Played:
    """What a play took."""

    wall: float
    # Of Ansible with everything that it started, and of the broker.
    cpu: float
    # Processes and threads that this machine started meanwhile, the nodes' own among them.
    started: int
    # Of Ansible with everything that it started, and of the broker, in MiB; only where it was watched.
    peak: float = 0.0


@dataclass
class Play:
    """One way of running it, as often as one likes."""

    lab: Lab
    way: Way
    pipelining: bool
    forks: int = 10
    # Seconds; a floor alone has to be told.
    round_trip: float = 0.0
    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="natssh-play.")))

    def __post_init__(self) -> None:
        self.mark = f"{os.getpid()}-{self.folder.name}"
        (self.folder / "there").mkdir()
        collections = self.folder / "collections/ansible_collections/natssh"
        collections.mkdir(parents=True)
        (collections / "broker").symlink_to(ROOT / "ansible")

    def warm_up(self) -> None:
        """One task, after which everything is open that this way keeps."""
        self.start([str(program("ansible")), "all", *self.words(), "-m", "ansible.builtin.ping"], "warming up")

    def run(self, watch: bool = False, more: dict[str, str] | None = None) -> Played:
        """Plays it once, with `more` variables. A failed or unreachable host ends the benchmark."""
        words = [str(program("ansible-playbook")), *self.words(), str(FOLDER / "twenty.yml")]
        before, others = started(), self.others_cpu()
        peak = Peak(self.mark, self.lab.broker_pid()) if watch else None
        began = time.perf_counter()
        try:
            own = self.start(words, "the play", more)
        finally:
            wall = time.perf_counter() - began
            memory = peak.stop() if peak else 0.0
        return Played(wall, own + self.others_cpu() - others, started() - before, memory)

    def start(self, words: list[str], what: str, more: dict[str, str] | None = None) -> float:
        """Runs one of Ansible's programs to its end; the CPU that it and its children have used."""
        log = self.folder / "log"
        with log.open("wb") as out:
            environment = self.environment() | {processes.MARK: self.mark} | (more or {})
            child = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        _pid, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != 0:
            raise SystemExit(f"bench: {what} by {self.way.name} ended with {child.returncode}:\n{log.read_text()[-4000:]}")
        return usage.ru_utime + usage.ru_stime

    def others_cpu(self) -> float:
        """What the broker has used, and what earlier plays have left running: ssh's masters."""
        used = processes.cpu_seconds(self.lab.broker_pid())
        for pid in processes.marked(self.mark):
            try:
                used += processes.cpu_seconds(pid)
            except OSError:
                pass  # It has just ended.
        return used

    def close(self) -> None:
        """Ends what it has left running, and removes what it has written."""
        for pid in processes.marked(self.mark):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass  # It has just ended.
        shutil.rmtree(self.folder, ignore_errors=True)

    def words(self) -> list[str]:
        """What any of Ansible's programs is told about the nodes."""
        python = self.lab.environment["LAB_PYTHON"] or "/usr/bin/python3"
        variables = f"ansible_python_interpreter={python} place={self.folder}/there"
        inventory = ",".join(self.lab.nodes) + ","
        login = self.lab.environment["LAB_LOGIN"]
        return ["-i", inventory, "-f", str(self.forks), "-u", login, "-c", self.way.connection, "-e", variables]

    def environment(self) -> dict[str, str]:
        """Ansible's defaults, but for what makes the way."""
        environment = self.lab.environment | {
            "PATH": f"{BIN}:{program('ansible-playbook').parent}:{self.lab.environment['PATH']}",
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.folder / "cp"),
            "ANSIBLE_COLLECTIONS_PATH": str(self.folder / "collections"),
            "ANSIBLE_PIPELINING": str(self.pipelining),
            "ANSIBLE_CONNECTION_PLUGINS": str(FOLDER),
            "ANSIBLE_SSH_COMMON_ARGS": f"-F {self.lab.ssh_config(self.way.config, None)}",
            "BENCH_ROUND_TRIP": str(self.round_trip),
            "LC_ALL": "C.UTF-8",
        }
        return environment | self.way.variables


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


def started() -> int:
    """Processes and threads that this machine has started."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("processes "))


def program(name: str) -> Path:
    """One of Ansible's, of the project's own environment."""
    own = ROOT / ".venv" / "bin" / name
    found = own if own.exists() else shutil.which(name)
    if not found:
        raise SystemExit(f"bench: {name} is not there; type: make setup")
    return Path(found)
