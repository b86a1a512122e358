#!/bin/bash
#
# The vLLM stack over the network: the engine on a GPU node, monitor and benchmark on a CPU node, in one heterogeneous job.
#   sbatch --partition=gpu --gres=gpu:1 : --partition=cpu jobs/vllm-hetjob.sh
# or `aif submit jobs/vllm-hetjob.sh`, which takes the names of the partitions from the site. Everything ends up in one
# folder, results/<run>/. What is given after the script goes to `aif stack`. Other recipes by AIF_SERVER, AIF_MONITOR,
# AIF_BENCH, as in vllm-stack.sh.
#
#SBATCH --job-name=vllm-hetjob
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=00:30:00
#SBATCH --output=%x-%j.out
#SBATCH --open-mode=append
#SBATCH --signal=B:TERM@120
#AIF partition=gpu
#SBATCH hetjob
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=2
#SBATCH --mem=4G
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
exec "$AIF" stack --server "${AIF_SERVER:-vllm-server}" --monitor "${AIF_MONITOR:-vllm-monitor}" \
  --bench "${AIF_BENCH:-vllm-simple-test}" "$@"
