#!/bin/bash
#
# The whole stack on one GPU node: vLLM serves, Prometheus watches, a benchmark measures.
#   sbatch jobs/vllm-stack.sh
# Everything ends up in one folder, results/<run>/. What is given after the script goes to `aif stack`.
#
# The same on every site; the site's container folder says which vLLM it is. On a cluster of sbatch/cluster.sh that is the CPU
# build of sbatch/image-vllm.sh under the same name. Other recipes by variable:
#   AIF_SERVER=vllm-cpu-server AIF_BENCH=vllm-tiny-test sbatch --partition=cpu --gres=none jobs/vllm-stack.sh
#
#SBATCH --job-name=vllm-stack
#SBATCH --partition=gpu
#AIF partition=gpu
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
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

# exec: the TERM that --signal sends to the batch process must reach aif, which then ends the run in order
exec "$AIF" stack --server "${AIF_SERVER:-vllm-server}" --monitor "${AIF_MONITOR:-vllm-monitor}" \
  --bench "${AIF_BENCH:-vllm-simple-test}" "$@"
