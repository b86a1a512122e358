//! Where a load ends, what it takes, and what its own stalls leave.

use super::*;
use crate::stats::{
    results::Verdict,
    validity::{self, Facts},
};

fn loaded(plan: &ClientPlan, engine: Engine, control: Control) -> Arc<Load<Pipes, Keep>> {
    let targets = vec![target(&Arc::new(engine))];
    let load = Load::new(plan, targets, content(plan), control, Keep::default());
    Arc::new(load)
}

#[tokio::test(start_paused = true)]
async fn a_window_that_is_cut_short_ends_when_nothing_more_is_sent() {
    let ends = [
        (Some(milliseconds(2500)), None),
        (None, Some(milliseconds(2500))),
    ];
    for (drain, until) in ends {
        for mut plan in [users(5), rate(5.0)] {
            plan.slo.e2e_ms = Some(1500.0);
            let control = Control {
                until,
                ..drain.map_or_else(Control::default, |at| told(at, None))
            };
            let load = loaded(&plan, Engine::new(1000), control);
            load.run(Instant::now()).await.expect("a worker");
            let tally = load.tally();
            let window = tally.window();
            assert_near(window.seconds(), 2.5, 0.2);
            let metrics = tally.metrics(window);
            // answers after one and two seconds, or to what was sent before 1.5 s; not those of the drain
            let answered = if matches!(plan.load, LoadModel::OpenLoop { .. }) {
                8.0
            } else {
                10.0
            };
            assert_near(metrics["request_throughput"].avg, answered / 2.5, 1.0);
            // whoever has the samples and the window has the same result
            let mut again = Tally::new(window, &plan.slo);
            for sample in load.observer().samples() {
                again.take(&sample);
            }
            assert_eq!(again.metrics(window), metrics);
            assert_eq!(again.counts(), tally.counts());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_user_who_is_called_too_late_is_late_and_the_verdict_says_so() {
    let mut plan = users(1);
    plan.load = LoadModel::ClosedLoop {
        concurrent_users: 1,
        think_time: ThinkTime::Fixed(milliseconds(400)),
        requests_per_user: None,
    };
    for stall in [Duration::ZERO, seconds(3)] {
        let load = loaded(&plan, Engine::new(100), Control::default());
        let start = Instant::now();
        TaskTracker::new().spawn(async move {
            // while the user thinks
            sleep(milliseconds(5300)).await;
            tokio::time::advance(stall).await;
        });
        load.run(start).await.expect("a worker");
        let samples = load.observer().samples();
        for sample in &samples {
            let before = samples.iter().map(|other| other.end);
            let free = before.filter(|end| *end <= sample.intended).max();
            assert!(free.is_none_or(|free| sample.intended >= free + milliseconds(400)));
        }
        let tally = load.tally();
        let late = tally.lateness().max_ms;
        assert_eq!(late > 2500.0, !stall.is_zero(), "{late}");
        let mut facts = Facts {
            successes: 1000,
            total: 1000,
            lateness_max_ms: late,
            ttft_p50_ms: Some(100.0),
            cores_known: true,
            ..Facts::default()
        };
        facts.stalled = tally.later_than(facts.stall_limit_ms());
        let found = validity::judge(&facts);
        if stall.is_zero() {
            assert_eq!(found.verdict, Verdict::Valid, "{found:?}");
        } else {
            assert_eq!(found.verdict, Verdict::Degraded, "{found:?}");
            assert!(
                found.reasons[0]
                    .contains("stalled: 1 of 1000 requests were sent more than 1000 ms"),
                "{found:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_cpu_time_of_a_drain_is_not_asked_about() {
    let mut timed = rate(10.0);
    (timed.warmup, timed.duration) = (seconds(2), Some(seconds(5)));
    let mut counted = rate(10.0);
    (counted.duration, counted.total_requests) = (None, Some(50));
    let mut closed = users(3);
    closed.duration = Some(seconds(5));
    for (plan, from) in [(timed, 2.0), (counted, 0.0), (closed, 0.0)] {
        let load = loaded(&plan, Engine::new(30_000), Control::default());
        load.run(Instant::now()).await.expect("a worker");
        let spans = load.metered();
        let (began, ended) = spans[0].expect("it has sent all");
        assert_near(began.as_secs_f64() + 1.0, from + 1.0, 3.0);
        assert_near(ended.as_secs_f64(), from + 5.0, 3.0);
    }
}

#[test]
fn no_two_workers_take_the_last_place_in_flight() {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let _entered = runtime.as_ref().expect("an event loop").enter();
    let plan = rate(1.0);
    let load = loaded(&plan, Engine::new(1), Control::default());
    let most = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if load.takes_place(Some(3)) {
                        most.fetch_max(load.in_flight(), Ordering::SeqCst);
                        load.in_flight.fetch_sub(1, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    assert_eq!(load.in_flight(), 0);
    assert!(most.into_inner() <= 3);
    assert!((0..5).filter(|_| load.takes_place(Some(3))).count() == 3);
    assert!(
        load.takes_place(None),
        "without a limit there is always one"
    );
}

/// Counts tokens as they come, and those that are told at the end.
#[derive(Default)]
struct Counted {
    live: Arc<Live>,
    ended: AtomicU64,
}

impl Observer for Counted {
    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    fn ended(&self, sample: &Sample) {
        self.ended.fetch_add(sample.live, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn tokens_are_counted_while_their_stream_goes_on() {
    let engine = Engine {
        gap: milliseconds(1000),
        ..Engine::doing(500, |_, _| Reply::Stream(10))
    };
    let mut plan = users(2);
    plan.total_requests = Some(2);
    let load = Arc::new(Load::new(
        &plan,
        vec![target(&Arc::new(engine))],
        content(&plan),
        Control::default(),
        Counted::default(),
    ));
    let start = Instant::now();
    let running = TaskTracker::new().spawn({
        let load = Arc::clone(&load);
        async move { load.run(start).await }
    });
    let told = || {
        let seen = load.observer();
        (seen.live.tokens(), seen.ended.load(Ordering::SeqCst))
    };
    sleep(seconds(4)).await;
    assert_eq!(told(), (8, 0), "four of each, and none has ended");
    running.await.expect("a task").expect("a worker");
    assert_eq!(told(), (20, 20), "each is told once");
}
