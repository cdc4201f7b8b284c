# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import unittest

from plugins.plugin_utils import frames
from plugins.plugin_utils.frames import BadFrame, Frames

from . import golden


class FramesTest(unittest.TestCase):
    def test_the_clients_frames_are_those_of_the_file(self) -> None:
        for one in golden.read("frames.json")["client"]:
            kind = getattr(frames, one["frame"].upper())
            self.assertEqual(frames.frame(kind, bytes.fromhex(one["carries"])), bytes.fromhex(one["bytes"]), one)

    def test_the_brokers_frames_are_those_of_the_file_in_whatever_pieces_they_come(self) -> None:
        every = golden.read("frames.json")["broker"]
        expected = [(getattr(frames, one["frame"].upper()), bytes.fromhex(one["carries"])) for one in every]
        stream = b"".join(bytes.fromhex(one["bytes"]) for one in every)
        for size in (1, 3, 7, len(stream)):
            reader, found = Frames(), []
            for at in range(0, len(stream), size):
                found += reader.feed(stream[at: at + size])
            self.assertEqual(_joined(found), _joined(expected))

    def test_an_output_is_told_as_it_comes(self) -> None:
        reader = Frames()
        self.assertEqual(reader.feed(bytes.fromhex("1100000003") + b"ab"), [(frames.STDOUT, b"ab")])
        self.assertEqual(reader.feed(b"c" + bytes.fromhex("14000000040000")), [(frames.STDOUT, b"c")])
        self.assertEqual(reader.feed(bytes.fromhex("0000")), [(frames.EXIT, bytes(4))])

    def test_what_is_no_frame_is_refused_as_soon_as_it_shows(self) -> None:
        for bad in golden.read("frames.json")["no_frames_of_the_broker"]:
            with self.assertRaises(BadFrame, msg=bad):
                Frames().feed(bytes.fromhex(bad))

    def test_input_is_cut_into_frames_that_the_broker_takes(self) -> None:
        data = bytes(range(256)) * 2048
        cut = list(frames.stdin(data))
        self.assertEqual([len(one) - 5 for one in cut], [frames.LIMIT, frames.LIMIT])
        self.assertEqual(b"".join(one[5:] for one in cut), data)
        self.assertEqual(list(frames.stdin(b"")), [])

    def test_a_status_is_read_as_it_was_written(self) -> None:
        self.assertEqual(frames.status(bytes.fromhex("00000102")), 258)


def _joined(told: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """The same with each output in one part."""
    joined: list[tuple[int, bytes]] = []
    for kind, carried in told:
        is_output = kind in (frames.STDOUT, frames.STDERR)
        if is_output and joined and joined[-1][0] == kind:
            joined[-1] = (kind, joined[-1][1] + carried)
        elif carried or not is_output:
            joined.append((kind, carried))
    return joined
