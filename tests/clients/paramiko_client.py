"""A Paramiko client whose socket is `natssh proxy HOST 22`.

Called by proxy_command.rs with: natssh, host, login, key, the node's public
host key. Paramiko knows no host certificates, so it is given the plain key.
"""

import base64
import sys

import paramiko

natssh, host, login, key_path, host_key_path = sys.argv[1:]

key = paramiko.Ed25519Key.from_private_key_file(key_path)
key.load_certificate(key_path + "-cert.pub")
kind, blob = open(host_key_path).read().split()[:2]

client = paramiko.SSHClient()
client.get_host_keys().add(host, kind, paramiko.Ed25519Key(data=base64.b64decode(blob)))
client.connect(host, username=login, pkey=key, allow_agent=False, look_for_keys=False,
               sock=paramiko.ProxyCommand(f"{natssh} proxy {host} 22"))

sent = bytes(range(250)) * 4000
stdin, stdout, stderr = client.exec_command("cat; exit 7")
stdin.write(sent)
stdin.channel.shutdown_write()
assert stdout.read() == sent, stderr.read()
print(f"echoed {len(sent)} bytes")
print(f"exit status {stdout.channel.recv_exit_status()}")

with client.open_sftp() as sftp:
    with sftp.open("by-paramiko", "w") as file:
        file.write(sent)
    with sftp.open("by-paramiko") as file:
        assert file.read() == sent
print("the file came back")
client.close()
