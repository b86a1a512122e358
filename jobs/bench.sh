#!/bin/bash
#
# One benchmark against a service; may be submitted before the service is ready.
#   sbatch jobs/bench.sh RECIPE
#   sbatch --nodes=4 --ntasks=4 jobs/bench.sh RECIPE     the same load, sent by four nodes, with one result
# Options given to sbatch win over the lines below; `aif submit RECIPE` takes them from the recipe.
#
#SBATCH --job-name=bench
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#SBATCH --time=00:30:00
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
  echo "usage: sbatch jobs/bench.sh RECIPE   (a path, or a name: '$AIF recipes list' shows them)" >&2
  exit 64
fi
if [ "${SLURM_NTASKS:-1}" -le 1 ]; then
  exec "$AIF" bench "$@"
fi
# Of what is lost the result tells; the others go on. TERM to srun would end its tasks at once, so they are told by USR1,
# which srun hands on.
srun --no-kill --kill-on-bad-exit=0 --mem=0 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$AIF" bench "$@" &
step=$!
trap 'kill -USR1 "$step" 2>/dev/null || true' TERM
code=0
wait "$step" || code=$?
# a signal ends the first wait, not the step
while kill -0 "$step" 2>/dev/null; do
  code=0
  wait "$step" || code=$?
done
exit "$code"
