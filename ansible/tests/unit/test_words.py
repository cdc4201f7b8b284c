# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import os
import typing as t
import unittest

from plugins.plugin_utils import words

NOTHING: dict[str, t.Any] = {
    "host": "web-3", "port": None, "remote_user": None, "private_key_file": None, "host_key_checking": True, "timeout": 10,
    "verbosity": 0, "ssh_args": "", "ssh_common_args": "", "ssh_extra_args": None,
}
MET: dict[str, t.Any] = {
    "password": None, "private_key": None, "pkcs11_provider": "", "sftp_extra_args": "", "scp_extra_args": "",
    "ssh_executable": "ssh", "ssh_transfer_method": "smart",
}


class WordsTest(unittest.TestCase):
    def test_no_options_are_few_words(self) -> None:
        expected = ["-o", "ConnectTimeout=10", "-o", "PreferredAuthentications=publickey", "--", "web-3"]
        self.assertEqual(words.host_words(NOTHING), expected)

    def test_every_option_has_its_place_in_the_order_of_the_ssh_plugin(self) -> None:
        options = NOTHING | {
            "host": "-oProxyCommand=evil", "port": 2222, "remote_user": "DOMAIN\\a b", "private_key_file": "~/my key",
            "host_key_checking": False, "timeout": 3, "verbosity": 9, "ssh_args": "-C -o ControlPersist=60s",
            "ssh_common_args": "-F 'a file' -J bastion", "ssh_extra_args": '-o "User x"',
        }
        self.assertEqual(words.command_words(options, "-x; echo", terminal=True), [
            "-tt", "-vvv", "-C", "-o", "ControlPersist=60s", "-o", "StrictHostKeyChecking=no", "-o", "Port=2222",
            "-o", f'IdentityFile="{os.path.expanduser("~/my key")}"', "-o", 'User="DOMAIN\\a b"', "-o", "ConnectTimeout=3",
            "-F", "a file", "-J", "bastion", "-o", "User x", "-o", "PreferredAuthentications=publickey",
            "--", "-oProxyCommand=evil", "-x; echo",
        ])

    def test_what_cannot_be_honoured_is_said_with_what_to_use_instead(self) -> None:
        self.assertIsNone(words.unmet(MET))
        self.assertIsNone(words.unmet(MET | {"ssh_executable": "/opt/bin/natssh"}))
        for name, value in {
            "password": "secret", "private_key": "-----BEGIN", "pkcs11_provider": "/lib/x.so", "sftp_extra_args": "-S x",
            "scp_extra_args": "-O", "ssh_executable": "/opt/wrapper", "ssh_transfer_method": "scp",
        }.items():
            sentence = words.unmet(MET | {name: value})
            self.assertIn(name, sentence or "")
            self.assertNotIn("secret", sentence or "")
