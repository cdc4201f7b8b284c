#!/bin/bash
# Sets up what the tests, the demo and the benchmark need: programs of the
# system, by its package manager where this user may, a Python environment
# in .venv, and Ansible's own suites in .ansible-core. Quick when all is there;
# never touches anything of the user's own.
set -euo pipefail
cd "$(dirname "$0")/.."

# A program, and the Debian package that brings it.
PROGRAMS="cc:gcc ssh:openssh-client sshd:openssh-server sftp-server:openssh-sftp-server nft:nftables
ip:iproute2 unshare:util-linux runuser:util-linux rsync:rsync socat:socat sshpass:sshpass sudo:sudo ps:procps
getent:libc-bin git:git curl:curl openssl:openssl useradd:passwd tar:tar
python3:python3"

# sshd and nft are in no ordinary user's PATH, and sftp-server in nobody's.
PATH="$PATH:/usr/sbin:/sbin:/usr/local/sbin:/usr/lib/openssh"

wanted_packages() {
    local pair
    for pair in $PROGRAMS; do
        command -v "${pair%%:*}" >/dev/null || echo "${pair#*:}"
    done
    # Debian packs the half of venv that installs pip by itself.
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
}

install_packages() {
    local packages
    packages=$(wanted_packages | sort -u | xargs)
    [ -z "$packages" ] && return
    local command="apt-get install -y --no-install-recommends $packages"
    if ! command -v apt-get >/dev/null; then
        echo "setup: this machine lacks what Debian's packages $packages hold; install them with its own package manager" >&2
    elif [ "$(id -u)" != 0 ]; then
        echo "setup: this machine lacks some programs; type: sudo $command" >&2
    else
        echo "setup: $command"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q >/dev/null && $command -q >/dev/null ||
            echo "setup: the packages could not be installed; what needs them is left out" >&2
    fi
}

# .venv is made anew when the pins or the Python have changed.
make_venv() {
    local stamp
    stamp="$(cat tests/requirements.txt; python3 -c 'import sys; print(sys.version, sys.base_prefix)')"
    [ -f .venv/stamp ] && [ "$(cat .venv/stamp)" = "$stamp" ] && return
    echo "setup: Ansible and Paramiko into .venv, at the versions of tests/requirements.txt"
    rm -rf .venv
    if python3 -m venv .venv &&
        .venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt; then
        echo "$stamp" >.venv/stamp
    else
        echo "setup: .venv could not be made; what needs Ansible or Paramiko is left out" >&2
    fi
}

# Those of the Ansible that .venv holds.
fetch_suites() {
    [ ! -f .venv/stamp ] || PYTHONPATH=tests .venv/bin/python -B -m ansible_suites fetch ||
        echo "setup: Ansible's own suites could not be had; what needs them is left out" >&2
}

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is not in PATH; install Rust 1.89 or newer (https://rustup.rs)" >&2
    exit 1
fi
install_packages
# Root's sshd insists on this folder, which only systemd would have made.
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
make_venv
fetch_suites
