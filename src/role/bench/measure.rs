//! One load of the service, from its first request to its result: what a bench does once, or level by level.
//!
//! What can fail: the load itself (a fault of this program). A service that is lost, or an end that came early, is told in
//! [`Measured::ending`], with the result of what was seen until then.

use std::{path::Path, sync::Arc, time::Duration};

use super::{
    Bench, END_SLACK, RealLoad, WORKERS,
    calibrate::Calibration,
    effort,
    keep::Keep,
    outcome::{self, Facts},
    service::Service,
    tasks,
    watch::{self, Ending},
};
use crate::{
    clock,
    launch::cpus,
    load::{
        dispatch::{self, Control, Load},
        workload::Content,
    },
    recipe::ClientPlan,
    stats::{
        results::{Completeness, Results},
        tally::Tally,
    },
};

/// What came of one load.
pub(super) struct Measured {
    /// The result.
    pub(super) results: Results,
    /// What it was made of.
    pub(super) tally: Tally,
    /// How long the load took, its drain included.
    pub(super) elapsed: Duration,
    /// Why it ended.
    pub(super) ending: Ending,
}

impl Bench<'_> {
    /// Loads the service by this plan, once. Checkpoints go into the folder.
    pub(super) async fn measure(
        &self,
        service: &Service,
        calibration: &Calibration,
        plan: &ClientPlan,
        folder: &Path,
    ) -> anyhow::Result<Measured> {
        let context = self.context;
        let content = Content::new(plan, self.config.material.clone(), &service.model)
            .with_scale(calibration.scale);
        let mut facts = Facts::new(plan, context, service, calibration, content.clone());
        let control = Control {
            until: service.ends_in(END_SLACK),
            ..Control::default()
        };
        let counters = service.counters(context).await;
        let blank = Tally::new(dispatch::planned(plan, &content), &plan.slo);
        let frame = outcome::frame(&facts, plan, &blank, Duration::ZERO)?;
        let wanted = tasks::Wanted {
            plan,
            service,
            folder,
            frame: &frame,
            scale: calibration.scale,
            until: control.until,
            stimulus: &facts.stimulus,
        };
        let joint = Arc::new(self.team.prepare(context, &wanted).await?);
        joint.hand_on(&control);
        let cpu = effort::cpu_seconds();
        let cores = cpus::allowed().len().min(WORKERS);
        let who = (cores, joint.task(), joint.share().of);
        let keep = Keep::begin(folder, plan, content.clone(), service, who);
        let load = Load::new(
            plan,
            service.targets(plan),
            content.clone(),
            control.clone(),
            (Arc::clone(&self.exporter), keep.recorder()),
        );
        let load: Arc<RealLoad> = Arc::new(load.part(joint.share()));
        facts.workers = load.workers(cores);

        facts.join(&joint, service);
        let start = joint.start();
        // what the stamps of the trace count from
        tracing::trace!(target: "aif::load", monotonic_ns = clock::monotonic_nanoseconds(), "The load starts");
        let running = context.shutdown.tasks.spawn({
            let load = Arc::clone(&load);
            let workers = facts.workers;
            let joint = Arc::clone(&joint);
            async move {
                load.run_on(workers, start).await?;
                joint.ended().await;
                Ok(())
            }
        });
        let beside = watch::Beside {
            plan,
            context,
            service,
            folder,
            publication: self.publication,
            load: &load,
            control: &control,
            facts: &facts,
            start,
        };
        let mut ending = beside.until_end(running).await?;
        if ending == Ending::Planned && control.until.is_some_and(|until| start.elapsed() >= until)
        {
            ending = Ending::OutOfTime;
        }
        facts.completeness = match ending {
            Ending::Planned => Completeness::Complete,
            _ => Completeness::Interrupted,
        };
        // who is gone counts no more
        let counters = counters.filter(|_| !matches!(ending, Ending::Lost { .. }));
        facts.look_again(context).await;
        facts.cpu_seconds = effort::cpu_seconds() - cpu;
        facts.cpu_share = load.cpu_share(start, facts.workers);
        facts.worker_shares = load.worker_shares();
        let tally = facts.tally(&load);
        facts.tell_what_came_again(tally.whole().begun);
        (facts.counted, facts.engine_times) =
            service.counted(context, counters, tally.whole()).await;
        if !plan.api.generates() && tally.whole().uncounted > 0 {
            // nobody counted, and nothing was taken for a count
            facts.counted.counted_by = String::new();
        }
        let elapsed = start.elapsed();
        let frame = outcome::frame(&facts, plan, &tally, elapsed)?;
        let mut results = outcome::assemble(&facts, &frame, &tally);
        let samples = keep.finish(&frame, &context.shutdown).await;
        results.samples = samples.map(|own| joint.samples(own));
        let mut measured = Measured {
            results,
            tally,
            elapsed,
            ending,
        };
        Box::pin(self.certify((&content, joint.share()), plan, folder, &mut measured)).await;
        Ok(measured)
    }
}
