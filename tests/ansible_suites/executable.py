"""natssh as the ssh of Ansible's ssh plugin: what `connection_ssh/runme.sh` runs, line by line.

Left out are its two checks of passwords: one edits /etc/ssh and restarts a service, the other wants a prompt, which a
node that takes nothing but certificates never gives.
"""

from __future__ import annotations

import re
import subprocess

from bench.lab import BIN

from . import machine
from .case import DESK, Case
from .ground import DIRECT, Ground

NATSSH = BIN / "natssh"
SUITE = "connection_ssh"
INVENTORY = "test_connection.inventory"


def settings() -> dict[str, str]:
    """What makes natssh the plugin's ssh, and the ssh of sftp and scp."""
    return {
        "ANSIBLE_SSH_EXECUTABLE": "natssh",
        "ANSIBLE_SFTP_EXTRA_ARGS": f"-S {NATSSH}",
        "ANSIBLE_SCP_EXTRA_ARGS": f"-S {NATSSH}",
    }


def cases(ground: Ground) -> list[Case]:
    """Those that this ansible-core has and this way can run, those that take long first."""
    python = ["-e", f"ansible_python_interpreter={ground.interpreter()}"]
    script = (ground.core.targets / SUITE / "runme.sh").read_text()
    found = [*transfers(python), ini_file(), spaces(python)]
    if "test_unreachable_become_timeout" in script:
        found.append(become_timeout(python))
    # A Teleport proxy finds a node's tunnel by its name alone: with it no port is a wrong one.
    if ground.way == DIRECT:
        found.append(wrong_port(python))
    if "ANSIBLE_SSH_VERBOSITY" in script:
        found += verbosity(python)
    return found


def transfers(python: list[str]) -> list[Case]:
    """The generic suite of connections, with files carried in each of the three ways."""
    files = ["-e", f"local_tmp={DESK}/tmp/local", "-e", f"remote_tmp=/tmp/{DESK}/remote"]
    words = ["./posix.sh", *files, *python]
    scp = {"ANSIBLE_SCP_EXTRA_ARGS": f"{protocol_of_scp()} -S {NATSSH}".strip()}

    def case(method: str, more: dict[str, str]) -> Case:
        return Case(method, SUITE, words, settings() | {"ANSIBLE_SSH_TRANSFER_METHOD": method} | more, copies=("connection",))

    return [case("sftp", {}), case("scp", scp), case("piped", {})]


def protocol_of_scp() -> str:
    """The options with which scp quotes names as the suite expects it, as far as this scp knows them."""
    for options in ("-TO", "-T"):
        said = subprocess.run(["scp", options], capture_output=True, text=True).stderr
        if said.startswith("usage: scp "):
            return options
    return ""


def ini_file() -> Case:
    """Options from a file, which those in variables would hide."""
    hidden = ("ANSIBLE_SSH_COMMON_ARGS", "ANSIBLE_SSH_EXTRA_ARGS", "ANSIBLE_SFTP_EXTRA_ARGS", "ANSIBLE_SCP_EXTRA_ARGS")
    words = ["env", *(f"--unset={name}" for name in hidden), "ansible-playbook", "verify_config.yml"]
    return Case("options from a file", SUITE, words, settings() | {"ANSIBLE_CONFIG": "./test_ssh_defaults.cfg"})


def spaces(python: list[str]) -> Case:
    """A ControlPath with spaces in it."""
    words = ["ansible", "-m", "ping", "all", "-e", "ansible_connection=ssh", "-i", INVENTORY, *python]
    return Case("spaces in ControlPath", SUITE, words, settings() | {"ANSIBLE_SSH_CONTROL_PATH": f"{DESK}/ssh cp with spaces"})


def become_timeout(python: list[str]) -> Case:
    """An account that is too slow to become is unreachable. It wants sessions within 3 s, and what takes 5 s to take more."""
    words = ["ansible-playbook", "test_unreachable_become_timeout.yml", *python]
    lacks = "" if machine.own() else "only root may add an account, on a node of its own"
    return Case("become timeout", SUITE, words, settings(), alone=True, lacks=lacks)


def wrong_port(python: list[str]) -> Case:
    """A port from a file of `-F`, on which nobody listens."""
    words = ["ansible-playbook", "check_ssh_defaults.yml", "-i", INVENTORY, *python]
    lacks = "" if machine.own() else "only root can be sure that nothing listens on localhost:2222"
    return Case("wrong port", SUITE, words, settings(), lacks=lacks)


def verbosity(python: list[str]) -> list[Case]:
    """As many debug lines as were asked for, however much Ansible itself tells."""
    words = ["ansible", "ssh", "-m", "raw", "-a", "whoami", "-i", INVENTORY, "-vvvvv", *python]

    def case(level: int, how: dict[str, str], more: list[str]) -> Case:
        def verdict(status: int, output: str) -> str | None:
            levels = {int(found) for found in re.findall(r"debug(\d+):", output)}
            if status != 0:
                return f"ended with {status}"
            highest = max(levels, default=0)
            return None if highest == level else f"told of level {highest} instead of {level}"

        return Case(f"verbosity {level}", SUITE, words + more, settings() | how, verdict=verdict)

    return [case(0, {}, []), case(1, {"ANSIBLE_SSH_VERBOSITY": "1"}, []), case(3, {}, ["-e", "ansible_ssh_verbosity=3"])]
