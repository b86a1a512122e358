//! Looks by how much the measured times are wrong: the same load again, in short, against an engine of known times.
//!
//! It comes after the load, for only then it is known how fast the service is: the engine of known times answers after
//! the median time to the first token, at the median time a token, and as many of the tokens asked for as the service
//! gave. Rate or users, lengths, workers and connections are the load's own; where the service is encrypted, what comes
//! is stamped when it is read, as it was there. It lasts [`SECONDS`] at the most, and what is
//! in flight then is given up: its tokens count all the same. The engine takes the CPUs of the service where that is on
//! this node, for it is idle now; else those of the generator, which makes the errors larger, and the certificate says so.
//!
//! A certificate that was wanted and cannot be had is told as a reason of the verdict; the load's own result is kept.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use uuid::Uuid;

use super::{Bench, WORKERS, measure::Measured, outcome::window, watch::Ending};
use crate::{
    clock, files,
    launch::cpus,
    load::{
        connection::{Pool, Tcp},
        deal::Share,
        dispatch::{Control, Load, Observer},
        echo::{Echo, Log, Setup, Speed},
        exchange::Target,
        sample::Sample,
        workload::Content,
    },
    recipe::{ClientPlan, Slo},
    stats::{
        certificate::{Certificate, Errors, Stamps},
        results::Results,
        tally::Tally,
        validity,
    },
    tls,
};

/// It lasts this long at the most, with what is then in flight.
const SECONDS: Duration = Duration::from_secs(10);
/// Of that, for what is in flight at the end of the window.
const DRAIN: Duration = Duration::from_secs(2);
/// Load before the window, at the most.
const WARMUP: Duration = Duration::from_secs(2);
/// A first token comes after this long at the most: else none would come in time.
const SLOWEST: Duration = Duration::from_secs(2);
/// Tokens whose times are kept, on either side: 16 MB. Requests that come when they are full are not compared.
const ROOM: usize = 2_000_000;
/// Requests by which the mean number of tokens asked for is told.
const ASKED: u64 = 1000;

/// Keeps what the generator saw of each request.
#[derive(Debug)]
struct Witness {
    /// Nothing before it counts.
    warmup: Duration,
    /// Start of the load, by the clock that both sides share.
    start: AtomicStart,
    room: AtomicUsize,
    seen: Mutex<Vec<Stamps>>,
}

/// Set once, before the first request.
type AtomicStart = std::sync::OnceLock<u64>;

impl Observer for Arc<Witness> {
    fn ended(&self, sample: &Sample) {
        let Some(sent) = sample.sent.filter(|_| sample.intended >= self.warmup) else {
            return;
        };
        let takes = sample.chunks.len() + 1;
        let taken = |room: usize| room.checked_sub(takes);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.room.fetch_update(set, get, taken).is_err() {
            return;
        }
        let start = self.start.get().copied().unwrap_or_default();
        let chunks = sample.chunks.iter().map(|chunk| chunk.at);
        let at = std::iter::once(sent).chain(chunks);
        let at = at.map(|at| start + u64::try_from(at.as_nanos()).unwrap_or(0));
        let stamps = Stamps {
            tag: Content::number(sample.index, sample.turn.map_or(0, |turn| turn.number)),
            at: at.collect(),
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(stamps);
    }
}

impl Bench<'_> {
    /// Certifies the generator, where the plan asks for it.
    pub(super) async fn certify(
        &self,
        (content, share): (&Content, Share),
        plan: &ClientPlan,
        folder: &Path,
        measured: &mut Measured,
    ) {
        let results = &mut measured.results;
        if !plan.calibrate || measured.ending != Ending::Planned {
            return;
        }
        // what is had must not be lost, should this be killed meanwhile
        if let Err(error) = files::write_json(&folder.join("results.json"), results) {
            tracing::warn!(%error, "Cannot write the results before the generator is certified");
        }
        let certified = match speed(results, content) {
            Some(speed) => {
                tracing::info!(
                    first_ms = speed.first.as_secs_f64() * 1e3,
                    gap_ms = speed.gap.as_secs_f64() * 1e3,
                    "The same load goes to an engine of known times"
                );
                let encrypted = results.target.urls.iter().any(|url| tls::is_wanted(url));
                self.compared((content, share), plan, (speed, encrypted))
                    .await
            }
            None => Err("no request succeeded".to_owned()),
        };
        match certified {
            Ok(certificate) => {
                let median = |name: &str| results.metrics.get(name).and_then(|metric| metric.p50);
                let (ttft, itl) = (median("time_to_first_token"), median("inter_token_latency"));
                validity::certify(&mut results.validity, &certificate, ttft, itl);
                results.certificate = Some(certificate);
            }
            Err(why) => validity::not_certified(&mut results.validity, &why),
        }
    }

    /// Runs the load against an engine of this speed.
    async fn compared(
        &self,
        (content, share): (&Content, Share),
        plan: &ClientPlan,
        (speed, encrypted): (Speed, bool),
    ) -> Result<Certificate, String> {
        let plan = shortened(plan);
        let key = Uuid::new_v4().to_string();
        let own = cpus::allowed();
        let here = self.context.node();
        let records = self.context.store.records();
        let idle = records
            .iter()
            .filter(|record| record.node == here && record.service_name == plan.service_name)
            .flat_map(|record| record.cpus.iter().copied())
            .filter(|cpu| !own.contains(cpu))
            .collect();
        let no = |what: &str| {
            let what = what.to_owned();
            move |error: io::Error| format!("{what} ({error})")
        };
        let echo = Echo::start(Setup {
            speed,
            key: Some(key.clone()),
            tag: Some(Content::number_of),
            room: ROOM,
            cpus: idle,
        })
        .map_err(no("it cannot be started"))?;
        let content = Content::new(&plan, content.material().clone(), content.model())
            .with_scale(content.scale())
            .numbered();
        let target = Target {
            pool: pool(&echo.address().to_string(), plan.keep_alive, encrypted),
            path: crate::api::openai::path(plan.api).to_owned(),
            key: Some(key),
            headers: Arc::default(),
            live: Arc::default(),
        };
        let witness = Arc::new(Witness {
            warmup: plan.warmup,
            start: AtomicStart::new(),
            room: AtomicUsize::new(ROOM),
            seen: Mutex::default(),
        });
        let control = Control::default();
        // of several tasks each has an engine of its own: this one sends what it sent before
        let load = Load::new(
            &plan,
            vec![target],
            content,
            control.clone(),
            Arc::clone(&witness),
        );
        let load = Arc::new(load.part(share));
        let workers = load.workers(own.len().min(WORKERS));
        let start = Instant::now();
        let _ = witness.start.set(clock::monotonic_nanoseconds());
        let mut running = Box::pin(load.run_on(workers, start));
        let told = &self.context.shutdown.drain;
        let ended = tokio::select! {
            biased;
            ended = &mut running => ended,
            () = told.cancelled() => {
                control.abort.cancel();
                control.drain.cancel();
                let _ = running.await;
                return Err("it was told to end before".to_owned());
            }
            () = tokio::time::sleep(SECONDS) => {
                control.drain.cancel();
                control.abort.cancel();
                running.await
            }
        };
        ended.map_err(no("the load came to an unplanned end"))?;
        let elapsed = start.elapsed();
        let log = echo.stop().map_err(no("it failed"))?;
        let seen =
            std::mem::take(&mut *witness.seen.lock().unwrap_or_else(PoisonError::into_inner));
        certificate(&plan, speed, &load.tally(), elapsed, (&seen, &log))
    }
}

/// Connections that take the load's own way, but for the cipher: what is encrypted has no stamps of the kernel, and a
/// service that closes each connection is asked by new ones.
fn pool(address: &str, keep_alive: bool, encrypted: bool) -> Pool<Tcp> {
    let tcp = if encrypted {
        Tcp::unstamped()
    } else {
        Tcp::default()
    };
    Pool::new(tcp, address).keep_alive(keep_alive)
}

/// How fast the engine of known times must be; `None` where the service answered nothing.
fn speed(results: &Results, content: &Content) -> Option<Speed> {
    let of = |name: &str| results.metrics.get(name);
    let median = |name: &str| of(name).and_then(|metric| metric.p50);
    let milliseconds = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
    let asked = (0..ASKED).map(|index| u64::from(content.asked(index).max_tokens));
    let asked = asked.sum::<u64>() as f64 / ASKED as f64;
    let share = of("output_sequence_length").map_or(1.0, |got| got.avg / asked);
    Some(Speed {
        first: milliseconds(median("time_to_first_token")?).min(SLOWEST),
        gap: milliseconds(median("time_per_output_token").unwrap_or_default()).min(SLOWEST),
        per_write: 1,
        share: share.clamp(0.0, 1.0),
        stagger: false,
    })
}

/// The same load, in short.
fn shortened(plan: &ClientPlan) -> ClientPlan {
    let warmup = plan.warmup.min(WARMUP);
    let window = SECONDS.saturating_sub(DRAIN + warmup);
    ClientPlan {
        warmup,
        duration: Some(
            plan.duration
                .map_or(window, |duration| duration.min(window)),
        ),
        // so many may be more than come in its time
        warmup_requests: None,
        slo: Slo::default(),
        ..plan.clone()
    }
}

/// What both sides say.
fn certificate(
    plan: &ClientPlan,
    speed: Speed,
    tally: &Tally,
    elapsed: Duration,
    (seen, log): (&[Stamps], &Log),
) -> Result<Certificate, String> {
    let errors = Errors::of(seen, &log.requests);
    if errors.matched == 0 {
        let why = tally.counts().error_samples.first().cloned();
        return Err(why.unwrap_or_else(|| "no token came in its 10 seconds".to_owned()));
    }
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let lateness = tally.lateness();
    Ok(Certificate {
        seconds: elapsed.as_secs_f64(),
        engine_first_ms: milliseconds(speed.first),
        engine_gap_ms: milliseconds(speed.gap),
        engine_late_ms: milliseconds(Duration::from_nanos(log.late)),
        cores_shared: log.cpus.is_empty(),
        requests: errors.matched,
        achieved_rate: tally.sent_rate(window(plan, tally, elapsed)),
        lateness_p99_ms: lateness.p99_ms,
        lateness_max_ms: lateness.max_ms,
        loop_delay_p99_ms: tally.loop_delay().map(|delay| delay.p99_ms),
        errors: errors.metrics(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_takes_the_way_of_the_load() {
        for (keep_alive, encrypted) in [(true, true), (true, false), (false, true), (false, false)]
        {
            let pool = pool("127.0.0.1:1", keep_alive, encrypted);
            assert_eq!(pool.is_kept_alive(), keep_alive);
            let connector = format!("{:?}", pool.connector());
            let wanted = format!("unstamped: {encrypted}");
            assert!(connector.contains(&wanted), "{connector}");
        }
    }
}
