//! Warm-up by requests: which requests are measured, and when the window begins.

use super::*;

/// A plan that warms up by so many requests.
fn warmed(mut plan: ClientPlan, requests: u64, duration: Duration) -> ClientPlan {
    plan.warmup_requests = Some(requests);
    plan.duration = Some(duration);
    plan
}

/// Runs a load and gives what its own tally makes of it.
async fn tallied(plan: &ClientPlan, engine: Engine, control: Control) -> (Tally, Vec<Sample>) {
    let engine = Arc::new(engine);
    let load = Arc::new(Load::new(
        plan,
        vec![target(&engine)],
        content(plan),
        control,
        Keep::default(),
    ));
    load.run(Instant::now()).await.expect("a worker");
    (load.tally(), load.observer().samples())
}

#[tokio::test(start_paused = true)]
async fn the_window_of_a_closed_loop_begins_with_the_request_after_the_warm_up() {
    // three users, 100 ms a request: rounds of three at 0, 100, 200 … ms
    for (requests, begins, offered) in [(1, 0, 59), (3, 100, 60), (7, 200, 59)] {
        let plan = warmed(users(3), requests, milliseconds(1950));
        let (tally, samples) = tallied(&plan, Engine::new(100), Control::default()).await;
        let window = tally.window();
        assert!(
            window.start >= milliseconds(begins) && window.start < milliseconds(begins + 5),
            "{requests}: {window:?}"
        );
        assert_eq!(window.end, window.start + milliseconds(1950), "{requests}");
        let counts = tally.counts();
        // of one moment, only those after the warm-up count
        assert_eq!(counts.total, offered, "{requests}");
        assert_eq!(counts.successes, offered, "{requests}");
        assert_eq!(samples.len() as u64, offered + requests, "{requests}");
        let rate = tally.metrics(window)["request_throughput"].avg;
        assert_near(rate, 30.0, 4.0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_window_does_not_begin_in_the_past() {
    // what ended meanwhile was counted without a window: whoever counts the samples again would find it in this one
    let plan = warmed(users(2), 1, seconds(1));
    let load = Load::new(
        &plan,
        vec![target(&Arc::new(Engine::new(100)))],
        content(&plan),
        Control::default(),
        Keep::default(),
    );
    let start = Instant::now();
    let first = load.claim(start, None).expect("the warm-up");
    assert!(!first.measured);
    tokio::time::advance(milliseconds(20)).await;
    // its user was ready 10 ms ago
    let second = load.claim(start, Some(milliseconds(10))).expect("the next");
    assert!(second.measured && second.intended > milliseconds(20));
    assert_eq!(load.tally().window().start, second.intended);
    // from then on a user who is called late is late
    tokio::time::advance(milliseconds(20)).await;
    let third = load.claim(start, Some(milliseconds(30))).expect("another");
    assert_eq!(third.intended, milliseconds(30));
}

#[tokio::test(start_paused = true)]
async fn the_window_of_an_open_loop_begins_with_the_arrival_after_the_warm_up() {
    let plan = warmed(rate(10.0), 15, seconds(10));
    let (tally, samples) = tallied(&plan, Engine::new(50), Control::default()).await;
    assert_eq!(tally.window().start, milliseconds(1500));
    assert_eq!(tally.counts().total, 100);
    assert_eq!(samples.len(), 115);
    assert_near(tally.sent_rate(tally.window()), 10.0, 1.0);
}

#[tokio::test(start_paused = true)]
async fn a_number_of_requests_does_not_count_those_of_the_warm_up() {
    for mut plan in [users(4), rate(10.0)] {
        plan.warmup_requests = Some(6);
        (plan.total_requests, plan.duration) = (Some(20), None);
        let (tally, samples) = tallied(&plan, Engine::new(100), Control::default()).await;
        assert_eq!((tally.counts().total, samples.len()), (20, 26));
    }
    let mut each = users(2);
    each.load = LoadModel::ClosedLoop {
        concurrent_users: 2,
        think_time: ThinkTime::Fixed(Duration::ZERO),
        requests_per_user: Some(10),
    };
    (each.warmup_requests, each.duration) = (Some(5), None);
    let (tally, samples) = tallied(&each, Engine::new(100), Control::default()).await;
    assert_eq!((tally.counts().total, samples.len()), (20, 25));
}

#[tokio::test(start_paused = true)]
async fn a_load_that_ends_in_its_warm_up_has_measured_nothing() {
    for plan in [users(2), rate(5.0)] {
        let plan = warmed(plan, 1000, seconds(10));
        let control = told(seconds(2), None);
        let (tally, samples) = tallied(&plan, Engine::new(100), control).await;
        assert!(!samples.is_empty());
        assert_eq!(tally.counts().total, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_thinker_learns_of_the_end_when_the_window_begins() {
    let mut plan = users(2);
    plan.load = LoadModel::ClosedLoop {
        concurrent_users: 2,
        think_time: ThinkTime::Fixed(seconds(100)),
        requests_per_user: None,
    };
    // both send at once: one warms up, the other begins the window
    let plan = warmed(plan, 1, seconds(20));
    let start = Instant::now();
    let (tally, _) = tallied(&plan, Engine::new(100), Control::default()).await;
    assert_eq!(tally.counts().total, 1);
    assert!(start.elapsed() < seconds(21), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn arrivals_of_one_moment_are_not_parted() {
    let rows = |at: u32| {
        let row = format!("{{\"timestamp\": {at}, \"input_length\": 9, \"output_length\": 4}}\n");
        row.repeat(5)
    };
    let mut plan = plan(LoadModel::OpenLoop {
        requests_per_second: None,
        arrival: Arrival::Trace {
            file: "trace".into(),
        },
        max_in_flight: None,
    });
    (plan.warmup_requests, plan.duration) = (Some(3), None);
    let material = Material::of(&plan, &(rows(100) + &rows(200))).expect("a trace");
    let engine = Arc::new(Engine::new(50));
    let load = Arc::new(Load::new(
        &plan,
        vec![target(&engine)],
        Content::new(&plan, material, "m"),
        Control::default(),
        Keep::default(),
    ));
    load.run(Instant::now()).await.expect("a worker");
    assert_eq!(load.observer().samples().len(), 10);
    let tally = load.tally();
    assert_eq!(tally.window().start, milliseconds(200));
    assert_eq!(tally.counts().total, 5);
}

#[test]
fn users_of_several_threads_agree_on_the_window() {
    use super::super::beginning::Beginning;
    let plan = warmed(users(1), 5, seconds(1));
    let beginning = Beginning::of(&plan, &content(&plan), None);
    assert!(beginning.phases().is_none());
    let turn = beginning.turn().expect("nobody has it");
    let began = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| beginning.turn().is_none());
        beginning.set(milliseconds(7));
        drop(turn);
        waiting.join().expect("no panic")
    });
    assert!(began, "whoever waited sees that the window has begun");
    beginning.set(milliseconds(9));
    assert_eq!(
        beginning.window().start,
        milliseconds(7),
        "the first is right"
    );
    assert_eq!(beginning.not_before(milliseconds(6)), milliseconds(7));
}
