#!/usr/bin/env bash
#
# run.sh - measures the load generator: cost of a request and a token, errors of its stamps, lateness, start, memory.
#
#   tests/perf/run.sh [--seconds N] [--long] [--no-samples] [--keep DIR] [SCENARIO ...]
#
# The real `aif bench` (release build) runs on CPU 1, an engine of known times on CPU 0; where times are measured, both go
# before whatever else runs there (real-time priority), as far as the user may. Nothing is asserted: figures of a busy
# machine are of no use, and only what is told of one run can be compared, as the ratio to the bare loop.
#
set -euo pipefail

cd "$(dirname "$(dirname "$(dirname "$(readlink -f "$0")")")")"
cargo build --locked --release --quiet --bin aif --example perf
target=${CARGO_TARGET_DIR:-target}
exec "$target/release/examples/perf" run --aif "$(readlink -f "$target/release/aif")" "$@"
