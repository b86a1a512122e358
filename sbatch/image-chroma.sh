#!/usr/bin/env bash
#
# image-chroma.sh [CONTAINER_DIR] - make chroma.sif: the vector database ChromaDB in one Apptainer image.
#
# CONTAINER_DIR is where images are kept (default: containers/ in this checkout). Nothing is done where the image is there and
# its checksum holds.
#
# ChromaDB 1.5 comes from the Python package index, each package by version and checksum (image-chroma/packages.lock), Python from
# Debian trixie. It makes no embeddings in the image: clients send vectors.
# Needs Debian's mmdebstrap and python3-pip, and Apptainer or Singularity: as root the packages are installed, and the
# Apptainer of cluster.sh is used where the machine has none. As an ordinary user they have to be there.
#
set -euo pipefail

SELF=$(readlink -f "$0")
ME=image-chroma.sh
# shellcheck source=sbatch/common.sh
. "$(dirname "$SELF")/common.sh"

IMAGE=chroma.sif
PARTS=$(dirname "$SELF")/image-chroma
PYTHON_VERSION=3.13                      # of Debian trixie; packages.lock is for it

image_usage "$@"
image_folder "${1:-$(dirname "$(dirname "$SELF")")/containers}"
if image_is_whole $IMAGE; then say "$DIR/$IMAGE is there"; exit 0; fi

require_debian "Make the image on a Debian machine and copy $IMAGE and $IMAGE.sha256 to $DIR."
apt_install mmdebstrap
find_pip
image_begin $IMAGE

say "Debian trixie with Python $PYTHON_VERSION"
image_debian trixie python3,libstdc++6,libgomp1
[ -x "$WORK/root/usr/bin/python$PYTHON_VERSION" ] || die $EX_UNAVAILABLE "Debian trixie has no Python $PYTHON_VERSION"
# where Debian's python3 looks for what Debian does not bring
SITE=$WORK/root/usr/local/lib/python$PYTHON_VERSION/dist-packages

say "engine: $(grep -c == "$PARTS/packages.lock") packages"
# pip picks wheels for the image's Python and runs nothing of theirs
platforms=(); for minor in $(seq 5 41); do platforms+=(--platform "manylinux_2_${minor}_x86_64"); done
for name in manylinux1 manylinux2010 manylinux2014; do platforms+=(--platform "${name}_x86_64"); done
mkdir -p "$SITE"
"$PYTHON" -m pip install --quiet --disable-pip-version-check --no-cache-dir --root-user-action ignore --no-deps --require-hashes \
  --ignore-requires-python --no-compile --only-binary :all: --python-version $PYTHON_VERSION --implementation cp --abi cp${PYTHON_VERSION/./} --abi abi3 --abi none \
  "${platforms[@]}" --target "$SITE" -r "$PARTS/packages.lock" >"$WORK/log" 2>&1 ||
  { tail "$WORK/log" >&2; die $EX_UNAVAILABLE "could not install ChromaDB from the Python package index"; }
rm -rf "${SITE:?}/bin"
printf '#!/usr/bin/python3\nimport sys\nfrom chromadb.cli.cli import app\nsys.exit(app())\n' >"$WORK/root/usr/local/bin/chroma"
chmod 755 "$WORK/root/usr/local/bin/chroma"
mkdir -p "$WORK/root/.singularity.d/env"
echo 'export ANONYMIZED_TELEMETRY=False DO_NOT_TRACK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1' >"$WORK/root/.singularity.d/env/91-chroma.sh"
chmod 755 "$WORK/root/.singularity.d/env/91-chroma.sh"
image_run chroma --help >"$WORK/log" 2>&1 || { tail -20 "$WORK/log" >&2; die $EX_UNAVAILABLE "what was installed does not start"; }

image_pack $IMAGE
image_publish $IMAGE
