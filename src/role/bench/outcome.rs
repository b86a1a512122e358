//! From samples to results, with their certificate.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{
    RealLoad, asked,
    calibrate::{Calibration, CountedBy},
    effort::{Cores, memory_mb},
    service::Service,
    tasks::{Joint, Part},
};
use crate::{
    clock,
    exit::{Exit, Failure},
    launch::cpus,
    load::workload::{self, Content},
    recipe::{ClientPlan, LoadModel},
    registry::{Kind, Liveness, Record, Watch},
    role::Context,
    stats::{
        beside::Beside,
        frame::Frame,
        results::{
            Collection, Completeness, Generator, Results, SCHEMA, TargetFacts, Tokens, Validity,
            Verdict,
        },
        summary::Window,
        tally::Tally,
        tasks::{self, TaskAccount},
        validity,
    },
};

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
    calibration: Calibration,
    /// What requests hold.
    content: Content,
    /// The collection of vectors that is asked.
    collection: Option<Collection>,
    /// SHA-256 of the stimulus.
    pub(super) stimulus: String,
    /// The load with all its tasks, once it is agreed.
    joint: Option<Arc<Joint>>,
    /// Start of the load.
    pub(super) started_at: Timestamp,
    /// Is the result whole?
    pub(super) completeness: Completeness,
    /// CPU time of the load.
    pub(super) cpu_seconds: f64,
    /// Event loops that sent and read.
    pub(super) workers: usize,
    /// The CPU time of all as a share of what they could have had while they sent.
    pub(super) cpu_share: f64,
    /// The same of each as a share of a core.
    pub(super) worker_shares: Vec<f64>,
    /// Token counts.
    pub(super) counted: Tokens,
    /// What the engine measured of the load.
    pub(super) engine_times: Option<Beside>,
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
        Self {
            name: plan.name.clone(),
            service_name: plan.service_name.clone(),
            run: context.run.id.clone(),
            target: service.facts.clone(),
            collection: service.collection.clone(),
            cores: Cores::of(service, &context.node(), &own),
            cpus: own,
            monitors: monitors(context),
            monitor_lost: false,
            engines: engines(&service.records),
            engine_restarted: false,
            calibration: calibration.clone(),
            stimulus: workload::stimulus(plan, &content),
            content,
            joint: None,
            started_at: clock::now(),
            completeness: Completeness::Running,
            cpu_seconds: 0.0,
            workers: 1,
            cpu_share: 0.0,
            worker_shares: Vec::new(),
            counted: Tokens::default(),
            engine_times: None,
        }
    }

    /// Takes note of the tasks that the load was agreed with.
    pub(super) fn join(&mut self, joint: &Arc<Joint>, service: &Service) {
        let wait = joint.start().saturating_duration_since(Instant::now());
        self.started_at = clock::now()
            .checked_add(wait)
            .unwrap_or_else(|_| clock::now());
        let whole = &mut self.cores;
        joint.judge_cores(|node, cpus| {
            let cores = Cores::of(service, node, cpus);
            whole.known &= cores.known;
            cores.shared
        });
        self.joint = Some(Arc::clone(joint));
    }

    /// What has come of the load so far, in all tasks.
    pub(super) fn tally(&self, load: &RealLoad) -> Tally {
        match &self.joint {
            Some(joint) => joint.whole(load, self.workers, &self.cpus),
            None => load.tally(),
        }
    }

    /// What each of several tasks has done of it.
    fn parts(&self) -> Vec<Part> {
        self.joint
            .as_ref()
            .map_or_else(Vec::new, |joint| joint.parts())
    }

    /// CPU time, event loops, and the share that the first was of what the latter could have had; of several tasks the
    /// share of the one that had least to spare, for no task helps another.
    fn effort(&self, tasks: &[TaskAccount]) -> (f64, usize, f64) {
        if tasks.is_empty() {
            return (self.cpu_seconds, self.workers, self.cpu_share);
        }
        let shares = tasks.iter().map(|task| task.cpu_share);
        (
            tasks.iter().map(|task| task.cpu_seconds).sum(),
            tasks.iter().map(|task| task.workers).sum(),
            shares.fold(0.0, f64::max),
        )
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

/// The measured window: planned, or as far as the load came. What was cut short ends when nothing more was sent.
pub(super) fn window(plan: &ClientPlan, tally: &Tally, elapsed: Duration) -> Window {
    let last = tally.whole().end.unwrap_or(elapsed);
    let by_count = plan.total_requests.is_some()
        || matches!(
            plan.load,
            LoadModel::ClosedLoop {
                requests_per_user: Some(_),
                ..
            }
        );
    let Window { start, end } = tally.window();
    // a load that came to its number of requests before its time was over then
    let end = if by_count || plan.duration.is_none() {
        end.min(last)
    } else {
        end.min(elapsed.max(last))
    };
    Window {
        start: start.min(end),
        end,
    }
}

/// The result.
pub(super) fn assemble(facts: &Facts, frame: &Frame, tally: &Tally) -> Results {
    let parts = facts.parts();
    let asked = if parts.is_empty() {
        asked::lengths(&facts.content, &[Part::only(tally)])
    } else {
        asked::lengths(&facts.content, &parts)
    };
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
    let parts = facts.parts();
    let (asked, sending) = asked::Asked::and_time(plan, &facts.content, (window, tally), &parts);
    let whole = tally.whole();
    let tasks: Vec<TaskAccount> = parts.into_iter().map(|part| part.account).collect();
    let (cpu_seconds, workers, cpu_share) = facts.effort(&tasks);
    let cores_shared = facts.cores.shared || tasks.iter().any(|task| task.cores_shared);
    let worker_cpu_shares = if tasks.is_empty() {
        facts.worker_shares.clone()
    } else {
        let each = tasks.iter().map(|task| &task.worker_cpu_shares);
        each.flatten().copied().collect()
    };
    // one worker without a rest is late, however idle the others are
    let busiest = worker_cpu_shares.iter().copied().fold(cpu_share, f64::max);
    let bug = |error| Failure::caused(Exit::Bug, "the plan cannot be written", error);
    let mut workload = serde_json::to_value(&plan.workload).map_err(bug)?;
    workload["api"] = serde_json::to_value(plan.api).map_err(bug)?;
    let Calibration {
        probes, counted_by, ..
    } = &facts.calibration;
    workload["calibration"] = serde_json::json!(probes);
    if let Some(by) = counted_by {
        workload["calibrated_by"] = serde_json::json!(by);
    }
    let lengths_unknown =
        *counted_by == Some(CountedBy::Words) && facts.content.asked(0).prompt_tokens.is_some();
    if let Some(file) = facts.content.material().facts() {
        workload["file"] = serde_json::to_value(file).map_err(bug)?;
        workload["file"]["sent"] = whole.begun.into();
    }
    let mut target = facts.target.clone();
    (target.requests, target.failed) = tally.by_instance(target.urls.len());
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
        warmup_seconds: window.start.as_secs_f64(),
        target,
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
        engine_times: facts.engine_times,
        collection: facts.collection.clone(),
        conversations: None,
        turns: Vec::new(),
        generator: Generator {
            requested_rate: asked.rate,
            workers: Some(workers),
            cpu_seconds,
            cpu_share: Some(cpu_share),
            worker_cpu_shares,
            memory_mb: memory_mb(),
            cpus: facts.cpus.clone(),
            cores_shared,
            start_spread_ms: tasks::start_spread_ms(&tasks),
            tasks,
            ..generator(tally)
        },
        samples: None,
        certificate: None,
        slices: Vec::new(),
        series: None,
    };
    Ok(Frame {
        results,
        facts: validity::Facts {
            requested_rate: asked.rate_of_those_left,
            expected_in_window: asked.of_those_left,
            cpu_share: busiest,
            cores_shared,
            lengths_unknown,
            cores_known: facts.cores.known,
            monitor_lost: facts.monitor_lost,
            engine_restarted: facts.engine_restarted,
            interrupted: facts.completeness == Completeness::Interrupted,
            even: asked::is_even(&plan.load),
            whole_answers: !plan.api.generates(),
            ..delays(tally)
        },
        window,
        sending: Some(sending),
        planned: tally.window(),
        slo: plan.slo,
        elapsed,
        lengths_vary: asked::lengths_vary(&facts.content),
        is_open: matches!(plan.load, LoadModel::OpenLoop { .. }),
    })
}

/// What a tally knows of the generator's delays, and no sample does.
pub(super) fn generator(tally: &Tally) -> Generator {
    let delay = tally.loop_delay();
    let read_delay = tally.read_delay();
    Generator {
        loop_delay_p50_ms: delay.map(|delay| delay.p50_ms),
        loop_delay_p99_ms: delay.map(|delay| delay.p99_ms),
        loop_delay_max_ms: delay.map(|delay| delay.max_ms),
        kernel_stamped_share: tally.stamped_share(),
        read_delay_p50_ms: read_delay.map(|delay| delay.p50_ms),
        read_delay_p99_ms: read_delay.map(|delay| delay.p99_ms),
        read_delay_max_ms: read_delay.map(|delay| delay.max_ms),
        ..Generator::default()
    }
}

/// The same, as a verdict is made of it.
pub(super) fn delays(tally: &Tally) -> validity::Facts {
    validity::Facts {
        stamp_delay_p99_ms: tally.stamp_delay().map(|delay| delay.p99_ms),
        loop_delay_max_ms: tally.loop_delay().map(|delay| delay.max_ms),
        read_delay_p99_ms: tally.read_delay().map(|delay| delay.p99_ms),
        ..validity::Facts::default()
    }
}
