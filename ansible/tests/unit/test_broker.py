# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
import typing as t
import unittest
from unittest import mock

from plugins.plugin_utils import broker, exchange, frames
from plugins.plugin_utils.broker import Broker
from plugins.plugin_utils.failure import Failure

from .fake import SWITCHED, FakeBroker, ok, say

REFUSED = b'{"kind": "offline", "message": "node web-3\\u001b[2J is offline", "hint": "natssh why web-3"}'
DRAINING = b'{"kind": "draining", "message": "the broker is leaving"}'


def refusal(status: int, body: bytes) -> bytes:
    return b"HTTP/1.1 %d X\r\nnatssh-protocol: 1\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


class BrokerTest(unittest.TestCase):
    def at(self, path: str, **more: t.Any) -> Broker:
        with mock.patch.dict(os.environ, NATSSH_SOCKET=path):
            return Broker(**more)

    def failure(self, ask: t.Callable[[], t.Any]) -> Failure:
        with self.assertRaises(Failure) as raised:
            ask()
        return raised.exception

    def test_a_call_says_what_ssh_would_see(self) -> None:
        with mock.patch.dict(os.environ, {"LANG": "C", "ODD": "\udcff"}, clear=True):
            request = broker.call(["-p", "22", "web-3", "echo \udcfe"], path="/etc/motd")
        self.assertEqual(request["words"], ["-p", "22", "web-3", {"hex": "6563686f20fe"}])
        self.assertEqual(request["environment"], [["LANG", "C"], ["ODD", {"hex": "ff"}]])
        self.assertEqual((request["directory"], request["path"]), (os.getcwd(), "/etc/motd"))

    def test_a_command_is_run_on_a_connection_that_changes_its_protocol(self) -> None:
        heard: list[bytes] = []

        def serve(connection: socket.socket, _request: bytes) -> None:
            # The first frames may stand right behind the head.
            connection.sendall(SWITCHED + frames.frame(frames.STDOUT, b"out"))
            while not b"".join(heard).endswith(frames.frame(frames.STDIN_END)):
                heard.append(connection.recv(65536))
            connection.sendall(frames.frame(frames.EXIT, b"\0\0\0\7"))

        with FakeBroker(serve) as fake, self.at(fake.path).exec({"words": ["web-3"]}) as command:
            command.send([*frames.stdin(b"in"), frames.frame(frames.STDIN_END)])
            self.assertEqual(command.receive(), [(frames.STDOUT, b"out")])
            self.assertEqual(command.receive(), [(frames.EXIT, b"\0\0\0\7")])
        self.assertEqual(b"".join(heard), frames.frame(frames.STDIN, b"in") + frames.frame(frames.STDIN_END))
        head, body = fake.requests[0].split(b"\r\n\r\n", 1)
        self.assertTrue(head.startswith(b"POST /v1/exec HTTP/1.1\r\n"), head)
        self.assertIn(b"\r\nUpgrade: natssh-exec\r\n", head)
        self.assertEqual(json.loads(body), {"words": ["web-3"]})

    def test_both_directions_go_on_while_the_other_is_full(self) -> None:
        much = bytes(8 << 20)

        def serve(connection: socket.socket, _request: bytes) -> None:
            # Nothing is read before all of this has been taken.
            connection.sendall(SWITCHED + b"".join(frames.frame(frames.STDOUT, part[5:]) for part in frames.stdin(much)))
            left = len(much) + 5 * len(list(frames.stdin(much)))
            while left:
                left -= len(connection.recv(65536))
            connection.sendall(frames.frame(frames.EXIT, bytes(4)))

        came, kinds = 0, []
        with FakeBroker(serve) as fake, self.at(fake.path).exec({}) as command:
            command.send(frames.stdin(much))
            while frames.EXIT not in kinds:
                for kind, carried in command.receive():
                    kinds.append(kind)
                    came += len(carried) if kind == frames.STDOUT else 0
        self.assertEqual(came, len(much))

    def test_a_wait_for_frames_has_an_end(self) -> None:
        with FakeBroker(lambda connection, _request: (connection.sendall(SWITCHED), connection.recv(1))) as fake:
            with self.at(fake.path).exec({}) as command:
                self.assertEqual(command.receive(0.01), [])

    def test_a_broker_that_dies_leaves_a_command_that_may_have_run(self) -> None:
        with FakeBroker(say(SWITCHED)) as fake, self.at(fake.path).exec({}) as command:
            failure = self.failure(command.receive)
        self.assertEqual(failure.kind, "cut")
        self.assertIn("may have run", failure.message)
        self.assertEqual(len(fake.requests), 1)

    def test_what_only_ssh_does_is_said_with_its_reason(self) -> None:
        with FakeBroker(say(ok(b'{"native": false, "reason": "GSSAPIAuthentication", "tunnel": true}'))) as fake:
            failure = self.failure(lambda: self.at(fake.path).exec({}))
        self.assertEqual((failure.kind, failure.message), ("needs_ssh", "GSSAPIAuthentication"))

    def test_a_refusal_keeps_its_sentence_and_loses_what_moves_cursors(self) -> None:
        with FakeBroker(say(refusal(502, REFUSED))) as fake:
            failure = self.failure(lambda: self.at(fake.path).exec({}))
        self.assertEqual(failure.kind, "offline")
        self.assertEqual(str(failure), "natssh: node web-3 [2J is offline (natssh why web-3)")

    def test_one_that_leaves_before_it_answers_is_followed_by_the_next(self) -> None:
        gone = say(b"")
        with FakeBroker(gone, say(refusal(503, DRAINING)), say(ok(b'{"sessions": 2}'))) as fake:
            self.assertEqual(self.at(fake.path).control({"words": ["-O", "stop", "web-3"]}), {"sessions": 2})
        self.assertEqual(len(fake.requests), 3)
        self.assertTrue(fake.requests[2].startswith(b"POST /v1/control HTTP/1.1\r\n"))

    def test_an_answer_that_breaks_off_is_not_asked_for_again(self) -> None:
        for answer in (SWITCHED[:20], ok(b"{}")[:-1], b"SSH-2.0-OpenSSH\r\n\r\n"):
            with FakeBroker(say(answer)) as fake:
                self.assertEqual(self.failure(self.at(fake.path).status).kind, "protocol", answer)
            self.assertEqual(len(fake.requests), 1)

    def test_another_version_is_told_to_restart(self) -> None:
        for answer in (ok(b"{}").replace(b": 1", b": 2"), b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
            with FakeBroker(say(answer)) as fake:
                failure = self.failure(self.at(fake.path).status)
            self.assertEqual((failure.kind, failure.hint), ("version", "natssh broker restart"))

    def test_nothing_is_sent_to_another_users_process(self) -> None:
        def serve(connection: socket.socket, _request: bytes) -> None:
            connection.close()

        with FakeBroker(serve) as fake, mock.patch.object(exchange, "_peer", return_value=os.geteuid() + 1):
            failure = self.failure(lambda: self.at(fake.path).exec({}))
        self.assertEqual(failure.kind, "denied")
        self.assertEqual(fake.requests, [b""])

    def test_a_broker_that_is_not_there_is_started_by_the_program(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            program = os.path.join(folder, "natssh")
            with open(program, "w", encoding="utf-8") as script:
                script.write(f'#!/bin/sh\necho "$@" >{folder}/asked\necho "natssh: it did not start (its log: x)" >&2\nexit 1\n')
            os.chmod(program, stat.S_IRWXU)
            failure = self.failure(self.at(f"{folder}/b.sock", program=program).status)
            with open(f"{folder}/asked", encoding="utf-8") as asked:
                self.assertEqual(asked.read(), "broker start\n")
            self.assertEqual(str(failure), "natssh: it did not start (its log: x)")
            absent = self.failure(self.at(f"{folder}/b.sock", program=f"{folder}/none").status)
        self.assertIn("is not in PATH", absent.message)
