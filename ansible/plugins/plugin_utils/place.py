# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the broker's socket is (PROTOCOL.md, "Where the socket is")."""

from __future__ import annotations

import os
import string
import sys
import typing as t

from .failure import Failure

# The longest path that fits a sockaddr_un with its final NUL.
PATH_MAX = 107 if sys.platform.startswith("linux") else 103

_PLAIN = frozenset(string.ascii_letters + string.digits + "-_.")


def here() -> str:
    """The path for this process."""
    uid = os.geteuid()
    return path(os.environ, uid, os.uname().nodename, os.path.isdir(f"/run/user/{uid}"))


def path(environ: t.Mapping[str, str], uid: int, hostname: str, has_run_user: bool) -> str:
    """The path that follows from an environment. No I/O."""
    return _fitting(_chosen(environ.get("NATSSH_SOCKET", "")) or _usual(environ, uid, hostname, has_run_user))


def _chosen(place: str) -> str:
    if not place:
        return ""
    name, ending = os.path.splitext(os.path.basename(place))
    if not os.path.isabs(place) or not name:
        problem = "not an absolute path"
    elif ending in (".lock", ".log"):
        problem = "the name of a lock or log"
    else:
        return place
    raise Failure("config", f"NATSSH_SOCKET is {place}, which is {problem}", "export NATSSH_SOCKET=/path/to/broker.sock")


def _usual(environ: t.Mapping[str, str], uid: int, hostname: str, has_run_user: bool) -> str:
    state, home = environ.get("XDG_STATE_HOME", ""), environ.get("HOME", "")
    if not os.path.isabs(state):
        if not os.path.isabs(home):
            raise Failure("config", "neither HOME nor XDG_STATE_HOME is an absolute path", "export HOME=/path/of/your/home")
        state = os.path.join(home, ".local/state")
    if has_run_user:
        return f"/run/user/{uid}/natssh/broker.sock"
    return os.path.join(state, "natssh", _folder(hostname), "broker.sock")


def _folder(hostname: str) -> str:
    """A machine's name as one folder: nothing that could lead out of it."""
    name = "".join(c if c in _PLAIN else "_" for c in hostname)
    return name.strip(".") or "localhost"


def _fitting(place: str) -> str:
    length = len(os.fsencode(place))
    if length <= PATH_MAX:
        return place
    sentence = f"the socket's path {place} has {length} bytes; the system takes {PATH_MAX}"
    raise Failure("config", sentence, "export NATSSH_SOCKET=/a/shorter/path/broker.sock, in a folder of mode 0700")
