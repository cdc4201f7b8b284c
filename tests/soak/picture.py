"""The samples of a soak as a picture: SVG, which every browser shows and no library is needed for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

WIDTH, HEIGHT, LEFT, TOP, GAP = 760, 130, 70, 28, 34
PANELS = (
    ("memory (MiB)", ("memory_mib",)),
    ("descriptors and threads", ("descriptors", "threads")),
    ("opening a stream (ms): p50, p99", ("p50_ms", "p99_ms")),
)
COLOURS = ("#1f5fa8", "#c0562b")


class Sampled(Protocol):
    """Whatever has these numbers."""

    seconds: float


def draw(samples: Sequence[Sampled]) -> str:
    """Three panels over the same time."""
    height = TOP + len(PANELS) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 20}" height="{height}" font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, (title, names) in enumerate(PANELS):
        parts.append(panel(samples, title, names, TOP + number * (HEIGHT + GAP)))
    return "\n".join([*parts, "</svg>"])


def panel(samples: Sequence[Sampled], title: str, names: Sequence[str], top: int) -> str:
    most = max(getattr(sample, name) for sample in samples for name in names) * 1.1 or 1
    end = samples[-1].seconds or 1
    parts = [f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{title}</text>']
    for step in range(5):
        y = top + HEIGHT - HEIGHT * step / 4
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{most * step / 4:.3g}</text>')
    for colour, name in zip(COLOURS, names):
        points = " ".join(
            f"{LEFT + WIDTH * sample.seconds / end:.1f},{top + HEIGHT - HEIGHT * getattr(sample, name) / most:.1f}" for sample in samples
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    parts.append(f'<text x="{LEFT + WIDTH}" y="{top + HEIGHT + 14}" text-anchor="end">{end / 60:.3g} minutes</text>')
    return "\n".join(parts)
