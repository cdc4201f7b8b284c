"""What the clients of a soak do, each a stream through the broker's socket."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field

from bench.lab import NATSSH

from .ground import ECHO_NODE, GREETING, Ground

PATIENCE = 9
# Of a hundred streams. An sshd for each stream and a process for each command are what costs most.
WAYS = {"echo-gate": 50, "echo-chain": 20, "echo-direct": 20, "teleport": 8, "echo-relay": 2}
# A client asks, reads everything and leaves; leaves in the middle; or stays a while.
MANNERS = {"small": 75, "large": 5, "leaves": 15, "stays": 5}
# A stream over each is opened, greeted and left, again and again: what opening costs, and leaves behind, in bulk.
QUICK_WAYS = (ECHO_NODE, "echo-gate", "echo-chain", "echo-direct")
SMALL, LARGE = 64, 256 << 10


@dataclass
class Tally:
    """What has happened since the last look."""

    opened: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    walls: list[float] = field(default_factory=list)


class Load:
    """Clients that work until they are told to stop."""

    def __init__(self, ground: Ground, seed: int) -> None:
        self.ground = ground
        self.random = random.Random(seed)
        self.tally = Tally()
        self.stopping = False

    async def work(self) -> None:
        """One client after the other."""
        while not self.stopping:
            way = self.pick(WAYS)
            try:
                await asyncio.wait_for(self.client(way, self.pick(MANNERS)), PATIENCE * 2)
            except (OSError, EOFError, asyncio.TimeoutError, ValueError) as error:
                self.tally.failed[f"{way}: {type(error).__name__} {error}"[:160]] += 1

    async def quick(self, way: str) -> None:
        """Nothing but opening, as fast as one client can."""
        while not self.stopping:
            try:
                await asyncio.wait_for(self.client(way, "greeted"), PATIENCE * 2)
            except (OSError, EOFError, asyncio.TimeoutError, ValueError) as error:
                self.tally.failed[f"{way}: {type(error).__name__} {error}"[:160]] += 1

    async def ssh(self) -> None:
        """A whole ssh every now and then."""
        while not self.stopping:
            words = self.ground.lab.ssh(NATSSH, None, "true", self.random.randrange(2))
            ssh = await asyncio.create_subprocess_exec(
                *words, env=self.ground.lab.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            _, told = await ssh.communicate()
            self.tally.opened["ssh"] += 1
            if ssh.returncode != 0:
                self.tally.failed[f"ssh: {told.decode(errors='replace').strip()}"[:160]] += 1
            await asyncio.sleep(2)

    def pick(self, weights: dict[str, int]) -> str:
        return self.random.choices(list(weights), list(weights.values()))[0]

    async def client(self, way: str, manner: str) -> None:
        host = f"{self.random.choice(self.ground.lab.nodes)}:22" if way == "teleport" else f"{way}:1"
        began = time.perf_counter()
        reader, writer = await asyncio.open_unix_connection(self.ground.lab.socket(), limit=LARGE * 2)
        try:
            writer.write(f"CONNECT {host} HTTP/1.1\r\nHost: {host}\r\nNatssh-Protocol: 1\r\nNatssh-Timeout-Ms: 9000\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise ValueError(json.loads(await reader.read(4096))["message"])
            greeting = await reader.readuntil(b"\n")
            self.tally.walls.append(time.perf_counter() - began)
            self.tally.opened[way] += 1
            if way == "teleport":
                # A real sshd: what else is to be said to it is ssh's business.
                return
            if greeting != GREETING:
                raise ValueError(f"greeted with {greeting!r}")
            if manner != "greeted":
                await self.speak(reader, writer, manner)
        finally:
            writer.close()

    async def speak(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, manner: str) -> None:
        words = self.random.randbytes(LARGE if manner in ("large", "leaves") else SMALL)
        writer.write(words)
        if manner == "leaves":
            await reader.readexactly(SMALL)
            return
        heard, _ = await asyncio.gather(reader.readexactly(len(words)), writer.drain())
        if heard != words:
            raise ValueError("other bytes came back")
        if manner == "stays":
            await asyncio.sleep(self.random.uniform(0, 3))
