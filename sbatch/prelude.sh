# shellcheck shell=bash
#
# prelude.sh - sourced by the job scripts: finds the project and its binary, and prepares the job's shell.
# Afterwards AIF_HOME is exported and AIF is the binary.
#
# sbatch copies a job script to the node's spool, so $0 says nothing: the project is where AIF_HOME says, else where the
# job was submitted from.
export AIF_HOME=${AIF_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}

AIF=""
for aif_candidate in "$AIF_HOME/bin/aif" "$AIF_HOME/target/release/aif" "$(command -v aif || true)"; do
  if [ -n "$aif_candidate" ] && [ -x "$aif_candidate" ]; then AIF=$aif_candidate; break; fi
done
unset aif_candidate
if [ -z "$AIF" ]; then
  echo "error: no aif: neither $AIF_HOME/bin/aif nor $AIF_HOME/target/release/aif, nor one on the PATH of $(hostname)." >&2
  echo "Build it ('cargo build --release'), and submit from the project's folder or set AIF_HOME to it." >&2
  exit 66
fi

# every connection of a load is a file
ulimit -n "$(ulimit -Hn)" 2>/dev/null || true

# the site that was chosen at submission holds for the steps, too
[ -z "${AIF_SITE:-}" ] || export AIF_SITE
