"""A machine of the runner's own, as far as the kernel lends one: where nothing else listens, runs or is mounted.

Port 22 and port 2222 of every loopback address are free there, `pgrep` finds this run's processes alone, and all of it
ends with its first process, whatever a suite has left behind.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

INSIDE = "ANSIBLE_SUITES_MACHINE"


def own() -> bool:
    """Whether this process is inside of one."""
    return INSIDE in os.environ


def enter(package: str) -> None:
    """Starts this program again inside of one, unless it is there already or is not root's."""
    if own() or os.geteuid() != 0:
        return
    flags = ("--net", "--mount", "--ipc", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc")
    os.environ[INSIDE] = "1"
    os.execvp("unshare", ["unshare", *flags, "--", sys.executable, "-m", package, *sys.argv[1:]])


def gives_terminals() -> bool:
    """Whether an sshd of this user's can: it hands each to the group tty, which only root may where the system has not."""
    keys, line = os.openpty()
    group = os.fstat(line).st_gid
    os.close(keys)
    os.close(line)
    return os.geteuid() == 0 or group != os.getegid()


def bring_up() -> None:
    """What the first process inside has to do."""
    if own():
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)


@contextmanager
def home(folder: Path) -> Iterator[None]:
    """Gives root another home, in what this machine's programs read: they go by it where `HOME` does not count, as ssh does."""
    accounts = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
    for account in accounts:
        if account[0] == "root":
            account[5] = str(folder)
    passwd = folder.with_name("passwd")
    passwd.write_text("".join(":".join(account) + "\n" for account in accounts))
    subprocess.run(["mount", "--bind", str(passwd), "/etc/passwd"], check=True)
    try:
        yield
    finally:
        # The next one could not be mounted over a file that is gone by then.
        subprocess.run(["umount", "--lazy", "/etc/passwd"], check=True)
