"""Ansible's results, a line of JSON each, without what changes with the time or the run."""

from __future__ import annotations

import json
import os
import re

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: record
type: aggregate
short_description: Write every result to the file that PLAY_RECORD names
"""

# Times, and what is made of them.
VOLATILE = {
    "start", "end", "delta", "elapsed", "ansible_job_id", "results_file", "atime", "ctime", "mtime", "inode", "dev", "version", "attempts",
    # Some versions of Ansible tell where a module's file lay, or how it was invoked.
    "ansible_async_watchdog_pid", "invocation", "exception", "warnings", "deprecations", "diff", "stdout_lines", "stderr_lines",
}
# What ssh's multiplexer says at the end of a terminal, and natssh does not.
GOODBYE = re.compile(r"Shared connection to \S+ closed\.\r?\n")
# The folder for a module's files has a name of its own for each task.
TEMPORARY = re.compile(r"ansible-tmp-[0-9.]+-[0-9]+-[0-9]+|ansible-local-\w+|tmp[a-z0-9_]{8}|j\d+\.\d+")


class CallbackModule(CallbackBase):
    """Writes every result."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "record"

    def write(self, how, result):
        """One line. The run's own folder and its own node have names of their own."""
        line = [result._task.get_name(), result._host.name, how, cleaned(result._result)]
        text = json.dumps(line, sort_keys=True, ensure_ascii=False, default=str)
        for name in ("PLACE", "NODE"):
            text = text.replace(os.environ["PLAY_" + name], name)
        with open(os.environ["PLAY_RECORD"], "a", encoding="utf-8") as record:
            record.write(text + "\n")

    def v2_runner_on_ok(self, result):
        """A task that went well."""
        self.write("ok", result)

    def v2_runner_on_failed(self, result, ignore_errors=False):
        """One that did not."""
        self.write("failed", result)

    def v2_runner_on_skipped(self, result):
        """One that was not for this host."""
        self.write("skipped", result)

    def v2_runner_on_unreachable(self, result):
        """A host that was not there, which everybody says in words of their own."""
        result._result.pop("msg", None)
        self.write("unreachable", result)


def cleaned(value):
    """A result without what is volatile, at any depth."""
    if isinstance(value, dict):
        kept = {name: one for name, one in value.items() if name not in VOLATILE and not str(name).startswith("_ansible")}
        return {str(name): cleaned(one) for name, one in kept.items()}
    if isinstance(value, (list, tuple)):
        return [cleaned(one) for one in value]
    if isinstance(value, str):
        return TEMPORARY.sub("*", GOODBYE.sub("", value))
    return value
