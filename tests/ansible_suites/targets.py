"""Any suite of ansible-core's source, over any connection.

A suite is a script (`runme.sh`), or a role that ansible-test wraps in a play; both find the node in `../../inventory`, as
ansible-test has it. What reaches the node is a `Connection`: the name of a connection plugin, which is set in the
inventory, as Ansible's default, and in the place of every `ssh` that a copied suite names by itself; and variables.

    python -m ansible_suites targets                                        # those that concern connections, natssh as ssh
    python -m ansible_suites targets --connection natssh.broker.ssh         # the same over the collection's plugin
    python -m ansible_suites targets --way direct --only raw,async          # some, or any other suite by its name

Another plugin is one more entry in `connections`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from . import executable, machine
from .case import DESK, Case
from .ground import DIRECT, NODE, PROXY, Ground

# Those that concern a connection, or how Ansible treats one.
NAMES = (
    "connection",
    "wait_for_connection",
    "raw",
    "async",
    "become_sudo",
    "become_su",
    "delegate_to",
    "ignore_unreachable",
    "connection_delegation",
    "loop-connection",
    "error_from_connection",
    "signal_propagation",
)
# The collection's.
PLUGIN = "natssh.broker.ssh"
# They add the same accounts, or have few seconds to connect in.
ALONE = ("become_sudo", "become_su", "wait_for_connection")
# They add accounts, need a home that the system knows by its name, or addresses.
ROOT_ONLY = ("become_sudo", "become_su", "async", "delegate_to")


@dataclass(frozen=True)
class Connection:
    """What Ansible reaches the node with."""

    name: str  # of the connection plugin
    environment: dict[str, str] = field(default_factory=dict)

    def edits(self) -> dict[str, str]:
        """What is replaced in the copies of suites that name Ansible's own plugin."""
        if self.name == "ssh":
            return {}
        return {f"ansible_connection{sign}ssh\n": f"ansible_connection{sign}{self.name}\n" for sign in ("=", ": ")}


def connections() -> dict[str, Connection]:
    """Those that can be asked for, by name."""
    ssh = Connection("ssh", executable.settings())
    plugin = Connection(PLUGIN, {"ANSIBLE_TRANSPORT": PLUGIN, "ANSIBLE_NATSSH_EXECUTABLE": str(executable.NATSSH)})
    return {connection.name: connection for connection in (ssh, plugin)}


def cases(ground: Ground, connection: Connection, only: list[str]) -> list[Case]:
    """The suites of these names, else all of `NAMES`, as far as this version and this way have them."""
    found = []
    for name in only or NAMES:
        folder = ground.core.targets / name
        if not folder.is_dir():
            if only:
                raise SystemExit(f"ansible_suites: ansible-core {ground.core.version} has no suite {name}")
        # It looks for its own addresses in what the node's sshd says of its client, and behind a proxy that is the proxy.
        elif name != "delegate_to" or ground.way == DIRECT:
            found.append(case(ground, connection, name, folder))
    return found


def case(ground: Ground, connection: Connection, name: str, folder: Path) -> Case:
    python = ["-e", f"ansible_python_interpreter={ground.interpreter()}"]
    files = {"inventory": inventory(ground, connection)}
    if name == "connection":
        places = ["-e", f"local_tmp={DESK}/tmp/local", "-e", f"remote_tmp=/tmp/{DESK}/remote"]
        words = ["./test.sh", "-e", "target_hosts=pair", "-e", "action_prefix=", *places, *python]
    elif name == "delegate_to":
        words = ["sh", "-exc", DELEGATION, "sh", *python]
    elif (folder / "runme.sh").exists():
        words = ["./runme.sh", *python]
    else:
        files["play.yml"] = play(name, folder)
        words = ["ansible-playbook", f"{DESK}/play.yml", "-i", f"{DESK}/inventory"]
    environment = connection.environment | {"INVENTORY": f"{DESK}/inventory", "ANSIBLE_ROLES_PATH": f"{DESK}/targets"}
    lacks = "it takes a machine of its own, which only root can make" if name in ROOT_ONLY and not machine.own() else ""
    return Case(name, name, words, environment, files=files, edits=edits(ground, connection, name), alone=name in ALONE, lacks=lacks)


# The lines of its script that reach a node; the others are local and want more of ansible-test. The node needs the folder
# that the controller, which is the same machine for ansible-test, has anyway.
DELEGATION = f"""
natssh-lab exec {NODE} mkdir -p "$PWD"
ansible-playbook test_delegate_to.yml -i inventory -v "$@"
# Older versions dial an address of the internet there.
! grep busted delegate_with_fact_from_delegate_host.yml || ansible-playbook delegate_with_fact_from_delegate_host.yml "$@"
[ ! -f delegate_vars_inventory ] || set -- "$@" -i delegate_vars_inventory
# They misspell this one too.
ansible-playbook delegate_vars_han*ling.yml -i inventory -v "$@"
"""


def edits(ground: Ground, connection: Connection, name: str) -> dict[str, str]:
    """What is replaced in the copy of a suite: what would not hold here, whatever natssh does."""
    wanted = connection.edits()
    # The node need not have the controller's Python.
    wanted['ansible_python_interpreter="{{ ansible_playbook_python }}"'] = f"ansible_python_interpreter={ground.interpreter()}"
    if name == "async":
        # What is done in 5 s has 6 there, which a machine with other work may not keep.
        wanted |= {f"  async: {seconds}\n": "  async: 60\n" for seconds in (5, 6)}
    if name == "ignore_unreachable" and ground.way == PROXY:
        # A Teleport proxy finds a node whatever the port: here a host has to be wrong.
        wanted["nonexistent ansible_host=localhost ansible_port"] = "nonexistent ansible_host=nonexistent ansible_port"
    return wanted


def inventory(ground: Ground, connection: Connection) -> str:
    """`testhost`, as ansible-test has it, and a pair for the suite of all connections."""
    return f"""
testhost
[pair]
pipelining ansible_pipelining=true
no-pipelining ansible_pipelining=false
[all:vars]
ansible_host=localhost
ansible_connection={connection.name}
ansible_python_interpreter={ground.interpreter()}
"""


def play(name: str, folder: Path) -> str:
    """The play that ansible-test makes of a role."""
    aliases = (folder / "aliases").read_text().split()
    facts = "gather_facts/no" not in aliases
    return json.dumps([{"hosts": "testhost", "gather_facts": facts, "vars": {"output_dir": f"{DESK}/tmp"}, "roles": [name]}])
