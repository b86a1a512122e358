//! Whole loads on pipes and in paused time: what is measured is known to the millisecond, and a minute costs nothing.

#[path = "edges_tests.rs"]
mod edges;
#[path = "engine_tests.rs"]
mod engine;
#[path = "talk_tests.rs"]
mod talk;
#[path = "warmup_tests.rs"]
mod warmup;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use engine::{Engine, Pipes, Reply};

use super::{
    connection::Pool,
    dispatch::{Control, Live, Load, Observer},
    exchange::{Target, exchange},
    sample::{Outcome, Sample},
    worker::REFUSED,
    workload::{Content, Material},
};
use crate::{
    recipe::{Api, Arrival, ClientPlan, Length, LoadModel, Resources, Slo, ThinkTime, Workload},
    stats::{
        summary::{Counts, Window},
        tally::Tally,
    },
};

fn milliseconds(number: u64) -> Duration {
    Duration::from_millis(number)
}

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

fn plan(load: LoadModel) -> ClientPlan {
    ClientPlan {
        name: "a".to_owned(),
        service_name: "s".to_owned(),
        api: Api::Completions,
        timeout: seconds(60),
        headers: std::collections::BTreeMap::new(),
        keep_alive: true,
        load,
        duration: Some(seconds(20)),
        warmup: Duration::ZERO,
        warmup_requests: None,
        total_requests: None,
        series: None,
        workload: Workload {
            model_name: None,
            dataset: None,
            prompt_length: Length::Fixed(8),
            max_tokens: Length::Fixed(4),
            num_prompts: None,
            shared_prefix: None,
            corpus: false,
            conversation: None,
            documents: None,
            request: None,
            vectors: None,
            temperature: None,
            top_p: None,
            ignore_eos: false,
            stream: true,
            extra_body: serde_json::Map::new(),
            seed: 1,
        },
        slo: Slo::default(),
        destination: None,
        samples: false,
        calibrate: false,
        metrics: Vec::new(),
        resources: Resources::default(),
    }
}

fn users(concurrent_users: u32) -> ClientPlan {
    plan(LoadModel::ClosedLoop {
        concurrent_users,
        think_time: ThinkTime::Fixed(Duration::ZERO),
        requests_per_user: None,
    })
}

fn rate(requests_per_second: f64) -> ClientPlan {
    plan(LoadModel::OpenLoop {
        requests_per_second: Some(requests_per_second),
        arrival: Arrival::Constant,
        max_in_flight: None,
    })
}

fn content(plan: &ClientPlan) -> Content {
    Content::new(plan, Material::None, "m")
}

fn target(engine: &Arc<Engine>) -> Target<Pipes> {
    Target {
        pool: Pool::new(Pipes(Arc::clone(engine)), "engine:1"),
        path: "/v1/completions".to_owned(),
        key: None,
        headers: "".into(),
        live: Arc::default(),
    }
}

/// What came of a load.
struct Ended {
    samples: Vec<Sample>,
    engine: Arc<Engine>,
    /// When it ended.
    at: Duration,
}

impl Ended {
    fn in_window(&self, plan: &ClientPlan) -> Counts {
        tally(&self.samples, plan).counts()
    }
}

fn window(plan: &ClientPlan) -> Window {
    Window {
        start: plan.warmup,
        end: plan.warmup + plan.duration.unwrap_or(seconds(3600)),
    }
}

/// What a result is made of.
fn tally(samples: &[Sample], plan: &ClientPlan) -> Tally {
    let mut tally = Tally::new(window(plan), &plan.slo);
    for sample in samples {
        tally.take(sample);
    }
    tally
}

/// Keeps all samples.
#[derive(Default)]
struct Keep {
    begun: AtomicU64,
    samples: Mutex<Vec<Sample>>,
}

impl Keep {
    fn samples(&self) -> Vec<Sample> {
        self.samples.lock().expect("no test panics here").clone()
    }
}

impl Observer for Keep {
    fn begun(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
    }

    fn ended(&self, sample: &Sample) {
        self.samples
            .lock()
            .expect("no test panics here")
            .push(sample.clone());
    }
}

async fn run(plan: &ClientPlan, engine: Engine) -> Ended {
    run_with(plan, engine, Control::default()).await
}

async fn run_with(plan: &ClientPlan, engine: Engine, control: Control) -> Ended {
    let engine = Arc::new(engine);
    let mut target = target(&engine);
    target.pool = target.pool.keep_alive(plan.keep_alive);
    let load = Arc::new(Load::new(
        plan,
        vec![target],
        content(plan),
        control,
        Keep::default(),
    ));
    let start = Instant::now();
    load.run(start).await.expect("a worker");
    assert_eq!(load.in_flight(), 0, "all have ended");
    Ended {
        samples: load.observer().samples(),
        engine,
        at: start.elapsed(),
    }
}

/// A control that drains, and one that also aborts, after these times.
fn told(drain: Duration, abort: Option<Duration>) -> Control {
    let control = Control::default();
    let (drained, aborted) = (control.drain.clone(), control.abort.clone());
    TaskTracker::new().spawn(async move {
        sleep(drain).await;
        drained.cancel();
        if let Some(abort) = abort {
            sleep(abort.saturating_sub(drain)).await;
            aborted.cancel();
        }
    });
    control
}

/// Within so many parts of a hundred.
#[track_caller]
fn assert_near(found: f64, wanted: f64, percent: f64) {
    assert!(
        (found - wanted).abs() <= wanted * percent / 100.0,
        "{found}, not {wanted} within {percent} %"
    );
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_carried_by_every_request_that_was_meant_to_be_sent_in_it() {
    let stalled = || Engine {
        stall: Some((seconds(10), seconds(20))),
        ..Engine::new(50)
    };
    let slow = |samples: &[Sample]| {
        let latency = |sample: &Sample| {
            let last = sample.last_token().expect("answered");
            last.saturating_sub(sample.intended)
        };
        samples
            .iter()
            .filter(|sample| latency(sample) > milliseconds(60))
            .count() as f64
    };
    let mut open = rate(10.0);
    open.duration = Some(seconds(30));
    let ended = run(&open, stalled()).await;
    assert_near(slow(&ended.samples), 100.0, 2.0);
    let metric = |ended: &Ended, name: &str| {
        tally(&ended.samples, &open).metrics(window(&open))[name].clone()
    };
    let latency = metric(&ended, "request_latency_scheduled");
    // 100 of 300 wait between 0 and 10 s, and are seen
    assert_near(latency.p90.expect("a quantile"), 7000.0, 2.0);
    assert_near(latency.p95.expect("a quantile"), 8500.0, 2.0);
    assert_eq!(latency.p99, None, "300 requests bear no 99th percentile");
    assert_near(latency.max.expect("a largest"), 10_050.0, 2.0);

    let mut closed = users(1);
    closed.duration = Some(seconds(30));
    let ended = run(&closed, stalled()).await;
    assert_near(slow(&ended.samples), 1.0, 0.0);
    let latency = metric(&ended, "request_latency_scheduled");
    assert_near(latency.p99.expect("a quantile"), 50.0, 5.0);
    assert_near(latency.max.expect("a largest"), 10_000.0, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_the_sender_counts_from_the_intended_time_too() {
    let plan = rate(10.0);
    let engine = Arc::new(Engine::new(50));
    let load = Arc::new(Load::new(
        &plan,
        vec![target(&engine)],
        content(&plan),
        Control::default(),
        Keep::default(),
    ));
    // a start in the past: the first two seconds are late, none is skipped
    let start = Instant::now();
    tokio::time::advance(seconds(2)).await;
    load.run(start).await.expect("a worker");
    let samples = load.observer().samples();
    assert_eq!(samples.len(), 200);
    assert_eq!(load.observer().begun.load(Ordering::SeqCst), 200);
    let late = |sample: &&Sample| sample.sent.expect("sent") > sample.intended + milliseconds(2);
    assert_near(samples.iter().filter(late).count() as f64, 20.0, 5.0);
    let metrics = tally(&samples, &plan).metrics(window(&plan));
    let largest = |name: &str| metrics[name].max.expect("a largest");
    assert_near(largest("request_latency_scheduled"), 2050.0, 1.0);
    assert_near(largest("request_latency"), 50.0, 5.0);
}

#[tokio::test(start_paused = true)]
async fn users_are_requests_in_flight() {
    for count in [1, 3, 20] {
        let plan = users(count);
        let ended = run(&plan, Engine::new(100)).await;
        let engine = &ended.engine;
        assert_eq!(
            engine.max_in_flight.load(Ordering::SeqCst),
            u64::from(count)
        );
        assert_eq!(engine.connections.load(Ordering::SeqCst), u64::from(count));
        let metrics = tally(&ended.samples, &plan).metrics(window(&plan));
        assert_near(
            metrics["request_throughput"].avg,
            f64::from(count) / 0.1,
            2.0,
        );
        assert_near(ended.at.as_secs_f64(), 20.0, 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn think_time_lies_between_an_answer_and_the_next_request() {
    let mut plan = users(2);
    plan.load = LoadModel::ClosedLoop {
        concurrent_users: 2,
        think_time: ThinkTime::Fixed(milliseconds(400)),
        requests_per_user: None,
    };
    let ended = run(&plan, Engine::new(100)).await;
    // 100 ms of work and 400 ms of thought: two a second for each user
    assert_near(ended.samples.len() as f64, 80.0, 2.5);
    for sample in &ended.samples {
        let after = |other: &&Sample| other.intended > sample.end;
        let next = ended.samples.iter().filter(after).map(|s| s.intended).min();
        assert!(next.is_none_or(|next| next >= sample.end + milliseconds(400)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drawn_pause_is_each_users_own_and_a_seed_repeats_it() {
    let mut plan = users(20);
    plan.duration = Some(seconds(200));
    plan.load = LoadModel::ClosedLoop {
        concurrent_users: 20,
        think_time: ThinkTime::Exponential(milliseconds(400)),
        requests_per_user: None,
    };
    let times = |ended: &Ended| {
        let mut times: Vec<_> = ended.samples.iter().map(|s| s.intended).collect();
        times.sort_unstable();
        times
    };
    let ended = run(&plan, Engine::new(100)).await;
    // 8,000 of mean 500 ms, of which the pause deviates by 400
    assert_near(ended.samples.len() as f64, 8000.0, 3.0);
    let mut second: Vec<_> = times(&ended)[20..40].to_vec();
    second.dedup();
    assert!(second.len() > 10, "users return one by one: {second:?}");
    assert_eq!(times(&ended), times(&run(&plan, Engine::new(100)).await));
}

#[tokio::test(start_paused = true)]
async fn a_connection_for_each_request_where_that_is_asked() {
    let mut plan = users(3);
    plan.keep_alive = false;
    let ended = run(&plan, Engine::new(100)).await;
    assert_eq!(
        ended.engine.connections.load(Ordering::SeqCst),
        ended.engine.seen()
    );
    assert!(ended.samples.iter().all(|sample| sample.connect.is_some()));
}

#[tokio::test(start_paused = true)]
async fn a_pause_does_not_outlast_the_window() {
    let mut plan = users(1);
    plan.load = LoadModel::ClosedLoop {
        concurrent_users: 1,
        think_time: ThinkTime::Fixed(seconds(3600)),
        requests_per_user: None,
    };
    let ended = run(&plan, Engine::new(100)).await;
    assert_eq!(ended.samples.len(), 1);
    assert_near(ended.at.as_secs_f64(), 20.0, 1.0);
}

#[tokio::test(start_paused = true)]
async fn each_limit_holds() {
    let per_user = |limit| LoadModel::ClosedLoop {
        concurrent_users: 3,
        think_time: ThinkTime::Fixed(Duration::ZERO),
        requests_per_user: Some(limit),
    };
    let mut each = plan(per_user(5));
    each.duration = None;
    let ended = run(&each, Engine::new(100)).await;
    assert_eq!(ended.engine.seen(), 15);
    assert_near(ended.at.as_secs_f64(), 0.5, 5.0);

    let mut timed = plan(per_user(1_000_000));
    timed.duration = Some(milliseconds(1950));
    let ended = run(&timed, Engine::new(100)).await;
    assert_eq!(ended.engine.seen(), 60);
    assert!(
        ended
            .samples
            .iter()
            .all(|s| s.intended < milliseconds(1950))
    );
    assert!(ended.at >= milliseconds(1950), "{:?}", ended.at);

    for mut total in [users(4), rate(10.0)] {
        total.total_requests = Some(7);
        total.duration = None;
        let ended = run(&total, Engine::new(100)).await;
        assert_eq!(ended.engine.seen(), 7, "{:?}", total.load);
        assert_eq!(ended.samples.len(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn an_open_loop_sends_its_rate_at_exact_times() {
    for (per_second, wanted) in [(1.0, 20), (50.0, 1000), (333.0, 6660)] {
        let plan = rate(per_second);
        // slower than the gaps: answers must not hold requests back
        let ended = run(&plan, Engine::new(700)).await;
        let count = ended.samples.len() as f64;
        assert_near(count, f64::from(wanted), 1.0);
        let mut samples = ended.samples;
        samples.sort_by_key(|sample| sample.index);
        for (index, sample) in samples.iter().enumerate() {
            let exact = Duration::from_secs_f64(index as f64 / per_second);
            assert_eq!(sample.intended, exact);
            let late = sample.sent.map(|sent| sent.saturating_sub(sample.intended));
            assert!(late <= Some(milliseconds(2)), "{late:?}");
            assert!(late.is_some());
        }
        let sent = tally(&samples, &plan).sent_rate(window(&plan));
        assert_near(sent, per_second, 1.0);
        let arrivals = ended.engine.arrivals.lock().expect("no panic").len();
        assert_eq!(arrivals, samples.len());
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_cap_drops_is_counted_and_never_sent() {
    let mut plan = plan(LoadModel::OpenLoop {
        requests_per_second: Some(50.0),
        arrival: Arrival::Constant,
        max_in_flight: Some(10),
    });
    plan.duration = Some(seconds(20));
    let ended = run(&plan, Engine::new(990)).await;
    let dropped: Vec<_> = ended.samples.iter().filter(|s| s.dropped).collect();
    assert_eq!(ended.samples.len(), 1000, "offered");
    assert_eq!(ended.engine.max_in_flight.load(Ordering::SeqCst), 10);
    assert_eq!(ended.engine.seen(), 1000 - dropped.len() as u64);
    assert_near(dropped.len() as f64, 800.0, 1.0);
    for sample in dropped {
        assert_eq!((&sample.outcome, sample.sent), (&Outcome::NeverSent, None));
    }
    let counts = ended.in_window(&plan);
    assert_eq!(counts.errors, counts.by_class["never_sent"]);
}

#[tokio::test(start_paused = true)]
async fn each_end_of_a_request_has_its_outcome() {
    type Script = fn(u64, u64) -> Reply;
    let cases: [(Script, u64, &str, usize); 7] = [
        (|_, _| Reply::Stream(3), u64::MAX, "", 3),
        (|_, _| Reply::Broken(2), u64::MAX, "broken_stream", 2),
        (|_, _| Reply::Unfinished(3), u64::MAX, "broken_stream", 3),
        (|_, _| Reply::Status(503), u64::MAX, "http_503", 0),
        (|_, _| Reply::Silence, u64::MAX, "timeout", 0),
        (|_, _| Reply::Close, u64::MAX, "connection", 0),
        (|_, _| Reply::Stream(3), 0, "refused", 0),
    ];
    for (script, accepts, class, chunks) in cases {
        let mut plan = users(1);
        (plan.duration, plan.total_requests) = (None, Some(1));
        plan.timeout = seconds(5);
        let engine = Engine {
            accepts,
            gap: milliseconds(10),
            ..Engine::doing(100, script)
        };
        let ended = run(&plan, engine).await;
        let [sample] = &ended.samples[..] else {
            panic!("one request: {:?}", ended.samples);
        };
        let found = sample.outcome.class().unwrap_or_default();
        assert_eq!(found, class, "{:?}", sample.outcome);
        assert_eq!(sample.chunks.len(), chunks, "{class}: what came is kept");
        assert_eq!(sample.sent.is_some(), class != "refused", "{class}");
        let once = u64::from(class != "refused");
        assert_eq!(ended.engine.seen(), once, "{class}: no second try");
        if class == "timeout" {
            assert_eq!(sample.end.as_secs(), 5);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn refused_users_wait_before_the_next_try() {
    let mut plan = users(2);
    plan.duration = Some(seconds(2));
    let engine = Engine {
        accepts: 0,
        ..Engine::new(100)
    };
    let ended = run(&plan, engine).await;
    let tries = 2.0 * 2.0 / REFUSED.as_secs_f64();
    assert_near(ended.samples.len() as f64, tries, 5.0);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_was_closed_while_idle_is_replaced_once() {
    // each second request on a connection finds it closed
    let engine = Engine::doing(100, |_, on_connection| {
        if on_connection == 0 {
            Reply::Stream(1)
        } else {
            Reply::Close
        }
    });
    let mut plan = users(1);
    (plan.duration, plan.total_requests) = (None, Some(3));
    let ended = run(&plan, engine).await;
    assert!(ended.samples.iter().all(Sample::is_success));
    assert_eq!(ended.engine.connections.load(Ordering::SeqCst), 3);
    assert_eq!(ended.engine.seen(), 5, "two of three were sent again");
}

#[tokio::test(start_paused = true)]
async fn a_request_is_sent_twice_at_the_most() {
    let mut plan = users(4);
    // four connections are idle, then the engine closes whatever it is asked
    plan.load = LoadModel::ClosedLoop {
        concurrent_users: 4,
        think_time: ThinkTime::Fixed(Duration::ZERO),
        requests_per_user: Some(1),
    };
    plan.duration = None;
    let engine = Arc::new(Engine::doing(100, |number, _| {
        if number < 4 {
            Reply::Stream(1)
        } else {
            Reply::Close
        }
    }));
    let target = target(&engine);
    let start = Instant::now();
    let never = CancellationToken::new();
    let call = |index| super::exchange::Call {
        turn: None,
        index,
        intended: start.elapsed(),
        api: plan.api,
        stream: true,
        chunks: 4,
        body: content(&plan).body(index),
        timeout: seconds(5),
        way: None,
    };
    let calls: Vec<_> = (0..5).map(call).collect();
    let first = tokio::join!(
        exchange(&target, &calls[0], start, &never),
        exchange(&target, &calls[1], start, &never),
        exchange(&target, &calls[2], start, &never),
        exchange(&target, &calls[3], start, &never),
    );
    assert!(first.0.is_success() && first.1.is_success());
    assert!(first.2.is_success() && first.3.is_success());
    let last = exchange(&target, &calls[4], start, &never).await;
    assert_eq!(last.outcome.class(), Some("connection"));
    assert_eq!(engine.seen(), 6, "sent on an idle connection and a new one");
}

#[tokio::test(start_paused = true)]
async fn told_to_drain_nothing_more_is_sent_and_what_is_in_flight_ends_well() {
    for plan in [users(5), rate(5.0)] {
        let control = told(milliseconds(2500), None);
        let ended = run_with(&plan, Engine::new(1000), control).await;
        assert!(ended.samples.iter().all(Sample::is_success));
        let last = ended.samples.iter().map(|s| s.sent.expect("sent")).max();
        assert!(last.expect("some") <= milliseconds(2500), "{last:?}");
        // five users three times, or one every 200 ms from the start on
        let open = matches!(plan.load, LoadModel::OpenLoop { .. });
        assert_eq!(ended.engine.seen(), if open { 13 } else { 15 });
        assert_eq!(ended.samples.len() as u64, ended.engine.seen());
        assert!(ended.at < milliseconds(3600), "{:?}", ended.at);
    }
}

#[tokio::test(start_paused = true)]
async fn aborted_requests_keep_what_was_seen_of_them() {
    let engine = Engine {
        gap: milliseconds(100),
        ..Engine::doing(500, |_, _| Reply::Stream(100))
    };
    let control = told(milliseconds(700), Some(milliseconds(1050)));
    let ended = run_with(&users(3), engine, control).await;
    assert_eq!(ended.samples.len(), 3);
    for sample in &ended.samples {
        assert_eq!(sample.outcome, Outcome::Cancelled);
        // 500, 600 … 1000 ms
        assert_eq!(sample.chunks.len(), 6);
        assert_near(sample.end.as_secs_f64(), 1.05, 1.0);
    }
}

#[tokio::test(start_paused = true)]
async fn warm_up_requests_are_not_in_the_window() {
    for mut plan in [users(1), rate(10.0)] {
        (plan.warmup, plan.duration) = (seconds(5), Some(seconds(10)));
        let ended = run(&plan, Engine::new(100)).await;
        assert_near(ended.samples.len() as f64, 150.0, 2.0);
        let counts = ended.in_window(&plan);
        assert_near(counts.total as f64, 100.0, 2.0);
        assert_eq!(counts.total, counts.successes);
    }
}

#[tokio::test(start_paused = true)]
async fn a_number_of_requests_counts_measured_ones_alone() {
    let mut total = users(1);
    (total.warmup, total.duration, total.total_requests) = (seconds(1), None, Some(20));
    let ended = run(&total, Engine::new(100)).await;
    assert_eq!(ended.in_window(&total).total, 20);
    let mut each = total.clone();
    each.total_requests = None;
    each.load = LoadModel::ClosedLoop {
        concurrent_users: 2,
        think_time: ThinkTime::Fixed(Duration::ZERO),
        requests_per_user: Some(10),
    };
    let ended = run(&each, Engine::new(100)).await;
    assert_eq!(ended.in_window(&each).total, 20);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_nor_waited_for_after_the_end_of_the_services_job() {
    for mut plan in [users(2), rate(10.0)] {
        plan.duration = Some(seconds(600));
        let control = Control {
            until: Some(seconds(5)),
            ..Control::default()
        };
        let ended = run_with(&plan, Engine::new(100), control).await;
        assert!(ended.samples.iter().all(|s| s.intended < seconds(5)));
        assert!(ended.at < seconds(6), "{:?}", ended.at);
        assert!(ended.samples.iter().all(Sample::is_success));
    }
}
