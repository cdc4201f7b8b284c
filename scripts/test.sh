#!/bin/bash
# Everything that continuous integration runs: the checks, the tests, and as root
# a part of the tests again as an ordinary user. Goes on after a failure, and
# closes with the sums. What this machine has no means for is left out with a line
# that begins with SKIPPED; with CI=true that is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."

log=$(mktemp -t natssh-test.XXXXXX)
trap 'rm -f "$log"' EXIT
passed=0 failures=()

# Runs one check, shows what it says, and remembers how it ended.
step() {
    local name=$1 began=$SECONDS
    shift
    echo "== $name"
    if "$@" 2>&1 | tee -a "$log"; then
        passed=$((passed + 1))
    else
        failures+=("$name")
    fi
    echo "== $name took $((SECONDS - began)) s"
}

# The sum of `passed` or `failed` over cargo's own closing lines, which read
# "test result: ok. 3 passed; 0 failed; 0 ignored; …".
tests() {
    local count sum=0
    for count in $(sed -n "s/^test result: .* \([0-9]*\) $1;.*/\1/p" "$log"); do
        sum=$((sum + count))
    done
    echo $sum
}

# Tests look here for ansible-playbook and for a Python with Paramiko, and there
# for the programs under test.
export PATH="$PWD/.venv/bin:$PATH"
export NATSSH_BIN_DIR="${CARGO_TARGET_DIR:-$PWD/target}/debug"

step "format" cargo fmt --all --check
step "lint" cargo clippy --locked --workspace --all-targets -- -D warnings
step "build" cargo build --locked --workspace --all-targets
# Stories send signals, and a program that was started with one ignored ignores it: under nohup, and in a script's background.
# Where that is SIGHUP, ssh cannot end its ProxyCommand either, and those who read its stderr wait.
heed() { env --default-signal=HUP,INT,QUIT "$@"; }
step "tests" heed cargo test --locked --workspace --no-fail-fast
step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps
[ "$(id -u)" != 0 ] || step "tests as an ordinary user" heed scripts/unprivileged.sh

skipped=$(grep -c '^SKIPPED' "$log")
if [ "${CI:-}" = true ] && [ "$skipped" != 0 ]; then
    failures+=("CI may skip nothing")
fi
echo
grep '^SKIPPED' "$log" | sort -u
[ ${#failures[@]} = 0 ] || printf 'failed: %s\n' "${failures[@]}"
passed=$((passed + $(tests passed)))
failed=$(($(tests failed) + ${#failures[@]}))
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed = 0 ]
