# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Files to and from a node, as they pass: never a whole one in memory."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import typing as t

from . import frames
from .failure import Failure
from .stream import Stream


def put(stream: Stream, file: t.BinaryIO, note: t.Callable[[str], None]) -> None:
    """Sends a file; returns when the node has it all."""
    stream.send(_pieces(file))
    for _piece in _received(stream, note):
        pass


def get(stream: Stream, path: str, note: t.Callable[[str], None]) -> None:
    """Receives a file into ``path``, which has its old content until all of the new one is there."""
    with _replaced(os.path.realpath(path)) as file:
        for piece in _received(stream, note):
            file.write(piece)


def _pieces(file: t.BinaryIO) -> t.Iterator[bytes]:
    while block := file.read(frames.LIMIT):
        yield frames.frame(frames.STDIN, block)
    yield frames.frame(frames.STDIN_END)


def _received(stream: Stream, note: t.Callable[[str], None]) -> t.Iterator[bytes]:
    while True:
        for kind, carried in stream.receive():
            if kind == frames.STDOUT:
                yield carried
            elif kind == frames.DEBUG:
                note(carried[1:].decode("utf-8", "replace"))
            elif kind == frames.EXIT and frames.status(carried) == 0:
                return
            elif kind == frames.FAILED:
                raise Failure.decode(carried)
            elif kind in (frames.EXIT, frames.KILLED):
                raise Failure("protocol", f"the broker ended a file with a frame of kind {kind:#04x}", "natssh broker restart")


@contextlib.contextmanager
def _replaced(path: str) -> t.Iterator[t.BinaryIO]:
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        mode = None
    if mode is not None and not stat.S_ISREG(mode):
        # A device or a pipe is written to; a folder says so itself.
        with open(path, "wb") as file:
            yield file
        return
    beside = os.path.join(os.path.dirname(path), f".natssh-{secrets.token_hex(8)}")
    # Not tempfile, which ignores the umask.
    file = os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666), "wb")
    try:
        with file:
            yield file
            if mode is not None:
                os.fchmod(file.fileno(), stat.S_IMODE(mode))
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
