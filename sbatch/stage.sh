#!/usr/bin/env bash
#
# stage.sh USER FOLDER - put the built project where USER's jobs can read it.
#
# Compute nodes see a user's home, and perhaps not the folder of this checkout, which a user may not even be allowed to read.
# FOLDER gets bin/aif, jobs/, recipes/ and sbatch/, all owned by USER; what else lies there (results, images) is kept.
# The binary is the release build, or the one that AIF_BINARY names.
#
set -euo pipefail

SELF=$(readlink -f "$0")
ME=stage.sh
# shellcheck source=sbatch/common.sh
. "$(dirname "$SELF")/common.sh"

[ $# -eq 2 ] || die $EX_USAGE "usage: stage.sh USER FOLDER"
USER_NAME=$1 FOLDER=$2
SOURCE=$(dirname "$(dirname "$SELF")")
BINARY=${AIF_BINARY:-${CARGO_TARGET_DIR:-$SOURCE/target}/release/aif}
[ -x "$BINARY" ] || die $EX_MISSING "no $BINARY: run 'cargo build --release --locked' first"
id "$USER_NAME" >/dev/null 2>&1 || die $EX_USAGE "no user $USER_NAME"

# Nothing is written through a link: as root, a user's link must not lead us out of his home.
for place in "$FOLDER" "$FOLDER"/{bin,jobs,recipes,sbatch}; do
  [ ! -L "$place" ] || die $EX_CANTCREATE "$place is a symbolic link: remove it"
done

owner=()
! is_root || owner=(-o "$USER_NAME" -g "$(id -gn "$USER_NAME")")
install -d "${owner[@]}" "$FOLDER" "$FOLDER"/{bin,containers,results}
if [ "$SOURCE" -ef "$FOLDER" ]; then install -m 755 "$BINARY" "$FOLDER/bin/aif"; exit 0; fi
# Not in place: a job that is running has the old one open.
install -m 755 "${owner[@]}" "$BINARY" "$FOLDER/bin/.aif.new"
mv "$FOLDER/bin/.aif.new" "$FOLDER/bin/aif"
for part in jobs recipes sbatch; do
  [ -d "$SOURCE/$part" ] || continue
  install -d "${owner[@]}" "$FOLDER/$part"
  cp -R --remove-destination "$SOURCE/$part/." "$FOLDER/$part/"
  ! is_root || chown -hR "$USER_NAME:" "$FOLDER/$part"
  chmod -R u+rwX,go+rX "$FOLDER/$part"
done
