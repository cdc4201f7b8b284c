# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to the broker that carries frames: a command that runs, or a file that is moved."""

from __future__ import annotations

import collections
import select
import socket
import time
import typing as t

from .failure import Failure
from .frames import BadFrame, Frames

# What is read at once: as much as a unix socket holds. Memory for more would be taken, and given back, at every read.
_READ = 256 << 10


class Stream:
    """Frames both ways. Closing it before the last frame gives the command, or the file, up.

    Nothing is sent but in :meth:`receive`, which reads at the same time: a command that waits until somebody reads its output takes
    no more input, and neither does its broker.
    """

    def __init__(self, connection: socket.socket, early: bytes) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._poll = select.poll()
        self._frames = Frames()
        self._early = early
        self._sources: collections.deque[t.Iterator[bytes]] = collections.deque()
        self._out = memoryview(b"")
        self.bytes_sent = self.bytes_received = 0

    def send(self, frames: t.Iterable[bytes]) -> None:
        """Frames to be sent, behind those that are still to be; an iterator is asked for the next as the broker takes them."""
        self._sources.append(iter(frames))

    def receive(self, patience: float | None = None) -> list[tuple[int, bytes]]:
        """The frames that have come, at least one; none when ``patience``, in seconds, has passed without any."""
        deadline = None if patience is None else time.monotonic() + patience
        while True:
            piece, self._early = self._early, b""
            if piece and (frames := self._take(piece)):
                return frames
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = self._wait(left)
            if not ready and left is not None and left <= 0:
                return []
            if ready & select.POLLOUT:
                self._write()
            if ready & ~select.POLLOUT:
                self._early = self._read()

    def close(self) -> None:
        """Ends the connection."""
        self._socket.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_why: object) -> None:
        self.close()

    def _wait(self, seconds: float | None) -> int:
        self._poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._has_out() else 0))
        found = self._poll.poll(None if seconds is None else seconds * 1000)
        return found[0][1] if found else 0

    def _has_out(self) -> bool:
        while not self._out and self._sources:
            try:
                self._out = memoryview(next(self._sources[0]))
            except StopIteration:
                self._sources.popleft()
        return len(self._out) > 0

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._out)
        except BlockingIOError:
            return
        except OSError:
            # It has ended, and its last frame can still be read.
            self._sources.clear()
            self._out = memoryview(b"")
            return
        self._out = self._out[sent:]
        self.bytes_sent += sent

    def _read(self) -> bytes:
        try:
            piece = self._socket.recv(_READ)
        except BlockingIOError:
            return b""
        except OSError:
            piece = b""
        if not piece:
            raise Failure("cut", "the broker went away in the middle; what it ran may have run, and may run on", "natssh broker logs")
        self.bytes_received += len(piece)
        return piece

    def _take(self, piece: bytes) -> list[tuple[int, bytes]]:
        try:
            return self._frames.feed(piece)
        except BadFrame as bad:
            raise Failure("protocol", f"the broker sent what is no frame: {bad}; what it ran may have run", "natssh broker restart") from bad
