#!/usr/bin/env bash
#
# quickstart.sh - from a clone to a report of real tokens, in one command.
#
#   jobs/quickstart.sh           under Slurm. Where there is a Slurm (sbatch on the PATH) it is used as it is; where there is
#                                none, one is brought up on this machine (Debian 12 or 13, root).
#   jobs/quickstart.sh --local   without Slurm: the same roles as plain processes of this machine.
#
# Needs Rust (cargo). As root on Debian what else is missing is installed. What was done before is not done again.
# Under Slurm the project is staged to ~/ai-factories of the user whose jobs run ('researcher' on our own cluster,
# AIF_CLUSTER_USER names another), with results, images and all. `sbatch/cluster.sh stop` ends our cluster.
#
set -euo pipefail

ME=quickstart.sh
HERE=$(dirname "$(dirname "$(readlink -f "$0")")")
cd "$HERE"
# shellcheck source=sbatch/common.sh
. sbatch/common.sh
CLUSTER=sbatch/cluster.sh
FOLDER=ai-factories                    # in the user's home
BINARY=${CARGO_TARGET_DIR:-target}/release/aif
STACK=(--server llamacpp-server --monitor llamacpp-monitor --bench llamacpp-simple-test)

STEP="checking what is there"
step() { STEP=$*; printf '[%3d s] %s\n' "$SECONDS" "$*" >&2; }
SCRATCH=$(mktemp -d)
finish() {
  local rc=$?
  [ -z "${BACKGROUND:-}" ] || kill "$BACKGROUND" 2>/dev/null || true
  # an installation that is cut in half would only be done again
  [ -z "${SIDE:-}" ] || wait "$SIDE" || true
  rm -rf "$SCRATCH"
  [ $rc = 0 ] || say "FAILED after $SECONDS s while $STEP (exit code $rc); what it said is above"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Builds the binary; says every 20 s that it is still at it.
build() {
  command -v cargo >/dev/null || die $EX_MISSING "Rust is missing: install it (rustup, or your site's module) so that 'cargo' is on the PATH"
  command -v cc >/dev/null || apt_install gcc libc6-dev
  local t0=$SECONDS next=20
  cargo build --release --locked >"$SCRATCH/cargo.log" 2>&1 </dev/null & BACKGROUND=$!
  while kill -0 "$BACKGROUND" 2>/dev/null; do
    sleep 0.2
    if ((SECONDS - t0 >= next)); then next=$((next + 20)); say "still building: $(tail -1 "$SCRATCH/cargo.log")"; fi
  done
  local rc=0; wait "$BACKGROUND" || rc=$?
  BACKGROUND=""
  [ $rc = 0 ] || { tail -40 "$SCRATCH/cargo.log" >&2; die $rc "cargo build failed"; }
  [ -x "$BINARY" ] || die $EX_MISSING "cargo built no $BINARY"
}

# The newest report of this run of the quickstart.
report_in() { # FOLDER
  find "$1" -mindepth 2 -maxdepth 2 -name report.html -newer "$SCRATCH" -printf '%T@ %p\n' 2>/dev/null | sort -n | tail -1 | cut -d' ' -f2-
}
tell() { # FOLDER
  local report; report=$(report_in "$1/results")
  [ -n "$report" ] || die $EX_UNAVAILABLE "the run left no report in $1/results"
  step "done"
  echo "report: $report"
}

run_local() {
  local missing=()
  command -v apptainer singularity >/dev/null || missing+=(apptainer)
  command -v prometheus >/dev/null || missing+=(prometheus)
  if [ ${#missing[@]} -gt 0 ]; then
    is_root || die $EX_MISSING "missing on the PATH: ${missing[*]}. Install them, or run this as root on Debian."
    require_debian "Install ${missing[*]} yourself."
    step "installing ${missing[*]}"
    case " ${missing[*]} " in *" apptainer "*) apt_install squashfs-tools squashfuse fuse2fs uidmap; install_apptainer / ;; esac
    case " ${missing[*]} " in *" prometheus "*) apt_install prometheus ;; esac
    hash -r
  fi
  step "building aif"
  build
  step "making the image"
  sbatch/image-llamacpp.sh containers
  step "running the stack as local processes"
  touch "$SCRATCH"
  # as on a machine without Slurm, also where this is typed inside a job
  local variable
  for variable in "${!SLURM_@}"; do unset "$variable"; done
  export AIF_HOME=$HERE AIF_SITE=${AIF_SITE:-local}
  "$BINARY" stack "${STACK[@]}" --local || exit $?
  install -D -m 755 "$BINARY" bin/aif
  tell "$HERE"
}

# The cluster and the image, while cargo has the other core.
prepare_cluster() {
  $CLUSTER install || return
  local home; home=$(getent passwd "$CLUSTER_USER" | cut -d: -f6)
  install -d -o "$CLUSTER_USER" -g "$(id -gn "$CLUSTER_USER")" "$home/$FOLDER" "$home/$FOLDER/containers" || return
  sbatch/image-llamacpp.sh "$home/$FOLDER/containers" || return
  $CLUSTER status >/dev/null 2>&1 || $CLUSTER start
}

run_cluster() {
  is_root || die $EX_NOPERM "there is no Slurm on this machine (no sbatch on the PATH), and bringing one up needs root. Without Slurm and root: jobs/quickstart.sh --local"
  require_debian "Without Slurm: jobs/quickstart.sh --local"
  local folder rc=0
  step "bringing up Slurm, making the image and building aif, side by side"
  prepare_cluster & SIDE=$!
  build
  step "aif is built; waiting for cluster and image"
  wait "$SIDE" || rc=$?
  SIDE=""
  [ $rc = 0 ] || exit $rc
  folder=$(getent passwd "$CLUSTER_USER" | cut -d: -f6)/$FOLDER
  step "staging to $folder"
  sbatch/stage.sh "$CLUSTER_USER" "$folder"
  step "submitting jobs/llamacpp-stack.sh as $CLUSTER_USER"
  touch "$SCRATCH"
  $CLUSTER exec -u "$CLUSTER_USER" -C "$folder" -- env AIF_SITE="${AIF_SITE:-local}" bin/aif submit --wait jobs/llamacpp-stack.sh || exit $?
  tell "$folder"
  echo "go on as the user $CLUSTER_USER: $CLUSTER shell -u $CLUSTER_USER -C $folder"
}

# A Slurm that is there: as its ordinary user, with the site that AIF_SITE or ~/.config/aif/site.yaml names.
run_site() {
  local user home folder as=()
  user=$(id -un)
  if is_root; then
    user=${SUDO_USER:-${AIF_CLUSTER_USER:-}}
    [ -n "$user" ] || die $EX_NOPERM "there is a Slurm here: run this as the user whose jobs it shall run, or name one by AIF_CLUSTER_USER"
    as=(runuser -u "$user" --)
  fi
  home=$(getent passwd "$user" | cut -d: -f6); folder=$home/$FOLDER
  step "building aif (using the Slurm that is here: $(command -v sbatch))"
  build
  step "staging to $folder"
  sbatch/stage.sh "$user" "$folder"
  step "making the image"
  "${as[@]}" "$folder/sbatch/image-llamacpp.sh" "$folder/containers"
  step "submitting jobs/llamacpp-stack.sh as $user"
  touch "$SCRATCH"
  (cd "$folder" && exec "${as[@]}" env HOME="$home" bin/aif submit --wait jobs/llamacpp-stack.sh) || exit $?
  tell "$folder"
}

case ${1:-} in
  --local) run_local ;;
  "") if command -v sbatch >/dev/null; then run_site; else run_cluster; fi ;;
  -h | --help) sed -n '3,/^set -/p' "$0" | grep '^#' | sed 's/^# \{0,1\}//' ;;
  *) STEP="reading the command line"; die $EX_USAGE "unknown option $1; there is --local, and --help" ;;
esac
