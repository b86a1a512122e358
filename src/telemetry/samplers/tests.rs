//! Samplers on trees that were captured, or written as the kernel documents them: see `tests/data/node`.

use std::{fs, path::Path, process::Command};

use prometheus_client::registry::Registry;
use tempfile::TempDir;

use super::*;
use crate::{
    files::{Durability, write_atomic},
    telemetry::host::Samplers,
};

fn data(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/node");
    fs::read_to_string(path.join(name)).unwrap()
}

fn put(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path.trim_start_matches('/'));
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    write_atomic(&path, text.as_bytes(), 0o644, Durability::Fast).unwrap();
}

/// The tree of a file.
fn tree(name: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = data(name);
    for part in text.split("==> ").skip(1) {
        let (path, content) = part.split_once(" <==\n").unwrap();
        put(folder.path(), path, content);
    }
    folder
}

fn env(variables: &[(&str, &str)]) -> Env {
    variables
        .iter()
        .fold(Env::default(), |env, (name, value)| env.with(name, value))
}

/// What is scraped, and what is said of the samplers.
fn scraped(samplers: Vec<Box<dyn Sampler>>) -> (String, serde_json::Value) {
    let samplers = Samplers::new(samplers);
    let mut registry = Registry::default();
    registry.register_collector(Box::new(samplers.clone()));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    (text, samplers.facts())
}

/// The series whose names begin so.
fn series(text: &str, start: &str) -> String {
    let lines = text.lines().filter(|line| line.starts_with(start));
    lines.collect::<Vec<_>>().join("\n")
}

fn of_tree(name: &str, variables: &[(&str, &str)]) -> (String, serde_json::Value) {
    let folder = tree(name);
    let samplers = all(&Root::at(folder.path()), &env(variables));
    let samplers = samplers
        .into_iter()
        .filter(|sampler| !format!("{sampler:?}").starts_with("Nvidia"));
    scraped(samplers.collect())
}

fn single(sampler: impl Sampler + 'static) -> (String, serde_json::Value) {
    scraped(vec![Box::new(sampler)])
}

const JOB: &[(&str, &str)] = &[("SLURM_JOB_ID", "42"), ("SLURM_STEP_ID", "0")];

#[test]
fn a_step_of_slurm_with_version_one_was_captured() {
    let (text, facts) = of_tree("slurm-v1.txt", JOB);
    insta::assert_snapshot!(series(&text, "aif_step_"), @r#"
    aif_step_memory_usage_bytes 2895872.0
    aif_step_memory_working_set_bytes 2494464.0
    aif_step_memory_limit_bytes 536870912.0
    aif_step_memory_peak_bytes 2871296.0
    aif_step_memory_limit_hits_total 0.0
    aif_step_memory_major_faults_total 7.0
    aif_step_oom_kills_total 0.0
    aif_step_cpu_seconds_total 0.12
    aif_step_disk_read_bytes_total 405504.0
    aif_step_disk_write_bytes_total 278528.0
    aif_step_processes 2.0
    aif_step_threads 2.0
    aif_step_context_switches_total{kind="voluntary"} 21.0
    aif_step_context_switches_total{kind="involuntary"} 12.0
    "#);
    insta::assert_snapshot!(series(&text, "aif_job_"), @r#"
    aif_job_memory_usage_bytes 3678208.0
    aif_job_memory_working_set_bytes 3293184.0
    aif_job_memory_limit_bytes 536870912.0
    aif_job_memory_peak_bytes 2719744.0
    aif_job_memory_limit_hits_total 0.0
    aif_job_memory_major_faults_total 7.0
    aif_job_oom_kills_total 0.0
    aif_job_cpu_seconds_total 0.12
    aif_job_disk_read_bytes_total 405504.0
    aif_job_disk_write_bytes_total 278528.0
    aif_job_processes 2.0
    aif_job_threads 2.0
    aif_job_context_switches_total{kind="voluntary"} 21.0
    aif_job_context_switches_total{kind="involuntary"} 12.0
    "#);
    insta::assert_snapshot!(series(&text, "aif_node_pressure"), @r#"
    aif_node_pressure_waiting_seconds_total{resource="cpu"} 8033.411153
    aif_node_pressure_waiting_seconds_total{resource="memory"} 8.760786
    aif_node_pressure_waiting_seconds_total{resource="io"} 432.448125
    aif_node_pressure_stalled_seconds_total{resource="memory"} 2.396122
    aif_node_pressure_stalled_seconds_total{resource="io"} 145.496217
    "#);
    insta::assert_snapshot!(serde_json::to_string_pretty(&facts).unwrap(), @r#"
    {
      "cpu": "healthy",
      "disk": "healthy",
      "energy": "unsupported: /sys/class/powercap: no such file or directory (this node has no energy counters of its CPUs)",
      "gpu_amd": "unsupported: this step was given no GPU",
      "infiniband": "unsupported: /sys/class/infiniband: no such file or directory (no InfiniBand)",
      "job_cpu": "degraded: no cgroup counts its CPU time: added up over its processes, so what came and went between two looks is missing",
      "job_disk": "degraded: no cgroup counts its disks: added up over its processes, so what came and went between two looks is missing",
      "job_memory": "healthy",
      "job_pressure": "unsupported: cgroups of version 1 know no pressure: that of the node is in aif_node_pressure_*",
      "job_processes": "healthy: threads are looked at every 10 s",
      "load": "healthy",
      "memory": "healthy",
      "memory_traffic": "unsupported: /sys/fs/resctrl/mon_data: no such file or directory (resctrl is not mounted, or the CPUs do not count their memory traffic: the site can mount it)",
      "network": "healthy: of the whole node: Linux counts no network traffic by job",
      "pressure": "healthy",
      "step_cpu": "degraded: no cgroup counts its CPU time: added up over its processes, so what came and went between two looks is missing",
      "step_disk": "degraded: no cgroup counts its disks: added up over its processes, so what came and went between two looks is missing",
      "step_memory": "healthy",
      "step_pressure": "unsupported: cgroups of version 1 know no pressure: that of the node is in aif_node_pressure_*",
      "step_processes": "healthy: threads are looked at every 10 s"
    }
    "#);
}

#[test]
fn version_two_has_pressure_of_its_own() {
    let (text, facts) = of_tree("slurm-v2.txt", JOB);
    insta::assert_snapshot!(series(&text, "aif_job_"), @r#"
    aif_job_memory_usage_bytes 1000.0
    aif_job_memory_working_set_bytes 700.0
    aif_job_memory_limit_bytes 8192.0
    aif_job_memory_peak_bytes 1500.0
    aif_job_memory_limit_hits_total 6.0
    aif_job_memory_major_faults_total 17.0
    aif_job_oom_kills_total 2.0
    aif_job_cpu_throttled_seconds_total 1.25
    aif_job_cpus 5.0
    aif_job_cpu_seconds_total 2.5
    aif_job_disk_read_bytes_total{device="259:0"} 90000.0
    aif_job_disk_read_bytes_total{device="253:1"} 5.0
    aif_job_disk_write_bytes_total{device="259:0"} 1000.0
    aif_job_disk_write_bytes_total{device="253:1"} 6.0
    aif_job_pressure_waiting_seconds_total{resource="cpu"} 3.0
    aif_job_pressure_waiting_seconds_total{resource="memory"} 4.0
    aif_job_pressure_waiting_seconds_total{resource="io"} 5.0
    aif_job_pressure_stalled_seconds_total{resource="cpu"} 3.0
    aif_job_pressure_stalled_seconds_total{resource="memory"} 3.0
    aif_job_pressure_stalled_seconds_total{resource="io"} 3.0
    aif_job_processes 2.0
    aif_job_threads 13.0
    aif_job_context_switches_total{kind="voluntary"} 111.0
    aif_job_context_switches_total{kind="involuntary"} 9.0
    "#);
    insta::assert_snapshot!(series(&text, "aif_step_"), @r#"
    aif_step_memory_usage_bytes 800.0
    aif_step_memory_working_set_bytes 600.0
    aif_step_memory_peak_bytes 900.0
    aif_step_memory_limit_hits_total 6.0
    aif_step_memory_major_faults_total 17.0
    aif_step_oom_kills_total 1.0
    aif_step_cpu_throttled_seconds_total 1.25
    aif_step_cpus 5.0
    aif_step_cpu_seconds_total 1.5
    aif_step_disk_read_bytes_total 4096.0
    aif_step_disk_write_bytes_total 512.0
    aif_step_pressure_waiting_seconds_total{resource="cpu"} 2.0
    aif_step_pressure_waiting_seconds_total{resource="memory"} 3.0
    aif_step_pressure_waiting_seconds_total{resource="io"} 4.0
    aif_step_pressure_stalled_seconds_total{resource="cpu"} 2.0
    aif_step_pressure_stalled_seconds_total{resource="memory"} 2.0
    aif_step_pressure_stalled_seconds_total{resource="io"} 2.0
    aif_step_processes 2.0
    aif_step_threads 13.0
    aif_step_context_switches_total{kind="voluntary"} 111.0
    aif_step_context_switches_total{kind="involuntary"} 9.0
    "#);
    // neither node nor devices were captured: none of them is a zero
    assert_eq!(series(&text, "aif_node_"), "");
    for sampler in [
        "job_memory",
        "step_memory",
        "job_cpu",
        "job_disk",
        "job_pressure",
        "step_pressure",
    ] {
        assert_eq!(facts[sampler], "healthy", "{sampler}");
    }
    let disk = facts["step_disk"].as_str().unwrap();
    assert!(
        disk.starts_with("degraded: no cgroup counts its disks: added up"),
        "{disk}"
    );
    assert!(
        disk.ends_with("; 1 of 2 processes are closed to us"),
        "{disk}"
    );
}

#[test]
fn a_hybrid_node_counts_in_version_one() {
    let (text, facts) = of_tree("slurm-hybrid.txt", JOB);
    insta::assert_snapshot!(series(&text, "aif_job_"), @r#"
    aif_job_memory_usage_bytes 1000.0
    aif_job_memory_working_set_bytes 600.0
    aif_job_memory_major_faults_total 4.0
    aif_job_oom_kills_total 3.0
    aif_job_cpu_throttled_seconds_total 0.5
    aif_job_cpu_seconds_total 1.5
    aif_job_disk_read_bytes_total{device="8:0"} 4096.0
    aif_job_disk_write_bytes_total{device="8:0"} 8192.0
    "#);
    assert_eq!(
        facts["job_processes"],
        "unsupported: none of its processes can be seen from here"
    );
    assert!(text.contains("aif_step_cpu_seconds_total 0.9\n"), "{text}");
    let pressure = facts["job_pressure"].as_str().unwrap();
    assert!(
        pressure.starts_with("unsupported: cgroups of version 1"),
        "{pressure}"
    );
}

#[test]
fn outside_of_a_job_there_is_none_and_in_one_without_cgroups_that_is_said() {
    let (text, facts) = of_tree("slurm-v1.txt", &[]);
    assert_eq!(series(&text, "aif_job_") + &series(&text, "aif_step_"), "");
    assert_eq!(
        facts["job_memory"],
        "unsupported: this process is in no job"
    );

    let folder = tempfile::tempdir().unwrap();
    put(
        folder.path(),
        "/proc/self/cgroup",
        "0::/user.slice/session-1.scope\n",
    );
    put(
        folder.path(),
        "/proc/self/mountinfo",
        "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
    );
    let root = Root::at(folder.path());
    let (text, facts) = single(group::Groups::new(&root, &env(JOB)));
    assert_eq!(series(&text, "aif_job_"), "");
    let said = facts["job_cpu"].as_str().unwrap();
    assert!(
        said.starts_with("unsupported: Slurm gave this job no cgroup"),
        "{said}"
    );
}

#[test]
fn devices_that_are_there_are_read_and_what_they_cannot_tell_is_named() {
    let (text, facts) = of_tree("devices.txt", &[]);
    insta::assert_snapshot!(series(&text, "aif_node_"), @r#"
    aif_node_disk_read_bytes_total{device="sda"} 1024.0
    aif_node_disk_write_bytes_total{device="sda"} 3072.0
    aif_node_disk_busy_seconds_total{device="sda"} 5.0
    aif_node_infiniband_receive_bytes_total{device="mlx5_0",port="1"} 1000.0
    aif_node_infiniband_transmit_bytes_total{device="mlx5_0",port="1"} 2000.0
    aif_node_infiniband_packets_total{device="mlx5_0",port="1",direction="receive"} 3.0
    aif_node_infiniband_packets_total{device="mlx5_0",port="1",direction="transmit"} 4.0
    aif_node_infiniband_transmit_waits_total{device="mlx5_0",port="1"} 9.0
    aif_node_infiniband_errors_total{device="mlx5_0",port="1",kind="symbol"} 1.0
    aif_node_infiniband_errors_total{device="mlx5_0",port="1",kind="link_downed"} 0.0
    aif_node_infiniband_active{device="mlx5_0",port="1"} 1.0
    aif_node_infiniband_active{device="mlx5_1",port="1"} 0.0
    aif_node_infiniband_rate_bytes_per_second{device="mlx5_0",port="1"} 25000000000.0
    aif_node_memory_traffic_bytes_total{domain="00",scope="all"} 200.0
    aif_node_memory_traffic_bytes_total{domain="00",scope="local"} 100.0
    aif_node_memory_traffic_bytes_total{domain="01",scope="local"} 200.0
    aif_node_cache_occupancy_bytes{domain="00"} 128.0
    aif_node_cache_occupancy_bytes{domain="01"} 128.0
    aif_node_energy_joules_total{source="intel-rapl",domain="package-0"} 0.0
    aif_node_energy_joules_total{source="intel-rapl",domain="package-0/dram"} 0.0
    aif_node_energy_joules_total{source="cray",domain="accel0"} 100.0
    aif_node_energy_joules_total{source="cray",domain="node"} 46298.0
    aif_node_power_watts{source="cray",domain="node"} 311.0
    "#);
    let said = |sampler: &str| facts[sampler].as_str().unwrap().to_owned();
    assert_eq!(
        said("infiniband"),
        "degraded: /sys/class/infiniband/mlx5_1/ports/1/counters/port_rcv_data: no such file or directory"
    );
    assert_eq!(
        said("memory_traffic"),
        "degraded: /sys/fs/resctrl/batch/mon_data/mon_L3_01/mbm_total_bytes is no number: \"Unavailable\""
    );
    assert_eq!(said("energy"), "healthy");
    assert!(said("pressure").starts_with("unsupported: /proc/pressure: not there"));
}

#[test]
fn nothing_is_a_zero_where_nothing_is() {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "/proc/loadavg", "rubbish");
    let samplers = all(&Root::at(folder.path()), &env(JOB));
    let (text, facts) = scraped(samplers);
    let others = text
        .lines()
        .filter(|line| !line.starts_with('#') && !line.starts_with("aif_sampler_state"));
    assert_eq!(others.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(facts["load"].as_str().unwrap().starts_with("failed: "));
    assert!(
        facts["gpu_nvidia"]
            .as_str()
            .unwrap()
            .contains("this step was given no GPU")
    );
    let unsupported = facts
        .as_object()
        .unwrap()
        .values()
        .filter(|said| said.as_str().unwrap().starts_with("unsupported: "));
    assert_eq!(
        unsupported.count(),
        facts.as_object().unwrap().len() - 1,
        "{facts:#}"
    );
}

#[test]
fn energy_goes_on_where_its_counter_turns() {
    let folder = tree("devices.txt");
    let root = Root::at(folder.path());
    let mut energy = energy::Energy::new(&root);
    let package = |energy: &mut energy::Energy| {
        let reading = energy.sample().remove(0).1.unwrap();
        let family = reading.families.into_iter().next().unwrap();
        let zone = family
            .series
            .into_iter()
            .find(|(labels, _)| labels[1].1 == "package-0");
        zone.unwrap().1
    };
    let file = "/sys/class/powercap/intel-rapl:0/energy_uj";
    assert!(
        package(&mut energy).abs() < 1e-9,
        "from the start of the agent"
    );
    put(folder.path(), file, "262143300000\n");
    assert!((package(&mut energy) - 0.3).abs() < 1e-9);
    // 28850 µJ to its limit, and on from 0
    put(folder.path(), file, "971150\n");
    assert!((package(&mut energy) - 1.3).abs() < 1e-9);
}

#[test]
fn what_processes_used_does_not_fall_when_they_end() {
    let folder = tree("slurm-v2.txt");
    let root = Root::at(folder.path());
    let mut step = group::Groups::new(&root, &env(JOB));
    let switches = |step: &mut group::Groups| {
        let readings = step.sample();
        let (_, reading) = readings
            .into_iter()
            .find(|(name, _)| *name == "step_processes")
            .unwrap();
        let families = reading.unwrap().families;
        let value = |at: usize| families[at].series[0].1;
        (value(0), value(2))
    };
    assert_eq!(switches(&mut step), (2.0, 111.0));
    fs::remove_dir_all(folder.path().join("proc/501")).unwrap();
    assert_eq!(switches(&mut step), (1.0, 111.0));
}

#[test]
fn cards_of_amd_that_are_the_step_s() {
    let folder = tree("devices.txt");
    let root = Root::at(folder.path());
    let (text, facts) = single(amd::Amd::new(&root, &devices::Wanted::Numbers(vec![1])));
    insta::assert_snapshot!(series(&text, "aif_gpu_"), @r#"
    aif_gpu_info{gpu="1",uuid="ab02",model="AMD Instinct MI250X",driver="amdgpu"} 1.0
    aif_gpu_utilization_ratio{gpu="1"} 0.37
    aif_gpu_memory_utilization_ratio{gpu="1"} 0.12
    aif_gpu_memory_size_bytes{gpu="1"} 68702699520.0
    aif_gpu_memory_used_bytes{gpu="1"} 10960896.0
    aif_gpu_power_watts{gpu="1"} 91.0
    aif_gpu_power_limit_watts{gpu="1"} 560.0
    aif_gpu_clock_hertz{gpu="1",domain="sm"} 800000000.0
    aif_gpu_temperature_celsius{gpu="1",sensor="edge"} 41.0
    aif_gpu_temperature_celsius{gpu="1",sensor="junction"} 44.0
    aif_gpu_ecc_errors_total{gpu="1",kind="corrected"} 3.0
    aif_gpu_ecc_errors_total{gpu="1",kind="uncorrected"} 0.0
    aif_gpu_pcie_lanes{gpu="1"} 16.0
    aif_gpu_pcie_replays_total{gpu="1"} 0.0
    "#);
    assert_eq!(facts["gpu_amd"], "healthy");
    let (text, facts) = single(amd::Amd::new(&root, &devices::Wanted::Numbers(vec![7])));
    assert_eq!(series(&text, "aif_gpu_"), "");
    assert_eq!(
        facts["gpu_amd"],
        "unsupported: none of the cards of AMD is this step's"
    );
}

/// The stand-in for the driver's library, built by the compiler that links us.
fn library() -> (TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let library = folder.path().join("libnvidia-ml.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/node/nvml.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-w", "-o"])
        .args([&library, &source])
        .status()
        .unwrap();
    assert!(built.success());
    (folder, library)
}

#[test]
fn gpus_of_nvidia_by_the_driver_s_library() {
    let (_folder, library) = library();
    let of = |wanted| single(nvidia::Nvidia::with(wanted, &library));
    // Slurm's 2 is the bus's 0
    let (text, facts) = of(devices::Wanted::Numbers(vec![2]));
    insta::assert_snapshot!(series(&text, "aif_gpu_"), @r#"
    aif_gpu_info{gpu="0",uuid="GPU-0",model="NVIDIA Test 80GB",driver="550.54.15"} 1.0
    aif_gpu_utilization_ratio{gpu="0"} 0.9
    aif_gpu_memory_utilization_ratio{gpu="0"} 0.4
    aif_gpu_memory_size_bytes{gpu="0"} 85899345920.0
    aif_gpu_memory_used_bytes{gpu="0"} 1024.0
    aif_gpu_power_watts{gpu="0"} 350.5
    aif_gpu_power_limit_watts{gpu="0"} 700.0
    aif_gpu_energy_joules_total{gpu="0"} 123.456
    aif_gpu_clock_hertz{gpu="0",domain="sm"} 1980000000.0
    aif_gpu_clock_hertz{gpu="0",domain="memory"} 2619000000.0
    aif_gpu_throttled{gpu="0",reason="idle"} 0.0
    aif_gpu_throttled{gpu="0",reason="clocks_setting"} 0.0
    aif_gpu_throttled{gpu="0",reason="display_setting"} 0.0
    aif_gpu_throttled{gpu="0",reason="sync_boost"} 0.0
    aif_gpu_throttled{gpu="0",reason="power_cap"} 1.0
    aif_gpu_throttled{gpu="0",reason="hardware_slowdown"} 0.0
    aif_gpu_throttled{gpu="0",reason="thermal"} 0.0
    aif_gpu_throttled{gpu="0",reason="hardware_thermal"} 1.0
    aif_gpu_throttled{gpu="0",reason="power_brake"} 0.0
    aif_gpu_throttled_seconds_total{gpu="0",reason="power_cap"} 2.5
    aif_gpu_temperature_celsius{gpu="0",sensor="gpu"} 61.0
    aif_gpu_temperature_limit_celsius{gpu="0"} 90.0
    aif_gpu_ecc_errors_total{gpu="0",kind="corrected"} 5.0
    aif_gpu_ecc_errors_total{gpu="0",kind="uncorrected"} 0.0
    aif_gpu_pcie_receive_bytes_total{gpu="0"} 198.0
    aif_gpu_pcie_transmit_bytes_total{gpu="0"} 197.0
    aif_gpu_pcie_generation{gpu="0"} 5.0
    aif_gpu_pcie_lanes{gpu="0"} 16.0
    "#);
    assert_eq!(
        facts["gpu_nvidia"],
        "healthy: the card does not tell: NVLink traffic, PCIe replays, throttled time"
    );
    // of many links one is read, and that is said
    let (text, facts) = of(devices::Wanted::Uuids(vec!["GPU-1".to_owned()]));
    insta::assert_snapshot!(series(&text, "aif_gpu_nvlink"), @r#"
    aif_gpu_nvlink_receive_bytes_total{gpu="1",link="0"} 142336.0
    aif_gpu_nvlink_transmit_bytes_total{gpu="1",link="0"} 141312.0
    "#);
    assert_eq!(
        facts["gpu_nvidia"],
        "degraded: NVLink traffic is told of link 0 alone, of 18 links"
    );
    // the bus's 2 has fallen off it in the middle
    let (text, facts) = of(devices::Wanted::Uuids(vec!["GPU-2".to_owned()]));
    assert_eq!(series(&text, "aif_gpu_temperature_celsius"), "");
    assert!(
        series(&text, "aif_gpu_power_watts").ends_with("350.5"),
        "{text}"
    );
    let said = facts["gpu_nvidia"].as_str().unwrap();
    assert!(
        said.starts_with("degraded: temperature: device fell off the bus"),
        "{said}"
    );

    let (text, facts) = of(devices::Wanted::Uuids(vec!["GPU-9".to_owned()]));
    assert_eq!(series(&text, "aif_gpu_"), "");
    assert_eq!(
        facts["gpu_nvidia"],
        "unsupported: the driver shows none of this step's GPUs"
    );
}

#[test]
fn without_the_driver_s_library_there_are_no_gpus_and_no_error() {
    let nowhere = Path::new("/nonexistent/libnvidia-ml.so.1");
    let (text, facts) = single(nvidia::Nvidia::with(devices::Wanted::All, nowhere));
    assert_eq!(series(&text, "aif_gpu_"), "");
    assert_eq!(
        facts["gpu_nvidia"],
        "unsupported: /nonexistent/libnvidia-ml.so.1 cannot be loaded: no driver of NVIDIA"
    );
}

#[test]
fn a_process_of_job_and_step_is_read_once() {
    let folder = tree("slurm-v2.txt");
    let root = Root::at(folder.path());
    let mut looks = processes::Looks::new(&root);
    assert!(looks.at(501, false).is_some());
    // with its threads it is another look
    let threads = looks.at(501, true).and_then(|look| look.switches);
    assert!(threads.is_some());
    fs::remove_dir_all(folder.path().join("proc/501")).unwrap();
    assert_eq!(looks.at(501, false).and_then(|look| look.switches), threads);
    assert!(processes::Looks::new(&root).at(501, false).is_none());
}
