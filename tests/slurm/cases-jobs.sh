# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Job scripts and recipes that cannot work say so, with their code, and at once.

case_job_without_recipe() {
  local script job
  for script in server monitor bench; do
    job=$(submit "jobs/$script.sh")
    assert_eq "exit code of jobs/$script.sh without a recipe" 64 "$(wait_job "$job" 30)"
    assert_contains "$(output_of "$job")" "usage: sbatch jobs/$script.sh RECIPE"
  done
  # who follows such a job hears of its end soon, and why
  local out=$LOGS/without-recipe.out rc=0 t0=$SECONDS
  as_user bin/aif submit --wait jobs/server.sh >"$out" 2>&1 || rc=$?
  assert_eq "the job's own exit code from aif submit --wait" 64 $rc
  assert_number "seconds until that is told" $((SECONDS - t0)) "<" 15
  assert_contains "$out" "usage: sbatch jobs/server.sh RECIPE"
}

case_job_outside_the_project() {
  local job
  job=$(as_user env -C "$USER_HOME" sbatch --parsable --output="$T/%x-%j.out" "$T/jobs/llamacpp-stack.sh")
  assert_eq "exit code" 66 "$(wait_job "$job" 30)"
  assert_contains "$(output_of "$job")" "is not the project's folder: submit from there, or set AIF_HOME"
}

case_job_without_binary() {
  local job
  mkdir -p "$T/no-binary"; cp -R "$T/sbatch" "$T/no-binary/"
  job=$(as_user env AIF_HOME="$T/no-binary" sbatch --parsable jobs/llamacpp-stack.sh)
  assert_eq "exit code" 66 "$(wait_job "$job" 30)"
  assert_contains "$(output_of "$job")" "no aif: neither $T/no-binary/bin/aif"
}

# f. Both faults of a recipe are told, each with its place and what was meant.
case_bad_recipe() {
  local out=$LOGS/bad-recipe.out rc=0 key type job
  sed -e 's/^\( *\)think_time_ms:/\1think_tme_ms:/' -e 's/^\( *\)concurrent_users: .*/\1concurrent_users: many/' \
    "$T/recipes/clients/$BENCH.yaml" >"$T/recipes/clients/tests-bad.yaml"
  grep -q think_tme_ms "$T/recipes/clients/tests-bad.yaml" ||
    sed -i 's/^workload:.*/&\n  think_tme_ms: 5/' "$T/recipes/clients/tests-bad.yaml"
  key=$(grep -n think_tme_ms "$T/recipes/clients/tests-bad.yaml" | cut -d: -f1)
  type=$(grep -n 'concurrent_users: many' "$T/recipes/clients/tests-bad.yaml" | cut -d: -f1)

  as_user bin/aif recipes check recipes/clients/tests-bad.yaml >"$out" 2>&1 || rc=$?
  assert_eq "exit code of aif recipes check" 65 $rc
  assert_contains "$out" "(:|line )$key(:|, ?(column|col) )"
  assert_contains "$out" "think_tme_ms.*think_time_ms|think_time_ms"
  assert_contains "$out" "(:|line )$type(:|, ?(column|col) )"

  # and in a job it is the same, before anything is started
  job=$(submit jobs/bench.sh recipes/clients/tests-bad.yaml)
  assert_eq "exit code of the job" 65 "$(wait_job "$job" 30)"
  assert_contains "$(output_of "$job")" "think_time_ms"
  assert_clean
}
