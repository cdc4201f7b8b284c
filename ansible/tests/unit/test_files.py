# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import os
import pathlib
import socket
import stat
import tempfile
import unittest

from plugins.plugin_utils import files, frames
from plugins.plugin_utils.failure import Failure
from plugins.plugin_utils.frames import frame
from plugins.plugin_utils.stream import Stream

DONE = frame(frames.EXIT, bytes(4))
FULL = frame(frames.FAILED, b'{"kind": "file", "message": "No space left on device"}')


def silent(_line: str) -> None:
    """Nobody listens."""


class FilesTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        ours, self.broker = socket.socketpair()
        self.addCleanup(self.broker.close)
        self.stream = Stream(ours, b"")
        self.addCleanup(self.stream.close)

    def test_a_file_is_sent_in_pieces_with_an_end(self) -> None:
        for content in (b"", b"x"):
            sent = b"".join(files._pieces(io.BytesIO(content)))
            self.assertEqual(sent, (frame(frames.STDIN, content) if content else b"") + frame(frames.STDIN_END))
        long = io.BytesIO(bytes(frames.LIMIT + 1))
        self.assertEqual([len(piece) - 5 for piece in files._pieces(long)], [frames.LIMIT, 1, 0])

    def test_what_the_node_refuses_is_said_in_its_words(self) -> None:
        self.broker.sendall(FULL)
        with self.assertRaisesRegex(Failure, "No space left"):
            files.put(self.stream, io.BytesIO(b"x"), silent)

    def test_a_file_arrives_whole_and_keeps_the_mode_that_it_had(self) -> None:
        path = self.folder / "file"
        path.write_bytes(b"old")
        path.chmod(0o640)
        link = self.folder / "link"
        link.symlink_to(path)
        self.broker.sendall(frame(frames.STDOUT, b"ne") + frame(frames.STDOUT, b"w") + DONE)
        files.get(self.stream, str(link), silent)
        self.assertTrue(link.is_symlink())
        self.assertEqual(path.read_bytes(), b"new")
        self.assertEqual(stat.S_IMODE(path.stat().st_mode), 0o640)

    def test_a_new_file_has_the_mode_that_the_umask_leaves(self) -> None:
        before = os.umask(0o027)
        self.addCleanup(os.umask, before)
        self.broker.sendall(DONE)
        files.get(self.stream, str(self.folder / "empty"), silent)
        self.assertEqual(stat.S_IMODE((self.folder / "empty").stat().st_mode), 0o640)

    def test_half_a_file_leaves_the_old_one_and_nothing_beside_it(self) -> None:
        path = self.folder / "file"
        path.write_bytes(b"old")
        self.broker.sendall(frame(frames.STDOUT, b"ne") + FULL)
        with self.assertRaises(Failure):
            files.get(self.stream, str(path), silent)
        self.assertEqual([(one.name, one.read_bytes()) for one in self.folder.iterdir()], [("file", b"old")])
