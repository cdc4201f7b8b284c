# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A broker that says what a test tells it to, on a real socket."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import typing as t

OK = b"HTTP/1.1 200 OK\r\nNatssh-Protocol: 1\r\nContent-Length: %d\r\n\r\n%s"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nnatssh-protocol: 1\r\n\r\n"


def ok(body: bytes) -> bytes:
    """An answer with a body."""
    return OK % (len(body), body)


class FakeBroker:
    """Serves one connection after the other, each by the next of the given functions, which gets it and the request."""

    def __init__(self, *served: t.Callable[[socket.socket, bytes], None]) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.path = os.path.join(self._folder.name, "b.sock")
        self.requests: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, args=(served,), daemon=True)

    def __enter__(self) -> FakeBroker:
        self._thread.start()
        return self

    def __exit__(self, *_why: object) -> None:
        self._thread.join(60)
        self._listener.close()
        self._folder.cleanup()

    def _serve(self, served: tuple[t.Callable[[socket.socket, bytes], None], ...]) -> None:
        for serve in served:
            connection, _address = self._listener.accept()
            with connection:
                self.requests.append(request(connection))
                serve(connection, self.requests[-1])


def request(connection: socket.socket) -> bytes:
    """A whole request: its head, and as much of a body as that says."""
    received = b""
    while b"\r\n\r\n" not in received and (piece := connection.recv(65536)):
        received += piece
    length = int(received.lower().split(b"content-length: ")[1].split(b"\r\n")[0]) if received else 0
    while len(received.split(b"\r\n\r\n", 1)[-1]) < length:
        received += connection.recv(65536)
    return received


def say(answer: bytes) -> t.Callable[[socket.socket, bytes], None]:
    """Serves a connection by one answer."""
    return lambda connection, _request: connection.sendall(answer)
