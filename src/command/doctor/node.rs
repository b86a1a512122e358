//! The node: its clock, the limits of a process, its GPUs.
//!
//! Whether the kernel holds the clock for synchronised is asked of whoever keeps it: the mark of systemd's keeper, else
//! `timedatectl`, else `chronyc`; the kernel's own call is not within reach of safe Rust.

use std::{fs, path::Path, sync::Arc};

use jiff::Timestamp;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};

use super::{
    LIMIT,
    check::{Check, size},
    scene::Scene,
};
use crate::{clock, process::ask};

/// A clock before this is wrong: this program did not exist.
const FIRST_YEAR: i16 = 2025;
const LAST_YEAR: i16 = 2100;
/// Fewer open files or processes than this are few for a bench or an engine.
const FEW_FILES: u64 = 4096;
const FEW_PROCESSES: u64 = 1024;
/// Less locked memory than this is little for GPUs that talk to other nodes.
const LITTLE_LOCKED: u64 = 64 << 20;

pub(super) async fn clock(_: Arc<Scene>) -> Vec<Check> {
    vec![clock_check(clock::now(), synchronised().await)]
}

async fn synchronised() -> Option<bool> {
    if Path::new("/run/systemd/timesync/synchronized").exists() {
        return Some(true);
    }
    for argv in [
        ["timedatectl", "show", "--property=NTPSynchronized"].as_slice(),
        ["chronyc", "-n", "tracking"].as_slice(),
    ] {
        let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
        if let Ok(answer) = ask::ask(&argv, LIMIT / 2).await
            && answer.success
            && let Some(told) = told(&answer.out)
        {
            return Some(told);
        }
    }
    None
}

/// What a keeper of the clock says.
fn told(answer: &str) -> Option<bool> {
    answer.lines().find_map(|line| {
        let (key, value) = line.split_once(['=', ':'])?;
        match key.trim() {
            "NTPSynchronized" => Some(value.trim() == "yes"),
            "Leap status" => Some(value.trim() != "Not synchronised"),
            _ => None,
        }
    })
}

fn clock_check(now: Timestamp, synchronised: Option<bool>) -> Check {
    let name = "clock";
    let year = now.to_zoned(jiff::tz::TimeZone::UTC).year();
    let shown = now.strftime("%F %T UTC");
    let mend = "tell the site's support: stamps of results and metrics will be wrong";
    if !(FIRST_YEAR..=LAST_YEAR).contains(&year) {
        return Check::warning(name, format!("{shown} cannot be"), mend);
    }
    match synchronised {
        Some(true) => Check::ok(name, format!("{shown}, synchronised")),
        Some(false) => Check::warning(name, format!("{shown}, not synchronised"), mend),
        None => Check::ok(
            name,
            format!("{shown}; whether it is synchronised cannot be told here"),
        ),
    }
}

pub(super) async fn probe(scene: Arc<Scene>) -> Vec<Check> {
    let limit = |resource| getrlimit(resource).unwrap_or((RLIM_INFINITY, RLIM_INFINITY));
    let mut driver = Driver {
        version: fs::read_to_string("/proc/driver/nvidia/version").ok(),
        amd: Path::new("/dev/kfd").exists(),
        listed: None,
        of_job: scene.job.as_ref().map_or(0, |job| job.gpus_on_node),
    };
    if driver.version.is_some()
        && let Some(program) = scene.shell.env.find_program("nvidia-smi")
    {
        let argv = [program.display().to_string(), "-L".to_owned()];
        let answer = ask::ask(&argv, LIMIT).await;
        driver.listed = Some(answer.map_or(0, |answer| answer.out.lines().count()));
    }
    let gpus = driver.judge();
    let has_gpus = driver.version.is_some() || driver.amd;
    vec![
        files_check(limit(Resource::RLIMIT_NOFILE)),
        processes_check(limit(Resource::RLIMIT_NPROC).0),
        locked_check(limit(Resource::RLIMIT_MEMLOCK).0, has_gpus),
        gpus,
    ]
}

fn number(value: u64) -> String {
    if value == RLIM_INFINITY {
        "unlimited".to_owned()
    } else {
        value.to_string()
    }
}

fn files_check((soft, hard): (u64, u64)) -> Check {
    let name = "open files";
    let found = format!("{}, up to {}", number(soft), number(hard));
    if hard < FEW_FILES {
        return Check::warning(
            name,
            format!("{found}: a bench needs one for each connection"),
            "ask the site for a higher hard limit; job scripts go up to the hard one by themselves",
        );
    }
    Check::ok(
        name,
        format!("{found}; job scripts take all of it by themselves"),
    )
}

fn processes_check(soft: u64) -> Check {
    let name = "processes";
    if soft < FEW_PROCESSES {
        let found = format!(
            "{}: an engine with many threads fails to start",
            number(soft)
        );
        let mend =
            "ulimit -u higher before sbatch (Slurm hands limits on to jobs), or ask the site";
        return Check::warning(name, found, mend);
    }
    Check::ok(name, number(soft))
}

fn locked_check(soft: u64, has_gpus: bool) -> Check {
    let name = "locked memory";
    let shown = if soft == RLIM_INFINITY {
        number(soft)
    } else {
        size(soft)
    };
    if soft < LITTLE_LOCKED && has_gpus {
        return Check::warning(
            name,
            format!("{shown}: GPUs that talk to other nodes by RDMA need more"),
            "ulimit -l unlimited before sbatch (Slurm hands limits on to jobs), or ask the site",
        );
    }
    Check::ok(name, shown)
}

/// What is seen of GPUs.
struct Driver {
    /// What NVIDIA's driver says of itself.
    version: Option<String>,
    /// Is there a driver of AMD's for computing?
    amd: bool,
    /// GPUs that `nvidia-smi` lists; `None` where it is not there.
    listed: Option<usize>,
    /// GPUs that the job was given on this node.
    of_job: u32,
}

impl Driver {
    fn judge(&self) -> Check {
        let name = "GPUs";
        let given = if self.of_job > 0 {
            format!("; the job was given {}", self.of_job)
        } else {
            String::new()
        };
        let Some(said) = &self.version else {
            return if self.amd {
                Check::ok(name, format!("AMD (/dev/kfd){given}"))
            } else if self.of_job > 0 {
                Check::warning(
                    name,
                    format!("no driver{given}"),
                    "engines that need a GPU fail here: tell the site's support which node it is",
                )
            } else {
                Check::not_here(
                    name,
                    "no driver on this machine; recipes without GPUs need none",
                )
            };
        };
        let version = driver_version(said).unwrap_or("of an unknown version");
        match self.listed {
            Some(0) => Check::warning(
                name,
                format!("NVIDIA driver {version}, but nvidia-smi lists no GPU{given}"),
                "where a job should have one, ask for it: --gres=gpu:1; else tell the site's support",
            ),
            Some(count) => Check::ok(name, format!("{count}, NVIDIA driver {version}{given}")),
            None => Check::ok(
                name,
                format!("NVIDIA driver {version}; no nvidia-smi on the PATH{given}"),
            ),
        }
    }
}

/// The number in `/proc/driver/nvidia/version`.
fn driver_version(text: &str) -> Option<&str> {
    let numeric = |word: &&str| {
        word.contains('.') && word.chars().all(|c: char| c.is_ascii_digit() || c == '.')
    };
    text.lines().next()?.split_whitespace().find(numeric)
}

#[cfg(test)]
mod tests {
    use super::{super::check::State, *};

    #[test]
    fn a_clock_that_is_off_or_alone_is_warned_of() {
        let at = |year: i16| {
            let date = jiff::civil::date(year, 6, 1).to_zoned(jiff::tz::TimeZone::UTC);
            date.unwrap().timestamp()
        };
        assert_eq!(clock_check(at(2026), Some(true)).state, State::Ok);
        assert_eq!(clock_check(at(2026), None).state, State::Ok);
        assert_eq!(clock_check(at(2026), Some(false)).state, State::Warning);
        assert_eq!(clock_check(at(1970), Some(true)).state, State::Warning);
    }

    #[test]
    fn keepers_of_the_clock_are_understood() {
        assert_eq!(told("NTPSynchronized=yes\n"), Some(true));
        assert_eq!(told("NTPSynchronized=no\n"), Some(false));
        let chrony = "Reference ID    : C0000201 (192.0.2.1)\nLeap status     : ";
        assert_eq!(told(&format!("{chrony}Normal\n")), Some(true));
        assert_eq!(told(&format!("{chrony}Not synchronised\n")), Some(false));
        assert_eq!(told("garbage"), None);
    }

    #[test]
    fn low_limits_are_told_with_what_they_mean() {
        assert_eq!(files_check((1024, 1_048_576)).state, State::Ok);
        assert_eq!(files_check((1024, 1024)).state, State::Warning);
        assert_eq!(processes_check(RLIM_INFINITY).found, "unlimited");
        assert_eq!(processes_check(256).state, State::Warning);
        assert_eq!(locked_check(8 << 20, false).state, State::Ok);
        assert_eq!(locked_check(8 << 20, true).state, State::Warning);
        assert_eq!(locked_check(RLIM_INFINITY, true).state, State::Ok);
    }

    #[test]
    fn gpus_are_missed_only_where_the_job_has_some() {
        let line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\nGCC version: 12.2.0\n";
        let open =
            "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build\n";
        assert_eq!(driver_version(line), Some("550.54.15"));
        assert_eq!(driver_version(open), Some("560.35.03"));
        let judged = |version: Option<&str>, listed, of_job| {
            let version = version.map(str::to_owned);
            Driver {
                version,
                amd: false,
                listed,
                of_job,
            }
            .judge()
        };
        assert_eq!(judged(None, None, 0).state, State::NotHere);
        assert_eq!(judged(None, None, 2).state, State::Warning);
        assert_eq!(judged(Some(line), Some(0), 1).state, State::Warning);
        assert_eq!(
            judged(Some(line), Some(4), 2).found,
            "4, NVIDIA driver 550.54.15; the job was given 2"
        );
    }
}
