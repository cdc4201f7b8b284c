# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What both sides of the local API must agree on, from the files that the tests of the Rust side read too."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

# In natssh's own repository; a copy of the collection elsewhere says where.
_USUAL = pathlib.Path(__file__).resolve().parents[3] / "broker/wire/tests/golden"


def read(name: str) -> t.Any:
    """One of the files."""
    return json.loads((pathlib.Path(os.environ.get("NATSSH_GOLDEN", _USUAL)) / name).read_text(encoding="utf-8"))
