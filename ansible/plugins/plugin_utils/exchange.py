# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One request to the broker and the answer to it, on a connection to the user's own socket (PROTOCOL.md, "Requests and answers")."""

from __future__ import annotations

import json
import os
import socket
import struct
import typing as t

from .failure import Failure

PROTOCOL = "1"

_HEAD_LIMIT = 16384
_BODY_LIMIT = 4 << 20


class Absent(Exception):
    """Nobody listens, or left before it answered: nothing has happened, and asking again is safe."""


class Answer(t.NamedTuple):
    """An answer that refuses nothing: with 200 a body, with 101 a connection and what came behind the head."""

    body: bytes
    connection: socket.socket | None

    def json(self) -> dict[str, t.Any]:
        """The body."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise _odd(str(error)) from error


def connect(path: str, patience: float) -> socket.socket:
    """A connection to the broker, once the kernel has said that it is the user's own."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(patience)
        connection.connect(path)
        _check_server(connection, path)
        return connection
    except (FileNotFoundError, ConnectionRefusedError, NotADirectoryError) as error:
        connection.close()
        raise Absent from error
    except Failure:
        connection.close()
        raise
    except OSError as error:
        connection.close()
        raise Failure("unreachable", f"connect to the broker at {path}: {error}", f"ls -l {path}") from error


def _check_server(connection: socket.socket, path: str) -> None:
    """Passwords and agent paths pass here: another user's process must not get them."""
    own, peer = os.geteuid(), _peer(connection)
    if own != peer:
        sentence = f"{path} is served by user {peer}, not by you, user {own}; nothing was sent"
        raise Failure("denied", sentence, f"ls -l {path}")


def _peer(connection: socket.socket) -> int:
    """Whose process serves the socket: SO_PEERCRED, or on macOS and the BSDs LOCAL_PEERCRED."""
    if hasattr(socket, "SO_PEERCRED"):
        return struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    return struct.unpack_from("II", connection.getsockopt(0, getattr(socket, "LOCAL_PEERCRED", 1), 128))[1]


def encode(method: str, path: str, request: dict[str, t.Any] | None, upgrade: str = "") -> bytes:
    """A request; with ``upgrade``, one whose connection is to carry frames."""
    body = b"" if request is None else json.dumps(request).encode()
    connection = f"Upgrade\r\nUpgrade: {upgrade}" if upgrade else "close"
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: natssh\r\nNatssh-Protocol: {PROTOCOL}\r\nConnection: {connection}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def ask(connection: socket.socket, request: bytes) -> Answer:
    """Sends a request and reads the answer to it. The connection is closed unless that is 101."""
    answer = None
    try:
        answer = _exchange(connection, request)
        return answer
    except TimeoutError as error:
        raise Failure("timeout", "the broker did not answer in time", "natssh status") from error
    except (OSError, ValueError) as error:
        raise _odd(str(error)) from error
    finally:
        if answer is None or answer.connection is None:
            connection.close()


def _exchange(connection: socket.socket, request: bytes) -> Answer:
    try:
        connection.sendall(request)
    except (BrokenPipeError, ConnectionResetError):
        # It may have refused without reading all: its answer is there.
        pass
    head, rest = _read_head(connection)
    status, fields = _decode_head(head)
    if status == 101:
        return Answer(rest, connection)
    body = _read_body(connection, rest, int(fields.get("content-length", "0")))
    if status != 200:
        raise Failure.decode(body)
    return Answer(body, None)


def _read_head(connection: socket.socket) -> tuple[bytes, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        try:
            piece = connection.recv(65536)
        except ConnectionResetError:
            piece = b""
        if not piece and not received:
            raise Absent
        if not piece:
            raise ValueError("it ends in the middle of its head")
        received += piece
        if len(received) > _HEAD_LIMIT and b"\r\n\r\n" not in received[:_HEAD_LIMIT]:
            raise ValueError("its head is too long")
    head, rest = received.split(b"\r\n\r\n", 1)
    return head, rest


def _read_body(connection: socket.socket, body: bytes, length: int) -> bytes:
    if length > _BODY_LIMIT:
        raise ValueError(f"it has {length} bytes; {_BODY_LIMIT} is the limit")
    while len(body) < length:
        if not (piece := connection.recv(65536)):
            raise ValueError("it ends in the middle")
        body += piece
    return body


def _decode_head(head: bytes) -> tuple[int, dict[str, str]]:
    """The status and the fields, once they show that both sides understand each other."""
    first, *lines = head.decode("latin-1").split("\r\n")
    version, status = first.split(" ")[:2]
    if version != "HTTP/1.1":
        raise ValueError("it is not HTTP/1.1")
    fields = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    theirs = fields.get("natssh-protocol")
    # What does not understand a request may not know the header either.
    if theirs != PROTOCOL and (theirs or int(status) < 400):
        sentence = f"the broker speaks version {theirs or 'unknown'} of the local API, this collection version {PROTOCOL}"
        raise Failure("version", sentence, "natssh broker restart")
    return int(status), fields


def _odd(what: str) -> Failure:
    return Failure("protocol", f"the broker's answer is not understood: {what}", "natssh broker logs")
