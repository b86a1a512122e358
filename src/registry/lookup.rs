//! Who is meant: same run, else same job, else same cluster; never another cluster.
//!
//! The narrowest scope that has a living server of the service decides, also when it is not ready yet: a stack whose
//! own server still loads must not send its load to a neighbour's. Inside the cluster all instances of *one* job are
//! meant; where several jobs serve, a guess would measure the wrong one, so the user chooses.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    lease::{Liveness, Seen, Watch},
    record::{Kind, LOCAL, Record, State, state_name},
    store::Store,
};
use crate::{
    clock,
    exit::Exit,
    shutdown::{Cause, Shutdown},
    slurm::job_env::JobEnv,
    units::human_duration,
};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(500);

/// An instance whose job ends sooner is not given out.
const SLACK_SECONDS: i64 = 30;

/// Where a look-up stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// The run that it belongs to.
    pub run: Option<String>,
    /// The job that it runs in.
    pub job_id: Option<String>,
    /// The clusters; none: any.
    pub clusters: Vec<String>,
}

impl Scope {
    /// The scope of a process in this job (or none) and run (or none). Nothing on a login node says which cluster that
    /// is of: outside of a job those of the site count, and where it names none, what answers is near enough.
    pub fn new(job: Option<&JobEnv>, run: Option<&str>, site: &[String]) -> Self {
        let clusters = match job {
            Some(job) => vec![job.cluster.clone()],
            None if site.is_empty() => Vec::new(),
            None => [site, &[LOCAL.to_owned()]].concat(),
        };
        Self {
            run: run.map(str::to_owned),
            job_id: job.map(|job| job.job_id.clone()),
            clusters,
        }
    }

    fn holds(&self, cluster: &String) -> bool {
        self.clusters.is_empty() || self.clusters.contains(cluster)
    }
}

/// What is looked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// The service.
    pub service: String,
    /// Only of this job.
    pub job: Option<String>,
    /// Only this instance.
    pub instance: Option<String>,
}

/// Why nothing was found.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is there, or not ready in time.
    #[error("no ready instance of service {service} after {}: {found}", human_duration(*waited))]
    NotFound {
        /// The service.
        service: String,
        /// How long it was waited for.
        waited: Duration,
        /// What was seen instead.
        found: String,
    },
    /// Several jobs serve it.
    #[error(
        "several jobs serve {service}: {jobs}; choose one with --job ID, or one instance with --instance ID"
    )]
    Several {
        /// The service.
        service: String,
        /// The jobs with their instances.
        jobs: String,
    },
    /// The process was told to end.
    #[error("told to end while waiting for service {service}")]
    Stopped {
        /// The service.
        service: String,
        /// Why.
        cause: Option<Cause>,
    },
}

impl Error {
    /// The exit code that it stands for.
    pub fn exit(&self) -> Exit {
        match self {
            Self::NotFound { .. } | Self::Several { .. } => Exit::Unavailable,
            Self::Stopped { cause, .. } => cause.map_or(Exit::Terminated, Cause::exit),
        }
    }
}

/// Waits until the wanted service has a ready server that is alive, in scope, and whose job lasts; gives all instances
/// of the chosen job. Fails when several jobs are left, when time is up, or when `shutdown` drains.
pub async fn wait_ready(
    store: &Store,
    scope: &Scope,
    wanted: &Wanted,
    timeout: Duration,
    shutdown: &Shutdown,
) -> Result<Vec<Record>, Error> {
    let mut watch = Watch::new(store);
    let start = Instant::now();
    loop {
        let stopped = || Error::Stopped {
            service: wanted.service.clone(),
            cause: shutdown.cause(),
        };
        let seen = tokio::select! {
            seen = watch.refresh() => seen,
            () = shutdown.drain.cancelled() => return Err(stopped()),
        };
        match choose(&seen, scope, wanted, clock::now()) {
            Choice::These(records) => return Ok(records),
            Choice::Several(jobs) => {
                return Err(Error::Several {
                    service: wanted.service.clone(),
                    jobs,
                });
            }
            Choice::NotYet(found) if start.elapsed() >= timeout => {
                return Err(Error::NotFound {
                    service: wanted.service.clone(),
                    waited: start.elapsed(),
                    found,
                });
            }
            Choice::NotYet(_) => {}
        }
        let left = timeout.saturating_sub(start.elapsed());
        tokio::select! {
            () = tokio::time::sleep(INTERVAL.min(left)) => {}
            () = shutdown.drain.cancelled() => return Err(stopped()),
        }
    }
}

#[derive(Debug, PartialEq)]
enum Choice {
    These(Vec<Record>),
    Several(String),
    /// With what is there instead, for people.
    NotYet(String),
}

fn choose(seen: &[Seen], scope: &Scope, wanted: &Wanted, now: Timestamp) -> Choice {
    let candidates: Vec<&Seen> = seen
        .iter()
        .filter(|seen| matches!(seen.record.kind, Kind::Server | Kind::Static))
        .filter(|seen| seen.record.service_name == wanted.service)
        .filter(|seen| {
            wanted
                .job
                .as_ref()
                .is_none_or(|job| seen.record.job_id == *job)
        })
        .filter(|seen| {
            let instance = &seen.record.instance_id;
            wanted.instance.as_ref().is_none_or(|id| instance == id)
        })
        .collect();
    let in_reach: Vec<&Seen> = candidates
        .iter()
        .copied()
        .filter(|seen| in_cluster(&seen.record, scope) && !seen.record.is_out_of_reach())
        .collect();

    let group_of = group_by(&in_reach, scope, wanted);
    let mut groups: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for seen in in_reach.iter().filter(|seen| serves(seen, now)) {
        if let Some(group) = group_of(&seen.record) {
            groups.entry(group).or_default().push(&seen.record);
        }
    }
    match groups.len() {
        0 if candidates.is_empty() => Choice::NotYet(others(seen, &wanted.service)),
        0 => Choice::NotYet(describe(&candidates, &in_reach, now)),
        1 => Choice::These(groups.into_values().flatten().cloned().collect()),
        _ => Choice::Several(list(&groups)),
    }
}

/// Which records belong together: all of the run, else all of the job, else those of one job each; `None`: not meant.
fn group_by<'a>(
    in_reach: &[&Seen],
    scope: &'a Scope,
    wanted: &Wanted,
) -> impl Fn(&'a Record) -> Option<&'a str> + use<'a> {
    let same_run = |record: &Record| scope.run.is_some() && record.run == scope.run;
    let same_job = |record: &Record| scope.job_id.as_ref() == Some(&record.job_id);
    let any = |belongs: &dyn Fn(&Record) -> bool| {
        in_reach
            .iter()
            .filter(|seen| seen.liveness != Liveness::Dead && seen.record.state != State::Draining)
            .any(|seen| belongs(&seen.record))
    };
    // who names a job or an instance means it, wherever it stands in the cluster
    let by_name = wanted.job.is_some() || wanted.instance.is_some();
    let in_run = !by_name && any(&same_run);
    let in_job = !by_name && !in_run && any(&same_job);
    move |record| {
        if in_run {
            same_run(record).then_some("")
        } else if in_job {
            same_job(record).then_some("")
        } else {
            Some(record.job_id.as_str())
        }
    }
}

/// Static services belong to the cluster they were added on, or, added outside of one, to all.
fn in_cluster(record: &Record, scope: &Scope) -> bool {
    scope.holds(&record.cluster) || (record.kind == Kind::Static && record.cluster.is_empty())
}

fn serves(seen: &Seen, now: Timestamp) -> bool {
    seen.record.state == State::Ready
        && seen.liveness == Liveness::Alive
        && !ends_soon(&seen.record, now)
}

fn ends_soon(record: &Record, now: Timestamp) -> bool {
    record
        .ends_at
        .is_some_and(|end| end.as_second() - now.as_second() < SLACK_SECONDS)
}

/// What is there where nothing of the service is: its name may be another, or the instance that is asked for.
pub fn others(seen: &[Seen], service: &str) -> String {
    let names: BTreeSet<&str> = seen
        .iter()
        .filter(|seen| matches!(seen.record.kind, Kind::Server | Kind::Static))
        .filter(|seen| seen.liveness != Liveness::Dead)
        .map(|seen| seen.record.service_name.as_str())
        .collect();
    if names.contains(service) {
        return "that job or instance is not registered; `aif services` lists what is".to_owned();
    }
    if names.is_empty() {
        return "no service is registered".to_owned();
    }
    let names = Vec::from_iter(names).join(", ");
    format!("it is not registered, but {names}: is service_name the same on both sides?")
}

/// What is there instead of a ready instance.
fn describe(candidates: &[&Seen], in_reach: &[&Seen], now: Timestamp) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for seen in candidates {
        let record = &seen.record;
        let reached = in_reach
            .iter()
            .any(|other| other.record.instance_id == record.instance_id);
        let what = if !reached {
            format!("on {} ({})", record.cluster, record.node)
        } else if seen.liveness == Liveness::Dead {
            "dead".to_owned()
        } else if record.state == State::Ready && ends_soon(record, now) {
            "in a job that is about to end".to_owned()
        } else if seen.liveness == Liveness::Unknown {
            "not answering".to_owned()
        } else {
            state_name(record.state).to_owned()
        };
        *counts.entry(what).or_default() += 1;
    }
    let parts: Vec<String> = counts
        .into_iter()
        .map(|(what, count)| format!("{count} {what}"))
        .collect();
    parts.join(", ")
}

fn list(groups: &BTreeMap<&str, Vec<&Record>>) -> String {
    let parts: Vec<String> = groups
        .iter()
        .map(|(job, records)| {
            let instances: Vec<String> = records
                .iter()
                .map(|record| format!("{} on {}", record.instance_id, record.node))
                .collect();
            format!("{job} ({})", instances.join(", "))
        })
        .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::{super::record::tests::ready, *};

    fn scope(run: Option<&str>, job: Option<&str>) -> Scope {
        Scope {
            run: run.map(str::to_owned),
            job_id: job.map(str::to_owned),
            clusters: vec!["prod".to_owned()],
        }
    }

    fn wanted() -> Wanted {
        Wanted {
            service: "s".to_owned(),
            ..Wanted::default()
        }
    }

    fn seen(job: &str, instance: &str, change: impl FnOnce(&mut Seen)) -> Seen {
        let mut seen = Seen {
            record: ready("s", job, instance),
            liveness: Liveness::Alive,
        };
        "node1".clone_into(&mut seen.record.node);
        "node1".clone_into(&mut seen.record.address);
        change(&mut seen);
        seen
    }

    fn plain(job: &str, instance: &str) -> Seen {
        seen(job, instance, |_| {})
    }

    fn ids(choice: Choice) -> Vec<String> {
        match choice {
            Choice::These(records) => records.into_iter().map(|r| r.instance_id).collect(),
            other => panic!("nothing chosen: {other:?}"),
        }
    }

    #[test]
    fn the_narrowest_scope_wins() {
        let all = [
            seen("7", "of-run", |s| s.record.run = Some("r".to_owned())),
            seen("7", "of-job", |s| s.record.het_group = Some(1)),
            plain("8", "of-cluster"),
        ];
        let now = clock::now();
        let pick = |from: &[Seen], run, job| ids(choose(from, &scope(run, job), &wanted(), now));
        assert_eq!(pick(&all, Some("r"), Some("7")), ["of-run"]);
        assert_eq!(
            pick(&all, None, Some("7")),
            ["of-run", "of-job"],
            "all het groups"
        );
        assert_eq!(pick(&all[1..], Some("r"), Some("7")), ["of-job"]);
        assert_eq!(pick(&all[2..], Some("r"), Some("7")), ["of-cluster"]);
    }

    #[test]
    fn an_own_server_that_still_loads_is_waited_for() {
        let own = seen("7", "own", |s| {
            s.record.run = Some("r".to_owned());
            s.record.state = State::Starting;
        });
        let all = [own, plain("8", "neighbour")];
        let choice = choose(&all, &scope(Some("r"), Some("7")), &wanted(), clock::now());
        assert_eq!(choice, Choice::NotYet("1 ready, 1 starting".to_owned()));
    }

    #[test]
    fn several_jobs_are_a_question() {
        let all = [plain("7", "a"), plain("7", "b"), plain("8", "c")];
        let now = clock::now();
        let choice = choose(&all, &scope(None, Some("9")), &wanted(), now);
        assert_eq!(
            choice,
            Choice::Several("7 (a on node1, b on node1), 8 (c on node1)".to_owned())
        );
        let job = Wanted {
            job: Some("7".to_owned()),
            ..wanted()
        };
        assert_eq!(ids(choose(&all, &scope(None, None), &job, now)), ["a", "b"]);
        let instance = Wanted {
            instance: Some("c".to_owned()),
            ..wanted()
        };
        assert_eq!(
            ids(choose(&all, &scope(None, Some("7")), &instance, now)),
            ["c"]
        );
    }

    #[test]
    fn what_cannot_serve_is_passed_over_and_told() {
        let now = clock::now();
        let soon = Timestamp::from_second(now.as_second() + 29).unwrap();
        let later = Timestamp::from_second(now.as_second() + 60).unwrap();
        let cases: [(Seen, &str); 7] = [
            (
                seen("7", "i", |s| s.record.state = State::Starting),
                "1 starting",
            ),
            (
                seen("7", "i", |s| s.record.state = State::Draining),
                "1 draining",
            ),
            (seen("7", "i", |s| s.liveness = Liveness::Dead), "1 dead"),
            (
                seen("7", "i", |s| s.liveness = Liveness::Unknown),
                "1 not answering",
            ),
            (
                seen("7", "i", |s| s.record.ends_at = Some(soon)),
                "1 in a job that is about to end",
            ),
            (
                seen("7", "i", |s| "test".clone_into(&mut s.record.cluster)),
                "1 on test (node1)",
            ),
            (
                seen("7", "i", |s| s.record.kind = Kind::Bench),
                "no service is registered",
            ),
        ];
        for (seen, expected) in cases {
            let choice = choose(&[seen], &scope(None, None), &wanted(), now);
            assert_eq!(choice, Choice::NotYet(expected.to_owned()));
        }
        let lasts = seen("7", "i", |s| s.record.ends_at = Some(later));
        assert_eq!(
            ids(choose(&[lasts], &scope(None, None), &wanted(), now)),
            ["i"]
        );
    }

    #[test]
    fn what_is_registered_instead_is_named() {
        let told = |wanted: &Wanted| {
            let other = |name: &str| {
                seen("7", name, |seen| {
                    name.clone_into(&mut seen.record.service_name);
                })
            };
            let all = [other("vllm"), other("llamacpp"), other("vllm")];
            match choose(&all, &scope(None, None), wanted, clock::now()) {
                Choice::NotYet(found) => found,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            told(&wanted()),
            "it is not registered, but llamacpp, vllm: is service_name the same on both sides?"
        );
        let instance = Wanted {
            service: "vllm".to_owned(),
            instance: Some("gone".to_owned()),
            ..wanted()
        };
        assert!(told(&instance).starts_with("that job or instance is not registered"));
    }

    #[test]
    fn outside_of_a_job_the_clusters_of_the_site_are_meant() {
        let all = [plain("7", "of-prod")];
        let sites = [(vec![], true), (vec!["prod"], true), (vec!["test"], false)];
        for (clusters, found) in sites {
            let clusters: Vec<String> = clusters.into_iter().map(str::to_owned).collect();
            let scope = Scope::new(None, None, &clusters);
            let choice = choose(&all, &scope, &wanted(), clock::now());
            assert_eq!(matches!(choice, Choice::These(_)), found, "{clusters:?}");
        }
    }

    #[test]
    fn a_static_service_of_no_cluster_is_everywhere() {
        let everywhere = seen("static", "s-static", |s| {
            s.record.kind = Kind::Static;
            s.record.cluster.clear();
        });
        let choice = choose(&[everywhere], &scope(None, None), &wanted(), clock::now());
        assert_eq!(ids(choice), ["s-static"]);
    }

    #[tokio::test(start_paused = true)]
    async fn time_up_and_told_to_end_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let shutdown = Shutdown::new();
        let limit = Duration::from_secs(3);
        let error = wait_ready(&store, &scope(None, None), &wanted(), limit, &shutdown)
            .await
            .unwrap_err();
        insta::assert_snapshot!(error, @"no ready instance of service s after 3.0 s: no service is registered");
        assert_eq!(error.exit(), Exit::Unavailable);
        shutdown.tell(Cause::Interrupted);
        let error = wait_ready(&store, &scope(None, None), &wanted(), limit, &shutdown)
            .await
            .unwrap_err();
        assert_eq!(error.exit(), Exit::Interrupted);
    }
}
