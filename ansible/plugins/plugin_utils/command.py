# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A command from the broker's yes to its end."""

from __future__ import annotations

import signal
import typing as t

from . import frames
from .escalation import Escalation
from .failure import Failure
from .stream import Stream


class Input(t.NamedTuple):
    """What a command is given to read."""

    # Sent to a become program that asks for it, with the end of line.
    password: bytes
    # Sent once the command itself runs.
    data: bytes
    # Whether the input ends there. On a terminal it does not, or the command would be told that its user has left.
    ends: bool


def run(
    stream: Stream, given: Input, escalation: Escalation, patience: float, note: t.Callable[[str], None]
) -> tuple[int, bytes, bytes]:
    """Exit status and both outputs.

    A command may take as long as it likes; a become program has ``patience``, in seconds, from one sign of life to the next. ``note``
    hears what ssh would say about itself.
    """
    outputs = {frames.STDOUT: bytearray(), frames.STDERR: bytearray()}
    has_input = False
    while True:
        if escalation.is_over and not has_input:
            stream.send(_input(given))
            has_input = True
        came = stream.receive(None if escalation.is_over else patience)
        if not came:
            raise Failure("timeout", _silent(patience, outputs, escalation), "look at become_user, become_flags and the timeout")
        for kind, carried in came:
            if kind in outputs:
                heard, wants_password = escalation.hear(kind, carried)
                outputs[kind] += heard
                if wants_password:
                    stream.send(frames.stdin(given.password))
            elif kind == frames.DEBUG:
                note(carried[1:].decode("utf-8", "replace"))
            elif kind in (frames.EXIT, frames.KILLED, frames.FAILED):
                for output, bytes_of_it in outputs.items():
                    bytes_of_it += escalation.left(output)
                return _end(kind, carried, outputs)


def _input(given: Input) -> t.Iterator[bytes]:
    yield from frames.stdin(given.data)
    if given.ends:
        yield frames.frame(frames.STDIN_END)


def _end(kind: int, carried: bytes, outputs: dict[int, bytearray]) -> tuple[int, bytes, bytes]:
    if kind == frames.FAILED:
        raise Failure.decode(carried)
    stdout, stderr = bytes(outputs[frames.STDOUT]), bytes(outputs[frames.STDERR])
    if kind == frames.EXIT:
        return frames.status(carried), stdout, stderr
    name = carried.decode("ascii")
    return _status_of(name), stdout, stderr + f"natssh: the command was ended by the signal {name}\n".encode()


def _status_of(name: str) -> int:
    """As a shell has it. Ansible takes 255, which is ssh's word for this, for a host that cannot be reached."""
    number = getattr(signal, f"SIG{name}", 0)
    return 128 + int(number) if isinstance(number, signal.Signals) else 128


def _silent(patience: float, outputs: dict[int, bytearray], escalation: Escalation) -> str:
    said = b" ".join(bytes(heard) + escalation.left(output) for output, heard in outputs.items())
    return f"no answer from become within {patience:g} s; it said {said.decode('utf-8', 'replace').strip()!r}"
