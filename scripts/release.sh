#!/bin/bash
# Builds the programs as they are installed, the shim for size and the rest for
# speed, and puts them beside each other in target/bin, where they find each other.
set -euo pipefail
cd "$(dirname "$0")/.."
quiet=$([ -t 2 ] || echo --quiet)
echo "building the release programs (the first time takes a few minutes)"
cargo build --locked $quiet --release -p natssh-broker -p natssh-lab
cargo build --locked $quiet --profile shim -p natssh
target=${CARGO_TARGET_DIR:-target}
mkdir -p target/bin
ln -f "$target/release/natssh-broker" "$target/release/natssh-lab" "$target/shim/natssh" target/bin/
