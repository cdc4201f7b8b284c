"""A thousand streams through one broker: what the last costs, and what all hold."""

from __future__ import annotations

import socket
import statistics
import time

from .lab import Lab
from .measure import Row
from .processes import rss_kib

COUNT = 1000
# The first and the last stream are medians of so many.
GROUP = 25


def a_thousand(lab: Lab) -> list[Row]:
    """Opens COUNT streams to the nodes' sshd, one after the other, and keeps them."""
    held = []
    try:
        # The first one dials the trunk.
        open_stream(lab, 0).close()
        time.sleep(1)
        idle = rss_kib(lab.broker_pid())
        walls = []
        for number in range(COUNT):
            began = time.perf_counter()
            held.append(open_stream(lab, number))
            walls.append((time.perf_counter() - began) * 1e3)
        time.sleep(1)
        full = rss_kib(lab.broker_pid())
    finally:
        for stream in held:
            stream.close()
    first, last = statistics.median(walls[:GROUP]), statistics.median(walls[-GROUP:])
    return [
        Row(f"stream {COUNT} opened, beside the first (medians of {GROUP})", last, first, "ms", 1.5),
        Row("broker's memory, one idle trunk (RSS)", idle / 1024, None, "MiB", 12),
        Row(f"  what each of {COUNT} open streams adds", (full - idle) / COUNT, None, "KiB", 40),
    ]


def open_stream(lab: Lab, number: int) -> socket.socket:
    """Asks as the shim does; the node's banner is read, so that the stream is known to live."""
    stream = socket.socket(socket.AF_UNIX)
    stream.settimeout(9)
    stream.connect(lab.socket())
    node = lab.nodes[number % len(lab.nodes)]
    stream.sendall(f"CONNECT {node}:22 HTTP/1.1\r\nHost: {node}\r\nNatssh-Protocol: 1\r\n\r\n".encode())
    answer = b""
    while b"SSH-2.0-" not in answer:
        chunk = stream.recv(4096)
        answer += chunk
        if not chunk or not answer.startswith(b"HTTP/1.1 200"[: len(answer)]):
            raise SystemExit(f"bench: stream {number} was refused: {answer.decode(errors='replace')}")
    return stream
