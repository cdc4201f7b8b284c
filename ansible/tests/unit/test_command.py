# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import socket
import threading
import typing as t
import unittest

from plugins.plugin_utils import command, frames
from plugins.plugin_utils.escalation import Escalation
from plugins.plugin_utils.failure import Failure
from plugins.plugin_utils.frames import frame
from plugins.plugin_utils.stream import Stream

from .test_escalation import COMMAND, MARKER, Sudo


def end(status: int) -> bytes:
    return frame(frames.EXIT, status.to_bytes(4, "big"))


class CommandTest(unittest.TestCase):
    def run_with(
        self, play: t.Callable[[socket.socket], None], given: command.Input, escalation: Escalation
    ) -> tuple[int, bytes, bytes]:
        """Runs a command whose broker does as ``play`` says."""
        ours, brokers = socket.socketpair()
        player = threading.Thread(target=play, args=(brokers,))
        player.start()
        self.notes: list[str] = []
        try:
            with Stream(ours, b"") as stream:
                return command.run(stream, given, escalation, 60.0, self.notes.append)
        finally:
            player.join()
            brokers.close()

    def heard(self, broker: socket.socket, count: int) -> bytes:
        heard = b""
        while len(heard) < count and (piece := broker.recv(count - len(heard))):
            heard += piece
        return heard

    def test_outputs_status_and_what_ssh_would_say(self) -> None:
        said = frame(frames.DEBUG, b"\1hello") + frame(frames.STDERR, b"err") + frame(frames.STDOUT, b"out") + end(3)
        ended = self.run_with(lambda broker: broker.sendall(said), command.Input(b"", b"", True), Escalation(None, "x"))
        self.assertEqual((ended, self.notes), ((3, b"out", b"err"), ["hello"]))

    def test_input_ends_but_on_a_terminal(self) -> None:
        got: list[bytes] = []
        for ends, expected in ((True, frame(frames.STDIN, b"in") + frame(frames.STDIN_END)), (False, frame(frames.STDIN, b"in"))):
            def play(broker: socket.socket) -> None:
                got.append(self.heard(broker, len(expected)))
                broker.sendall(end(0))

            self.run_with(play, command.Input(b"", b"in", ends), Escalation(None, "x"))
            self.assertEqual(got.pop(), expected)

    def test_the_password_follows_the_prompt_and_the_input_follows_the_marker(self) -> None:
        got: list[bytes] = []

        def play(broker: socket.socket) -> None:
            broker.sendall(frame(frames.STDERR, b"PROMPT: "))
            got.append(self.heard(broker, 12))
            broker.sendall(frame(frames.STDOUT, MARKER.encode() + b"\n"))
            got.append(self.heard(broker, 12))
            broker.sendall(frame(frames.STDOUT, b"out") + end(0))

        ended = self.run_with(play, command.Input(b"secret\n", b"in", True), Escalation(Sudo(), COMMAND))
        self.assertEqual(ended, (0, b"out", b""))
        self.assertEqual(got, [frame(frames.STDIN, b"secret\n"), frame(frames.STDIN, b"in") + frame(frames.STDIN_END)])

    def test_a_command_that_a_signal_ended_has_a_shells_status(self) -> None:
        for name, status in ((b"KILL", 137), (b"TERM", 143), (b"NOSUCH", 128), (b"_DFL", 128)):
            said = frame(frames.KILLED, name)
            ended = self.run_with(lambda broker: broker.sendall(said), command.Input(b"", b"", True), Escalation(None, "x"))
            self.assertEqual(ended[0], status)
            self.assertIn(name, ended[2])

    def test_an_end_that_was_not_seen_is_the_brokers_failure(self) -> None:
        said = frame(frames.FAILED, b'{"kind": "cut", "message": "the session ended"}')
        with self.assertRaises(Failure) as raised:
            self.run_with(lambda broker: broker.sendall(said), command.Input(b"", b"", True), Escalation(None, "x"))
        self.assertEqual((raised.exception.kind, raised.exception.message), ("cut", "the session ended"))

    def test_a_silent_become_program_is_given_up_with_what_it_said(self) -> None:
        ours, broker = socket.socketpair()
        # Said before anybody listens, so that no clock decides what is heard.
        broker.sendall(frame(frames.STDERR, b"Password for nobody: "))
        with broker, Stream(ours, b"") as stream, self.assertRaises(Failure) as raised:
            command.run(stream, command.Input(b"", b"", True), Escalation(Sudo(), COMMAND), 0.2, print)
        self.assertEqual(raised.exception.kind, "timeout")
        self.assertIn("Password for nobody:", raised.exception.message)
