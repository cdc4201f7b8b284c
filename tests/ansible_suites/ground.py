"""The node that the suites run against, and the two ways to it."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from bench.lab import BIN, ROOT, Lab

from . import machine
from .core import Core

PROXY, DIRECT = "proxy", "direct"
WAYS = (PROXY, DIRECT)
NODE = "worker"
CREDENTIALS = ("IdentityFile", "CertificateFile", "IdentitiesOnly", "UserKnownHostsFile", "GlobalKnownHostsFile")


class Ground:
    """A lab, a broker for it, and Ansible's settings; taken down at the end of a `with`.

    `localhost` and the addresses from 127.0.0.2 on are the node, as the suites have it. Through the proxy a route says
    so. Directly an sshd listens there, in a machine of our own at port 22; elsewhere a route leads to its port.
    """

    def __init__(self, core: Core, way: str) -> None:
        self.core = core
        self.way = way
        self.lab = Lab(rootless=not machine.own())
        self.sshd: Sshd | None = None
        self.ends = ExitStack()
        self.environment: dict[str, str] = {}

    def __enter__(self) -> Ground:
        self.ends.enter_context(self.lab)
        try:
            if machine.own():
                self.ends.enter_context(machine.home(Path(self.lab.environment["HOME"])))
            if self.way == DIRECT:
                self.sshd = Sshd(self.lab)
                self.ends.callback(self.sshd.close)
            with Path(self.lab.environment["NATSSH_CONFIG"]).open("a") as config:
                config.write(self.route())
            self.lab.run("natssh", "broker", "reload")
            self.environment = self.settings()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and "NATSSH_SOCKET" in self.lab.environment:
            self.tell_log()
        self.ends.close()

    def tell_log(self) -> None:
        """Prints what the broker says of the run."""
        log = Path(self.lab.socket()).with_name("broker.log")
        if log.exists():
            print(f"--- the broker's log ---\n{log.read_text()}", flush=True)

    def route(self) -> str:
        """The table that leads every name of this machine to the node."""
        route = '\n[[route]]\nhosts = ["localhost", "127.0.0.*"]\n'
        if self.sshd:
            port = f"port = {self.sshd.port}\n" if self.sshd.port != 22 else ""
            return f'{route}upstream = "direct"\n{port}'
        names = ["localhost", *(f"127.0.0.{last}" for last in range(2, 255))]
        nodes = ", ".join(f'"{name}" = "{NODE}"' for name in names)
        profile = self.lab.environment["LAB_PROXY"].partition(":")[0]
        return f'{route}upstream = "{profile}"\nmap = {{ {nodes} }}\n'

    def settings(self) -> dict[str, str]:
        """The environment of every case: the user's shell, and Ansible told of nothing but natssh."""
        settings = dict(self.lab.environment)
        system = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        settings["PATH"] = f"{self.core.programs}:{BIN}:{system}"
        settings |= {"LC_ALL": "C.UTF-8", "LANG": "C.UTF-8", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_DEPRECATION_WARNINGS": "0"}
        settings["ANSIBLE_COLLECTIONS_PATH"] = str(self.collections())
        if self.sshd:
            # Through the proxy natssh takes them from the tsh profile: what fell to the real ssh would fail there.
            settings["ANSIBLE_SSH_COMMON_ARGS"] = " ".join(f"-o {option}" for option in self.credentials())
        return settings

    def collections(self) -> Path:
        """A folder with the project's collection where Ansible looks for collections."""
        folder = self.lab.folder / "collections"
        place = folder / "ansible_collections" / "natssh" / "broker"
        place.parent.mkdir(parents=True)
        place.symlink_to(ROOT / "ansible")
        return folder

    def credentials(self) -> list[str]:
        """The lines of the lab's own ssh_config about keys and host keys, as `-o` takes them."""
        config = Path(self.lab.environment["LAB_SSH_OPTIONS"].removeprefix("-F ")).read_text()
        words = [line.split(maxsplit=1) for line in config.splitlines() if line.startswith("  ")]
        lines = [f"{name}={value}" for name, value in words if name in CREDENTIALS]
        return [*lines, f"HostKeyAlias={NODE}.lab"]

    def interpreter(self) -> str:
        """The node's Python. The suites would take the controller's, which a node of its own need not have."""
        return self.lab.environment["LAB_PYTHON"]


class Sshd:
    """The node's sshd, listening for this machine: started anew, inside of the node, for each connection."""

    def __init__(self, lab: Lab) -> None:
        self.listener = socket.create_server(("0.0.0.0", 22) if machine.own() else ("127.0.0.1", 0), backlog=128)
        self.port: int = self.listener.getsockname()[1]
        self.lab = lab
        orders = json.loads((Path(lab.environment["NATSSH_LAB"]) / "nodes" / NODE / "agent.json").read_text())
        sshd = shutil.which("sshd", path=os.environ["PATH"] + ":/usr/sbin:/sbin") or "sshd"
        inside = [str(BIN / "natssh-lab"), "exec", NODE, sshd, "-i", "-f", "/run/natssh-lab/sshd_config"]
        # A rootless node has its own words for the same.
        self.words = orders["spawn"] or inside
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self) -> None:
        children: list[subprocess.Popen[bytes]] = []
        while True:
            try:
                stream, _ = self.listener.accept()
            except OSError:
                return
            with stream:
                child = subprocess.Popen(self.words, env=self.lab.environment, stdin=stream, stdout=stream, stderr=subprocess.DEVNULL)
            children = [child for child in [*children, child] if child.poll() is None]

    def close(self) -> None:
        # Closed under a thread that waits in accept, it would go on listening.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.listener.close()
