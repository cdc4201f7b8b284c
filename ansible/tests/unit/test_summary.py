# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import unittest
from unittest import mock

from plugins.plugin_utils.broker import Broker
from plugins.plugin_utils.summary import Cost, summary

from .fake import FakeBroker, ok, say

METRICS = b"""# TYPE natssh_bytes_total counter
natssh_bytes_total{upstream="a",direction="to_node"} 100
natssh_bytes_total{upstream="b",direction="to_node"} 50
natssh_bytes_total{upstream="a",direction="from_node"} 7
natssh_command_wait_seconds_count 12
natssh_session_open_seconds_count 3
natssh_commands_cut_total 1
natssh_upstream_round_trip_seconds{upstream="a"} 0.04
"""


class SummaryTest(unittest.TestCase):
    def test_a_cost_is_read_from_the_metrics(self) -> None:
        with FakeBroker(say(ok(METRICS))) as fake, mock.patch.dict(os.environ, NATSSH_SOCKET=fake.path):
            cost = Cost.of(Broker())
        self.assertEqual(cost, Cost(commands=12, to_nodes=150, from_nodes=7, sessions=3, cut=1, round_trip=0.04))

    def test_a_play_costs_what_came_to_the_counts(self) -> None:
        before, after = Cost(5, 10, 20, 1, 0, 0.2), Cost(46, 10 + 3 * 1024 * 1024, 20 + 2048, 3, 1, 0.04)
        self.assertEqual(
            summary(after - before, 2, {"web-1": 1.0, "web-2": 12.34}),
            "natssh: 41 commands on 2 hosts; 3.0 MiB there and 2.0 KiB back; 2 sessions opened, 1 command cut;"
            " round trip 40.0 ms; slowest web-2 with 12.3 s of tasks",
        )

    def test_nothing_is_told_of_what_is_not_known(self) -> None:
        line = summary(Cost(0, 0, 1023, 0, 0, None), 1, {})
        self.assertEqual(line, "natssh: 0 commands on 1 host; 0 B there and 1023 B back; 0 sessions opened, 0 commands cut")
