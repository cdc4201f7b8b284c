#!/bin/bash
# Checks the broker and the shim, their tests included, for platforms that this machine is not: types and lints, nothing is
# run. What the crates have in C is compiled by PyPI's zig, which brings each platform's C library.
set -euo pipefail
cd "$(dirname "$0")/.."
PLATFORMS="aarch64-apple-darwin aarch64-unknown-linux-gnu"
ZIG=ziglang==0.17.1

for platform in $PLATFORMS; do
    if [ ! -d "$(rustc --print sysroot)/lib/rustlib/$platform" ]; then
        echo "this Rust has no library for $platform; type: rustup target add $PLATFORMS" >&2
        exit 1
    fi
done

target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
zig=$target/zig
if [ "$(cat "$zig/stamp" 2>/dev/null)" != "$ZIG" ]; then
    python3 -m venv --clear "$zig"
    "$zig/bin/pip" install --quiet --disable-pip-version-check "$ZIG"
    echo "$ZIG" >"$zig/stamp"
fi

# The compiler under the name of its platform. The crates name the platform too, by words that zig does not know.
cat >"$zig/cc" <<'END'
#!/bin/bash
case $0 in *darwin) platform=aarch64-macos ;; *) platform=aarch64-linux-gnu ;; esac
words=()
while [ $# -gt 0 ]; do
    case $1 in
    -arch) shift ;;
    --target=* | -mmacosx-version-min=*) ;;
    *) words+=("$1") ;;
    esac
    shift
done
exec "$(dirname "$0")/python" -m ziglang cc -target $platform "${words[@]}"
END
mv "$zig/cc" "$zig/bin/cc-aarch64-apple-darwin"
ln -f "$zig/bin/cc-aarch64-apple-darwin" "$zig/bin/cc-aarch64-unknown-linux-gnu"
printf '#!/bin/sh\nexec "$(dirname "$0")/python" -m ziglang ar "$@"\n' >"$zig/bin/archive"
chmod +x "$zig/bin/cc-"* "$zig/bin/archive"

# No SDK of Apple's is looked for.
export SDKROOT=$zig
for platform in $PLATFORMS; do
    echo "== $platform"
    env "CC_${platform//-/_}=$zig/bin/cc-$platform" "AR_${platform//-/_}=$zig/bin/archive" \
        cargo clippy --locked --quiet --target "$platform" --all-targets -p natssh-wire -p natssh-broker -p natssh -- -D warnings
done
