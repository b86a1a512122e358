#!/bin/bash
#
# One inference service as a job of its own; others find it by its service_name for as long as it runs.
#   sbatch jobs/server.sh RECIPE
# Options given to sbatch win over the lines below; `aif submit RECIPE` takes them from the recipe.
#
#SBATCH --job-name=server
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --time=01:00:00
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
set -euo pipefail

project=${AIF_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}
if [ ! -r "$project/sbatch/prelude.sh" ]; then
  echo "error: $project is not the project's folder: submit from there, or set AIF_HOME to it" >&2
  exit 66
fi
# shellcheck source=sbatch/prelude.sh
. "$project/sbatch/prelude.sh"

if [ $# -eq 0 ]; then
  echo "usage: sbatch jobs/server.sh RECIPE   (a path, or a name: '$AIF recipes list' shows them)" >&2
  exit 64
fi
exec "$AIF" server "$@"
