//! What the load generator says of itself, as facts: its rate, its lateness, its CPUs, and each of its tasks.
//!
//! Pure; a fact that is not known is a dash or no row.

use super::{
    facts::{Fact, fact},
    text,
};
use crate::stats::{results::Generator, tasks::TaskAccount};

fn percent(share: Option<f64>) -> String {
    text::quantity(share.map(|share| share * 100.0), "%")
}

/// Median, 99th percentile and largest, in ms.
fn delays(all: [Option<f64>; 3]) -> String {
    let [Some(p50), Some(p99), Some(max)] = all.map(|one| one.map(text::number)) else {
        return text::NONE.to_owned();
    };
    format!("p50 {p50} ms, p99 {p99} ms, largest {max} ms")
}

fn shares(workers: &[f64]) -> String {
    if workers.is_empty() {
        return text::NONE.to_owned();
    }
    let all = workers.iter();
    all.map(|share| percent(Some(*share)))
        .collect::<Vec<_>>()
        .join(", ")
}

pub(super) fn generator_facts(generator: &Generator) -> Vec<Fact> {
    let cpus: Vec<String> = generator.cpus.iter().map(ToString::to_string).collect();
    let mut facts = Vec::new();
    if let Some(rate) = generator.requested_rate {
        facts.push(fact(
            "rate asked for",
            text::quantity(Some(rate), "requests/s"),
        ));
    }
    facts.extend([
        fact(
            "rate sent",
            text::quantity(Some(generator.achieved_rate), "requests/s"),
        ),
        fact(
            "dropped at the limit in flight",
            generator.dropped.to_string(),
        ),
        fact(
            "lateness (sent − intended, without connecting)",
            delays([
                Some(generator.lateness_p50_ms),
                Some(generator.lateness_p99_ms),
                Some(generator.lateness_max_ms),
            ]),
        ),
        fact(
            "delay of its event loops",
            delays([
                generator.loop_delay_p50_ms,
                generator.loop_delay_p99_ms,
                generator.loop_delay_max_ms,
            ]),
        ),
        fact(
            "answers with stamps of the kernel",
            percent(generator.kernel_stamped_share),
        ),
        fact(
            "time from coming to being read",
            delays([
                generator.read_delay_p50_ms,
                generator.read_delay_p99_ms,
                generator.read_delay_max_ms,
            ]),
        ),
        fact(
            "chunks that share a stamp",
            percent(generator.bundled_share),
        ),
        fact("CPU time", text::quantity(Some(generator.cpu_seconds), "s")),
        fact("share of its CPUs", percent(generator.cpu_share)),
        fact(
            "share of a core, each worker",
            shares(&generator.worker_cpu_shares),
        ),
        fact("memory", text::quantity(generator.memory_mb, "MB")),
        fact(
            "CPUs",
            if cpus.is_empty() {
                text::NONE.to_owned()
            } else {
                cpus.join(", ")
            },
        ),
        fact(
            "CPUs shared with the engine",
            if generator.cores_shared { "yes" } else { "no" },
        ),
    ]);
    facts.extend(generator.tasks.iter().map(task_fact));
    facts
}

/// One of several tasks of a load.
fn task_fact(task: &TaskAccount) -> Fact {
    let lost = task.lost.as_ref().map_or_else(String::new, |loss| {
        format!(
            "; lost after {:.0} s: {}, counted to second {:.0}",
            loss.at_seconds, loss.why, loss.counted_to_seconds
        )
    });
    fact(
        &task.name(),
        format!(
            "{} requests, p99 lateness {} ms, clock known to {} ms, began {} ms late, {} of its CPUs (of a core, each worker: {}){lost}",
            task.requests,
            text::number(task.lateness_p99_ms),
            text::number(task.clock_error_ms),
            text::number(task.start_skew_ms),
            percent(Some(task.cpu_share)),
            shares(&task.worker_cpu_shares),
        ),
    )
}
