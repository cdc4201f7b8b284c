# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Frames: what passes on a connection that was answered with 101 (PROTOCOL.md, "Exec" and "Files"). No I/O."""

from __future__ import annotations

import struct
import typing as t

# Of the client.
STDIN, STDIN_END, CLOSED, SIGNAL = 0x01, 0x02, 0x03, 0x04
# Of the broker. The last frame is EXIT, KILLED or FAILED.
STDOUT, STDERR, DEBUG, EXIT, KILLED, FAILED = 0x11, 0x12, 0x13, 0x14, 0x15, 0x16
# These come to clients that ask for a terminal or with -W, and other kinds tell of what this client does not ask for.
NO_TERMINAL, STDOUT_END = 0x17, 0x18
_KINDS = range(0x11, 0x20)

# The most that a frame carries.
LIMIT = 262144

_HEADER = struct.Struct(">BI")
_STATUS = struct.Struct(">I")


class BadFrame(ValueError):
    """Bytes that are no frame of the broker's. More bytes do not change it."""


def frame(kind: int, carried: bytes = b"") -> bytes:
    """One frame."""
    return _HEADER.pack(kind, len(carried)) + carried


def stdin(data: bytes) -> t.Iterator[bytes]:
    """Input in as many frames as it takes."""
    view = memoryview(data)
    return (frame(STDIN, bytes(view[at: at + LIMIT])) for at in range(0, len(data), LIMIT))


def status(carried: bytes) -> int:
    """The exit status that a frame ``EXIT`` carries."""
    return _STATUS.unpack(carried)[0]


class Frames:
    """The broker's frames, out of bytes in whatever pieces they come."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, piece: bytes) -> list[tuple[int, bytes]]:
        """The frames that ``piece`` completes, each its kind and what it carries."""
        self._bytes += piece
        whole: list[tuple[int, bytes]] = []
        at = 0
        while (one := self._first(at)) is not None:
            whole.append(one)
            at += _HEADER.size + len(one[1])
        del self._bytes[:at]
        return whole

    def _first(self, at: int) -> tuple[int, bytes] | None:
        if at < len(self._bytes) and self._bytes[at] not in _KINDS:
            raise BadFrame(f"there is no frame of kind {self._bytes[at]:#04x}")
        if len(self._bytes) < at + _HEADER.size:
            return None
        kind, length = _HEADER.unpack_from(self._bytes, at)
        if length > LIMIT:
            raise BadFrame(f"a frame of {length} bytes; {LIMIT} is the limit")
        begin = at + _HEADER.size
        if len(self._bytes) < begin + length:
            return None
        carried = bytes(self._bytes[begin: begin + length])
        if not _may_carry(kind, carried):
            raise BadFrame(f"a frame of kind {kind:#04x} with a content that it cannot have")
        return kind, carried


def _may_carry(kind: int, carried: bytes) -> bool:
    if kind == EXIT:
        return len(carried) == _STATUS.size
    if kind == KILLED:
        return 0 < len(carried) <= 64 and all(0x20 < byte < 0x7F for byte in carried)
    if kind == DEBUG:
        return len(carried) > 0 and carried[0] <= 3
    if kind in (NO_TERMINAL, STDOUT_END):
        return not carried
    return True
