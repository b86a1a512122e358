#!/usr/bin/env bash
#
# cluster.sh - a real Slurm cluster (with real Apptainer and Prometheus) on one Debian machine.
#
#   cluster.sh install          packages, user, root file system, configuration
#   cluster.sh start            boot head + nodes, wait until every node is idle
#   cluster.sh stop             stop everything that `start` made, network included
#   cluster.sh status           machines, daemons, sinfo, squeue; exits 1 unless all is up
#   cluster.sh exec [-u USER] [-m MACHINE] [-C DIR] [--] CMD...
#                               run CMD on a machine (default: root on head), with its exit code
#   cluster.sh shell [...]      the same with an interactive shell
#   cluster.sh crash NODE       power a node off the hard way (SIGKILL to its init)
#   cluster.sh boot NODE        power it on again
#   cluster.sh reset            stop and forget all jobs and accounting, keep packages
#   cluster.sh uninstall        stop, then delete everything under $AIF_CLUSTER_PREFIX
#
# install and start do nothing where all is done already. It needs root; it is for a machine
# that has no Slurm of its own, and refuses where there is one.
#
# How it works
#   Every machine of the cluster (head, node1..nodeN) is a set of namespaces:
#     net    own address; all machines hang off one bridge that lives in a namespace
#            of its own. Neither the bridge nor any machine is attached to the host's
#            network and none has a default route, so a packet cannot leave the
#            cluster whatever address a test gets wrong.
#     uts    own host name, so plain `slurmd` finds its own NodeName.
#     pid    own process tree; killing its init is a power cut.
#     mount  own /tmp, /run, /dev/shm and /var/spool/slurmd (node-local). /home and
#            the folders of AIF_CLUSTER_SHARED are shared by all machines and with the
#            host (what a site's parallel file system gives).
#     cgroup (v1 freezer) own subtree, so proctrack/cgroup works per node; where this machine has the v1
#            memory controller that too, and a job has no more memory than it asked for.
#   The head runs munged, mariadbd, slurmdbd and slurmctld; a node runs munged and slurmd.
#   Nothing is started through systemd or init scripts. Nothing is installed on the host
#   but mmdebstrap and iproute2: all else is in a Debian root of its own.
#
# Environment
#   AIF_CLUSTER_NAME     Slurm's name of the cluster (local). Clusters of different names live side by side, with networks,
#                        accounting and jobs of their own, and share Debian root and /home
#   AIF_CLUSTER_FLAVOR   trixie (default, Slurm 24.11) or bookworm (Slurm 22.05)
#   AIF_CLUSTER_USER     the ordinary user (default researcher, AIF_CLUSTER_UID 2000);
#                        made on the host too, so that both see the same files as the same user
#   AIF_CLUSTER_SHARED   more host folders that every machine sees, separated by spaces
#   AIF_CLUSTER_NODES    nodes (4; the last one has no GPU)   AIF_CLUSTER_GPUS   of each GPU node (4)
#   AIF_CLUSTER_CPUS, AIF_CLUSTER_MEM   what a node claims to have (16; 128000 MiB)
#   AIF_CLUSTER_FIRST_JOB   a new cluster's first job id (the minutes since 2024)
#   AIF_CLUSTER_EXTRA    more Debian packages for the machines
#   AIF_CLUSTER_MIRROR   Debian mirror (default: the one this machine's apt uses)
#   AIF_CLUSTER_PREFIX   what survives a stop (/opt/aif-cluster)
#   AIF_CLUSTER_RUN      what does not (/run/aif-cluster, with -NAME where it is not local)
#
set -euo pipefail

SELF=$(readlink -f "$0")
ME=cluster.sh
# shellcheck source=sbatch/common.sh
. "$(dirname "$SELF")/common.sh"

NODES=${AIF_CLUSTER_NODES:-4}
[[ $NODES =~ ^([2-9]|[1-9][0-9]+)$ ]] || die $EX_USAGE "AIF_CLUSTER_NODES=$NODES: at least 2, of which the last has no GPU"
GPUS=${AIF_CLUSTER_GPUS:-4}
CPUS=${AIF_CLUSTER_CPUS:-16}
MEM=${AIF_CLUSTER_MEM:-128000}
read -ra SHARED <<<"/home ${AIF_CLUSTER_SHARED:-}"
read -ra EXTRA <<<"${AIF_CLUSTER_EXTRA:-}"
NET=198.51.100                                   # TEST-NET-2: routed nowhere
NETNS=aifc-$CLUSTER_NAME                         # prefix of the network namespaces' names
ROOT=$CLUSTER_ROOT
RUN=$CLUSTER_RUN
# Configuration and state of the cluster. The path is the same seen from inside. Each flavour and name
# has its own: a database is not read by an older server.
BASE=$(dirname "$ROOT")
[ "$CLUSTER_NAME" = local ] || BASE=$BASE/clusters/$CLUSTER_NAME
CONF=$BASE/etc
STATE=$BASE/state
LOG=$BASE/log
DEV=$BASE/dev
LOCAL=$BASE/local                                # the machines' own disks
MADE_NETNS=/run/aif-cluster.made-netns           # the folder of the names of networks is ours to remove
CGROUP=$RUN/cgroup                               # where our own mounts of the controllers are

controllers() { awk '$4 == 1 && ($1 == "freezer" || ($1 == "memory" && $2 != 0)) { print $1 }' /proc/cgroups; }
limits_memory() { controllers | grep -qx memory; }
machines() { echo head; seq -f 'node%g' 1 "$NODES"; }
address()  { if [ "$1" = head ]; then echo $NET.10; else echo $NET.$((10 + ${1#node})); fi; }

require_root() {
  is_root || die $EX_NOPERM "'$ME $1' makes namespaces and network devices and must be run as root. Where there is a Slurm already, no cluster is needed: use sbatch."
}

# A machine that has a Slurm keeps it, untouched: two of them would share ports and paths
# in people's heads if nowhere else.
refuse_other_slurm() {
  local found="" pid
  ! command -v sbatch slurmctld slurmd >/dev/null || found=$(command -v sbatch slurmctld slurmd | head -1)
  [ -n "$found" ] || ! [ -e /etc/slurm/slurm.conf ] || found=/etc/slurm/slurm.conf
  if [ -z "$found" ]; then
    for pid in $(pgrep -x slurmctld || true) $(pgrep -x slurmd || true); do
      # those of our own machines live in other pid namespaces
      [ "$(readlink "/proc/$pid/ns/pid" 2>/dev/null)" != "$(readlink /proc/self/ns/pid)" ] || found="process $pid"
    done
  fi
  [ -z "$found" ] || die $EX_UNAVAILABLE "this machine has a Slurm already ($found): nothing was done. Use it as it is (sbatch, or jobs/quickstart.sh, which finds it)."
}

# The commands that change something run one at a time.
lock() {
  mkdir -p "$CLUSTER_PREFIX"
  exec 9>"$CLUSTER_PREFIX/lock"
  flock -n 9 || { say "waiting for another $ME"; flock 9; }
}

# ---------------------------------------------------------------- install ----

install_packages() {
  local suite=$CLUSTER_FLAVOR mirror packages sources=()
  [ ! -e "$ROOT/.complete" ] || return 0
  mirror=$(debian_mirror)
  apt_install mmdebstrap iproute2 procps util-linux
  [ ! -e "$ROOT" ] || rm -rf --one-file-system "$ROOT"
  packages=(slurm-wlm slurmdbd munge mariadb-server prometheus
    squashfs-tools squashfuse fuse2fs fuse-overlayfs uidmap
    ca-certificates iproute2 procps curl jq python3 "${EXTRA[@]}")
  sources=("deb $mirror $suite main" "deb $mirror $suite-updates main")
  if [ "$suite" = trixie ]; then
    # From sid nothing but apptainer, which no stable release has (the pin keeps all else
    # out); trixie's libc is new enough for it.
    packages+=(apptainer); sources+=("deb $mirror sid main")
  fi
  say "making a Debian $suite root with Slurm (1 to 2 minutes)"
  # A mirror that is a snapshot serves an expired sid, hence Check-Valid-Until.
  # shellcheck disable=SC2016  # $1 is mmdebstrap's
  mmdebstrap --mode=root --variant=minbase --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --setup-hook='mkdir -p "$1/etc/apt/preferences.d"; printf "Package: *\nPin: release n=sid\nPin-Priority: 50\n" >"$1/etc/apt/preferences.d/sid"' \
    --include="$(IFS=,; echo "${packages[*]}")" \
    "$suite" "$ROOT" "${sources[@]}" 9>&- \
    >"$LOG/packages.log" 2>&1 || die $EX_UNAVAILABLE "mmdebstrap failed, see $LOG/packages.log"
  printf '#!/bin/sh\nexit 101\n' >"$ROOT/usr/sbin/policy-rc.d"; chmod 755 "$ROOT/usr/sbin/policy-rc.d"
  if [ "$suite" = trixie ]; then tune_apptainer "$ROOT/etc/apptainer/apptainer.conf"; else install_apptainer "$ROOT"; fi
  touch "$ROOT/.complete"
}

# The user exists on the host and inside the root with the same numbers.
make_user() {
  local root uid=$CLUSTER_UID owner
  if id "$CLUSTER_USER" >/dev/null 2>&1; then
    uid=$(id -u "$CLUSTER_USER")
    [ "$uid" != 0 ] || die $EX_USAGE "AIF_CLUSTER_USER must be an ordinary user"
  elif owner=$(getent passwd "$uid"); then
    die $EX_CANTCREATE "uid $uid belongs to '${owner%%:*}': choose another by AIF_CLUSTER_UID, or take that user by AIF_CLUSTER_USER=${owner%%:*}"
  fi
  for root in / "$ROOT"; do
    chroot "$root" id "$CLUSTER_USER" >/dev/null 2>&1 ||
      chroot "$root" useradd --create-home --shell /bin/bash --uid "$uid" "$CLUSTER_USER"
  done
  # Apptainer's builds without root want subordinate ids
  for root in subuid subgid; do
    grep -q "^$CLUSTER_USER:" "$ROOT/etc/$root" 2>/dev/null || echo "$CLUSTER_USER:200000:65536" >>"$ROOT/etc/$root"
  done
}

configure() {
  local m n slurm munge gpu_nodes last=$((NODES - 1))
  slurm=$(chroot "$ROOT" id -u slurm):$(chroot "$ROOT" id -g slurm)
  munge=$(chroot "$ROOT" id -u munge):$(chroot "$ROOT" id -g munge)
  mkdir -p "$CONF" "$STATE" "$LOG" "$DEV"; chmod 755 "$CLUSTER_PREFIX" "$(dirname "$BASE")" "$BASE" "$CONF" "$STATE" "$LOG" "$DEV"

  # munge: one key for all machines, daemons refuse anything but 0600/0700
  [ -s "$CONF/munge.key" ] || (umask 077; head -c 1024 /dev/urandom >"$CONF/munge.key")
  chown "$munge" "$CONF/munge.key"; chmod 600 "$CONF/munge.key"

  # names; replaces /etc/hosts on each machine (bind mount), not on the host
  { echo "127.0.0.1 localhost"
    for m in $(machines); do echo "$(address "$m") $m"; done; } >"$CONF/hosts"

  # GPU device files: real device nodes (of the null device), so that Slurm numbers
  # them, sets CUDA_VISIBLE_DEVICES and schedules them like real ones
  for n in $(seq 0 $((GPUS - 1))); do
    [ -e "$DEV/nvidia$n" ] || mknod -m 666 "$DEV/nvidia$n" c 1 3
  done
  # The host's /dev/fuse may be for root only; SIF images of ordinary users are mounted
  # with squashfuse, so the machines get a node of their own that all may open.
  [ -e "$DEV/fuse" ] || mknod -m 666 "$DEV/fuse" c 10 229

  gpu_nodes="node[1-$last]"; [ "$last" -ne 1 ] || gpu_nodes=node1

  cat >"$CONF/slurm.conf" <<CONF
ClusterName=$CLUSTER_NAME
SlurmctldHost=head($(address head))
SlurmUser=slurm
AuthType=auth/munge
StateSaveLocation=$STATE/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile=$LOG/slurmctld.log
SlurmdLogFile=$LOG/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
MailProg=/bin/true
PlugStackConfig=/dev/null

# a node may claim more than the machine has
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=500
ProctrackType=proctrack/cgroup
# so that a job is bound to its CPUs as on a site. Where a job's CPUs are more than the machine
# has (16 claimed, 2 real), Slurm leaves it on all real ones.
TaskPlugin=task/affinity$(! limits_memory || echo ,task/cgroup)
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
GresTypes=gpu
MpiDefault=none
ReturnToService=2
SlurmdTimeout=20
SlurmctldTimeout=20
InactiveLimit=0
# from SIGTERM to SIGKILL: Slurm's own default, which is what sites have
KillWait=30
MinJobAge=300
# a new cluster does not give out an old one's job ids: runs in the user's home are named by them
FirstJobId=${AIF_CLUSTER_FIRST_JOB:-$((($(date +%s) - 1704067200) / 60))}
JobRequeue=1
PropagateResourceLimitsExcept=MEMLOCK

# sbatch to first line of the script in 0.2-0.7 s instead of 3 s
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=50000,sched_interval=2,bf_interval=1

# also the time before a requeued job may start again (default 120)
AuthInfo=cred_expire=5

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=$(address head)
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment,job_env,job_script

NodeName=DEFAULT CPUs=$CPUS RealMemory=$MEM State=UNKNOWN
$(for n in $(seq 1 $last); do echo "NodeName=node$n NodeAddr=$(address "node$n") Gres=gpu:h100:$GPUS Feature=gpu,h100"; done)
NodeName=node$NODES NodeAddr=$(address "node$NODES") Feature=cpu

PartitionName=cpu Nodes=node$NODES Default=YES DefaultTime=00:30:00 MaxTime=1-0 State=UP
PartitionName=gpu Nodes=$gpu_nodes DefaultTime=00:30:00 MaxTime=1-0 State=UP
PartitionName=all Nodes=node[1-$NODES] DefaultTime=00:30:00 MaxTime=1-0 State=UP
CONF

  cat >"$CONF/gres.conf" <<CONF
AutoDetect=off
NodeName=$gpu_nodes Name=gpu Type=h100 File=$DEV/nvidia[0-$((GPUS - 1))]
CONF

  cat >"$CONF/cgroup.conf" <<CONF
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainCores=no
ConstrainRAMSpace=$(if limits_memory; then echo yes; else echo no; fi)
CONF

  cat >"$CONF/slurmdbd.conf" <<CONF
DbdHost=head
DbdAddr=$(address head)
SlurmUser=slurm
AuthType=auth/munge
LogFile=$LOG/slurmdbd.log
PidFile=/run/slurmdbd.pid
DebugLevel=info
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_acct_db
CONF
  chown "$slurm" "$CONF/slurmdbd.conf"; chmod 600 "$CONF/slurmdbd.conf"

  cat >"$CONF/my.cnf" <<CONF
[mariadbd]
datadir=$STATE/mysql
socket=/run/mysqld/mysqld.sock
pid-file=/run/mysqld/mysqld.pid
skip-networking
skip-name-resolve
innodb_buffer_pool_size=64M
innodb_log_file_size=16M
innodb_lock_wait_timeout=900
innodb_flush_log_at_trx_commit=2
performance_schema=OFF
CONF
  mkdir -p "$STATE/slurmctld" "$STATE/mysql"
  chown "$slurm" "$STATE/slurmctld"
  touch "$LOG/slurmctld.log" "$LOG/slurmdbd.log"; chown "$slurm" "$LOG/slurmctld.log" "$LOG/slurmdbd.log"
}

cmd_install() {
  require_root install
  refuse_other_slurm
  require_debian "On a machine with a Slurm of its own no cluster is needed; without one, jobs/quickstart.sh --local runs the same as plain processes."
  controllers | grep -qx freezer ||
    die $EX_UNAVAILABLE "this kernel has no freezer cgroup, by which the nodes' Slurm keeps track of processes"
  lock
  mkdir -p "$LOG"
  install_packages
  make_user
  # a running cluster keeps its configuration: Slurm's daemons must all have the same
  any_up || configure
  say "installed: $(chroot "$ROOT" slurmctld -V) (Debian $CLUSTER_FLAVOR) in $CLUSTER_PREFIX, user $CLUSTER_USER"
}

# ------------------------------------------------------------ start / stop ----

# pid (as the host sees it) of a machine's init; fails when it is not running
init_pid() {
  local pid; pid=$(cat "$RUN/$1.pid" 2>/dev/null) || return 1
  [ -n "$pid" ] && [ "$(readlink "/proc/$pid/ns/net" 2>/dev/null)" = "net:[$(stat -Lc %i "/run/netns/$NETNS-$1" 2>/dev/null)]" ] || return 1
  echo "$pid"
}

any_up() { local m; for m in $(machines); do ! init_pid "$m" >/dev/null || return 0; done; return 1; }

# The switch: a namespace with only a bridge in it.
net_up() {
  [ ! -e "/run/netns/$NETNS-switch" ] || return 0
  # `ip netns` leaves its own mount behind; remember whether it is ours to remove
  [ -e /run/netns ] || touch "$MADE_NETNS"
  ip netns add "$NETNS-switch"
  ip -n "$NETNS-switch" link add br0 type bridge
  ip -n "$NETNS-switch" link set br0 up
  ip -n "$NETNS-switch" link set lo up
}

net_attach() {  # MACHINE
  local ns=$NETNS-$1
  if [ -e "/run/netns/$ns" ]; then ip -n "$ns" link set eth0 up; return 0; fi
  ip netns add "$ns"
  ip -n "$ns" link set lo up
  # both ends are born inside namespaces: nothing shows up on the host
  ip -n "$ns" link add eth0 type veth peer name "$1" netns "$NETNS-switch"
  ip -n "$NETNS-switch" link set "$1" master br0 up
  ip -n "$ns" addr add "$(address "$1")/24" dev eth0
  ip -n "$ns" link set eth0 up
}

net_down() {
  local m; for m in $(machines) switch; do ip netns del "$NETNS-$m" 2>/dev/null || true; done
  if [ -e "$MADE_NETNS" ] && [ -z "$(ls -A /run/netns 2>/dev/null)" ]; then
    umount /run/netns 2>/dev/null || true; rmdir /run/netns 2>/dev/null || true; rm -f "$MADE_NETNS"
  fi
}

# The host may have the freezer mounted anywhere, or, being all cgroup v2, nowhere: a mount
# of our own is the same hierarchy either way.
cgroups_up() {
  local c; for c in $(controllers); do
    mountpoint -q "$CGROUP/$c" && continue
    mkdir -p "$CGROUP/$c"
    mount -t cgroup -o "$c" aif-cluster "$CGROUP/$c" || die $EX_UNAVAILABLE "cannot mount the $c cgroup"
  done
}

cgroups_down() {
  local c dir; for c in $(controllers); do
    mountpoint -q "$CGROUP/$c" || continue
    dir=$CGROUP/$c/aif-cluster-$CLUSTER_NAME
    for _ in $(seq 50); do
      [ -d "$dir" ] || break
      find "$dir" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.1
    done
    [ ! -d "$dir" ] || say "warning: $dir still holds processes: $(find "$dir" -name cgroup.procs -exec cat {} + | tr '\n' ' ')"
    umount "$CGROUP/$c"
  done
}

# Boot one machine: enter its network, make the other namespaces, run machine_init.
boot() {
  local m=$1 c child pid space variable environment=() groups=()
  init_pid "$m" >/dev/null && return 0
  net_attach "$m"
  # a machine gets no environment but the cluster's own settings
  for variable in "${!AIF_CLUSTER_@}"; do environment+=("$variable=${!variable}"); done
  for c in $(controllers); do
    mkdir -p "$CGROUP/$c/aif-cluster-$CLUSTER_NAME/$m"
    groups+=("$CGROUP/$c/aif-cluster-$CLUSTER_NAME/$m/cgroup.procs")
  done
  # nothing in here may start a process: the first one that is seen is taken for the machine's init
  (
    exec 9>&-
    for c in "${groups[@]}"; do echo "$BASHPID" >"$c"; done
    exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "${environment[@]}" \
      setsid nsenter --net="/run/netns/$NETNS-$m" \
      unshare --uts --ipc --pid --mount --cgroup --fork --kill-child \
      bash "$SELF" __init "$m" </dev/null >"$LOG/boot-$m.log" 2>&1
  ) &
  pid=$!
  # the init is the one child of `unshare`
  for _ in $(seq 250); do
    child=$(cat "/proc/$pid/task/$pid/children" 2>/dev/null || true); child=${child%% *}
    # before that it has others, which may be gone when they are looked at
    if [ -n "$child" ] && space=$(readlink "/proc/$child/ns/pid") && [ -n "$space" ] && [ "$space" != "$(readlink /proc/self/ns/pid)" ]; then
      echo "$child" >"$RUN/$m.pid"; return 0
    fi
    [ -e "/proc/$pid" ] || break
    sleep 0.02
  done
  cat "$LOG/boot-$m.log" >&2; die $EX_UNAVAILABLE "$m did not boot"
}

# First process (pid 1) of a machine. Runs inside all of its namespaces.
machine_init() {
  local m=$1 c dir
  mount --make-rprivate /
  hostname "$m"
  # the machine's disk is empty after a power cut: nothing of an earlier boot is mistaken for a leak
  rm -rf --one-file-system "${LOCAL:?}/$m"; mkdir -p "$LOCAL/$m"; mkdir -m 1777 "$LOCAL/$m/tmp"
  mount --rbind "$ROOT" "$ROOT"
  mount --rbind /dev "$ROOT/dev"; mkdir -p "$ROOT/sys" "$ROOT/proc" "$ROOT/mnt"
  # the prefix holds the root itself, so only its other parts are bound into the root
  for dir in "${SHARED[@]}" "$CONF" "$STATE" "$LOG" "$DEV"; do
    [ -d "$dir" ] || continue
    mkdir -p "$ROOT$dir"; mount --rbind "$dir" "$ROOT$dir"
  done
  # node-local directories; /tmp is on disk, as on a node with one
  mount --bind "$LOCAL/$m/tmp" "$ROOT/tmp"
  mount -t tmpfs -o mode=755 tmpfs "$ROOT/run"; mkdir -m 1777 "$ROOT/run/lock"
  # pivot_root, not chroot: the kernel refuses user namespaces (that is, Apptainer
  # without root) to a process whose root is not that of its mount namespace
  cd "$ROOT"; pivot_root . mnt; cd /
  mount -t proc proc /proc
  umount -l /mnt
  mount -t sysfs sysfs /sys; mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  for c in $(controllers); do mkdir "/sys/fs/cgroup/$c"; mount -t cgroup -o "$c" cgroup "/sys/fs/cgroup/$c"; done
  mount -t tmpfs -o mode=1777 tmpfs /dev/shm
  mkdir -p /var/spool/slurmd; mount -t tmpfs -o mode=755 tmpfs /var/spool/slurmd
  mount --bind "$DEV/fuse" /dev/fuse
  touch /etc/hosts; mount --bind "$CONF/hosts" /etc/hosts
  # Slurm looks in /etc/slurm
  mkdir -p /etc/slurm; mount --bind "$CONF" /etc/slurm
  unset "${!AIF_@}"
  ulimit -n "$(ulimit -Hn)"; ulimit -l "$(ulimit -Hl)"

  install -d -o munge -g munge -m 755 /run/munge
  install -d -o munge -g munge -m 700 /run/munge-private
  runuser -u munge -- munged --force --key-file="$CONF/munge.key" --pid-file=/run/munge-private/munged.pid \
    --seed-file=/run/munge-private/seed --log-file=/run/munge-private/munged.log

  local pids=()
  if [ "$m" = head ]; then
    install -d -o mysql -g mysql -m 755 /run/mysqld
    chown mysql:mysql "$STATE/mysql"
    [ -d "$STATE/mysql/mysql" ] ||
      mariadb-install-db --no-defaults --user=mysql --datadir="$STATE/mysql" --skip-test-db --auth-root-authentication-method=socket >/dev/null
    mariadbd --defaults-file="$CONF/my.cnf" --user=mysql >"$LOG/mariadbd.log" 2>&1 &
    pids+=($!)
    until mariadb -e 'SELECT 1' >/dev/null 2>&1; do kill -0 "${pids[0]}"; sleep 0.1; done
    mariadb -e "CREATE DATABASE IF NOT EXISTS slurm_acct_db;
                CREATE USER IF NOT EXISTS slurm@localhost IDENTIFIED VIA unix_socket;
                GRANT ALL ON slurm_acct_db.* TO slurm@localhost"
    install -o slurm -g slurm -m 644 /dev/null /run/slurmdbd.pid
    install -o slurm -g slurm -m 644 /dev/null /run/slurmctld.pid
    runuser -u slurm -- slurmdbd -D 2>>"$LOG/boot-head.log" & pids+=($!)
    until (exec 3<>"/dev/tcp/$(address head)/6819") 2>/dev/null; do sleep 0.1; done
    # the cluster has to be known to the database before slurmctld registers
    if ! sacctmgr -n show cluster "$CLUSTER_NAME" 2>/dev/null | grep -qw "$CLUSTER_NAME"; then
      { sacctmgr -i add cluster "$CLUSTER_NAME"
        sacctmgr -i add account aif
        sacctmgr -i add user "$CLUSTER_USER" account=aif; } >/dev/null 2>&1 || true
    fi
    runuser -u slurm -- slurmctld -D & pids+=($!)
  else
    slurmd -D & pids+=($!)
  fi
  # Stay as init: reap orphans, pass a TERM on to the daemons, go when they are gone.
  trap 'kill -TERM "${pids[@]}" 2>/dev/null' TERM
  while :; do wait || true; kill -0 "${pids[@]}" 2>/dev/null || break; done
}

require_installed() {
  { [ -e "$ROOT/.complete" ] && [ -s "$CONF/slurm.conf" ]; } || die $EX_MISSING "not installed: run '$0 install' first"
}

cmd_start() {
  require_root start
  refuse_other_slurm
  require_installed
  lock
  local m t0=$SECONDS
  if [ -e "$RUN/flavor" ] && [ "$(cat "$RUN/flavor")" != "$CLUSTER_FLAVOR" ]; then
    die $EX_UNAVAILABLE "the $(cat "$RUN/flavor") cluster is up: stop it first"
  fi
  mkdir -p "$RUN"; echo "$CLUSTER_FLAVOR" >"$RUN/flavor"
  cgroups_up
  net_up
  for m in $(machines); do boot "$m"; done
  for _ in $(seq 300); do
    if [ "$(node_states | grep -cE '^(idle|mixed|allocated|completing)')" -ge "$NODES" ]; then
      say "up after $((SECONDS - t0)) s: head and $NODES nodes, user $CLUSTER_USER"; return 0
    fi
    sleep 0.2
  done
  cmd_status >&2 || true; die $EX_UNAVAILABLE "cluster not up after 60 s, logs in $LOG"
}
node_states() { on -- timeout 5 sinfo -h -N -p all -o %T 2>/dev/null || true; }

halt() { # MACHINE SIGNAL
  local pid
  if ! pid=$(init_pid "$1"); then
    # no init on record: end what still lives in that machine's network namespace
    for pid in $(ip netns pids "$NETNS-$1" 2>/dev/null); do kill -KILL "$pid" 2>/dev/null || true; done
    rm -f "$RUN/$1.pid"; return 0
  fi
  kill "-$2" "$pid" 2>/dev/null || true
  for _ in $(seq 50); do [ -e "/proc/$pid" ] || break; sleep 0.1; done
  if [ -e "/proc/$pid" ]; then kill -KILL "$pid" 2>/dev/null || true; while [ -e "/proc/$pid" ]; do sleep 0.05; done; fi
  rm -f "$RUN/$1.pid"
}

# A machine without power does not answer: nothing is refused, and no connection is closed.
power_off() { # MACHINE
  ip -n "$NETNS-$1" link set eth0 down 2>/dev/null || true
  halt "$1" KILL
}

# End all jobs the orderly way, else Slurm would find them "running" at the next start.
drain() {
  init_pid head >/dev/null || return 0
  local i jobs
  for i in $(seq 100); do
    jobs=$(on -- timeout 5 squeue -h -a -o %A 2>/dev/null) || return 0
    [ -n "$jobs" ] || return 0
    # shellcheck disable=SC2086  # one argument a job
    [ "$i" != 1 ] || on -- scancel $jobs 2>/dev/null || true
    sleep 0.1
  done
}

cmd_stop() {
  require_root stop
  [ -d "$CLUSTER_PREFIX" ] || { say "nothing to stop"; return 0; }
  lock
  local m
  drain
  for m in $(machines | tac); do [ "$m" = head ] || halt "$m" KILL; done
  halt head TERM
  net_down
  cgroups_down
  rm -rf --one-file-system "$RUN" "$LOCAL"
  say "stopped"
}

cmd_status() {
  require_root status
  local m pid daemons rc=0
  for m in $(machines); do
    if pid=$(init_pid "$m"); then
      daemons=$(nsenter -t "$pid" -p -m ps -eo comm= 2>/dev/null | grep -E '^(munged|mariadbd|slurmdbd|slurmctld|slurmd|slurmstepd)$' |
        sort | uniq -c | awk '{ printf "%s%s ", $2, ($1 > 1 ? "x" $1 : "") }' || true)
      printf '%-7s %-14s up, init %s: %s\n' "$m" "$(address "$m")" "$pid" "$daemons"
    else printf '%-7s %-14s down\n' "$m" "$(address "$m")"; rc=1; fi
  done
  if init_pid head >/dev/null; then on -- sinfo -N -l; on -- squeue -a; fi
  return $rc
}

# ------------------------------------------------------------------- exec ----

# Sets COMMAND: what runs the rest of the arguments on a machine.
prepare() {
  local m=head user=root dir="" pid uid gid home opt entry OPTIND=1
  while getopts u:m:C: opt; do
    case $opt in u) user=$OPTARG ;; m) m=$OPTARG ;; C) dir=$OPTARG ;; *) exit $EX_USAGE ;; esac
  done
  shift $((OPTIND - 1))
  [ $# -gt 0 ] || die $EX_USAGE "exec needs a command"
  pid=$(init_pid "$m") || die $EX_UNAVAILABLE "$m is not running: '$0 start'"
  entry=$(grep "^$user:" "$ROOT/etc/passwd") || die $EX_USAGE "no user $user on the cluster"
  IFS=: read -r _ _ uid gid _ home _ <<<"$entry"
  # shellcheck disable=SC2016  # expanded on the machine
  # pdeathsig: who ends this command ends what runs on the machine, too
  COMMAND=(nsenter -t "$pid" -a -- setpriv --reuid "$uid" --regid "$gid" --init-groups --pdeathsig TERM --
    env -i HOME="$home" USER="$user" LOGNAME="$user" SHELL=/bin/bash LANG=C.UTF-8 TERM="${TERM:-dumb}"
    PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin
    bash -c 'cd "$1" && shift && exec "$@"' exec "${dir:-$home}" "$@")
}
on()       { local COMMAND; prepare "$@"; "${COMMAND[@]}" 9>&-; }
cmd_exec() { require_root exec; prepare "$@"; exec "${COMMAND[@]}"; }

main() {
  local verb=${1:-}
  [ $# -eq 0 ] || shift
  [[ $CLUSTER_NAME =~ ^[a-z][a-z0-9]{0,19}$ ]] || die $EX_USAGE "AIF_CLUSTER_NAME must be a short word of small letters and digits"
  case $CLUSTER_FLAVOR in trixie | bookworm) ;; *) die $EX_USAGE "AIF_CLUSTER_FLAVOR must be trixie or bookworm" ;; esac
  case $verb in
    install) cmd_install ;;
    start)   cmd_start ;;
    stop)    cmd_stop ;;
    status)  cmd_status ;;
    exec)    cmd_exec "$@" ;;
    shell)   cmd_exec "$@" bash -i ;;
    crash)   require_root crash; power_off "${1:?a node}" ;;
    boot)    require_root boot; require_installed; boot "${1:?a node}" ;;
    reset)   cmd_stop; rm -rf "$STATE" "$LOG"; configure ;;
    uninstall)
      cmd_stop
      ! ls /run/netns/aifc-* >/dev/null 2>&1 || die $EX_UNAVAILABLE "another cluster is up ($(cd /run/netns; echo aifc-*)): stop it first"
      rm -rf --one-file-system "$CLUSTER_PREFIX"; say "removed $CLUSTER_PREFIX; the user $CLUSTER_USER and its home are kept" ;;
    __init)  machine_init "$@" ;;
    *) sed -n '2,/^set -/p' "$SELF" | grep '^#' | sed 's/^# \{0,1\}//' >&2; exit $EX_USAGE ;;
  esac
}
# read as a whole before it runs: a machine keeps its script open for as long as it is up
main "$@"; exit
