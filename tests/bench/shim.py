"""The shim by itself: from its start to its request on the broker's socket."""

from __future__ import annotations

import os
import socket
import tempfile
import time
from pathlib import Path

from .lab import BIN
from .measure import Row, in_turn
from .processes import peak_kib

NATSSH = str(BIN / "natssh")
TRUE = "/bin/true"


def start_up(rounds: int) -> list[Row]:
    """Compared with all of /bin/true, from its start to its end, by the same clock in the same process."""
    with tempfile.TemporaryDirectory(prefix="natssh-bench.") as folder:
        path = str(Path(folder, "broker.sock"))
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen()
        environment = {"NATSSH_SOCKET": path, "HOME": folder, "PATH": "/usr/bin:/bin"}
        peaks: list[int] = []
        natssh, true = in_turn(rounds, lambda: until_asked(listener, environment, peaks), until_ended)
    return [
        Row("natssh proxy: start to request sent, beside /bin/true", natssh * 1e3, true * 1e3, "ms", 2.0),
        Row("  its peak memory while it relays (RSS)", max(peaks) / 1024, None, "MiB", 4),
    ]


def until_asked(listener: socket.socket, environment: dict[str, str], peaks: list[int]) -> float:
    """Plays the broker. The clock stops at the first byte; then the stream is opened, used and closed."""
    began = time.perf_counter()
    pid = start([NATSSH, "proxy", "worker", "22"], environment)
    stream, _ = listener.accept()
    head = stream.recv(1)
    wall = time.perf_counter() - began
    while not head.endswith(b"\r\n\r\n"):
        head += stream.recv(4096)
    stream.sendall(b"HTTP/1.1 200 Connected\r\nNatssh-Protocol: 1\r\n\r\n" + b"x" * 65536)
    # Its stdin is at its end, and it passes that on when it relays.
    while stream.recv(4096):
        pass
    peaks.append(peak_kib(pid))
    stream.close()
    os.waitpid(pid, 0)
    return wall


def until_ended() -> float:
    began = time.perf_counter()
    os.waitpid(start([TRUE], {}), 0)
    return time.perf_counter() - began


def start(words: list[str], environment: dict[str, str]) -> int:
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    return os.posix_spawn(words[0], words, environment, file_actions=null)
