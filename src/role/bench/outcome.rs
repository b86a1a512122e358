//! From samples to files: results, their certificate, and the same in other tools' forms.

use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};

use super::{calibrate::Calibration, measure::Measured, service::Service};
use crate::{
    clock,
    exit::{Exit, Failure, OrExit as _},
    files::{self, Durability},
    launch::cpus,
    load::workload::{self, Content},
    recipe::{Arrival, ClientPlan, LoadModel},
    registry::{Kind, Liveness, Record, Watch},
    report,
    role::Context,
    stats::{
        frame::{Asked, Frame},
        results::{
            Completeness, Generator, Results, SCHEMA, TargetFacts, Tokens, Validity, Verdict,
        },
        summary::Window,
        tally::Tally,
        validity,
    },
};

/// Whom the generator shares its cores with.
#[derive(Debug, Clone, Copy)]
struct Cores {
    /// With an engine of the service.
    shared: bool,
    /// Is it known at all?
    known: bool,
}

/// What is known of a load besides its samples.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    name: String,
    service_name: String,
    run: String,
    target: TargetFacts,
    cpus: Vec<usize>,
    cores: Cores,
    /// Monitors of the run that were there at the start.
    monitors: Vec<String>,
    monitor_lost: bool,
    /// Instances that are loaded, and since when they were ready.
    engines: Vec<(String, Option<Timestamp>)>,
    engine_restarted: bool,
    probes: Vec<(usize, u64)>,
    /// What requests hold.
    content: Content,
    /// SHA-256 of the stimulus.
    stimulus: String,
    /// Start of the load.
    pub(super) started_at: Timestamp,
    /// Is the result whole?
    pub(super) completeness: Completeness,
    /// CPU time of the load.
    pub(super) cpu_seconds: f64,
    /// Event loops that sent and read.
    pub(super) workers: usize,
    /// CPU time of each, where it has ended.
    pub(super) worker_cpu: Vec<Duration>,
    /// Token counts.
    pub(super) counted: Tokens,
}

impl Facts {
    pub(super) fn new(
        plan: &ClientPlan,
        context: &Context,
        service: &Service,
        calibration: &Calibration,
        content: Content,
    ) -> Self {
        let own = cpus::allowed();
        let here = context.node();
        let beside: Vec<&Record> = service
            .records
            .iter()
            .filter(|record| record.node == here)
            .collect();
        let shared = beside
            .iter()
            .any(|record| record.cpus.iter().any(|cpu| own.contains(cpu)));
        let told = beside.iter().all(|record| !record.cpus.is_empty());
        // a service that is given by its address may be anywhere, also here
        let near = service.records.is_empty() && service.is_on_loopback();
        Self {
            name: plan.name.clone(),
            service_name: plan.service_name.clone(),
            run: context.run.id.clone(),
            target: service.facts.clone(),
            cores: Cores {
                shared,
                known: told && !near,
            },
            cpus: own,
            monitors: monitors(context),
            monitor_lost: false,
            engines: engines(&service.records),
            engine_restarted: false,
            probes: calibration.probes.clone(),
            stimulus: workload::stimulus(plan, &content),
            content,
            started_at: clock::now(),
            completeness: Completeness::Running,
            cpu_seconds: 0.0,
            workers: 1,
            worker_cpu: Vec::new(),
            counted: Tokens::default(),
        }
    }

    /// Says so when the prompts of a file did not suffice: a prefix cache knows those that come again.
    pub(super) fn tell_what_came_again(&self, sent: u64) {
        let held = self
            .content
            .material()
            .facts()
            .map_or(0, |file| file.requests as u64);
        if held > 0 && sent > held {
            tracing::warn!(
                held,
                sent,
                "The file holds fewer requests than were sent: its prompts came again, which a prefix cache answers faster"
            );
        }
    }

    /// Looks once more what is left of the monitors and engines that were there at the start. A monitor that was started
    /// again has another name: what happened between the two, nobody saw. One that the stack started and that was gone by
    /// then is lost, too. An engine has the same name, and another time.
    pub(super) async fn look_again(&mut self, context: &Context) {
        let now = engines(&context.store.records());
        self.engine_restarted = self.engines.iter().any(|(id, since)| {
            now.iter()
                .any(|(same, ready_at)| id == same && since != ready_at)
        });
        if self.monitors.is_empty() {
            self.monitor_lost = context.in_stack && context.run.step("monitor").exists();
            return;
        }
        let seen = Watch::new(&context.store).refresh().await;
        let is_there = |id: &String| {
            seen.iter()
                .any(|seen| seen.record.instance_id == *id && seen.liveness != Liveness::Dead)
        };
        self.monitor_lost = !self.monitors.iter().all(is_there);
    }
}

fn engines(records: &[Record]) -> Vec<(String, Option<Timestamp>)> {
    let one = |record: &Record| (record.instance_id.clone(), record.ready_at);
    records.iter().map(one).collect()
}

/// The monitors of this run.
fn monitors(context: &Context) -> Vec<String> {
    if !context.in_stack {
        return Vec::new();
    }
    let records = context.store.records().into_iter();
    records
        .filter(|record| record.kind == Kind::Monitor && context.owns(record))
        .map(|record| record.instance_id)
        .collect()
}

/// CPU time of this process so far, in seconds.
pub(super) fn cpu_seconds() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return 0.0;
    };
    let seconds =
        |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

/// Most memory that this process has had so far.
fn memory_mb() -> Option<f64> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    Some(usage.max_rss() as f64 * 1024.0 / 1e6)
}

/// Room that is taken for the results before anything is measured.
const RESERVE: usize = 512 << 10;

/// Where the results go, with room for them: a disk that fills while they are measured still has that.
#[derive(Debug)]
pub(super) struct Place {
    folder: PathBuf,
    room: File,
}

impl Place {
    /// Makes the folder and takes the room before anything is measured: a bad path or a full disk fails now, and not after
    /// an hour.
    pub(super) fn take(folder: &Path) -> Result<Self, Failure> {
        let room = files::create_folder(folder, 0o755)
            .and_then(|()| files::reserve(folder, RESERVE))
            .or_exit(Exit::CannotCreate, || {
                "the results could not be written there".to_owned()
            })?;
        Ok(Self {
            folder: folder.to_owned(),
            room,
        })
    }

    /// Writes the result of one load in all its forms.
    pub(super) fn write(self, plan: &ClientPlan, measured: &Measured) -> Result<(), Failure> {
        let Measured {
            results,
            tally,
            elapsed,
            ..
        } = measured;
        let window = window(plan, tally, *elapsed);
        let vllm = report::vllm::render(results, tally, window);
        let vllm = serde_json::to_value(vllm).or_exit(Exit::Bug, || {
            "the results cannot be written as JSON".to_owned()
        })?;
        let log = report::hlog::render(results, tally, window)
            .map_err(|error| Failure::new(Exit::Bug, error))?;
        let path = self.folder.join("histograms.hlog");
        self.put(results, Some(&vllm))?;
        files::write_atomic(&path, &log, 0o644, Durability::Synced)
            .or_exit(Exit::CannotCreate, || {
                "the histograms cannot be written".to_owned()
            })
    }

    /// Writes a result, and what stands beside it.
    pub(super) fn put(
        self,
        results: &Results,
        vllm: Option<&serde_json::Value>,
    ) -> Result<(), Failure> {
        let mut tables = vec![("results.csv", report::csv::render(results))];
        if let Some(series) = &results.series {
            tables.push(("levels.csv", report::levels::csv(series)));
        }
        drop(self.room);
        let file = |name: &str| self.folder.join(name);
        let table = |(name, text): &(&str, String)| {
            files::write_atomic(&file(name), text.as_bytes(), 0o644, Durability::Synced)
        };
        files::write_json(&file("results.json"), results)
            .and_then(|()| vllm.map_or(Ok(()), |vllm| files::write_json(&file("vllm.json"), vllm)))
            .and_then(|()| tables.iter().try_for_each(table))
            .or_exit(Exit::CannotCreate, || {
                "the results cannot be written".to_owned()
            })
    }
}

/// The measured window: planned, or as far as the load came.
pub(super) fn window(plan: &ClientPlan, tally: &Tally, elapsed: Duration) -> Window {
    let last = tally.whole().end.unwrap_or(elapsed);
    let came = elapsed.max(last);
    let planned = plan.duration.map(|duration| plan.warmup + duration);
    let by_count = plan.total_requests.is_some()
        || matches!(
            plan.load,
            LoadModel::ClosedLoop {
                requests_per_user: Some(_),
                ..
            }
        );
    let end = match planned {
        // a load that came to its number of requests before its time was over then
        Some(end) if by_count => end.min(last),
        Some(end) => end.min(came),
        None => last,
    };
    Window {
        start: plan.warmup.min(end),
        end,
    }
}

/// Requests that the schedule intended for this window.
fn expected(plan: &ClientPlan, content: &Content, window: Window) -> Option<u64> {
    let times = content.schedule()?.times();
    let inside = times
        .skip_while(|at| *at < window.start)
        .take_while(|at| *at < window.end);
    let limit = plan
        .total_requests
        .and_then(|total| usize::try_from(total).ok())
        .unwrap_or(usize::MAX);
    Some(inside.take(limit).count() as u64)
}

/// The rate that was asked for over this window; `None` for a closed loop.
fn requested_rate(plan: &ClientPlan, expected: Option<u64>, window: Window) -> Option<f64> {
    let LoadModel::OpenLoop {
        requests_per_second,
        ..
    } = plan.load
    else {
        return None;
    };
    // a rate with a course of its own has its mean
    requests_per_second.or_else(|| {
        let seconds = window.seconds();
        (seconds > 0.0).then(|| expected.unwrap_or(0) as f64 / seconds)
    })
}

/// Does a load have one rate and equal gaps?
fn is_even(load: &LoadModel) -> bool {
    matches!(
        load,
        LoadModel::OpenLoop {
            arrival: Arrival::Constant,
            ..
        }
    )
}

/// The lengths that were asked for, where each request has its own: beside those that the engine counted. Requests have
/// their numbers in the order of their times, so those of the window come last.
fn asked(content: &Content, offered: u64, in_window: u64) -> Asked {
    let mut all = Asked::default();
    if lengths_vary(content) {
        for index in offered.saturating_sub(in_window)..offered {
            let asked = content.asked(index);
            let input = asked.prompt_tokens.map(u64::from);
            all.take(input, Some(asked.max_tokens.into()));
        }
    }
    all
}

/// Does each request ask for lengths of its own? A context that grows by what is answered was not asked for.
fn lengths_vary(content: &Content) -> bool {
    content.varies() && !content.is_conversation()
}

/// The window that a tally begins with.
pub(super) fn planned(plan: &ClientPlan) -> Window {
    let end = plan.duration.map(|duration| plan.warmup + duration);
    Window {
        start: plan.warmup,
        end: end.unwrap_or(Duration::MAX),
    }
}

/// The result.
pub(super) fn assemble(facts: &Facts, frame: &Frame, tally: &Tally) -> Results {
    let asked = asked(&facts.content, tally.whole().requests, tally.counts().total);
    frame.fill(tally, &asked)
}

/// The result, but for what its samples tell.
pub(super) fn frame(
    facts: &Facts,
    plan: &ClientPlan,
    tally: &Tally,
    elapsed: Duration,
) -> Result<Frame, Failure> {
    let window = window(plan, tally, elapsed);
    let expected = expected(plan, &facts.content, window);
    let requested_rate = requested_rate(plan, expected, window);
    let whole = tally.whole();
    let delay = tally.loop_delay();
    let available = elapsed.as_secs_f64() * facts.workers as f64;
    let cpu_share = if available > 0.0 {
        facts.cpu_seconds / available
    } else {
        0.0
    };
    let share = |cpu: &Duration| cpu.as_secs_f64() / elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
    let worker_cpu_shares: Vec<f64> = facts.worker_cpu.iter().map(share).collect();
    // one worker without a rest is late, however idle the others are
    let busiest = worker_cpu_shares.iter().copied().fold(cpu_share, f64::max);
    let bug = |error| Failure::caused(Exit::Bug, "the plan cannot be written", error);
    let mut workload = serde_json::to_value(&plan.workload).map_err(bug)?;
    workload["api"] = serde_json::to_value(plan.api).map_err(bug)?;
    workload["calibration"] = serde_json::json!(facts.probes);
    if let Some(file) = facts.content.material().facts() {
        workload["file"] = serde_json::to_value(file).map_err(bug)?;
        workload["file"]["sent"] = whole.begun.into();
    }
    let results = Results {
        total_requests: 0,
        successes: 0,
        errors: 0,
        avg_latency_ms: 0.0,
        min_latency_ms: 0.0,
        max_latency_ms: 0.0,
        throughput_req_per_sec: 0.0,
        schema: SCHEMA,
        name: facts.name.clone(),
        service_name: facts.service_name.clone(),
        run: Some(facts.run.clone()),
        completeness: facts.completeness,
        started_at: facts.started_at,
        ended_at: clock::now(),
        duration_seconds: window.end.saturating_sub(window.start).as_secs_f64(),
        warmup_seconds: plan.warmup.as_secs_f64(),
        target: facts.target.clone(),
        load: serde_json::to_value(&plan.load).map_err(bug)?,
        workload,
        errors_by_class: BTreeMap::new(),
        responses_by_status: BTreeMap::new(),
        // by words that the samples keep but the beginning of
        error_samples: tally.counts().error_samples,
        metrics: BTreeMap::new(),
        validity: Validity {
            verdict: Verdict::Valid,
            reasons: Vec::new(),
        },
        stimulus_sha256: facts.stimulus.clone(),
        tokens: facts.counted.clone(),
        conversations: None,
        turns: Vec::new(),
        generator: Generator {
            requested_rate,
            loop_delay_p50_ms: delay.map(|delay| delay.p50_ms),
            loop_delay_p99_ms: delay.map(|delay| delay.p99_ms),
            loop_delay_max_ms: delay.map(|delay| delay.max_ms),
            workers: Some(facts.workers),
            cpu_seconds: facts.cpu_seconds,
            cpu_share: Some(cpu_share),
            worker_cpu_shares,
            memory_mb: memory_mb(),
            cpus: facts.cpus.clone(),
            cores_shared: facts.cores.shared,
            ..Generator::default()
        },
        samples: None,
        certificate: None,
        slices: Vec::new(),
        series: None,
    };
    Ok(Frame {
        results,
        facts: validity::Facts {
            requested_rate,
            expected_in_window: expected,
            loop_delay_p99_ms: delay.map(|delay| delay.p99_ms),
            cpu_share: busiest,
            cores_shared: facts.cores.shared,
            cores_known: facts.cores.known,
            monitor_lost: facts.monitor_lost,
            engine_restarted: facts.engine_restarted,
            interrupted: facts.completeness == Completeness::Interrupted,
            even: is_even(&plan.load),
            ..validity::Facts::default()
        },
        window,
        planned: planned(plan),
        slo: plan.slo,
        elapsed,
        lengths_vary: lengths_vary(&facts.content),
        is_open: matches!(plan.load, LoadModel::OpenLoop { .. }),
    })
}
