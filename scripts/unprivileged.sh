#!/bin/bash
# Run as root once the tests are built: runs a part of them again as an ordinary
# user, for whom labs are rootless and permissions mean something. That user can
# read neither root's home nor its cargo, so it gets copies of the sources and the
# built programs; the account exists only in this script's own mount namespace.
set -euo pipefail
cd "$(dirname "$0")/.."

# The packages whose tests find programs by NATSSH_BIN_DIR, not by a path of their build.
packages="tests broker broker/wire"
account="natssh-test:x:54321:54321"

if ! command -v runuser >/dev/null || ! unshare --mount true 2>/dev/null; then
    echo "SKIPPED tests as an ordinary user: they need runuser, and a kernel that lets root unshare"
    exit 0
fi

place=$(mktemp -d -t natssh-user.XXXXXX)
trap 'rm -rf "$place"' EXIT
chmod 755 "$place"
mkdir -p "$place/source" "$place/debug/deps"
install -d -o 54321 -g 54321 "$place/home" "$place/tmp"
{ cat /etc/passwd; echo "$account::$place/home:/bin/bash"; } >"$place/passwd"
tar -c --exclude=./target --exclude=./fuzz/target --exclude=./.venv --exclude=./.ansible-core --exclude=./.git . | tar -x -C "$place/source"
cp "${CARGO_TARGET_DIR:-target}"/debug/natssh{,-broker,-lab} "$place/debug/"

# Prints PACKAGE PROGRAM for every test program of the workspace.
test_programs() {
    cargo test --locked --quiet --workspace --no-run --message-format=json | python3 -c '
import json, os, sys
for line in sys.stdin:
    built = json.loads(line)
    if built.get("executable") and built["profile"]["test"]:
        print(os.path.relpath(os.path.dirname(built["manifest_path"])), built["executable"])'
}

# Runs one test program as the ordinary user, with nothing of root in its environment.
as_user() {
    local package=$1 program=$2
    cp "$program" "$place/debug/deps/"
    program=$place/debug/deps/$(basename "$program")
    unshare --mount sh -c "mount --bind '$place/passwd' /etc/passwd && cd '$place/source/$package' &&
        exec runuser -u ${account%%:*} -- env -i PATH=/usr/local/bin:/usr/bin:/bin HOME='$place/home' \
        TMPDIR='$place/tmp' USER=${account%%:*} NATSSH_BIN_DIR='$place/debug' \
        CARGO_MANIFEST_DIR='$place/source/$package' '$program'"
}

failed=0
while read -r package program; do
    for chosen in $packages; do
        [ "$package" = "$chosen" ] || continue
        echo "   $package $(basename "$program")"
        # What is skipped here, for want of root or of .venv, has run as root.
        as_user "$package" "$program" </dev/null 2>&1 | sed 's/^SKIPPED/not as an ordinary user:/' || failed=1
        rm -f "$place/debug/deps/"*
    done
done < <(test_programs)
exit $failed
