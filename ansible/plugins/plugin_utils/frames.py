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
    """The broker's frames, out of bytes in whatever pieces they come. What a command prints, and what a file holds, is passed on as
    it comes: a frame of it may be told in several parts."""

    def __init__(self) -> None:
        # The beginning of a frame that is to be told whole.
        self._bytes = b""
        # The output whose frame has begun, and how many bytes of it are still to come.
        self._output, self._left = STDOUT, 0

    def feed(self, piece: bytes) -> list[tuple[int, bytes]]:
        """What ``piece`` completes, each its kind and what it carries."""
        view = memoryview(self._bytes + piece if self._bytes else piece)
        self._bytes = b""
        told: list[tuple[int, bytes]] = []
        while len(view):
            if self._left:
                part = view[:self._left]
                told.append((self._output, bytes(part)))
                self._left -= len(part)
                view = view[len(part):]
                continue
            if view[0] not in _KINDS:
                raise BadFrame(f"there is no frame of kind {view[0]:#04x}")
            if len(view) < _HEADER.size:
                break
            kind, length = _HEADER.unpack_from(view)
            if length > LIMIT:
                raise BadFrame(f"a frame of {length} bytes; {LIMIT} is the limit")
            if kind in (STDOUT, STDERR):
                self._output, self._left = kind, length
                view = view[_HEADER.size:]
                continue
            end = _HEADER.size + length
            if len(view) < end:
                break
            carried = bytes(view[_HEADER.size: end])
            if not _may_carry(kind, carried):
                raise BadFrame(f"a frame of kind {kind:#04x} with a content that it cannot have")
            told.append((kind, carried))
            view = view[end:]
        self._bytes = bytes(view)
        return told


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
