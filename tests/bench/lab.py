"""A lab of the benchmark's own, and stock ssh's two ways through it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("BENCH_BIN", ROOT / "target" / "bin"))

NATSSH = "natssh"
NESTED = "nested"
# To a rootless node's own sshd, with no proxy on the way: what no proxy can be quicker than.
DIRECT = "direct"
CURVE25519 = "curve25519-sha256"


class Lab:
    """Nodes and a broker, taken down at the end of a `with`.

    The nodes are rooted where root runs this, each with its own listening sshd, unless
    rootless ones are asked for: those start an sshd for each stream, and so know no
    MaxStartups, which would drop most of many connections at once.

    Every file lies in a folder of its own: homes are empty, and nothing of the
    user's own ssh, tsh or natssh is read.
    """

    def __init__(self, rtt_ms: int = 0, rootless: bool = False, nodes: int = 2, tls_routing: bool = False) -> None:
        self.rtt_ms = rtt_ms
        self.count = nodes
        self.rootless = rootless
        self.tls_routing = tls_routing
        self.folder = Path(tempfile.mkdtemp(prefix="natssh-bench."))
        home = self.folder / "home"
        home.mkdir()
        keep = ("PATH", "LANG", "USER", "LOGNAME", "TMPDIR", "TERM")
        self.environment = {name: os.environ[name] for name in keep if name in os.environ}
        self.environment |= {"HOME": str(home), "XDG_STATE_HOME": str(self.folder / "state")}
        self.environment["NATSSH_LAB"] = str(self.folder / "lab")
        self.nodes: list[str] = []

    def __enter__(self) -> Lab:
        try:
            mode = ["--rootless"] if self.rootless else []
            mode += ["--tls-routing"] if self.tls_routing else []
            self.run("natssh-lab", "up", "--nodes", str(self.count), "--rtt", str(self.rtt_ms), *mode)
            for line in self.run("natssh-lab", "env").splitlines():
                name, _, value = line.removeprefix("export ").partition("=")
                self.environment[name] = value.strip("'")
            self.nodes = self.environment["LAB_NODES"].split()
            self.write_ssh_configs()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if "NATSSH_SOCKET" in self.environment:
            subprocess.run([BIN / "natssh", "broker", "stop", "--wait", "5"], env=self.environment, capture_output=True)
        subprocess.run([BIN / "natssh-lab", "down"], env=self.environment, capture_output=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def run(self, program: str, *words: str) -> str:
        """What one of natssh's programs prints; its failure ends the benchmark."""
        done = subprocess.run([BIN / program, *words], env=self.environment, capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(f"bench: {program} {' '.join(words)} failed: {done.stderr.strip()}")
        return done.stdout

    def write_ssh_configs(self) -> None:
        """One file for each way, with the key exchange as it comes and with curve25519 alone.

        The nested way's second ssh reads the same file, so both its handshakes use it.
        natssh's fragment names the lab's variables with `env`, which no user's does: every
        ssh here has them anyway.
        """
        lab_config = self.environment["LAB_SSH_OPTIONS"].removeprefix("-F ")
        nested = Path(lab_config).read_text()
        fragment = re.sub(r"ProxyCommand env \S+=.* (\S+ proxy )", r"ProxyCommand \1", self.run("natssh", "ssh-config", *self.nodes))
        shared = f"\nHost *\n  User {self.environment['LAB_LOGIN']}\n  BatchMode yes\n  IdentityAgent none\n"
        for kex in (None, CURVE25519):
            line = f"  KexAlgorithms {kex}\n" if kex else ""
            own = self.ssh_config(NESTED, kex)
            own.write_text(nested.replace(lab_config, str(own)) + line)
            self.ssh_config(NATSSH, kex).write_text(fragment + shared + line)
            if self.rootless:
                beside = "".join(f"Host {node}\n  ProxyCommand {self.sshd(node)}\n" for node in self.nodes)
                self.ssh_config(DIRECT, kex).write_text(beside + nested.split("\nHost *\n")[1].join(["Host *\n", line]))

    def sshd(self, node: str) -> str:
        """What a rootless node starts for each stream, as ssh would start it itself."""
        config = self.folder / "lab" / "nodes" / node / "ssh" / "sshd_config"
        return f"{shutil.which('sshd', path=SBIN)} -i -e -f {config}"

    def ssh_config(self, way: str, kex: str | None) -> Path:
        """The file to name after `ssh -F`."""
        return self.folder / f"{way}-{kex or 'default'}.conf"

    def ssh(self, way: str, kex: str | None, command: str, node: int = 0) -> list[str]:
        """The words of one ssh."""
        return ["ssh", "-F", str(self.ssh_config(way, kex)), self.nodes[node % len(self.nodes)], command]

    def socket(self) -> str:
        """Where the broker listens."""
        return self.environment["NATSSH_SOCKET"]

    def broker_pid(self) -> int:
        """The broker that serves this lab."""
        lock = Path(self.socket()).with_name("broker.lock")
        return int(lock.read_text())
