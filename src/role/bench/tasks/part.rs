//! A member's part of a load, from its beginning to its last word.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};

use super::{
    joint::account,
    link::BEAT,
    member::{Member, Prepared, next},
    message::{News, Order, Report},
    milliseconds, now,
};
use crate::{
    clock,
    exit::{Exit, Failure},
    files,
    launch::cpus,
    registry::State,
    role::bench::{effort, outcome, watch::GRACE_SHARE},
    run::SCHEMA,
    shutdown::Cause,
    stats::{
        results::{Metric, Samples},
        tally::Tally,
        tasks::TaskAccount,
    },
};

/// How a member's part of a load ended.
pub(super) enum Ended {
    /// As it should; the next order follows.
    Well,
    /// So the leader said.
    Bye(Exit),
}

/// A load that runs.
pub(super) struct Begun {
    pub(super) prepared: Prepared,
    pub(super) start: Instant,
    pub(super) started_at: Timestamp,
    /// CPU time of this process before it.
    cpu_seconds: f64,
}

impl Member<'_> {
    /// Sends this task's part of a load.
    pub(super) async fn load(&mut self, prepared: Prepared, at: i64) -> anyhow::Result<Ended> {
        let (load, control) = (Arc::clone(&prepared.load), prepared.control.clone());
        let start = moment(prepared.offset.own(at));
        let mut begun = Begun {
            prepared,
            start,
            started_at: clock::now(),
            cpu_seconds: effort::cpu_seconds(),
        };
        self.state(State::Ready);
        let context = self.context;
        let shutdown = &context.shutdown;
        let mut running = shutdown.tasks.spawn({
            let (load, workers) = (Arc::clone(&load), begun.prepared.workers);
            async move { load.run_on(workers, start).await }
        });
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = false;
        let mut abort_at: Option<Instant> = None;
        let mut gone: Option<Result<Exit, String>> = None;
        let ended = loop {
            tokio::select! {
                biased;
                ended = &mut running => break ended,
                received = next(&mut self.pending, &mut self.link), if gone.is_none() => match received {
                    Ok((_, Order::Drain)) => control.drain.cancel(),
                    Ok((_, Order::Abort)) => {
                        control.drain.cancel();
                        control.abort.cancel();
                    }
                    Ok((_, Order::Bye(exit))) => gone = Some(Ok(exit)),
                    Ok(_) => {}
                    Err(why) => gone = Some(Err(why)),
                },
                () = shutdown.drain.cancelled(), if !told => {
                    told = true;
                    let grace = match shutdown.cause() {
                        Some(Cause::Released) => context.led_grace(),
                        _ => context.grace(),
                    };
                    self.link.tell(Report::Told(shutdown.cause().unwrap_or(Cause::Terminated)));
                    control.drain.cancel();
                    abort_at = Some(Instant::now() + grace.mul_f64(GRACE_SHARE));
                    self.state(State::Draining);
                }
                () = shutdown.stop.cancelled(), if !control.abort.is_cancelled() => control.abort.cancel(),
                _ = ticks.tick() => {
                    if abort_at.is_some_and(|at| Instant::now() >= at) {
                        control.abort.cancel();
                    }
                    self.tell(&begun, false, None);
                }
            }
            if gone.is_some() {
                // nobody is there to send for
                control.drain.cancel();
                control.abort.cancel();
            }
        };
        let ended = ended.map_err(std::io::Error::other).flatten();
        if let Err(error) = ended {
            let failure = Failure::caused(Exit::Bug, "the load came to an unplanned end", error);
            self.link.tell(Report::Failed {
                exit: failure.exit,
                message: failure.to_string(),
            });
            return Err(failure.into());
        }
        match gone {
            Some(Ok(exit)) => return Ok(Ended::Bye(exit)),
            Some(Err(why)) => {
                let mut kept = self.keep(&begun, &why);
                let frame = self.frame(&begun, &why);
                let keep = std::mem::take(&mut begun.prepared.keep);
                let samples = keep.finish(&frame, &context.shutdown).await;
                if samples.is_some_and(|samples| !samples.files.is_empty()) {
                    let folder = begun.prepared.folder.display();
                    kept = format!(
                        "{kept}; `aif report {folder} --recompute` makes a result of what all tasks have kept"
                    );
                }
                return Err(self.lost(&why, Some(kept)).into());
            }
            None => {}
        }
        // what the clocks have drifted apart is an error of the schedule
        if let Ok(after) = self.compare_clocks().await {
            let offset = &mut begun.prepared.offset;
            offset.error = offset.error_until(after);
        }
        let keep = std::mem::take(&mut begun.prepared.keep);
        // where it was cut short, each task has the moment at which it learned of it
        begun.prepared.frame.planned = load.tally().window();
        // read by this only where the leader leaves none
        let frame = self.frame(&begun, "it left no samples");
        let samples = keep.finish(&frame, &context.shutdown).await;
        self.tell(&begun, true, samples);
        Ok(Ended::Well)
    }

    pub(super) fn account(&self, begun: &Begun) -> TaskAccount {
        let prepared = &begun.prepared;
        let whole = prepared.load.tally();
        TaskAccount {
            task: self.seat.task,
            node: self.context.node(),
            cpus: cpus::allowed(),
            clock_offset_ms: milliseconds(prepared.offset.day),
            clock_error_ms: milliseconds(prepared.offset.error),
            start_skew_ms: prepared.load.late_start().as_secs_f64() * 1e3,
            ..account(
                &prepared.load,
                &whole,
                (prepared.workers, begun.start),
                begun.cpu_seconds,
            )
        }
    }

    /// Tells what has come since; of a load that has ended, also of the samples, where there are any.
    fn tell(&self, begun: &Begun, ended: bool, samples: Option<Samples>) {
        self.link.tell(Report::News(Box::new(News {
            round: begun.prepared.round,
            tally: begun.prepared.load.news(),
            account: self.account(begun),
            at_seconds: begun.start.elapsed().as_secs_f64(),
            ended,
            samples,
        })));
    }

    /// Writes what this task has, for nobody else will.
    fn keep(&self, begun: &Begun, why: &str) -> String {
        let prepared = &begun.prepared;
        let tally = prepared.load.tally();
        let window = outcome::window(&prepared.plan, &tally, begun.start.elapsed());
        let counts = tally.counts();
        let kept = Kept {
            schema: SCHEMA,
            why,
            started_at: begun.started_at,
            ended_at: clock::now(),
            stimulus_sha256: &prepared.stimulus,
            total_requests: counts.total,
            successes: counts.successes,
            errors_by_class: counts.by_class,
            metrics: tally.metrics(window),
            account: self.account(begun),
            tally: &tally,
        };
        let folder = self.welcome.folder.join("tasks");
        let file = folder.join(format!("{:02}.json", self.seat.task));
        let written =
            files::create_folder(&folder, 0o755).and_then(|()| files::write_json(&file, &kept));
        match written {
            Ok(()) => format!("what this task measured is kept in {}", file.display()),
            Err(error) => format!("what this task measured could not be kept: {error}"),
        }
    }
}

/// What a task leaves that has lost its leader.
#[derive(Serialize)]
struct Kept<'a> {
    schema: u32,
    why: &'a str,
    started_at: Timestamp,
    ended_at: Timestamp,
    stimulus_sha256: &'a str,
    total_requests: u64,
    successes: u64,
    errors_by_class: BTreeMap<String, u64>,
    metrics: BTreeMap<String, Metric>,
    account: TaskAccount,
    tally: &'a Tally,
}

/// The moment of our monotonic clock.
fn moment(nanoseconds: i64) -> Instant {
    let left = nanoseconds - now();
    let now = Instant::now();
    let apart = Duration::from_nanos(left.unsigned_abs());
    if left < 0 {
        now.checked_sub(apart).unwrap_or(now)
    } else {
        now + apart
    }
}
