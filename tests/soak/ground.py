"""Everything that the streams of a soak run over."""

from __future__ import annotations

import asyncio
import getpass
import json
import subprocess
import uuid
from pathlib import Path
from types import TracebackType

from bench.bastion import Ground as Bastions
from bench.lab import BIN, NATSSH, Lab

GREETING = b"SSH-2.0-echo\r\n"
# A node of the lab's cluster that has the echo server where others have their sshd.
ECHO_NODE = "echo-teleport"


class Ground:
    """A lab, two bastions, an echo server, and the one broker that knows them all."""

    def __init__(self) -> None:
        self.lab = Lab(rootless=True)
        self.bastions = Bastions(broker=False)
        self.agent: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Ground:
        self.lab.__enter__()
        try:
            self.bastions.__enter__()
        except BaseException:
            self.lab.__exit__()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # The lab's goodbye stops the broker, before its bastions go.
        if self.agent:
            self.agent.terminate()
            self.agent.wait()
        try:
            self.lab.__exit__()
        finally:
            self.bastions.__exit__()

    async def start(self) -> None:
        """Brings up the echo server, and the broker with every kind of upstream."""
        server = await asyncio.start_server(echo, "127.0.0.1", 0, backlog=1024)
        port = server.sockets[0].getsockname()[1]
        lab = Path(self.lab.environment["NATSSH_CONFIG"])
        lab.write_text(lab.read_text() + self.upstreams(port))
        check = subprocess.run([BIN / "natssh", "config", "check"], env=self.lab.environment, capture_output=True, text=True)
        if check.returncode != 0:
            raise SystemExit(f"soak: {check.stdout}{check.stderr}")
        # The first connection starts the broker, if printing ssh's configuration has not.
        subprocess.run(self.lab.ssh(NATSSH, None, "true"), env=self.lab.environment, check=True, stdin=subprocess.DEVNULL)
        subprocess.run([BIN / "natssh", "broker", "reload"], env=self.lab.environment, check=True, stdout=subprocess.DEVNULL)
        await self.join(port)

    async def join(self, port: int) -> None:
        """One node more, by the orders of another: its streams cost no sshd."""
        lab = Path(self.lab.environment["NATSSH_LAB"])
        orders = json.loads((lab / "nodes" / self.lab.nodes[0] / "agent.json").read_text())
        orders |= {"name": {"hostname": ECHO_NODE, "uuid": str(uuid.uuid4())}, "connect": f"127.0.0.1:{port}"}
        file = self.lab.folder / "echo-agent.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(orders))
        # It ends with its end of the pipe, whatever happens to this process.
        self.agent = subprocess.Popen([BIN / "natssh-lab", "agent", file], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(100):
            asked = await asyncio.create_subprocess_exec(
                BIN / "natssh", "proxy", ECHO_NODE, "22", env=self.lab.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            if (await asked.communicate())[0] == GREETING:
                return
            await asyncio.sleep(0.05)
        raise SystemExit(f"soak: the node {ECHO_NODE} did not join")

    def upstreams(self, port: int) -> str:
        """Tables for the configuration that the lab wrote."""
        folder, (outer, inner) = self.bastions.folder, self.bastions.ports
        bastion = f'identity = "me"\nlogin = "{getpass.getuser()}"\nknown_hosts = ["{folder}/known_hosts"]\nkind = "bastion"\n'
        relay = "bash -c 'exec 3<>/dev/tcp/%h/%p; cat <&3 & exec cat >&3'"
        text = f'[identity.me]\nkey = "{folder}/id"\n'
        text += f'[upstream.gate]\n{bastion}host = "127.0.0.1:{outer}"\n'
        text += f'[upstream.chain]\n{bastion}host = "127.0.0.1:{inner}"\nvia = "gate"\n'
        text += f'[upstream.relay]\nkind = "command"\ncommand = """{relay}"""\n'
        for upstream in ("gate", "chain", "relay", "direct"):
            name = f"echo-{upstream}"
            text += f'[[route]]\nhosts = ["{name}"]\nupstream = "{upstream}"\nmap = {{ {name} = "127.0.0.1" }}\nport = {port}\n'
        return text


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks first, as an SSH server does, and then says what it hears."""
    try:
        writer.write(GREETING)
        while chunk := await reader.read(1 << 16):
            writer.write(chunk)
            await writer.drain()
    except (ConnectionError, asyncio.CancelledError):
        pass
    finally:
        writer.close()
