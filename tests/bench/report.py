"""Says what was measured: a table for people, JSON for comparison over time."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from .measure import Row


def head() -> str:
    return f"{'':76} {'natssh':>12} {'other side':>12} {'ratio':>6}  target"


def line(row: Row) -> str:
    """One row as it is printed."""
    other = number(row.other, row.unit) if row.other is not None else ""
    ratio = f"{row.value:.2f}" if row.other is not None else ""
    target = ""
    if row.target is not None:
        unit = f" {row.unit}" if row.other is None else ""
        target = f"{'≥' if row.at_least else '≤'} {row.target:.3g}{unit}"
    return f"{row.what:76} {number(row.natssh, row.unit):>12} {other:>12} {ratio:>6}  {target:<9} {row.verdict}".rstrip()


def number(value: float, unit: str) -> str:
    return f"{value:.{0 if value >= 100 or unit == '' else 2 if value < 10 else 1}f} {unit}".rstrip()


def save(rows: list[Row], folder: Path) -> Path:
    """Writes the rows and where they were measured."""
    folder.mkdir(exist_ok=True)
    now = datetime.now(timezone.utc)
    path = folder / f"{now:%Y-%m-%dT%H%M%SZ}.json"
    ssh = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr.strip()
    document = {
        "when": now.isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "load": os.getloadavg()[0], "kernel": platform.release(), "ssh": ssh},
        "rows": [asdict(row) | {"value": row.value, "verdict": row.verdict} for row in rows],
    }
    path.write_text(json.dumps(document, indent=2) + "\n")
    return path
