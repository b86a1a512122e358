# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154,SC2317
# What a run cost, against what sacct says, reckoned here by hand.

# Writes `figure value-or-dash` lines of a run, and how far they count.
figures_of() { jq -r '.runs[0] | "until \(.until)", (.figures[] | "\(.figure) \(.value // "-")")' "$1/cost.json"; }
figure_of() { awk -v name="$2" '$1 == name { print $2 }' <<<"$1"; } # FIGURES NAME
assert_figure() { # FIGURES NAME EXPRESSION-OF-AWK
  local got expected
  got=$(figure_of "$1" "$2"); expected=$(awk "BEGIN { printf \"%.12g\", $3 }")
  awk -v a="$got" -v b="$expected" 'BEGIN { d = a - b; exit !(b > 0 && d * d <= (b * 1e-9) ^ 2) }' ||
    fail "$2 is $got, by hand it is $expected ($3)"
}

TIMEOUT_cost_of_a_run=240
case_cost_of_a_run() {
  local job run before after elapsed tres cpus gpus nodes billing tokens out=$LOGS/cost.out
  printf 'extends: local\nprice: {currency: EUR, per_gpu_hour: 2.5, per_cpu_hour: 0.04}\n' >"$T/sbatch/sites/tests-priced.yaml"
  job=$(as_user env AIF_SITE=tests-priced sbatch --parsable -p gpu --gres=gpu:2 jobs/llamacpp-stack.sh \
    --set workload.duration_seconds=4 --set workload.warmup_seconds=0)
  assert_eq "exit code of the job" 0 "$(wait_job "$job" 200)"
  run=$(run_of "$job")
  # the run's own report is made while Slurm calls the job running
  before=$(figures_of "$run")
  assert_eq "how far the run's own report counts" report "$(figure_of "$before" until)"
  assert_contains "$(output_of "$job")" '^  cost: .* node-hours, .* GPU-hours, .* EUR/Mtoken until the report$'
  assert_contains "$run/report.md" 'Of the whole job, from its start until the report'
  # afterwards accounting has the last word; Slurm writes it down at its own pace
  is_over() { as_user sacct -X -n -P -o State -j "$job" | grep -q COMPLETED; }
  wait_until 30 "the job's end in accounting" is_over
  as_user bin/aif report "$run" >"$out"
  after=$(figures_of "$run")
  assert_eq "how far the report counts afterwards" end "$(figure_of "$after" until)"
  assert_contains "$run/report.html" 'Of the whole job, from its start to its end'
  IFS='|' read -r elapsed tres < <(as_user sacct -X -n -P -o ElapsedRaw,AllocTRES -j "$job")
  part() { tr ',' '\n' <<<"$tres" | sed -n "s,^$1=,,p"; }
  cpus=$(part cpu) gpus=$(part gres/gpu) nodes=$(part node) billing=$(part billing)
  tokens=$(jq .tokens.output.client "$run/bench/$BENCH/results.json")
  assert_eq "GPUs" 2 "$gpus"
  assert_figure "$after" node_hours "$elapsed * $nodes / 3600"
  assert_figure "$after" cpu_hours "$elapsed * $cpus / 3600"
  assert_figure "$after" cpu_hours "$(as_user sacct -X -n -P -o CPUTimeRAW -j "$job") / 3600"
  assert_figure "$after" gpu_hours "$elapsed * $gpus / 3600"
  assert_figure "$after" billing_hours "$elapsed * $billing / 3600"
  assert_figure "$after" output_tokens "$tokens"
  assert_figure "$after" tokens_per_gpu_hour "$tokens / ($elapsed * $gpus / 3600)"
  assert_figure "$after" tokens_per_node_hour "$tokens / ($elapsed * $nodes / 3600)"
  assert_figure "$after" money "$elapsed * ($gpus * 2.5 + $cpus * 0.04) / 3600"
  assert_figure "$after" money_per_million_tokens "1e6 * $elapsed * ($gpus * 2.5 + $cpus * 0.04) / 3600 / $tokens"
  # nothing measures energy here, and that is said
  assert_eq "energy" - "$(figure_of "$after" energy)"
  assert_contains "$run/report.md" 'energy of its nodes \| not known: Slurm measures none here'
  # what was told from inside is a little less, by the end of the job alone
  assert_number "node-hours until the report" "$(figure_of "$before" node_hours)" "<=" "$(figure_of "$after" node_hours)"
  assert_number "seconds that the report missed" "$(awk "BEGIN { print $elapsed - 3600 * $(figure_of "$before" node_hours) / $nodes }")" "<=" 10
  echo "row cost: $elapsed s with $tres, $tokens tokens: $(grep '^  cost:' "$out")"
  # the answer is kept: a report without Slurm says the same
  as_user_without_slurm node1 bin/aif report "$run" >/dev/null
  assert_eq "figures of a report without Slurm" "$after" "$(figures_of "$run")"
  rm "$T/sbatch/sites/tests-priced.yaml"
  assert_clean
}
