"""Where the time of a play goes: each worker's parts, as lines of JSON in the file that BENCH_ANATOMY names.

A worker is one process for one task on one host. Its parts exclude each other: what loads a connection plugin counts
as that, and not as the executor's too. All times are of the system's monotonic clock, which processes share.
"""

from __future__ import annotations

import functools
import json
import os
import time

from ansible.executor.process.worker import WorkerProcess
from ansible.executor.task_executor import TaskExecutor
from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: anatomy
type: aggregate
short_description: Where the time of a play goes
description: For the benchmark.
"""

# Seconds by part, of this process, and those of them that the innermost open part may not count as its own.
parts: dict[str, float] = {}
inner: list[float] = [0.0]


def timed(part, function):
    """The function, its own time counted."""

    @functools.wraps(function)
    def counted(*args, **kwargs):
        began = time.monotonic()
        inner.append(0.0)
        try:
            return function(*args, **kwargs)
        finally:
            took = time.monotonic() - began
            parts[part] = parts.get(part, 0.0) + took - inner.pop()
            inner[-1] += took

    return counted


def on(owner, **names):
    """Has methods counted, each as the part that is named."""
    for name, part in names.items():
        setattr(owner, name, timed(part, getattr(owner, name)))


class CallbackModule(CallbackBase):
    """Changes the classes before the first worker is forked."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "anatomy"

    def v2_playbook_on_start(self, playbook):
        """Workers inherit what is changed here."""
        path = os.environ["BENCH_ANATOMY"]
        start, run, get_connection = WorkerProcess.start, WorkerProcess.run, TaskExecutor._get_connection

        def started(worker):
            worker.asked_for = time.monotonic()
            start(worker)

        def ran(worker):
            began = time.monotonic()
            try:
                timed("executor", run)(worker)
            finally:
                line = {"asked": worker.asked_for, "ended": time.monotonic(), "parts": parts | {"fork": began - worker.asked_for}}
                with open(path, "a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")

        def connected(executor, *args, **kwargs):
            connection = timed("connection", get_connection)(executor, *args, **kwargs)
            on(type(connection), exec_command="commands", put_file="files", fetch_file="files")
            return connection

        WorkerProcess.start, WorkerProcess.run, TaskExecutor._get_connection = started, ran, connected
        on(TaskExecutor, _set_connection_options="connection")
        on(ActionBase, _configure_module="module")
