# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ssh
short_description: Run tasks on hosts through natssh, with no ssh process
version_added: 0.1.0
author: The natssh authors (@natssh)
description:
  - Hands commands and files to the user's natssh broker, which keeps authenticated SSH connections to the hosts and to the proxy or
    bastion before them.
  - The options are those of C(ansible.builtin.ssh) under the same names, so an inventory needs no change but this plugin's name. What
    they mean is decided by the broker, which asks C(ssh -G).
  - A setting that natssh cannot honour fails the task with a sentence that says what to use instead.
notes:
  - The broker is started where there is none. C(natssh) has to be in E(PATH), or named by O(natssh_executable).
  - Modules are pipelined unless O(pipelining) says otherwise.
  - A task is never repeated after its command may have started. O(reconnection_retries) counts attempts to reach the host.
  - A command that a signal ended has the status 128 and the number of the signal, as in a shell, and not that of a host that could not
    be reached. A command's own status 255 is the command's.
  - These options of C(ansible.builtin.ssh) say nothing here, because no such program and no such socket takes part. C(control_path),
    C(control_path_dir), C(sftp_executable), C(scp_executable), C(sftp_batch_mode), C(sshpass_prompt), C(password_mechanism).
options:
  host:
    description: The name or address of the host, as ssh would be told it.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
      - name: ansible_ssh_host
  port:
    description: The port of the host's sshd. Without one, that of ssh's configuration.
    type: int
    ini:
      - {section: defaults, key: remote_port}
    env:
      - name: ANSIBLE_REMOTE_PORT
    vars:
      - name: ansible_port
      - name: ansible_ssh_port
    keyword:
      - name: port
  remote_user:
    description: The login on the host. Without one, that of ssh's configuration.
    type: str
    ini:
      - {section: defaults, key: remote_user}
    env:
      - name: ANSIBLE_REMOTE_USER
    vars:
      - name: ansible_user
      - name: ansible_ssh_user
    cli:
      - name: user
    keyword:
      - name: remote_user
  private_key_file:
    description: A file with a private key, offered before those of ssh's configuration.
    type: str
    ini:
      - {section: defaults, key: private_key_file}
    env:
      - name: ANSIBLE_PRIVATE_KEY_FILE
    vars:
      - name: ansible_private_key_file
      - name: ansible_ssh_private_key_file
    cli:
      - name: private_key_file
        option: --private-key
  host_key_checking:
    description: Whether a host whose key is not known is refused, as ssh's C(StrictHostKeyChecking) says otherwise.
    type: bool
    default: true
    ini:
      - {section: defaults, key: host_key_checking}
      - {section: ssh_connection, key: host_key_checking}
    env:
      - name: ANSIBLE_HOST_KEY_CHECKING
      - name: ANSIBLE_SSH_HOST_KEY_CHECKING
    vars:
      - name: ansible_host_key_checking
      - name: ansible_ssh_host_key_checking
  timeout:
    description: How many seconds a connection may take; 2 more are given to a prompt of become.
    type: int
    default: 10
    ini:
      - {section: defaults, key: timeout}
      - {section: ssh_connection, key: timeout}
    env:
      - name: ANSIBLE_TIMEOUT
      - name: ANSIBLE_SSH_TIMEOUT
    vars:
      - name: ansible_ssh_timeout
    cli:
      - name: timeout
  ssh_args:
    description: Words for ssh, before all others. They go to the broker as they are.
    type: str
    default: ''
    ini:
      - {section: ssh_connection, key: ssh_args}
    env:
      - name: ANSIBLE_SSH_ARGS
    vars:
      - name: ansible_ssh_args
  ssh_common_args:
    description: Words for ssh, such as C(-F FILE) or C(-o ProxyJump=bastion). They go to the broker as they are.
    type: str
    default: ''
    ini:
      - {section: ssh_connection, key: ssh_common_args}
    env:
      - name: ANSIBLE_SSH_COMMON_ARGS
    vars:
      - name: ansible_ssh_common_args
    cli:
      - name: ssh_common_args
  ssh_extra_args:
    description: Words for ssh, behind all others. They go to the broker as they are.
    type: str
    default: ''
    ini:
      - {section: ssh_connection, key: ssh_extra_args}
    env:
      - name: ANSIBLE_SSH_EXTRA_ARGS
    vars:
      - name: ansible_ssh_extra_args
    cli:
      - name: ssh_extra_args
  verbosity:
    description: How many C(-v) ssh would be given. What it would say then is shown with C(-vvv).
    type: int
    default: 0
    ini:
      - {section: ssh_connection, key: verbosity}
    env:
      - name: ANSIBLE_SSH_VERBOSITY
    vars:
      - name: ansible_ssh_verbosity
  pipelining:
    description: Sends modules to their interpreter's input instead of writing them to files first.
    type: bool
    default: true
    ini:
      - {section: defaults, key: pipelining}
      - {section: connection, key: pipelining}
      - {section: ssh_connection, key: pipelining}
    env:
      - name: ANSIBLE_PIPELINING
      - name: ANSIBLE_SSH_PIPELINING
    vars:
      - name: ansible_pipelining
      - name: ansible_ssh_pipelining
  use_tty:
    description: Runs a command that is not pipelined on a terminal, as C(ssh -tt), which some become programs insist on.
    type: bool
    default: true
    ini:
      - {section: ssh_connection, key: usetty}
    env:
      - name: ANSIBLE_SSH_USETTY
    vars:
      - name: ansible_ssh_use_tty
  reconnection_retries:
    description: How often a host that could not be reached is tried again. A command that may have started is never repeated.
    type: int
    default: 0
    ini:
      - {section: connection, key: retries}
      - {section: ssh_connection, key: retries}
    env:
      - name: ANSIBLE_SSH_RETRIES
    vars:
      - name: ansible_ssh_retries
  natssh_executable:
    description: The C(natssh) that starts a broker where there is none.
    type: str
    default: natssh
    ini:
      - {section: natssh, key: executable}
    env:
      - name: ANSIBLE_NATSSH_EXECUTABLE
    vars:
      - name: ansible_natssh_executable
  password:
    description: Refused. natssh authenticates with keys and certificates.
    type: str
    vars:
      - name: ansible_password
      - name: ansible_ssh_pass
      - name: ansible_ssh_password
  private_key:
    description: Refused. natssh reads keys from files and agents.
    type: str
    env:
      - name: ANSIBLE_PRIVATE_KEY
    vars:
      - name: ansible_private_key
      - name: ansible_ssh_private_key
  pkcs11_provider:
    description: Refused. Smart cards are reached through an agent.
    type: str
    default: ''
    ini:
      - {section: ssh_connection, key: pkcs11_provider}
    env:
      - name: ANSIBLE_PKCS11_PROVIDER
    vars:
      - name: ansible_ssh_pkcs11_provider
  ssh_executable:
    description: Refused unless it is some C(ssh) or C(natssh). No ssh is started.
    type: str
    default: ssh
    ini:
      - {section: ssh_connection, key: ssh_executable}
    env:
      - name: ANSIBLE_SSH_EXECUTABLE
    vars:
      - name: ansible_ssh_executable
  ssh_transfer_method:
    description: Refused unless it is V(smart). natssh moves files by sftp, and by commands where a node has none.
    type: str
    default: smart
    ini:
      - {section: ssh_connection, key: transfer_method}
    env:
      - name: ANSIBLE_SSH_TRANSFER_METHOD
    vars:
      - name: ansible_ssh_transfer_method
  sftp_extra_args:
    description: Refused. No sftp is started.
    type: str
    default: ''
    ini:
      - {section: ssh_connection, key: sftp_extra_args}
    env:
      - name: ANSIBLE_SFTP_EXTRA_ARGS
    vars:
      - name: ansible_sftp_extra_args
    cli:
      - name: sftp_extra_args
  scp_extra_args:
    description: Refused. No scp is started.
    type: str
    default: ''
    ini:
      - {section: ssh_connection, key: scp_extra_args}
    env:
      - name: ANSIBLE_SCP_EXTRA_ARGS
    vars:
      - name: ansible_scp_extra_args
    cli:
      - name: scp_extra_args
"""

EXAMPLES = r"""
# In an inventory: all that changes.
all:
  vars:
    ansible_connection: natssh.broker.ssh
  hosts:
    web-1.example.com:
    web-2.example.com:
      ansible_user: admin
      ansible_port: 2222

# On the command line:
#   ansible-playbook -c natssh.broker.ssh -i inventory site.yml
"""

import os
import shlex
import stat
import time
import typing as t

from ansible.errors import AnsibleAuthenticationFailure, AnsibleConnectionFailure, AnsibleError, AnsibleFileNotFound
from ansible.module_utils.common.text.converters import to_bytes, to_text
from ansible.plugins.connection import ConnectionBase
from ansible.utils.display import Display

from ansible_collections.natssh.broker.plugins.plugin_utils import command, files, words
from ansible_collections.natssh.broker.plugins.plugin_utils.broker import Broker, call, word
from ansible_collections.natssh.broker.plugins.plugin_utils.escalation import Escalation, NotBecome
from ansible_collections.natssh.broker.plugins.plugin_utils.failure import Failure
from ansible_collections.natssh.broker.plugins.plugin_utils.stream import Stream

display = Display()

# Failures before anything has run that the next minute may mend.
PASSING = ("offline", "unreachable", "timeout", "busy", "protocol")
# Failures that no other host would help: the task is wrong, or this machine is.
PLAIN = ("bad_request", "config", "internal", "version", "file", "needs_ssh")


class Connection(ConnectionBase):
    """Three verbs, each one request to the broker."""

    transport = "natssh.broker.ssh"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def close(self) -> None:
        """Nothing is open between two requests."""
        self._connected = False

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Runs a command: its exit status, and what it printed."""
        options = self._settings()
        text = to_text(cmd, errors="surrogateescape")
        become = self.become if sudoable else None
        if become is not None and become.name == "runas":
            raise AnsibleError("runas is for Windows, which natssh does not reach: use ansible_connection: ssh, psrp or winrm for this host")
        terminal = not in_data and sudoable and bool(self.get_option("use_tty"))
        # A terminal of the node's own: nobody sits at one here.
        request = call(words.command_words(options, text, terminal), **({"terminal": {}} if terminal else {}))
        self._say(f"EXEC {shlex.join(request_words(request))}")
        password = to_bytes(become.get_option("become_pass", playcontext=self._play_context) or "") if become is not None else b""
        given = command.Input(password + b"\n", to_bytes(in_data or b""), ends=not terminal)
        begun = time.monotonic()
        try:
            with self._opened(Broker.exec, request) as stream:
                answered = time.monotonic()
                ended = command.run(stream, given, Escalation(become, text), 2.0 + options["timeout"], self._say)
        except NotBecome as error:
            raise AnsibleError(str(error).capitalize()) from None
        except Failure as failure:
            raise exception(failure) from None
        self._say_end(f"rc {ended[0]}", begun, answered, stream)
        return ended

    def put_file(self, in_path: str, out_path: str) -> None:
        """Copies a file to the host."""
        options = self._settings()
        self._say(f"PUT {in_path} TO {out_path}")
        begun = time.monotonic()
        try:
            with open(to_bytes(in_path, errors="surrogateescape"), "rb") as file:
                found = os.fstat(file.fileno())
                mode = f"{stat.S_IMODE(found.st_mode) & 0o777:o}"
                request = call(words.host_words(options), path=word(out_path), mode=mode, size=found.st_size)
                with self._opened(Broker.put, request) as stream:
                    answered = time.monotonic()
                    files.put(stream, file, self._say)
        except FileNotFoundError as error:
            raise AnsibleFileNotFound(f"file or module does not exist: {to_text(in_path)}") from error
        except Failure as failure:
            raise exception(failure) from None
        self._say_end("put", begun, answered, stream)

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Copies a file from the host."""
        options = self._settings()
        self._say(f"FETCH {in_path} TO {out_path}")
        begun = time.monotonic()
        try:
            with self._opened(Broker.get, call(words.host_words(options), path=word(in_path))) as stream:
                answered = time.monotonic()
                files.get(stream, to_text(out_path, errors="surrogateescape"), self._say)
        except OSError as error:
            raise AnsibleError(f"{to_text(out_path)} cannot be written: {error}") from error
        except Failure as failure:
            raise exception(failure) from None
        self._say_end("fetched", begun, answered, stream)

    def reset(self) -> None:
        """Lets the next command on this host authenticate afresh; those that run go on."""
        try:
            answer = self.broker().control(call(["-O", "stop", *words.host_words(self._settings())]))
            self._say(f"RESET {answer.get('peer') or ''}: {answer['sessions']} sessions take no more commands")
        except (Failure, AnsibleError) as error:
            display.warning(f"the connection to {self.get_option('host')} was not reset: {error}")

    def _settings(self) -> dict[str, t.Any]:
        """What words are made of, once nothing asks for what natssh does not do."""
        checked = {name: self.get_option(name) for name in words.CHECKED}
        # -k, which Ansible hands over in its own way.
        checked["password"] = checked["password"] or self._play_context.password
        if instead := words.unmet(checked):
            raise AnsibleError(f"{self.get_option('host')}: {instead}")
        return {name: self.get_option(name) for name in words.OPTIONS}

    def session_request(self) -> dict[str, t.Any]:
        """What has the broker open the session that the tasks of this host will run on, and run nothing."""
        return call(["-N", *words.host_words(self._settings())])

    def broker(self) -> Broker:
        """The broker that the tasks of this host ask."""
        return Broker(self.get_option("natssh_executable"))

    def _opened(self, ask: t.Callable[[Broker, dict[str, t.Any]], Stream], request: dict[str, t.Any]) -> Stream:
        """What the broker opens, asked again as often as the user says while nothing has run."""
        retries = int(self.get_option("reconnection_retries"))
        for attempt in range(retries):
            try:
                return ask(self.broker(), request)
            except Failure as failure:
                if failure.kind not in PASSING:
                    raise
                pause = min(2 ** attempt - 1, 30)
                self._say(f"{failure}; attempt {attempt + 1} of {retries + 1}, the next in {pause} s", display.vv)
                time.sleep(pause)
        return ask(self.broker(), request)

    def _say(self, line: str, level: t.Callable[..., None] = display.vvv) -> None:
        level(f"natssh: {line}", host=self.get_option("host"))

    def _say_end(self, what: str, begun: float, answered: float, stream: Stream) -> None:
        now = time.monotonic()
        self._say(
            f"{what} after {now - begun:.3f} s, {answered - begun:.3f} s of them until the broker's answer;"
            f" {stream.bytes_sent} bytes sent, {stream.bytes_received} received"
        )


def request_words(request: dict[str, t.Any]) -> list[str]:
    """The words of a request, to be shown."""
    return [one if isinstance(one, str) else bytes.fromhex(one["hex"]).decode("utf-8", "backslashreplace") for one in request["words"]]


def exception(failure: Failure) -> AnsibleError:
    """What Ansible takes a failure for: a host that cannot be reached, or a task that fails."""
    if failure.kind in ("identity", "denied"):
        return AnsibleAuthenticationFailure(str(failure))
    if failure.kind == "needs_ssh":
        return AnsibleError(
            f"natssh: this is the real ssh's to run: {failure.message}"
            " (change that setting for this host, or use ansible_connection: ssh with ansible_ssh_executable: natssh)"
        )
    return AnsibleError(str(failure)) if failure.kind in PLAIN else AnsibleConnectionFailure(str(failure))
