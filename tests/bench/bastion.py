"""A bastion and a node, both real sshds on loopback: natssh beside `ssh -J` and `ssh -W` over a master."""

from __future__ import annotations

import ctypes
import getpass
import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .lab import BIN, CURVE25519
from .measure import Row, in_turn, seconds
from .processes import MARK, cpu_seconds, marked

NATSSH, JUMP, MASTER, DIRECT = "natssh", "jump", "master", "direct"
SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") or "/usr/sbin/sshd"
MIB = 1 << 20


class Ground:
    """Two sshds, a key that both know, and, unless it is not wanted, a broker with one ssh configuration for each way."""

    def __init__(self, broker: bool = True) -> None:
        self.broker = broker
        self.folder = Path(tempfile.mkdtemp(prefix="natssh-bench."))
        self.home = self.folder / "home"
        self.home.mkdir()
        self.environment = {name: os.environ[name] for name in ("PATH", "LANG", "TERM") if name in os.environ}
        self.environment |= {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.folder / "state"),
            "NATSSH_CONFIG": str(self.folder / "natssh.toml"),
            "NATSSH_SOCKET": str(self.folder / "run" / "broker.sock"),
        }
        self.sshds: list[subprocess.Popen[bytes]] = []
        self.ports: list[int] = []

    def __enter__(self) -> Ground:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run([BIN / "natssh", "broker", "stop", "--wait", "5"], env=self.environment, capture_output=True)
        subprocess.run(["ssh", *self.options(MASTER), "-O", "exit", "bastion"], env=self.environment, capture_output=True)
        for sshd in self.sshds:
            sshd.terminate()
            sshd.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        (self.folder / "run").mkdir(mode=0o700)
        for key in ("id", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / key], check=True)
        host_key = " ".join((self.folder / "host.pub").read_text().split()[:2])
        self.ports = [free_port(), free_port()]
        names = "".join(f"[127.0.0.1]:{port} {host_key}\n" for port in self.ports)
        (self.folder / "known_hosts").write_text(names + f"bastion {host_key}\nnode {host_key}\n")
        for port in self.ports:
            self.sshds.append(self.sshd(port))
        for port in self.ports:
            wait_for(port)
        if self.broker:
            self.write_configs()

    def write_configs(self) -> None:
        (self.folder / "natssh.toml").write_text(
            f'default = "gate"\n[identity.me]\nkey = "{self.folder}/id"\n'
            f'[upstream.gate]\nkind = "bastion"\nhost = "127.0.0.1:{self.ports[0]}"\nlogin = "{getpass.getuser()}"\n'
            # The sshds below take as many as come, as the other ways bring them.
            f'handshakes = 1000\nknown_hosts = ["{self.folder}/known_hosts"]\n'
            f'[[route]]\nhosts = ["node"]\nupstream = "gate"\nmap = {{ node = "127.0.0.1" }}\nport = {self.ports[1]}\n'
        )
        for way in (NATSSH, JUMP, MASTER, DIRECT):
            (self.folder / f"{way}.conf").write_text(self.ssh_config(way))
        master = ["ssh", *self.options(MASTER), "-f", "-N", "-M", "bastion"]
        subprocess.run(master, env=self.environment, check=True, stdin=subprocess.DEVNULL)
        # Every way warm: the first one starts the broker and dials its trunk.
        self.run(NATSSH, "true")

    def sshd(self, port: int) -> subprocess.Popen[bytes]:
        config = self.folder / f"sshd-{port}"
        config.write_text(
            f"Port {port}\nListenAddress 127.0.0.1\nHostKey {self.folder}/host\nAuthorizedKeysFile {self.folder}/id.pub\n"
            "Subsystem sftp internal-sftp\nPidFile none\nStrictModes no\nUsePAM no\nMaxStartups 1000\nMaxSessions 1000\nPrintMotd no\n"
            # Whoever measures may have a slow .bashrc, which would drown every ratio.
            f"SetEnv HOME={self.home}\n"
        )
        return subprocess.Popen([SSHD, "-D", "-e", "-f", config], stderr=(self.folder / f"log-{port}").open("wb"))

    def ssh_config(self, way: str) -> str:
        """What is the same on every way, and what is not."""
        own = self.folder / f"{way}.conf"
        proxy = {
            NATSSH: f"  ProxyCommand {BIN}/natssh proxy node %p\n  ProxyUseFdpass yes\n",
            JUMP: f"  ProxyCommand ssh -F {own} -W 127.0.0.1:{self.ports[1]} bastion\n",
            MASTER: f"  ProxyCommand ssh -F {own} -W 127.0.0.1:{self.ports[1]} bastion\n",
            DIRECT: f"  HostName 127.0.0.1\n  Port {self.ports[1]}\n",
        }[way]
        control = f"  ControlPath {self.folder}/master\n" if way == MASTER else ""
        return (
            f"Host node\n{proxy}"
            f"Host bastion\n  HostName 127.0.0.1\n  Port {self.ports[0]}\n  HostKeyAlias bastion\n{control}"
            f"Host *\n  User {getpass.getuser()}\n  IdentityFile {self.folder}/id\n  IdentitiesOnly yes\n  IdentityAgent none\n"
            f"  BatchMode yes\n  UserKnownHostsFile {self.folder}/known_hosts\n  HostKeyAlias node\n  KexAlgorithms {CURVE25519}\n"
        )

    def options(self, way: str) -> list[str]:
        return ["-F", str(self.folder / f"{way}.conf")]

    def run(self, way: str, command: str) -> None:
        words = ["ssh", *self.options(way), "node", command]
        done = subprocess.run(words, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        if done.returncode != 0:
            raise SystemExit(f"bench: {' '.join(words)} failed: {done.stderr.decode(errors='replace').strip()}")

    def broker_pid(self) -> int:
        return int((self.folder / "run" / "broker.lock").read_text())


def through(ground: Ground, rounds: int) -> list[Row]:
    """`ssh NODE true` over the bastion, natssh's trunk and the master warm."""
    def once(way: str) -> float:
        return seconds(lambda: ground.run(way, "true")) * 1e3

    rows = []
    for way, name, target in ((JUMP, "ssh -J", 0.75), (MASTER, "ssh -W over a master", 1.0)):
        natssh, other = in_turn(rounds, lambda: once(NATSSH), lambda way=way: once(way))
        rows.append(Row(f"ssh NODE true through a bastion, beside {name}", natssh, other, "ms", target))
    natssh, direct = in_turn(rounds, lambda: once(NATSSH), lambda: once(DIRECT))
    rows.append(Row("  beside the same ssh with no bastion at all", natssh, direct, "ms"))
    return rows


def openings(ground: Ground, opens: int) -> list[Row]:
    """How long CONNECT takes to the node's first byte, so many at a time."""
    rows = []
    for flying in (1, 10, 100):
        with ThreadPoolExecutor(flying) as pool:
            walls = sorted(pool.map(lambda _: open_and_close(ground), range(max(opens, flying * 5))))
        middle, late = statistics.median(walls), walls[int(len(walls) * 0.99)]
        rows.append(Row(f"a stream through a bastion opened, {flying} in flight: p50", middle * 1e3, None, "ms"))
        rows.append(Row("  p99", late * 1e3, None, "ms"))
    return rows


def open_and_close(ground: Ground) -> float:
    def connect() -> None:
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(9)
            stream.connect(ground.environment["NATSSH_SOCKET"])
            stream.sendall(b"CONNECT node:22 HTTP/1.1\r\nHost: node\r\nNatssh-Protocol: 1\r\n\r\n")
            answer = b""
            while b"SSH-2.0-" not in answer:
                chunk = stream.recv(4096)
                answer += chunk
                if not chunk:
                    raise SystemExit(f"bench: a stream was refused: {answer.decode(errors='replace')}")

    return seconds(connect)


def relayed(ground: Ground, rounds: int) -> list[Row]:
    """CPU seconds that 1 GiB costs this machine's side: ssh, and the broker or the jumping ssh beside it."""
    command = f"head -c {1024 * MIB} /dev/zero"

    def natssh() -> float:
        before = cpu_seconds(ground.broker_pid())
        used = cpu_of(ground, NATSSH, command)
        return used + cpu_seconds(ground.broker_pid()) - before

    adopt_orphans()
    ours, jump = in_turn(rounds, natssh, lambda: cpu_of(ground, JUMP, command))
    return [Row("CPU a GiB relayed: ssh and broker, beside ssh and ssh -W", ours, jump, "s", 1.0)]


def cpu_of(ground: Ground, way: str, command: str) -> float:
    """The CPU seconds of one ssh and of the ProxyCommand that it starts."""
    mark = uuid.uuid4().hex
    words = ["ssh", *ground.options(way), "node", command]
    ssh = subprocess.Popen(words, env=ground.environment | {MARK: mark}, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    time.sleep(0.3)
    others = [pid for pid in marked(mark) if pid != ssh.pid]
    _, status, usage = os.wait4(ssh.pid, 0)
    ssh.returncode = os.waitstatus_to_exitcode(status)
    if ssh.returncode != 0:
        raise SystemExit(f"bench: {' '.join(words)} failed")
    used = usage.ru_utime + usage.ru_stime
    for pid in others:
        try:
            usage = os.wait4(pid, 0)[2]
        except ChildProcessError:
            continue  # ssh waited for it, and has counted it.
        used += usage.ru_utime + usage.ru_stime
    return used


def adopt_orphans() -> None:
    """ssh leaves its ProxyCommand behind; whoever adopts it learns what it used (PR_SET_CHILD_SUBREAPER)."""
    if ctypes.CDLL(None, use_errno=True).prctl(36, 1, 0, 0, 0) != 0:
        raise SystemExit(f"bench: prctl failed: {os.strerror(ctypes.get_errno())}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port: int) -> None:
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"bench: sshd on port {port} did not start")
