# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# Images: pulled once from a real registry by a real Apptainer, told at once where they are broken or not to be had.
#
# Debian's docker-registry runs on this machine, as the user, inside the head's network: its address is reached from every
# machine of the cluster and from nowhere else. Its image is busybox, whose httpd is the engine, and noise, so that a pull
# takes a while.

REGISTRY_HOST=198.51.100.10               # the head, of every cluster
HTTP=(env APPTAINER_NOHTTPS=1)

# in the head's network, as the user, for as long as this shell lives
in_head_network() {
  nsenter -t "$(cat "$CLUSTER_RUN/head.pid")" --net setpriv --reuid "$CLUSTER_USER" --regid "$(id -gn "$CLUSTER_USER")" --init-groups \
    --pdeathsig KILL env HOME="$STORE" "$@"
}
serve_registry() { # PORT MORE-OF-ITS-CONFIGURATION
  printf 'version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %s/data}}\nhttp: {addr: "%s:%s"}\n%s\n' \
    "$STORE" "$REGISTRY_HOST" "$1" "${2:-}" >"$STORE/$1.yml"
  in_head_network docker-registry serve "$STORE/$1.yml" >"$STORE/$1.log" 2>&1 &
  REGISTRY_PIDS+=($!)
  wait_until 10 "the registry at port $1" in_head_network curl -sS -o "$STORE/answer" "http://$REGISTRY_HOST:$1/v2/"
}
push() { # NAME MB : a container image with so much noise in it
  [ "$2" = 0 ] || head -c "$2M" /dev/urandom >"$STORE/root/noise"
  tar -C "$STORE/root" --owner=0 --group=0 --numeric-owner -cf "$STORE/root.tar" .
  rm -f "$STORE/root/noise"
  in_head_network skopeo --insecure-policy copy -q --dest-tls-verify=false "tarball:$STORE/root.tar" "docker://$REGISTRY_HOST:5000/$1"
}
registry_up() {
  local name
  apt_install docker-registry skopeo busybox-static curl
  STORE=$(mktemp -d); REGISTRY_PIDS=()
  trap 'kill "${REGISTRY_PIDS[@]}" 2>/dev/null || true; rm -rf "$STORE"' EXIT
  mkdir -p "$STORE"/root/{bin,etc,dev,proc,sys,tmp,home,root,var/tmp,www}
  cp "$(command -v busybox)" "$STORE/root/bin/busybox"
  for name in sh sleep; do ln -s busybox "$STORE/root/bin/$name"; done
  echo ok >"$STORE/root/www/index.html"
  chown -R "$CLUSTER_USER:" "$STORE"
  serve_registry 5000
}

# server_recipe NAME IMAGE [SOURCE] : a server whose engine is busybox's httpd
server_recipe() {
  local source=""; [ -z "${3:-}" ] || source="source: \"$3\","
  cat >"$T/recipes/servers/$1.yaml" <<YAML
name: $1
service_name: tiny
engine: http
service:
  container: {image: "\${CONTAINER_DIR}/$2", $source gpu: none, args: [/bin/busybox, httpd, -f, -p, "{host}:{port}", -h, /www]}
  ports: [auto]
  readiness: {path: /index.html, timeout: 1m}
orchestration:
  resources: {cpu_cores: 1, memory_gb: 1, gpu_count: 0, time_limit: "00:10:00"}
YAML
}

pull() { as_user "${HTTP[@]}" bin/aif images pull "$@"; }
# pull_fails CODE PATTERN ARGUMENTS...
pull_fails() {
  local rc=0 code=$1 pattern=$2; shift 2
  pull "$@" >"$LOGS/pull.out" 2>&1 || rc=$?
  sed 's/^/  | /' "$LOGS/pull.out"
  assert_eq "exit code of aif images pull $*" "$code" "$rc"
  assert_contains "$LOGS/pull.out" "$pattern"
}
# what pulls leave besides images and their sums
litter() {
  find "$T/containers" -mindepth 1 ! -name '*.sif' ! -name '*.sif.sha256'
  on_node head find /tmp -user "$CLUSTER_USER" -name 'aif-pull*'
}
assert_no_litter() { assert_eq "left beside the images" "" "$(litter)"; }

# Every kind of source, on a login node.
TIMEOUT_images_pull=300
case_images_pull() {
  local digest image=$T/containers/tests-a.sif out=$LOGS/images_pull.json
  registry_up
  rm -f "$T"/containers/tests-*
  push tiny:1 0; push tiny:latest 0
  digest=$(in_head_network skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$REGISTRY_HOST:5000/tiny:1")

  # a recipe twice, and a client: one image, one pull
  server_recipe tests-a tests-a.sif "docker://$REGISTRY_HOST:5000/tiny:1"
  server_recipe tests-b tests-a.sif
  pull tests-a tests-b "$BENCH" --json >"$out"
  assert_json "$out" 'map([.state, .recipes, .source_digest])' "[[\"pulled\",[\"tests-a\",\"tests-b\"],\"$digest\"]]"
  assert_json "$out" '.[0].digest' "\"sha256:$(sha256sum "$image" | cut -d' ' -f1)\""
  (cd "$T/containers" && sha256sum --quiet -c tests-a.sif.sha256) || fail "sha256sum -c does not take the sum"
  assert_eq "engine in the image" ok "$(as_user apptainer exec "$image" /bin/busybox cat /www/index.html)"
  pull tests-a | grep -q "tests-a.sif: present" || fail "it is there, and was pulled again"

  # unpinned, pinned, and from elsewhere; what apptainer takes
  server_recipe tests-c tests-c.sif "docker://$REGISTRY_HOST:5000/tiny"
  pull tests-c 2>&1 | tee "$LOGS/pull.out"
  assert_contains "$LOGS/pull.out" "is unpinned; resolved to sha256:[0-9a-f]{64}; to get the same image tomorrow, write the source as docker://$REGISTRY_HOST:5000/tiny@sha256:"
  server_recipe tests-d tests-d.sif "docker://$REGISTRY_HOST:5000/tiny@$digest"
  pull tests-d 2>&1 | tee "$LOGS/pull.out"
  assert_contains "$LOGS/pull.out" "is pinned to $digest"
  as_user "${HTTP[@]}" apptainer push "$image" "oras://$REGISTRY_HOST:5000/sif/tiny:1"
  server_recipe tests-e tests-e.sif "oras://$REGISTRY_HOST:5000/sif/tiny:1"
  in_head_network skopeo --insecure-policy copy -q --src-tls-verify=false "docker://$REGISTRY_HOST:5000/tiny:1" "oci-archive:$T/results/tiny.tar"
  server_recipe tests-f tests-f.sif "oci-archive:$T/results/tiny.tar"
  server_recipe tests-g tests-g.sif containers/tests-a.sif
  pull tests-e tests-f tests-g --json >"$out"
  assert_json "$out" 'map(.state)' '["pulled","pulled","pulled"]'
  assert_json "$out" '.[0].digest == .[2].digest' true
  # Apptainer of a monitor: the original's recipe names a URI, its place is the folder of images
  printf 'name: tests-m\nservice_name: tiny\nprometheus: {image: "docker://%s:5000/tiny:1"}\n' "$REGISTRY_HOST" >"$T/recipes/monitors/tests-m.yaml"
  pull tests-m | grep -q "containers/tiny_1.sif: pulled" || fail "the monitor's image has another name"
  mv "$T/containers/tiny_1.sif" "$T/containers/tests-m.sif"; rm "$T/containers/tiny_1.sif.sha256"

  # a cut one is seen, and replaced
  as_user truncate -s 500000 "$image"
  as_user bin/aif images list tests-a tests-c --json >"$out"
  assert_json "$out" 'map(.state)' '["broken","present"]'
  pull tests-a 2>&1 | tee "$LOGS/pull.out"
  assert_contains "$LOGS/pull.out" "tests-a.sif is truncated: it has 500000 bytes.*getting it again"
  as_user bin/aif images list tests-a --json >"$out"
  assert_json "$out" 'map(.state)' '["present"]'
  assert_no_litter

  # and what goes wrong
  server_recipe tests-x tests-x.sif "docker://$REGISTRY_HOST:5000/tiny:none"
  pull_fails 66 "manifest unknown; check its name and tag" tests-x
  server_recipe tests-x tests-x.sif "docker://$REGISTRY_HOST:5999/tiny:1"
  pull_fails 66 "this machine has no way there" tests-x
  serve_registry 5001 "auth: {htpasswd: {realm: tests, path: $STORE/htpasswd}}"
  server_recipe tests-x tests-x.sif "docker://$REGISTRY_HOST:5001/tiny:1"
  pull_fails 66 "apptainer registry login --username NAME docker://$REGISTRY_HOST:5001" tests-x
  server_recipe tests-x tests-x.sif "docker://$REGISTRY_HOST:5000/tiny:1"
  HTTP=(env)
  pull_fails 66 "export APPTAINER_NOHTTPS=1" tests-x
  HTTP=(env PATH=/nowhere)
  pull_fails 69 "neither apptainer nor singularity" tests-x
  HTTP=(env APPTAINER_NOHTTPS=1)
  server_recipe tests-x tests-x.sif
  pull_fails 66 "is missing; put it there, or say in the recipe" tests-x
  server_recipe tests-x tests-x.sif "bogus://x"
  pull_fails 66 "there are docker://, oras://" tests-x
  server_recipe tests-x full/tests-x.sif "docker://$REGISTRY_HOST:5000/tiny:1"
  as_user mkdir "$T/containers/full"
  on_node head mount -t tmpfs -o size=600k,mode=777 tmpfs "$T/containers/full"
  pull_fails 73 "no space left on device; make room in $T/containers/full" tests-x
  on_node head umount "$T/containers/full"
  chown root "$T/containers/full"
  pull_fails 73 "choose a folder that you may write" tests-x
  rmdir "$T/containers/full"
  HTTP=(env APPTAINER_NOHTTPS=1 APPTAINER_CACHEDIR=/run/full/cache)
  on_node head mkdir -p /run/full
  on_node head mount -t tmpfs -o size=600k,mode=777 tmpfs /run/full
  server_recipe tests-x tests-x.sif "docker://$REGISTRY_HOST:5000/tiny:1"
  pull_fails 73 "make room in apptainer's cache" tests-x
  HTTP=(env APPTAINER_NOHTTPS=1 APPTAINER_TMPDIR=/run/full "APPTAINER_CACHEDIR=$T/results/cache")
  on_node head rm -rf /run/full/cache
  pull_fails 73 "set APPTAINER_TMPDIR to a folder with room" tests-x
  assert_eq "left in the folder for temporary files" "" "$(on_node head ls -A /run/full)"
  on_node head umount /run/full
  assert_no_litter
  rm -f "$T"/containers/tests-* "$T"/recipes/*/tests-*
  assert_clean
}

# Who is told to end takes all away; what a killed one leaves, the next one does. With a real mksquashfs under way.
TIMEOUT_images_killed=200
case_images_killed() {
  local image=$T/containers/tests-k.sif pid
  registry_up
  push noise:1 150
  server_recipe tests-k tests-k.sif "docker://$REGISTRY_HOST:5000/noise:1"
  HTTP=(env APPTAINER_NOHTTPS=1 "APPTAINER_CACHEDIR=$T/results/cache")
  for signal in TERM KILL; do
    rm -rf "$T/results/cache"
    pull tests-k >"$LOGS/pull.out" 2>&1 & pid=$!
    wait_until 60 "mksquashfs" on_node head pgrep -u "$CLUSTER_USER" -x mksquashfs
    on_node head pkill "-$signal" -u "$CLUSTER_USER" -f '^bin/aif images pull'
    rc=0; wait "$pid" || rc=$?
    [ $signal = KILL ] || assert_eq "exit code after TERM" 143 "$rc"
    [ $signal = TERM ] || assert_eq "exit code after KILL" 137 "$rc"
    wait_until 20 "the end of all that the pull started" no_processes
    [ $signal = KILL ] || assert_no_litter
  done
  [ -e "$T/containers/.tests-k.sif.lease" ] || fail "a killed pull has no lease to leave: $(litter)"
  pull tests-k 2>&1 | tee "$LOGS/pull.out"
  assert_contains "$LOGS/pull.out" "nobody pulls image .*tests-k.sif any more"
  assert_file "$image"
  assert_no_litter
  rm -f "$T"/containers/tests-* "$T"/recipes/*/tests-*
  assert_clean
}

# Four jobs that need the same missing image, at once, on four nodes.
TIMEOUT_images_once=240
case_images_once() {
  local i job jobs=() image=$T/containers/tests-once.sif run facts digest waits
  registry_up
  push noise:once 150
  digest=$(in_head_network skopeo inspect --tls-verify=false --format '{{.Digest}}' "docker://$REGISTRY_HOST:5000/noise:once")
  server_recipe tests-once tests-once.sif "docker://$REGISTRY_HOST:5000/noise:once"
  for i in 1 2 3 4; do
    jobs+=("$(as_user "${HTTP[@]}" sbatch --parsable -p all -w "node$i" -c1 --mem=1G jobs/server.sh tests-once)")
  done
  wait_until 120 "four servers" bash -c "[ \"\$(jq -s 'map(select(.ready_at)) | length' '$T'/results/*/steps/server.json)\" = 4 ]"
  for job in "${jobs[@]}"; do as_user bin/aif stop --job "$job"; done
  for job in "${jobs[@]}"; do assert_eq "exit code of job $job" 0 "$(wait_job "$job" 60)"; done
  assert_eq "pulls" 1 "$(cat "$T"/server-*.out | grep -c 'pulling image .* from docker://')"
  waits=$(grep -l 'waiting for image .*, which .* pulls' "$T"/server-*.out | wc -l)
  echo "row images_once: $waits of 4 waited"
  assert_number "jobs that waited" "$waits" ">=" 1
  for job in "${jobs[@]}"; do
    run=$(find "$T/results" -mindepth 1 -maxdepth 1 -type d -name "*-server-$job.*")
    facts="{\"path\":\"$image\",\"digest\":\"sha256:$(sha256sum "$image" | cut -d' ' -f1)\",\"size\":$(stat -c %s "$image"),\"source\":\"docker://$REGISTRY_HOST:5000/noise:once\",\"source_digest\":\"$digest\"}"
    assert_json "$run/manifest.json" .steps.server.facts.image "$facts"
    assert_contains "$run/report.html" "image digest.*sha256:"
  done
  assert_no_litter
  rm -f "$T"/containers/tests-* "$T"/recipes/*/tests-*
  assert_clean
}

# image_fails WHAT PATTERN JOB : ends with 66 in seconds, and one error says what and what to do
image_fails() {
  local out started ended
  assert_eq "exit code with $1" 66 "$(wait_job "$3" 60)"
  out=$(output_of "$3")
  grep -E "$2" "$out" | cut -c1-400 || true
  assert_contains "$out" "$2"
  assert_eq "lines with that error, $1" 1 "$(grep -cE "^aif: .*$2" "$out")"
  started=$(date -d "$(job_field "$3" StartTime)" +%s) ended=$(date -d "$(job_field "$3" EndTime)" +%s)
  echo "row image with $1: $((ended - started)) s"
  assert_number "seconds with $1" $((ended - started)) "<=" 10
}

# What is wrong with an image ends a job in seconds, before anything is started from it.
TIMEOUT_images_broken=240
case_images_broken() {
  local job name
  head -c 20000000 "$T/containers/llamacpp.sif" >"$T/containers/tests-cut.sif"
  derive servers "$SERVER" tests-cut -e 's/llamacpp\.sif/tests-cut.sif/'
  derive servers "$SERVER" tests-none -e 's/llamacpp\.sif/tests-none.sif/'
  derive servers "$SERVER" tests-far -e 's#\( *\)image: .*#\1image: ${CONTAINER_DIR}/tests-far.sif\n\1source: docker://registry.example/far:1#'
  # as the original's recipes do it
  printf 'name: tests-script\nservice_name: llamacpp\nengine: http\nservice:\n  command: |\n    module load Apptainer\n    IMAGE=$CONTAINER_DIR/tests-none.sif\n    apptainer exec $IMAGE serve\n  ports: [auto]\n' >"$T/recipes/servers/tests-script.yaml"
  sed -e 's/tests-script/tests-cut-script/; s/tests-none/tests-cut/' "$T/recipes/servers/tests-script.yaml" >"$T/recipes/servers/tests-cut-script.yaml"
  declare -A failing
  for name in cut none far script cut-script; do failing[$name]=$(submit -p all -c1 --mem=1G jobs/server.sh "tests-$name"); done
  image_fails "a cut image" "tests-cut.sif is truncated: it has 20000000 bytes, and by its header [0-9]+ at the least; put a whole one in its place" "${failing[cut]}"
  image_fails "a missing image" "tests-none.sif is missing; put it there, or say in the recipe" "${failing[none]}"
  image_fails "no way out" "a login node, run: aif images pull tests-far" "${failing[far]}"
  image_fails "a missing image of a script" "tests-none.sif is missing; put it there" "${failing[script]}"
  image_fails "a cut image of a script" "tests-cut.sif is truncated" "${failing[cut-script]}"
  # and the stack says so, too
  job=$(submit "$(stack_job tests-cut)")
  image_fails "a cut image of a stack" "tests-cut.sif is truncated" "$job"
  assert_file "$(run_of "$job")/report.md"
  rm -f "$T"/containers/tests-* "$T"/recipes/*/tests-* "$T"/jobs/tests-*
  assert_clean
}
