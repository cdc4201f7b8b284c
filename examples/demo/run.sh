#!/bin/bash
# `make demo`: a lab with two nodes behind a NAT, and a real playbook against both
# with stock ssh: through natssh, and beside it through a second ssh, as Teleport's
# documentation has it. Everything lies in a folder of its own, which goes away at
# the end; nothing of the user's own ssh, tsh or natssh is read or written.
set -euo pipefail
exec 2>&1
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
PATH="${DEMO_BIN:-$root/target/bin}:$root/.venv/bin:$PATH"
# How far away the proxy seems, in milliseconds of round trip.
rtt=${DEMO_RTT:-20}

say() { printf '\n== %s\n' "$*"; }
show() { printf '$ %s\n' "$*" >&2; "$@"; }

command -v ansible-playbook >/dev/null || { echo "demo: Ansible is not in .venv; type: make setup"; exit 1; }

work=$(mktemp -d -t natssh-demo.XXXXXX)
mkdir "$work/home"
export HOME=$work/home XDG_STATE_HOME=$work/state NATSSH_LAB=$work/lab
export ANSIBLE_CONFIG=$here/ansible.cfg ANSIBLE_HOME=$work/ansible
unset SSH_AUTH_SOCK

clean_up() {
    trap - EXIT
    say "Cleaning up"
    [ -z "${NATSSH_SOCKET:-}" ] || natssh broker stop --wait 5 >/dev/null 2>&1 || true
    natssh-lab down 2>/dev/null || true
    rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
unset NATSSH_SOCKET

say "A lab: two nodes behind a NAT that dial out to a proxy, $rtt ms away"
natssh-lab up --nodes 2 --rtt "$rtt"
eval "$(natssh-lab env)"
cd "$here"

say "They cannot be reached directly"
for address in $(natssh-lab status --json | python3 -c '
import json, sys
for node in json.load(sys.stdin)["nodes"]: print(node.get("address") or node["name"])'); do
    show ssh -F none -o BatchMode=yes -o ConnectTimeout=2 "$address" true </dev/null && exit 1
done

say "What stock ssh needs to be told"
show natssh ssh-config $LAB_NODES >"$work/natssh.conf"
cat "$work/natssh.conf"

say "One command on each"
for node in $LAB_NODES; do
    show ssh -F "$work/natssh.conf" "$LAB_LOGIN@$node" hostname </dev/null
done

# play NAME OPTIONS [VARIABLE=VALUE…]: runs the playbook with these ssh options, and
# leaves the wall time in hundredths of a second in wall[NAME].
declare -A wall
play() {
    local name=$1 options=$2 began=$EPOCHREALTIME ended
    shift 2
    env ANSIBLE_SSH_CONTROL_PATH_DIR="$work/$name" ANSIBLE_SSH_COMMON_ARGS="$options" "$@" \
        ansible-playbook playbook.yml
    ended=$EPOCHREALTIME
    wall[$name]=$(((${ended/./} - ${began/./}) / 10000))
}
quietly() { "$@" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }; echo "done"; }

natssh="-F $work/natssh.conf"
nested=$LAB_SSH_OPTIONS
anew=ANSIBLE_SSH_ARGS="-o ControlMaster=no"

say "A playbook on both, through natssh proxy"
play natssh "$natssh"
say "The same through a second ssh: ProxyCommand ssh -s PROXY proxy:%h:%p"
quietly play nested "$nested"
say "Both once more, with a connection of its own for every step of a task"
quietly play natssh-anew "$natssh" "$anew"
quietly play nested-anew "$nested" "$anew"

say "The playbook's wall time, the proxy $rtt ms away"
row() {
    local a=${wall[$2]} b=${wall[$3]}
    printf '%-42s %7d.%02d s %7d.%02d s %8d.%02d\n' "$1" $((a / 100)) $((a % 100)) \
        $((b / 100)) $((b % 100)) $((a / b)) $((a * 100 / b % 100))
}
printf '%-42s %12s %12s %11s\n' "" "natssh proxy" "second ssh" "ratio"
row "Ansible as it comes (ControlPersist)" natssh nested
row "a connection for every step" natssh-anew nested-anew

say "natssh status"
natssh status
