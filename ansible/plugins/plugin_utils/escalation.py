# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What passes between a become plugin and its program (sudo, su, doas) before the command itself runs. No I/O.

The program may ask for a password, on either output and without an end of line, and the shell that it starts prints a marker. Both are
taken out of the output. The command's own input may only be sent behind the marker: the program would read it as a password.
"""

from __future__ import annotations

import typing as t


class Become(t.Protocol):
    """What is asked of a become plugin."""

    name: str
    success: str

    def expect_prompt(self) -> bool:
        """Whether a prompt is to be answered."""

    def check_password_prompt(self, b_output: bytes) -> bool:
        """Whether it is a prompt."""

    def check_success(self, b_output: bytes) -> bool:
        """Whether it is the marker."""

    def check_incorrect_password(self, b_output: bytes) -> bool:
        """Whether the program says that the password is wrong."""

    def check_missing_password(self, b_output: bytes) -> bool:
        """Whether it says that it needs one."""


class NotBecome(Exception):
    """The program refused; the sentence says for which password."""


class Escalation:
    """Both outputs of a command, until its marker has come."""

    def __init__(self, become: Become | None, command: str) -> None:
        self._become = become
        # A command that runs as the login itself has no marker, whatever the play says.
        self.is_over = not (become and become.success and become.success in command)
        self._answered = False
        self._rest: dict[int, bytes] = {}

    def hear(self, output: int, piece: bytes) -> tuple[bytes, bool]:
        """What of a piece belongs to the command, and whether the password is to be sent now."""
        if self.is_over or self._become is None:
            return piece, False
        heard, wants_password = b"", False
        lines = (self._rest.pop(output, b"") + piece).splitlines(True)
        while lines and not self.is_over:
            line = lines.pop(0)
            if self._become.check_success(line) and line.endswith(b"\n"):
                self.is_over = True
            elif self._become.expect_prompt() and self._become.check_password_prompt(line):
                self._answer()
                wants_password = True
            elif self._become.check_incorrect_password(line):
                raise NotBecome(f"incorrect {self._become.name} password")
            elif self._become.check_missing_password(line):
                raise NotBecome(f"missing {self._become.name} password")
            elif line.endswith(b"\n"):
                heard += line
            else:
                self._rest[output] = line
        return heard + b"".join(lines), wants_password

    def left(self, output: int) -> bytes:
        """An unfinished line of an output, which belongs to the command once there is no more to wait for."""
        return self._rest.pop(output, b"")

    def _answer(self) -> None:
        if self._answered:
            raise NotBecome(f"incorrect {self._become.name if self._become else ''} password")
        self._answered = True
