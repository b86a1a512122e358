#!/usr/bin/env bash
#
# run.sh - all tests: formatting, lints, unit and integration tests, documentation, shell, and the jobs on a real Slurm.
#
#   tests/run.sh                 everything (Debian 12 or 13, root, Rust)
#   tests/run.sh fmt|clippy|test|tls|doc|shell|build|slurm ...
#                                only these steps, in this order
#
# It installs what it needs and leaves nothing running. A step that cannot run has failed.
#
set -euo pipefail

ME=tests/run.sh
HERE=$(dirname "$(dirname "$(readlink -f "$0")")")
cd "$HERE"
# shellcheck source=sbatch/common.sh
. sbatch/common.sh

# a snapshot that nobody has looked at is a failure, never an update
export INSTA_UPDATE=no INSTA_FORCE_PASS=0 CARGO_TERM_COLOR=never

step_install() {
  command -v cargo >/dev/null || die $EX_MISSING "Rust is missing: 'cargo' must be on the PATH"
  apt_install chromium gcc libc6-dev git prometheus shellcheck mmdebstrap iproute2 jq procps curl python3
}
step_fmt()    { cargo fmt --check; }
step_clippy() { cargo clippy --locked --all-targets -- -D warnings; }
step_test()   { cargo test --locked; }
# of the other build only what differs
step_tls()    { cargo test --locked --features tls --test it -- tls::; }
step_doc()    { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps; }
step_shell() {
  local scripts=() script
  mapfile -t scripts < <(git ls-files --cached --others --exclude-standard '*.sh' .ci/run)
  [ ${#scripts[@]} -gt 0 ] || die $EX_MISSING "no shell scripts found: is this a git checkout?"
  for script in "${scripts[@]}"; do bash -n "$script"; done
  shellcheck --external-sources "${scripts[@]}"
  echo "${#scripts[@]} scripts"
}
step_build()  { cargo build --locked --release; }
step_slurm()  { tests/slurm/run.sh; }

if [ "${1:-}" = --step ]; then "step_$2"; exit; fi

ALL=(fmt clippy test tls doc shell build slurm)
[ $# -gt 0 ] || set -- "${ALL[@]}"
for name; do
  declare -F "step_$name" >/dev/null || die $EX_USAGE "unknown step '$name'; there are: ${ALL[*]}"
done

total=$SECONDS
for name in install "$@"; do
  t0=$SECONDS rc=0
  printf '\n=== %s\n' "$name"
  # in a process of its own: `set -e` does not hold inside a function that is tested for its result
  "$0" --step "$name" || rc=$?
  if [ $rc != 0 ]; then
    printf '=== %s FAILED after %d s (exit code %d)\n' "$name" $((SECONDS - t0)) $rc
    exit "$rc"
  fi
  printf '=== %s: %d s\n' "$name" $((SECONDS - t0))
done
printf '\nall steps passed: %s (%d s)\n' "$*" $((SECONDS - total))
case " $* " in *" slurm "*) cat target/slurm-tests/summary ;; esac
