# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one error of the local API, as the broker sends it (PROTOCOL.md, "Failures as answers")."""

from __future__ import annotations

import json


class Failure(Exception):
    """Who failed on what, in one sentence, and what to type next.

    ``kind`` is for programs: a word of the table in PROTOCOL.md. What a client finds out by itself has the kind that the broker
    would have given it.
    """

    def __init__(self, kind: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = one_line(message)
        self.hint = one_line(hint) if hint else None

    def __str__(self) -> str:
        return f"natssh: {self.message} ({self.hint})" if self.hint else f"natssh: {self.message}"

    @classmethod
    def decode(cls, body: bytes, otherwise: str = "internal") -> Failure:
        """A failure from JSON. What is none still becomes one, of the kind ``otherwise``."""
        try:
            said = json.loads(body)
            return cls(str(said["kind"]), str(said["message"]), said.get("hint"))
        except (ValueError, KeyError, TypeError, AttributeError):
            text = one_line(body[:200].decode("utf-8", "replace")) or "no reason"
            return cls(otherwise, f"the broker's answer is not understood: {text}", "natssh broker logs")


def one_line(text: str) -> str:
    """Text for a terminal: a message may quote a server, which must not be able to move a cursor."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())
