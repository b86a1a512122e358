#!/bin/bash
#
# The same stack over the network: the engine on one node, monitor and benchmark on another, in one heterogeneous job.
#   sbatch --partition=gpu : --partition=cpu jobs/llamacpp-hetjob.sh
# or `aif submit jobs/llamacpp-hetjob.sh`, which takes the names of the partitions from the site. Everything ends up in one
# folder, results/<run>/. What is given after the script goes to `aif stack`.
#
#SBATCH --job-name=llamacpp-hetjob
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=3G
#SBATCH --time=00:15:00
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
#AIF partition=gpu
#SBATCH hetjob
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=2G
#AIF partition=cpu
set -euo pipefail

project=${AIF_HOME:-${SLURM_SUBMIT_DIR:-$PWD}}
if [ ! -r "$project/sbatch/prelude.sh" ]; then
  echo "error: $project is not the project's folder: submit from there, or set AIF_HOME to it" >&2
  exit 66
fi
# shellcheck source=sbatch/prelude.sh
. "$project/sbatch/prelude.sh"

# exec: the TERM that --signal sends to the batch process must reach aif, which then ends the run in order
exec "$AIF" stack --server llamacpp-server --monitor llamacpp-monitor --bench llamacpp-simple-test "$@"
