# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client side of natssh's local API, written from PROTOCOL.md.

A broker that is not there is started. One that leaves before it has answered has run nothing, so the next one is asked; after its
answer, nothing is ever asked again.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import typing as t

from . import exchange, place
from .failure import Failure
from .stream import Stream

# Seconds. The broker gives up on a node itself, and sooner than that.
_ANSWER = 310.0
# A question about the broker itself.
_QUESTION = 5.0
# A broker has been started by then, or says why not.
_START = 15.0
# One that leaves has made room for the next by then, asked every so often.
_HANDOVER, _PAUSE = 10.0, 0.1


def call(words: t.Iterable[str], **more: t.Any) -> dict[str, t.Any]:
    """What the requests below take: the words behind ``ssh``, and what ssh would see around it."""
    environment = [[word(name), word(value)] for name, value in os.environ.items()]
    return {"words": [word(one) for one in words], "directory": word(os.getcwd()), "environment": environment, **more}


def word(text: str) -> str | dict[str, str]:
    """A word as JSON. Bytes that are no UTF-8 are surrogates in Python, and JSON has no way to say these."""
    try:
        text.encode()
        return text
    except UnicodeEncodeError:
        return {"hex": os.fsencode(text).hex()}


class Broker:
    """The user's broker. ``program`` is the natssh that starts one where there is none."""

    def __init__(self, program: str = "natssh") -> None:
        self._program = program
        self.path = place.here()

    def exec(self, request: dict[str, t.Any]) -> Stream:
        """Hands a command to its node."""
        return self._stream("POST", "/v1/exec", "natssh-exec", request)

    def begin(self, request: dict[str, t.Any]) -> socket.socket:
        """Asks as :meth:`exec` does and does not wait for the answer; closing the connection gives the call up."""
        connection = self._connect(_QUESTION)
        try:
            connection.sendall(exchange.encode("POST", "/v1/exec", request, "natssh-exec"))
        except OSError as error:
            connection.close()
            raise Failure("unreachable", f"the broker left: {error}", "natssh broker logs") from error
        return connection

    def put(self, request: dict[str, t.Any]) -> Stream:
        """Opens a file of a node for writing."""
        return self._stream("PUT", "/v1/file", "natssh-file", request)

    def get(self, request: dict[str, t.Any]) -> Stream:
        """Opens a file of a node for reading."""
        return self._stream("GET", "/v1/file", "natssh-file", request)

    def control(self, request: dict[str, t.Any]) -> dict[str, t.Any]:
        """What ``-O`` among the words comes to: how many sessions such a command would run on, asked about or ended."""
        return self._ask("POST", "/v1/control", request, _ANSWER).json()

    def status(self) -> dict[str, t.Any]:
        """The broker at this moment (PROTOCOL.md, "Status")."""
        return self._ask("GET", "/v1/status", None, _QUESTION).json()

    def metrics(self) -> dict[str, dict[str, float]]:
        """The numbers of ``GET /metrics``: by their names, then by their labels as they stand."""
        found: dict[str, dict[str, float]] = {}
        for line in self._ask("GET", "/metrics", None, _QUESTION).body.decode().splitlines():
            if line and not line.startswith("#"):
                series, value = line.rsplit(" ", 1)
                name, _brace, labels = series.partition("{")
                found.setdefault(name, {})[labels] = float(value)
        return found

    def _stream(self, method: str, path: str, upgrade: str, request: dict[str, t.Any]) -> Stream:
        answer = self._ask(method, path, request, _ANSWER, upgrade)
        if answer.connection is None:
            reason = answer.json().get("reason") or "the call is the real ssh's"
            raise Failure("needs_ssh", str(reason))
        return Stream(answer.connection, answer.body)

    def _ask(self, method: str, path: str, request: dict[str, t.Any] | None, patience: float, upgrade: str = "") -> exchange.Answer:
        encoded = exchange.encode(method, path, request, upgrade)
        waits_until = None
        while True:
            try:
                return exchange.ask(self._connect(patience), encoded)
            except exchange.Absent:
                missed = Failure("unreachable", "the broker left without an answer; nothing ran", "natssh broker logs")
            except Failure as failure:
                if failure.kind != "draining":
                    raise
                missed = failure
            waits_until = waits_until or time.monotonic() + _HANDOVER
            if time.monotonic() + _PAUSE >= waits_until:
                raise missed
            time.sleep(_PAUSE)

    def _connect(self, patience: float) -> socket.socket:
        try:
            return exchange.connect(self.path, patience)
        except exchange.Absent:
            start(self._program, self.path)
            return exchange.connect(self.path, patience)


def start(program: str, path: str) -> None:
    """Starts a broker, and waits until it answers. Any number of processes may do this at once: one broker lives."""
    found = shutil.which(program)
    if not found:
        sentence = f"no broker listens at {path}, and {program}, which would start one, is not in PATH"
        raise Failure("config", sentence, "set natssh_executable to its path")
    try:
        said = subprocess.run([found, "broker", "start"], stdin=subprocess.DEVNULL, capture_output=True, timeout=_START, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure("config", f"the broker did not start: {error}", "natssh broker start") from error
    if said.returncode != 0:
        reason = said.stderr.decode("utf-8", "replace").strip().removeprefix("natssh: ")
        hint = None if reason.endswith(")") else "natssh broker start"
        raise Failure("config", reason or "the broker did not start", hint)
