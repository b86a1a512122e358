//! What goes on beside the load: checkpoints, progress, the end of the service, and being told to end.

use std::{io, path::Path, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, MissedTickBehavior},
};

use super::{
    RealLoad,
    outcome::{self, Facts},
    progress::{Now, Progress},
    service::Service,
    sight::Sight,
};
use crate::{
    exit::{Exit, Failure},
    load::dispatch::Control,
    recipe::ClientPlan,
    registry::{Publication, State},
    role::Context,
    shutdown::Cause,
};

/// How often one looks up from the load.
const TICK: Duration = Duration::from_millis(500);
/// Results are written, and the state is told, this often.
const CHECKPOINT: u32 = 20;
/// What is in flight gets this share of the grace to come to its end.
pub(super) const GRACE_SHARE: f64 = 0.3;

/// Why the load ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ending {
    /// As planned.
    Planned,
    /// Told to.
    Told,
    /// The service's job ends before another request could.
    OutOfTime,
    /// The service is gone.
    Lost {
        /// What is known of it.
        what: String,
        /// What it means.
        exit: Exit,
    },
}

/// What stands beside the load.
pub(super) struct Beside<'a> {
    /// What is loaded.
    pub(super) plan: &'a ClientPlan,
    pub(super) context: &'a Context,
    pub(super) service: &'a Service,
    pub(super) folder: &'a Path,
    pub(super) publication: &'a Publication,
    pub(super) load: &'a Arc<RealLoad>,
    pub(super) control: &'a Control,
    pub(super) facts: &'a Facts,
    /// The start of the load.
    pub(super) start: Instant,
}

impl Beside<'_> {
    /// Waits for the end of the load, and ends it early where that has a reason.
    pub(super) async fn until_end(
        &self,
        mut running: JoinHandle<io::Result<()>>,
    ) -> anyhow::Result<Ending> {
        let (control, start) = (self.control, self.start);
        let shutdown = &self.context.shutdown;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut progress = Progress::of(self.plan, &self.load.observer().0, start);
        let mut count = 0_u32;
        let mut ending = Ending::Planned;
        let mut abort_at: Option<Instant> = None;
        let mut sight = Sight::new(self.service, &self.load.observer().0, &self.context.store);
        loop {
            tokio::select! {
                biased;
                ended = &mut running => {
                    progress.clear();
                    return ended.map_err(io::Error::other).flatten().map(|()| ending).map_err(|error| Failure::caused(Exit::Bug, "the load came to an unplanned end", error).into());
                }
                () = shutdown.drain.cancelled(), if ending == Ending::Planned => {
                    ending = Ending::Told;
                    control.drain.cancel();
                    let grace = match shutdown.cause() {
                        Some(Cause::Released) => self.context.led_grace(),
                        _ => self.context.grace(),
                    };
                    abort_at = Some(Instant::now() + grace.mul_f64(GRACE_SHARE));
                    if let Err(error) = self.publication.update(|record| record.state = State::Draining) {
                        tracing::warn!(%error, "Cannot tell that the bench drains");
                    }
                }
                () = shutdown.stop.cancelled(), if !control.abort.is_cancelled() => control.abort.cancel(),
                _ = ticks.tick() => {
                    count += 1;
                    let now = progress.tick(&self.load.observer().0);
                    if abort_at.is_some_and(|at| Instant::now() >= at) {
                        control.abort.cancel();
                    }
                    if ending == Ending::Planned && let Some(lost) = sight.lost(count).await {
                        tracing::error!(?lost, "The service is lost");
                        ending = lost;
                        control.drain.cancel();
                        control.abort.cancel();
                    }
                    if count.is_multiple_of(CHECKPOINT) {
                        self.checkpoint(now);
                    }
                }
            }
        }
    }

    /// Writes what there is, marked as running: a bench that is killed leaves that.
    fn checkpoint(&self, now: Now) {
        let tally = self.facts.tally(self.load);
        let elapsed = self.start.elapsed();
        match outcome::frame(self.facts, self.plan, &tally, elapsed) {
            Ok(frame) => {
                let results = outcome::assemble(self.facts, &frame, &tally);
                let generates = self.plan.api.generates();
                tracing::info!(
                    seconds = elapsed.as_secs(),
                    ended = tally.whole().requests,
                    in_flight = self.load.in_flight(),
                    errors = results.errors,
                    requests_per_second = now.requests_per_second,
                    ttft_ms = now.ttft_ms.filter(|_| generates),
                    latency_ms = now.ttft_ms.filter(|_| !generates),
                    tokens_per_second = generates.then_some(now.tokens_per_second),
                    "Loading"
                );
                if let Err(error) =
                    crate::files::write_json(&self.folder.join("results.json"), &results)
                {
                    tracing::warn!(%error, "Cannot write a checkpoint of the results");
                }
            }
            Err(error) => tracing::warn!(%error, "Cannot make a checkpoint of the results"),
        }
    }
}
