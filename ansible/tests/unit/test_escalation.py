# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import unittest

from plugins.plugin_utils.escalation import Escalation, NotBecome
from plugins.plugin_utils.frames import STDERR, STDOUT

MARKER = "BECOME-SUCCESS-abc"
COMMAND = f"sudo -S -p PROMPT sh -c 'echo {MARKER}; true'"


class Sudo:
    """What sudo's become plugin answers."""

    name = "sudo"
    success = MARKER

    def __init__(self, password: str = "x") -> None:
        self.password = password

    def expect_prompt(self) -> bool:
        return bool(self.password)

    def check_password_prompt(self, b_output: bytes) -> bool:
        return b_output.strip().startswith(b"PROMPT")

    def check_success(self, b_output: bytes) -> bool:
        return MARKER.encode() in b_output

    def check_incorrect_password(self, b_output: bytes) -> bool:
        return b"Sorry, try again" in b_output

    def check_missing_password(self, b_output: bytes) -> bool:
        return b"a password is required" in b_output


class EscalationTest(unittest.TestCase):
    def test_a_command_without_a_marker_waits_for_nothing(self) -> None:
        for become, command in ((None, "id"), (Sudo(), "id")):
            escalation = Escalation(become, command)
            self.assertTrue(escalation.is_over)
            self.assertEqual(escalation.hear(STDOUT, b"PROMPT " + MARKER.encode()), (b"PROMPT " + MARKER.encode(), False))

    def test_prompt_and_marker_are_taken_out_on_whichever_output_and_in_whatever_pieces(self) -> None:
        spoken = [(STDERR, b"PROMPT: "), (STDERR, b"\n"), (STDOUT, b"motd\n" + MARKER.encode() + b"\nout\nPROMPT")]
        for size in (1, 2, 64):
            escalation, heard, asked = Escalation(Sudo(), COMMAND), {STDOUT: b"", STDERR: b""}, 0
            for output, text in spoken:
                # sudo asks with one write, and a prompt in two halves is not known before the second.
                step = len(text) if text.startswith(b"PROMPT") else size
                for at in range(0, len(text), step):
                    piece, wants_password = escalation.hear(output, text[at: at + step])
                    heard[output] += piece
                    asked += wants_password
            self.assertTrue(escalation.is_over)
            self.assertEqual((heard, asked), ({STDOUT: b"motd\nout\nPROMPT", STDERR: b"\n"}, 1))

    def test_a_marker_is_one_only_with_the_end_of_its_line(self) -> None:
        escalation = Escalation(Sudo(), COMMAND)
        self.assertEqual(escalation.hear(STDOUT, MARKER.encode()), (b"", False))
        self.assertFalse(escalation.is_over)
        self.assertEqual(escalation.hear(STDOUT, b"\r\nout"), (b"out", False))
        self.assertTrue(escalation.is_over)

    def test_what_was_said_instead_of_a_marker_is_kept(self) -> None:
        escalation = Escalation(Sudo(), COMMAND)
        self.assertEqual(escalation.hear(STDERR, b"sudo: not found\nhalf a li"), (b"sudo: not found\n", False))
        self.assertEqual((escalation.left(STDERR), escalation.left(STDOUT)), (b"half a li", b""))

    def test_a_refusal_names_the_password(self) -> None:
        escalation = Escalation(Sudo(), COMMAND)
        self.assertEqual(escalation.hear(STDERR, b"PROMPT"), (b"", True))
        for said, sentence in ((b"Sorry, try again.\n", "incorrect sudo password"), (b"PROMPT", "incorrect sudo password")):
            with self.assertRaisesRegex(NotBecome, sentence):
                escalation.hear(STDERR, said)
        with self.assertRaisesRegex(NotBecome, "missing sudo password"):
            Escalation(Sudo(""), COMMAND).hear(STDERR, b"sudo: a password is required\n")

    def test_a_prompt_that_nobody_can_answer_is_only_output(self) -> None:
        escalation = Escalation(Sudo(""), COMMAND)
        self.assertEqual(escalation.hear(STDERR, b"PROMPT"), (b"", False))
        self.assertEqual(escalation.left(STDERR), b"PROMPT")
