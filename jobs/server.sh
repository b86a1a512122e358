#!/bin/bash
#
# One inference service as a job of its own; others find it by its service_name for as long as it runs.
#   sbatch jobs/server.sh RECIPE
#   sbatch --nodes=2 --ntasks=2 jobs/server.sh RECIPE     one engine over two nodes, where the recipe says so, else two instances
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
nodes=${SLURM_JOB_NUM_NODES:-1}
if [ "$nodes" -le 1 ]; then
  exec "$AIF" server "$@"
fi
# A task on each node: the ranks of one engine, where the recipe wants as many, else instances of the service. They end in
# order. TERM to srun would end its tasks at once, so they are told by USR1, which srun hands on.
srun --nodes="$nodes" --ntasks="$nodes" --ntasks-per-node=1 --no-kill --kill-on-bad-exit=0 --mem=0 \
  --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}" "$AIF" server "$@" &
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
