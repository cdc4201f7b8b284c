#!/bin/bash
# Runs `ansible-test sanity` on a copy of the collection, laid out and under git as ansible-test wants it. Its linters come from
# PyPI, into a home of its own under .ansible-core, which the next run finds again.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
test -x .venv/bin/ansible-test || { echo "sanity: there is no ansible-test in .venv; type: make setup" >&2; exit 1; }

export HOME=$root/.ansible-core/sanity PATH="$root/.venv/bin:$PATH" LC_ALL=C.UTF-8
mkdir -p "$HOME/.ansible/test/cache"
# What ansible-test would download from a server of its own, by the version that it names, Python has too.
source=$(.venv/bin/python -c 'import ansible_test._internal.python_requirements as module; print(module.__file__)')
for pip in $(sed -n "s/^ *pip='\([0-9.]*\)',.*/\1/p" "$source"); do
    echo 'import ensurepip; ensurepip.bootstrap(upgrade=True)' >"$HOME/.ansible/test/cache/get_pip_${pip//./_}.py"
done

work=$(mktemp -d -t natssh-sanity.XXXXXX)
trap 'rm -rf "$work"' EXIT
collection=$work/ansible_collections/natssh/broker
mkdir -p "$(dirname "$collection")"
cp -R ansible "$collection"
find "$collection" -name __pycache__ -prune -exec rm -rf {} +
cd "$collection"
git init -q . && git add -A
python=$("$root/.venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
ansible-test sanity --color no --python "$python" "$@" >"$work/log" 2>&1 || { cat "$work/log"; exit 1; }
grep '^Running sanity test' "$work/log"
