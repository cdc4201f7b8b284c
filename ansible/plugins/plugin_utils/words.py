# Copyright: (c) 2026, the natssh authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words that ssh would be given for a host. No I/O.

What the user wrote as words goes on as it is, and the broker reads it as ssh does. As with ssh the first value of a setting holds, so
the order of the ssh plugin is kept.
"""

from __future__ import annotations

import os
import shlex
import typing as t

# The connection plugin's options that words are made of.
OPTIONS = (
    "host", "port", "remote_user", "private_key_file", "host_key_checking", "timeout", "verbosity",
    "ssh_args", "ssh_common_args", "ssh_extra_args",
)

# The options that may ask for what natssh does not do.
CHECKED = ("password", "private_key", "pkcs11_provider", "sftp_extra_args", "scp_extra_args", "ssh_executable", "ssh_transfer_method")

# Those that always do, with what to use instead.
_UNMET = {
    "password": "natssh authenticates with keys and certificates, never with a password: load a key into ssh-agent or run tsh login,"
                " and leave ansible_password (and -k) unset; or use ansible_connection: ssh for this host",
    "private_key": "natssh reads keys from files and agents: name a file in ansible_ssh_private_key_file, or load the key into"
                   " ssh-agent",
    "pkcs11_provider": "natssh reaches smart cards through an agent: ssh-add -s PROVIDER, and leave pkcs11_provider unset",
    "sftp_extra_args": "natssh moves files itself and starts no sftp: what the connection needs belongs into ansible_ssh_common_args",
    "scp_extra_args": "natssh moves files itself and starts no scp: what the connection needs belongs into ansible_ssh_common_args",
}


def host_words(options: t.Mapping[str, t.Any]) -> list[str]:
    """Options and host, for a request that runs nothing."""
    words: list[str] = []
    if options["verbosity"]:
        words.append("-" + "v" * min(int(options["verbosity"]), 3))
    words += _split(options["ssh_args"])
    if not options["host_key_checking"]:
        words += _setting("StrictHostKeyChecking", "no")
    if options["port"] is not None:
        words += _setting("Port", options["port"])
    if options["private_key_file"]:
        words += _setting("IdentityFile", _quoted(os.path.expanduser(options["private_key_file"])))
    if options["remote_user"]:
        words += _setting("User", _quoted(options["remote_user"]))
    words += _setting("ConnectTimeout", options["timeout"])
    words += _split(options["ssh_common_args"])
    words += _split(options["ssh_extra_args"])
    # Nobody is there to be asked, and a server that wants more than a key has to be told apart from one that cannot be reached.
    words += _setting("PreferredAuthentications", "publickey")
    # No name of a host is an option.
    return [*words, "--", str(options["host"])]


def command_words(options: t.Mapping[str, t.Any], command: str, terminal: bool) -> list[str]:
    """The words that run a command; with ``terminal``, on a terminal of its own on the node."""
    words = host_words(options)
    return [*(["-tt"] if terminal else []), *words, command]


def unmet(options: t.Mapping[str, t.Any]) -> str | None:
    """Why a setting cannot be honoured; none where all can be."""
    for name, instead in _UNMET.items():
        if options[name]:
            return f"{name} is set. {instead}"
    if os.path.basename(options["ssh_executable"]) not in ("ssh", "natssh"):
        return (f"ssh_executable is {options['ssh_executable']}, and natssh starts no ssh: name the way to the host in natssh.toml or"
                " ssh_config, or use ansible_connection: ssh for this host")
    if options["ssh_transfer_method"] != "smart":
        return (f"ssh_transfer_method is {options['ssh_transfer_method']}, and natssh moves files by sftp, and by commands where a node"
                " has none: leave it at smart")
    return None


def _setting(name: str, value: t.Any) -> list[str]:
    return ["-o", f"{name}={value}"]


def _quoted(value: str) -> str:
    """A value with blanks as one word of ssh_config, which knows double quotes."""
    return f'"{value}"'


def _split(words: str | None) -> list[str]:
    return [word for word in shlex.split(words or "") if word.strip()]
