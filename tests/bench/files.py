"""Files to nodes and from them: the collection's own client, beside sftp over a connection that ControlPersist keeps.

The client is called as Ansible's worker calls it, inside one process; sftp is started for each file, as Ansible's ssh plugin starts
it. What one sftp takes that is told all files at once is shown too.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .commands import Node, timed
from .lab import BIN, CURVE25519, NATSSH, NESTED, ROOT, Lab
from .measure import Row, in_turn, seconds

sys.path.insert(0, str(ROOT / "ansible"))
from plugins.plugin_utils import exchange, files, stream  # noqa: E402

MIB = 1 << 20
LARGE, SMALL = 256 * MIB, 4096
# A far node's files are fewer: each sftp takes seven round trips.
NEAR_FILES, FAR_FILES = 500, 20


@dataclass
class Way:
    """A node, and the words that lead to it: natssh's, and those of an ssh with a master."""

    environment: dict[str, str]
    node: str
    natssh: list[str]
    kept: list[str]
    here: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="natssh-files.")))

    @property
    def there(self) -> Path:
        """The folder on the node, which may be this machine."""
        return self.here / "node"

    def run(self, command: str) -> None:
        """Has the node do something."""
        timed([str(BIN / "natssh"), *self.natssh, self.node, command], self.environment)

    def put(self, local: Path, remote: str) -> None:
        with self.ask("PUT", remote, size=local.stat().st_size) as asked, local.open("rb") as file:
            files.put(asked, file, lambda _line: None)

    def get(self, remote: str, local: Path) -> None:
        with self.ask("GET", remote) as asked:
            files.get(asked, str(local), lambda _line: None)

    def ask(self, verb: str, remote: str, **more: object) -> stream.Stream:
        call = {"words": [*self.natssh, self.node], "directory": "/", "environment": list(self.environment.items())}
        encoded = exchange.encode(verb, "/v1/file", {**call, "path": f"{self.there}/{remote}", **more}, "natssh-file")
        answer = exchange.ask(exchange.connect(self.environment["NATSSH_SOCKET"], 60), encoded)
        assert answer.connection is not None
        return stream.Stream(answer.connection, answer.body)

    def sftp(self, *lines: str) -> float:
        """How long one sftp takes over these lines."""
        batch = self.here / "batch"
        batch.write_text("".join(f"{line}\n" for line in lines))
        return timed(["sftp", *self.kept, "-b", str(batch), self.node], self.environment)


def table(way: Way, where: str, count: int, rounds: int) -> Iterator[Row]:
    """A large file each way, and many small ones, one after the other."""
    large, small = way.here / "large", way.here / "small"
    large.write_bytes(bytes(LARGE))
    small.write_bytes(bytes(SMALL))
    way.run(f"rm -rf {way.there}; mkdir -p {way.there}")
    try:
        ours, theirs = in_turn(
            rounds, lambda: seconds(lambda: way.put(large, "ours")), lambda: way.sftp(f"put {large} {way.there}/theirs")
        )
        yield Row(f"a file of 256 MiB put, {where}, beside sftp over ControlPersist", ours, theirs, "s", 1.11 if where == NEAR else 1.0)
        back = way.here / "back"
        ours, theirs = in_turn(
            rounds, lambda: seconds(lambda: way.get("ours", back)), lambda: way.sftp(f"get {way.there}/theirs {back}")
        )
        yield Row("  the same got", ours, theirs, "s", 1.11 if where == NEAR else 1.0)
        yield from many(way, where, count, rounds, small, back)
    finally:
        way.run(f"rm -rf {way.there}")


def many(way: Way, where: str, count: int, rounds: int, small: Path, back: Path) -> Iterator[Row]:
    names = [str(number) for number in range(count)]

    def ours_put() -> float:
        way.run(f"rm -f {way.there}/*")
        return seconds(lambda: [way.put(small, name) for name in names])

    def theirs_put(sftps: list[list[str]]) -> float:
        way.run(f"rm -f {way.there}/*")
        return sum(way.sftp(*lines) for lines in sftps)

    def ours_get() -> float:
        return seconds(lambda: [way.get(name, back) for name in names])

    puts = [f"put {small} {way.there}/{name}" for name in names]
    gets = [f"get {way.there}/{name} {back}" for name in names]
    ours, theirs = in_turn(rounds, ours_put, lambda: theirs_put([[put] for put in puts]))
    yield Row(f"{count} files of 4 KiB put, {where}, beside an sftp for each", ours, theirs, "s", 0.5)
    ours, theirs = in_turn(rounds, ours_put, lambda: theirs_put([puts]))
    yield Row("  beside one sftp for all", ours, theirs, "s")
    ours, theirs = in_turn(rounds, ours_get, lambda: sum(way.sftp(get) for get in gets))
    yield Row("  the same got, beside an sftp for each", ours, theirs, "s", 0.5)
    ours, theirs = in_turn(rounds, ours_get, lambda: way.sftp(*gets))
    yield Row("  beside one sftp for all", ours, theirs, "s")


NEAR = "on loopback"


def near(node: Node, rounds: int) -> Iterator[Row]:
    """A node that is reached directly."""
    config = ["-F", str(node.folder / "cold.conf")]
    with cleared(Way(node.environment, "node", config, ["-F", str(node.folder / "kept.conf")])) as way:
        yield from table(way, NEAR, NEAR_FILES, rounds)


def far(lab: Lab, rounds: int) -> Iterator[Row]:
    """A node of the lab, through its proxy."""
    node, nested = lab.nodes[0], lab.ssh_config(NESTED, CURVE25519)
    keep = ["-F", str(nested), "-o", f"ControlPath={lab.folder}/files"]
    subprocess.run(["ssh", *keep, "-fNM", node], env=lab.environment, check=True, stdin=subprocess.DEVNULL)
    try:
        config = ["-F", str(lab.ssh_config(NATSSH, CURVE25519))]
        with cleared(Way(lab.environment, node, config, keep)) as way:
            yield from table(way, f"{lab.rtt_ms} ms away", FAR_FILES, rounds)
    finally:
        subprocess.run(["ssh", *keep, "-O", "exit", node], env=lab.environment, capture_output=True)


@contextmanager
def cleared(way: Way) -> Iterator[Way]:
    try:
        yield way
    finally:
        subprocess.run(["rm", "-rf", way.here], check=True)
