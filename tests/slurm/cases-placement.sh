# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# A stack in every form that a job may have: what srun would inherit from the job must not change the steps.

# FORM GPUS-OF-THE-SERVER OPTIONS...
FORMS='
plain            0 -n1 -c8 --mem=4G
tasks            0 -n3 --mem=4G
two_nodes        0 -N2 -n2 -c4 --mem=4G
exclusive        0 --exclusive --mem=8G
mem_per_cpu      0 -n1 -c4 --mem-per-cpu=1000
hint             0 -n1 -c4 --mem=4G --hint=nomultithread --distribution=block:cyclic
some_variables   0 -n1 -c4 --mem=4G --export=AIF_SITE,AIF_REGISTRY
gres             2 -n1 -c4 --mem=4G --gres=gpu:4
gpus_per_node    1 -n1 -c4 --mem=4G --gpus-per-node=2
gpus_per_task    2 -n1 -c4 --mem=4G --gpus-per-task=2
mem_per_gpu      1 -n1 -c4 --gpus=1 --mem-per-gpu=4G
ntasks_per_gpu   2 --gpus=2 --ntasks-per-gpu=2 --mem=4G
'

# The steps of a job, as `step-name gpus` lines.
gpus_of_steps() { # JOB RUN
  local step role; for role in server monitor "bench-$BENCH"; do
    step=$(jq -r '"\(.job).\(.step)"' "$2/steps/$role.json")
    echo "${role%%-*} $(as_user sacct -n -P -o AllocTRES -j "$step" | grep -oE 'gres/gpu=[0-9]+' | cut -d= -f2 || echo 0)"
  done
}

TIMEOUT_placement=300
case_placement() {
  local form gpus options job run out
  declare -A jobs asked
  derive servers "$SERVER" tests-gpus -e 's/^\( *gpu_count\): .*/\1: 1/'
  sed -E '/^#SBATCH --(ntasks|cpus-per-task|mem|nodes)=/d; s/--server [a-z-]+/--server tests-gpus/' "$T/jobs/llamacpp-stack.sh" >"$T/jobs/tests-forms.sh"
  while read -r form gpus options; do
    [ -n "$form" ] || continue
    # shellcheck disable=SC2086  # one word an option
    jobs[$form]=$(submit -p gpu --job-name="$form" $options jobs/tests-forms.sh --set server:orchestration.resources.gpu_count="$gpus" \
      --set workload.duration_seconds=4 --set workload.warmup_seconds=0 --set dataset.params.max_tokens=4 --set dataset.params.prompt_length=12)
    asked[$form]=$gpus
  done <<<"$FORMS"
  for form in "${!jobs[@]}"; do
    job=${jobs[$form]}
    assert_eq "exit code of the job of form $form" 0 "$(wait_job "$job" 240)"
    run=$(run_of "$job")
    assert_json "$run/bench/$BENCH/results.json" '.successes > 0 and .errors == 0' true
    out=$(gpus_of_steps "$job" "$run")
    echo "row $form: $(tr '\n' ' ' <<<"$out"), CPUs $(jq -rs 'map("\(.role) \(.cpus)") | join(", ")' "$run"/steps/*.json)"
    assert_eq "GPUs of the steps of form $form" "server ${asked[$form]} monitor 0 bench 0" "$(tr '\n' ' ' <<<"$out" | sed 's/ $//')"
    # one engine, its CPUs its own where there are two
    [ "$(nproc)" = 1 ] ||
      assert_json <(jq -s '(map(select(.role == "server").cpus) | add) as $own | map(select(.role != "server").cpus) | add | map(select(IN($own[])))' "$run"/steps/*.json) . '[]'
  done
  assert_clean
}
