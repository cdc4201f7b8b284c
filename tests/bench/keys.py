"""Keys typed at a terminal of a node: how long until each is seen."""

from __future__ import annotations

import os
import pty
import select
import signal
import time
from collections.abc import Iterator

from .lab import BIN, CURVE25519, NESTED, Lab
from .measure import Row, in_turn

# The node's own terminal echoes; what is typed goes nowhere else.
COMMAND = "echo begin; exec cat >/dev/null"
PATIENCE = 20.0


def echoes(lab: Lab, keys: int) -> Iterator[Row]:
    """A command at a terminal through both, open at the same time and typed at in turn."""
    natssh = [str(BIN / "natssh"), "-F", str(lab.ssh_config("natssh", CURVE25519)), "-t", lab.nodes[0], COMMAND]
    ssh = ["ssh", "-F", str(lab.ssh_config(NESTED, CURVE25519)), "-t", lab.nodes[0], COMMAND]
    with Typist(natssh, lab.environment) as ours, Typist(ssh, lab.environment) as theirs:
        a, b = in_turn(keys, ours.key, theirs.key)
    yield Row(f"a key's echo, {lab.rtt_ms} ms away, beside ssh", a * 1e3, b * 1e3, "ms", 1.1)


class Typist:
    """A program at a terminal of its own."""

    def __init__(self, words: list[str], environment: dict[str, str]) -> None:
        self.words, self.environment = words, environment | {"TERM": "xterm"}

    def __enter__(self) -> Typist:
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            os.execvpe(self.words[0], self.words, self.environment)
        shown = b""
        while b"begin\r\n" not in shown:
            shown += self.see()
        return self

    def key(self) -> float:
        """Types one and waits until it is there."""
        began = time.perf_counter()
        os.write(self.terminal, b"x")
        while b"x" not in self.see():
            pass
        return time.perf_counter() - began

    def see(self) -> bytes:
        if not select.select([self.terminal], [], [], PATIENCE)[0]:
            raise SystemExit(f"bench: {self.words[0]} shows nothing")
        try:
            return os.read(self.terminal, 4096)
        except OSError as error:
            raise SystemExit(f"bench: {' '.join(self.words)} ended") from error

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGTERM)
        os.waitpid(self.pid, 0)
        os.close(self.terminal)
