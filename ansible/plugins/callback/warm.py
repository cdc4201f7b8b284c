# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: warm
type: aggregate
short_description: Open natssh's sessions ahead of a play, and say what the play cost
version_added: 0.1.0
author: The natssh authors (@natssh)
description:
  - At the start of a play, has the broker open a session to each host that P(natssh.broker.ssh#connection) reaches, so that the first
    task finds them open. The broker's own limits hold for how many are opened at a time.
  - At the end, one line tells how many commands ran, how many bytes passed, how far away the hosts are, how many sessions were
    opened and cut, and which host took longest.
  - Ansible loads the connection plugin of a collection in the worker of each task on each host. With this callback it is loaded before
    the first of them, which takes some 18 ms off each.
  - Nothing waits for it, and what fails here is told by the first task.
requirements:
  - "C(callbacks_enabled = natssh.broker.warm) in the section C([defaults]) of ansible.cfg"
"""

import os
import socket
import time
import typing as t

from ansible.errors import AnsibleError
from ansible.playbook.play import Play
from ansible.playbook.play_context import PlayContext
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import connection_loader
from ansible.template import Templar

from ansible_collections.natssh.broker.plugins.plugin_utils.broker import Broker
from ansible_collections.natssh.broker.plugins.plugin_utils.failure import Failure
from ansible_collections.natssh.broker.plugins.plugin_utils.summary import Cost, summary

PLUGIN = "natssh.broker.ssh"


class CallbackModule(CallbackBase):
    """Opens sessions at the start of a play, and counts."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "natssh.broker.warm"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self._before: Cost | None = None
        # An answer comes on each, which nobody reads: to close one is to give its session up.
        self._asked: list[socket.socket] = []
        self._hosts: set[str] = set()
        self._began: dict[tuple[str, str], float] = {}
        self._took: dict[str, float] = {}

    def v2_playbook_on_play_start(self, play: Play) -> None:
        """Asks for the sessions."""
        self._let_go()
        manager = play.get_variable_manager()
        for host in manager._inventory.get_hosts(play.hosts):
            variables = manager.get_vars(play=play, host=host)
            try:
                self._ask(play, host.name, variables)
            except (Failure, AnsibleError) as error:
                self._display.vv(f"natssh: no session ahead: {error}", host=host.name)

    def v2_runner_on_start(self, host: t.Any, task: t.Any) -> None:
        """Remembers when a task began."""
        self._began[host.name, task._uuid] = time.monotonic()

    def v2_runner_on_ok(self, result: t.Any) -> None:
        """Adds what a task took."""
        self._count(result)

    def v2_runner_on_failed(self, result: t.Any, ignore_errors: bool = False) -> None:
        """Adds what a task took."""
        self._count(result)

    def v2_runner_on_unreachable(self, result: t.Any) -> None:
        """Adds what a task took."""
        self._count(result)

    def v2_playbook_on_stats(self, stats: t.Any) -> None:
        """Tells the sum."""
        self._let_go()
        if self._before is None:
            return
        try:
            after = Cost.of(Broker())
        except Failure as failure:
            self._display.warning(str(failure))
            return
        self._display.display(summary(after - self._before, len(self._hosts), self._took))

    def _ask(self, play: Play, host: str, variables: dict[str, t.Any]) -> None:
        templar = Templar(loader=play.get_loader(), variables=variables)
        context = PlayContext(play=play)
        if templar.template(variables.get("ansible_connection", context.connection)) != PLUGIN:
            return
        connection = connection_loader.get(PLUGIN, context, os.devnull)
        options = connection._resolve_option_variables(variables, templar)
        connection.set_options(task_keys={"remote_user": play.remote_user, "port": play.port}, var_options=options)
        broker = connection.broker()
        if self._before is None:
            self._before = Cost.of(broker)
        self._asked.append(broker.begin(connection.session_request()))
        self._hosts.add(host)

    def _count(self, result: t.Any) -> None:
        host = result._host.name
        began = self._began.pop((host, result._task._uuid), None)
        if began is not None and host in self._hosts:
            self._took[host] = self._took.get(host, 0.0) + time.monotonic() - began

    def _let_go(self) -> None:
        for connection in self._asked:
            connection.close()
        self._asked.clear()
