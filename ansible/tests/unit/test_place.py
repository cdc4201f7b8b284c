# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import unittest

from plugins.plugin_utils import place
from plugins.plugin_utils.failure import Failure

from . import golden


class PlaceTest(unittest.TestCase):
    def test_the_socket_is_where_the_file_says(self) -> None:
        for case in golden.read("paths.json"):
            found = (case, case["uid"], case["hostname"], case["run_user"])
            if "socket" in case:
                self.assertEqual(place.path(*found), case["socket"])
                continue
            with self.assertRaises(Failure) as refused:
                place.path(*found)
            self.assertEqual(refused.exception.kind, "config")
            self.assertIn(case["refused"].replace("107", str(place.PATH_MAX)), str(refused.exception))
