# shellcheck shell=bash
#
# common.sh - what the scripts that are run by hand share (cluster.sh, image-*.sh,
# stage.sh, jobs/quickstart.sh, tests/). Job scripts source prelude.sh instead.
#
# Sourced, never run: the caller sets `set -euo pipefail` and may set ME, its name in messages.

# Exit codes are those of `aif`.
# shellcheck disable=SC2034  # used by the scripts that source this file
EX_USAGE=64 EX_MISSING=66 EX_UNAVAILABLE=69 EX_CANTCREATE=73 EX_NOPERM=77

ME=${ME:-$(basename "${BASH_SOURCE[-1]}")}
say() { printf '%s: %s\n' "$ME" "$*" >&2; }
die() { local code=$1; shift; say "error: $*"; exit "$code"; }

# The cluster on this machine: where it lives and whose jobs it runs. Anyone may set these;
# all scripts have to agree on them, so their defaults are here.
CLUSTER_NAME=${AIF_CLUSTER_NAME:-local}
CLUSTER_FLAVOR=${AIF_CLUSTER_FLAVOR:-trixie}
CLUSTER_PREFIX=${AIF_CLUSTER_PREFIX:-/opt/aif-cluster}
if [ "$CLUSTER_NAME" = local ]; then CLUSTER_RUN=/run/aif-cluster; else CLUSTER_RUN=/run/aif-cluster-$CLUSTER_NAME; fi
CLUSTER_RUN=${AIF_CLUSTER_RUN:-$CLUSTER_RUN}
CLUSTER_USER=${AIF_CLUSTER_USER:-researcher}
CLUSTER_UID=${AIF_CLUSTER_UID:-2000}
CLUSTER_ROOT=$CLUSTER_PREFIX/$CLUSTER_FLAVOR/root

is_root() { [ "$(id -u)" = 0 ]; }

# Debian's code name, or a refusal: packages are taken by Debian's names and suites.
require_debian() {
  local id="" version=""
  [ ! -r /etc/os-release ] || { id=$(. /etc/os-release; echo "${ID:-}"); version=$(. /etc/os-release; echo "${VERSION_ID:-}"); }
  case $id-$version in
    debian-12 | debian-13) ;;
    *) die $EX_UNAVAILABLE "this needs Debian 12 or 13, and this system is '${id:-unknown} $version'. $*" ;;
  esac
  [ "$(uname -m)" = x86_64 ] || die $EX_UNAVAILABLE "this needs an x86_64 machine, and this one is $(uname -m)"
}

# The package mirror this machine's own apt uses for Debian itself.
debian_mirror() {
  local mirror
  mirror=${AIF_CLUSTER_MIRROR:-$(cat /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null |
    awk '$1 == "URIs:" { print $2; exit } $1 == "deb" { print ($2 ~ /^\[/ ? $4 : $2); exit }' || true)}
  [ -n "$mirror" ] || die $EX_UNAVAILABLE "apt's configuration names no Debian mirror (/etc/apt/sources.list.d/debian.sources or /etc/apt/sources.list): set AIF_CLUSTER_MIRROR"
  echo "$mirror"
}

# apt_install PACKAGE... : what is not installed yet, with service starts forbidden.
# Nothing that is installed for a test may start listening on the user's machine.
apt_install() {
  local package missing=() log
  for package; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  is_root || die $EX_MISSING "missing packages: ${missing[*]} (install them, or run this as root)"
  require_debian "Install these yourself: ${missing[*]}"
  say "installing ${missing[*]}"
  log=$(mktemp)
  # A subshell under a lock: two scripts at once must not remove each other's policy-rc.d.
  if ! (
    exec 8>/run/lock/aif-apt.lock; flock 8
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
      trap 'rm -f $policy' EXIT
      printf '#!/bin/sh\nexit 101\n' >$policy; chmod 755 $policy
    fi
    export DEBIAN_FRONTEND=noninteractive
    # a third-party list that does not answer is no reason to stop: the install decides
    apt-get -qq update 8>&- || true
    apt-get -o DPkg::Lock::Timeout=300 -qq -y --no-install-recommends install "${missing[@]}" 8>&-
  ) >"$log" 2>&1 </dev/null; then
    tail -20 "$log" >&2; rm -f "$log"
    die $EX_UNAVAILABLE "could not install ${missing[*]} (apt's last lines are above)"
  fi
  rm -f "$log"
}

# install_apptainer ROOT : Apptainer for Debian 12 or 13 below ROOT (/ = this machine), in ROOT/opt/aif-apptainer.
# No stable Debian has Apptainer; sid's wants a libc that bookworm does not have. So sid's is unpacked, not installed, and gets
# trixie's libc for itself alone, as ELF interpreter and library path.
install_apptainer() {
  local root=${1%/} home=/opt/aif-apptainer there work mirror binary lib
  there=$root$home
  [ ! -e "$there/.complete" ] || return 0
  mirror=$(debian_mirror)
  apt_install patchelf
  work=$(mktemp -d)
  mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs"
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' "$mirror" trixie "$mirror" sid >"$work/sources.list"
  rm -rf "$there"; mkdir -p "$there/glibc"
  (
    cd "$work/debs"
    options=(-qq -oDir::Etc::sourcelist="$work/sources.list" -oDir::Etc::sourceparts=/dev/null -oDir::State::Lists="$work/lists"
      -oDir::Cache="$work/cache" -oAPT::Sandbox::User=root -oAcquire::Check-Valid-Until=false)
    apt-get "${options[@]}" update
    apt-get "${options[@]}" download apptainer libc6/trixie libseccomp2/trixie libsqlite3-0/trixie
    dpkg -x apptainer_*.deb "$there"
    for lib in libc6 libseccomp2 libsqlite3-0; do dpkg -x ${lib}_*.deb "$there/glibc"; done
  ) >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; rm -rf "$work"; die $EX_UNAVAILABLE "could not download Apptainer"; }
  rm -rf "$work"
  lib=$home/glibc/usr/lib/x86_64-linux-gnu
  for binary in usr/bin/apptainer usr/lib/x86_64-linux-gnu/apptainer/bin/starter; do
    patchelf --set-interpreter "$lib/ld-linux-x86-64.so.2" --force-rpath --set-rpath "$lib" "$there/$binary"
  done
  # being relocated, it looks for etc/ and var/ next to usr/bin and usr/lib
  ln -s ../etc "$there/usr/etc"; ln -s ../var "$there/usr/var"
  ln -s ../../etc "$there/usr/lib/etc"; ln -s ../../var "$there/usr/lib/var"
  mkdir -p "$there/var/lib/apptainer/mnt/session" "$root/usr/local/bin"
  tune_apptainer "$there/etc/apptainer/apptainer.conf"
  ln -sf "$home/usr/bin/apptainer" "$root/usr/local/bin/apptainer"
  touch "$there/.complete"
}

# root's containers ask for all capabilities, which fails where root itself lacks one
tune_apptainer() { sed -i 's/^root default capabilities = .*/root default capabilities = no/' "$1"; }

# -------------------------------------------------------------- images ----
# What image-*.sh share: an image is made as a plain tree, packed by Apptainer, and put in place in one step.

# Sets DIR, absolute, to the folder that images are kept in.
image_folder() {
  DIR=$1
  { mkdir -p "$DIR" 2>/dev/null && [ -w "$DIR" ]; } || die $EX_CANTCREATE "cannot write to $DIR"
  DIR=$(cd "$DIR" && pwd)
}

# Is $DIR/IMAGE there, with the sum that stands beside it?
image_is_whole() { (cd "$DIR" && [ -s "$1" ] && sha256sum --quiet -c "$1.sha256" >/dev/null 2>&1); }

# Sets PYTHON to one that has pip.
find_pip() {
  local python; PYTHON=""
  for python in python3 /usr/bin/python3; do
    ! "$python" -m pip --version >/dev/null 2>&1 || { PYTHON=$python; return 0; }
  done
  apt_install python3-pip; PYTHON=/usr/bin/python3
}

# Sets BUILDER, WORK (a folder where it can pack) and NEW (where IMAGE grows, next to its place); both are removed at the end.
# Without BUILDER the Apptainer of the cluster packs, as root, in the cluster's root file system.
image_begin() { # IMAGE
  local place=$DIR
  BUILDER=$(command -v apptainer || command -v singularity || true)
  if [ -z "$BUILDER" ]; then
    { is_root && [ -e "$CLUSTER_ROOT/.complete" ]; } ||
      die $EX_MISSING "no apptainer or singularity on the PATH (as root, '$(dirname "$SELF")/cluster.sh install' brings one)"
    place=$CLUSTER_ROOT/var/tmp
  fi
  WORK=$(mktemp -d "$place/.aif-image.XXXXXX")
  NEW=$(mktemp "$DIR/.$1.XXXXXX")
  trap 'rm -rf --one-file-system "$WORK"; rm -f "$NEW"' EXIT
}

# $WORK/root, a plain tree of Debian SUITE with these packages. No device nodes: a build without root cannot pack them.
image_debian() { # SUITE PACKAGE[,PACKAGE...]
  local mode=unshare; ! is_root || mode=root
  # a mirror that is a snapshot serves an expired suite, hence Check-Valid-Until
  mmdebstrap --mode=$mode --variant=essential --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
    --include="$2" --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$1" "$WORK/root.tar" "deb $(debian_mirror) $1 main" >"$WORK/log" 2>&1 ||
    { tail "$WORK/log" >&2; die $EX_UNAVAILABLE "could not make the image's root file system"; }
  mkdir "$WORK/root"
  tar -x --no-same-owner --exclude='./dev/*' -C "$WORK/root" -f "$WORK/root.tar"; rm "$WORK/root.tar"
}

# Runs a command inside $WORK/root, as what will be root there.
image_run() {
  local options=(--mount --pid --fork --kill-child); is_root || options+=(--map-root-user)
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare "${options[@]}" bash -ec 'mount -t proc proc "$1/proc"; mount --rbind /dev "$1/dev"; exec chroot "$@"' run "$WORK/root" "$@"
}

# Runs Apptainer; paths below $WORK are to be given by image_path.
apptainer_run() {
  if [ -n "$BUILDER" ]; then "$BUILDER" "$@"; return; fi
  # pivot_root, not chroot: Apptainer wants its root to be a mount
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --mount bash -ec 'cd "$1"; shift; mount --rbind . .; cd "$PWD"; mount -t proc proc proc; mount --rbind /dev dev
    mkdir -p mnt; pivot_root . mnt; cd /; umount -l /mnt; exec "$@"' pack "$CLUSTER_ROOT" apptainer "$@"
}
image_path() { if [ -n "$BUILDER" ]; then echo "$1"; else echo "${1#"$CLUSTER_ROOT"}"; fi; }

# Packs $WORK/root as $WORK/IMAGE.
image_pack() { # IMAGE
  say "packing"
  # level 1: about as small, in a fraction of the time; models do not compress anyway
  apptainer_run build --mksquashfs-args "-comp zstd -Xcompression-level 1" "$(image_path "$WORK/$1")" "$(image_path "$WORK/root")" \
    >"$WORK/log" 2>&1 || { tail "$WORK/log" >&2; die $EX_UNAVAILABLE "apptainer could not pack the image"; }
}

# Puts $WORK/IMAGE into $DIR, and its sum beside it.
image_publish() { # IMAGE
  local sum
  cp "$WORK/$1" "$NEW"
  chmod 644 "$NEW"
  sum=$(sha256sum "$NEW" | cut -d' ' -f1)
  # the sum goes last: it is what says that the image is whole
  rm -f "$DIR/$1.sha256"
  mv "$NEW" "$DIR/$1"
  echo "$sum  $1" >"$WORK/sum"; cp "$WORK/sum" "$DIR/.$1.sum"; mv "$DIR/.$1.sum" "$DIR/$1.sha256"
  ! is_root || chown --reference="$DIR" "$DIR/$1" "$DIR/$1.sha256"
  say "$DIR/$1: $(($(stat -c %s "$DIR/$1") / 1000000)) MB, sha256 $sum, made in $SECONDS s"
}

# Prints the usage, which is the head of the script, where an option is given that there is not.
image_usage() {
  case ${1:-} in -*) sed -n '3,/^set -/p' "$SELF" | grep '^#' | sed 's/^# \{0,1\}//' >&2; exit $EX_USAGE ;; esac
}
