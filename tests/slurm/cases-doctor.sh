# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# aif doctor on a cluster: on the login node, in a job and in a step, and where something is missing.

case_doctor_on_a_healthy_cluster() {
  local out=$LOGS/doctor.out rc=0 job
  as_user bin/aif doctor >"$out" 2>&1 || rc=$?
  cat "$out"
  assert_eq "exit code on the login node" 0 $rc
  assert_contains "$out" "^a stack can run here"
  assert_contains "$out" "^ok +where we are +head, a login node"
  assert_contains "$out" "^ok +Slurm's controller .* is UP"
  assert_contains "$out" "^ok +partitions +cpu, gpu: up"
  assert_contains "$out" "^ok +account +Slurm.s default for .*, among: aif$"
  assert_contains "$out" "^ok +image mounts +by squashfuse in a user namespace"
  # who wants an image may take more than a line
  assert_contains <(tr -s '\n ' ' ' <"$out") " ok llamacpp.sif [0-9.]+ MB, for ([a-z-]+, )*llamacpp-server( |,)"
  assert_eq "lines of more than 100 columns" "" "$(awk 'length > 100' "$out")"
  [ ! -e "$REGISTRY" ] || fail "the doctor made $REGISTRY"

  as_user bin/aif doctor --json >"$out" || rc=$?
  assert_eq "exit code of --json" 0 $rc
  assert_json "$out" '.verdict' '"can_run"'
  assert_json "$out" '[.checks[] | select(.state == "failed")]' '[]'
  assert_json "$out" '[.checks[] | select(.state == "warning" and .mend == null)]' '[]'

  # in a step and in a batch script, on a node
  as_user srun -n1 bin/aif doctor >"$out" 2>&1 || rc=$?
  assert_eq "exit code in a step" 0 $rc
  assert_contains "$out" "^ok +where we are +in step 0 of job [0-9]+ on node[1-4]"
  job=$(submit --wrap 'bin/aif doctor')
  assert_eq "exit code in a batch script" 0 "$(wait_job "$job" 60)"
  assert_contains "$(output_of "$job")" "^ok +where we are +in the batch script of job $job on node[1-4]"
  assert_clean
}

# What is missing is told with what to do, and nothing else is hidden by it.
case_doctor_without_apptainer() {
  local out=$LOGS/doctor-without-apptainer.out rc=0
  on_node head bash -c 'mkdir -p /run/no-apptainer; cd /run/no-apptainer; for f in /usr/bin/*; do case ${f##*/} in
    apptainer | singularity) ;; *) ln -sf "$f" . ;; esac; done'
  as_user env PATH=/run/no-apptainer bin/aif doctor >"$out" 2>&1 || rc=$?
  cat "$out"
  assert_eq "exit code" 69 $rc
  assert_contains "$out" "^MISSING +container runtime +neither apptainer nor singularity"
  assert_contains "$out" "-> load its module, and name it in the site file"
  assert_contains "$out" "^a stack cannot run here: 1 thing is missing \(container runtime\)$"
  assert_contains "$out" "^ok +Prometheus +2\."
  as_user env PATH=/run/no-apptainer bin/aif doctor --json >"$out" || rc=$?
  assert_eq "exit code of --json" 69 $rc
  assert_json "$out" '[.checks[] | select(.state == "failed") | .name]' '["container runtime"]'
}

# A controller that does not answer is one line, after a bounded time.
case_doctor_without_controller() {
  local out=$LOGS/doctor-without-controller.out rc=0 t0 pid
  pid=$(on_node head pidof slurmctld)
  on_node head kill -STOP "$pid"
  t0=$SECONDS
  as_user bin/aif doctor >"$out" 2>&1 || rc=$?
  on_node head kill -CONT "$pid"
  cat "$out"
  assert_eq "exit code" 69 $rc
  assert_contains "$out" "^MISSING +Slurm's controller"
  assert_contains "$out" "^ok +container runtime"
  assert_number "seconds that it took" $((SECONDS - t0)) "<" 20
}

# Login nodes are not told the cluster's name, by which jobs choose their site.
case_doctor_where_jobs_have_another_site() {
  local out=$LOGS/doctor-site.out rc=0
  printf 'extends: plain\nclusters: [%s]\n' "$CLUSTER_NAME" >"$T/sbatch/sites/a-tests.yaml"
  as_user env --unset=AIF_SITE bin/aif doctor --json >"$out" || rc=$?
  as_user srun -n1 env --unset=AIF_SITE bin/aif doctor --json >"$out.job" || rc=$?
  rm "$T/sbatch/sites/a-tests.yaml"
  assert_eq "exit code" 0 $rc
  assert_json "$out" '.checks[] | select(.name == "site of jobs") | .mend' '"to have the same here: export AIF_SITE=a-tests"'
  assert_json "$out.job" '[.checks[] | select(.name == "site of jobs")]' '[]'
  assert_contains "$out.job" "a-tests: .*it names this cluster"
}
