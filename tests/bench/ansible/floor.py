"""A transport that costs nothing but the way there: what runs here has waited for one round trip."""

from __future__ import annotations

import os
import time

from ansible.plugins.connection.local import Connection as Local

DOCUMENTATION = """
name: floor
short_description: Local, after one round trip
extends_documentation_fragment: connection_pipelining
"""

ROUND_TRIP = float(os.environ.get("BENCH_ROUND_TRIP", "0"))


class Connection(Local):
    """The local one, later."""

    transport = "floor"
    has_pipelining = True

    def exec_command(self, cmd, in_data=None, sudoable=True):
        """One round trip for a command."""
        time.sleep(ROUND_TRIP)
        return super().exec_command(cmd, in_data=in_data, sudoable=sudoable)

    def put_file(self, in_path, out_path):
        """One for a file."""
        time.sleep(ROUND_TRIP)
        super().put_file(in_path, out_path)

    def fetch_file(self, in_path, out_path):
        """One for a file."""
        time.sleep(ROUND_TRIP)
        super().fetch_file(in_path, out_path)
