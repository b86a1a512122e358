//! What a member puts beside its samples, for the case that the leader leaves nothing to read them by.
//!
//! The frame of the leader, as it was before the load, with what this task knows of it. Where the leader has left samples
//! of its own, theirs counts and this one is not looked at ([`crate::stats::leaderless`]).

use super::{joint::Part, member::Member, part::Begun};
use crate::{
    clock,
    load::deal::{Dealing, Share},
    role::bench::{asked::Asked, effort, outcome},
    stats::{
        frame::Frame,
        results::{Completeness, Generator},
        tasks::{Loss, TaskAccount},
        validity,
    },
};

impl Member<'_> {
    /// The frame of this task's samples; `why` the leader is not there.
    pub(super) fn frame(&self, begun: &Begun, why: &str) -> Frame {
        let prepared = &begun.prepared;
        let (plan, tally) = (&prepared.plan, prepared.load.tally());
        let elapsed = begun.start.elapsed();
        let window = outcome::window(plan, &tally, elapsed);
        let own = self.account(begun);
        let leader = TaskAccount {
            node: self.leader.clone(),
            // it began, for else nobody had
            workers: 1,
            lost: Some(Loss {
                at_seconds: elapsed.as_secs_f64(),
                counted_to_seconds: 0.0,
                why: why.to_owned(),
            }),
            ..TaskAccount::default()
        };
        let of = prepared.load.dealing().task.of;
        let gone = Part {
            account: leader.clone(),
            dealing: Dealing {
                task: Share { number: 0, of },
                users: None,
            },
            offered: 0,
            in_window: 0,
            arrived: 0,
        };
        let of_window = (window, &tally);
        let (asked, sending) = Asked::and_time(plan, &prepared.content, of_window, &[gone]);
        let mut frame = prepared.frame.clone();
        let busiest = own.worker_cpu_shares.iter().copied();
        frame.facts = validity::Facts {
            requested_rate: asked.rate_of_those_left,
            expected_in_window: asked.of_those_left,
            cpu_share: busiest.fold(own.cpu_share, f64::max),
            interrupted: true,
            // as the leader has found it
            lengths_unknown: frame.facts.lengths_unknown,
            cores_known: frame.facts.cores_known,
            cores_shared: frame.facts.cores_shared,
            even: frame.facts.even,
            whole_answers: frame.facts.whole_answers,
            ..outcome::delays(&tally)
        };
        let results = &mut frame.results;
        results.completeness = Completeness::Interrupted;
        results.started_at = begun.started_at;
        results.ended_at = clock::now();
        results.duration_seconds = window.end.saturating_sub(window.start).as_secs_f64();
        results.warmup_seconds = window.start.as_secs_f64();
        results.error_samples = tally.counts().error_samples;
        let counted = if tally.whole().uncounted == 0 {
            "usage"
        } else {
            "chunks"
        };
        counted.clone_into(&mut results.tokens.counted_by);
        let target = &mut results.target;
        (target.requests, target.failed) = tally.by_instance(target.urls.len());
        results.generator = Generator {
            requested_rate: asked.rate,
            cpu_share: Some(own.cpu_share),
            memory_mb: effort::memory_mb(),
            cpus: own.cpus.clone(),
            tasks: vec![own, leader],
            ..outcome::generator(&tally)
        };
        frame.window = window;
        frame.sending = Some(sending);
        frame.planned = tally.window();
        frame.elapsed = elapsed;
        frame
    }
}
