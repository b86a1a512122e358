//! The account of a load that several tasks sent: each one's own figures, and what they mean for the result.
//!
//! Every task measures by its own clock, so what one request took is as good as ever. What several clocks can spoil is
//! the schedule: tasks that do not begin together send bursts and gaps that nobody asked for. A task that was lost leaves
//! what it had told until then, and a load that was smaller from there on. Both are told, and neither makes a result
//! worthless.
//!
//! A task that began a little after the others is late with its first requests, which its lateness tells, and then keeps
//! the schedule: so that matters only beside the length of the window. A clock that is not known well shifts all that its
//! task sends. Pure; nothing can fail.

use serde::{Deserialize, Serialize};

use super::{
    results::{Validity, Verdict},
    validity::LATENESS_DEGRADED,
};

/// Time between the beginnings of tasks as a share of the window, over which numbers are to be used with care.
pub const START_DEGRADED: f64 = 0.01;

/// One task of a load.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct TaskAccount {
    /// Its number in the step; 0 leads.
    pub task: u32,
    /// Its node.
    pub node: String,
    /// CPUs that it ran on.
    pub cpus: Vec<usize>,
    /// Event loops that sent and read, each a thread.
    pub workers: usize,
    /// Requests of it that have ended, warm-up included.
    pub requests: u64,
    /// CPU time over the load, in seconds.
    pub cpu_seconds: f64,
    /// CPU time as a share of what its workers could have had, from the beginning of the measured window until all was sent.
    pub cpu_share: f64,
    /// CPU time of each of its workers as a share of a core, over the same time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub worker_cpu_shares: Vec<f64>,
    /// Were its CPUs shared with the engine?
    pub cores_shared: bool,
    /// 99th percentile of its lateness (sent − intended), in ms.
    pub lateness_p99_ms: f64,
    /// Median by which its event loops were late for moments that they had set themselves, in ms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_delay_p50_ms: Option<f64>,
    /// 99th percentile of the same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loop_delay_p99_ms: Option<f64>,
    /// By how much its node's time of day is ahead of the leader's, in ms. It matters to logs alone: tasks keep time by
    /// clocks that nobody sets.
    pub clock_offset_ms: f64,
    /// How well the leader's moments are known by its clock, in ms: half of the shortest round trip, and what the clocks
    /// have drifted apart over the load where that is more.
    pub clock_error_ms: f64,
    /// By how much it began after the agreed moment, by its own clock, in ms.
    pub start_skew_ms: f64,
    /// How it was lost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost: Option<Loss>,
}

/// A task that is gone.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
pub struct Loss {
    /// When it was missed, in seconds since the start of the load; 0 where it was gone before.
    pub at_seconds: f64,
    /// What it had sent and told until then, in the same seconds, is in the result.
    pub counted_to_seconds: f64,
    /// What was seen of it.
    pub why: String,
}

impl TaskAccount {
    /// The task as people name it.
    pub fn name(&self) -> String {
        format!("task {} on {}", self.task, self.node)
    }
}

/// Time between the first and the last task's beginning, at the most, in ms: each began at a moment that is known to its
/// clock's error. `None` where fewer than two have begun.
pub fn start_spread_ms(tasks: &[TaskAccount]) -> Option<f64> {
    let begun = || tasks.iter().filter(|task| task.workers > 0);
    if begun().count() < 2 {
        return None;
    }
    let ends = |sign: f64| begun().map(move |task| task.start_skew_ms + sign * task.clock_error_ms);
    let last = ends(1.0).fold(f64::NEG_INFINITY, f64::max);
    let first = ends(-1.0).fold(f64::INFINITY, f64::min);
    Some(last - first)
}

/// Adds to a verdict what the tasks mean for it.
pub fn judge(
    tasks: &[TaskAccount],
    ttft_p50_ms: Option<f64>,
    window_seconds: f64,
    validity: &mut Validity,
) {
    let mut degrade = |reason: String| {
        validity.verdict = validity.verdict.max(Verdict::Degraded);
        validity.reasons.push(reason);
    };
    for task in tasks {
        if let Some(loss) = task.lost.as_ref().filter(|_| task.workers == 0) {
            degrade(format!(
                "The load generator lost {} before the load began ({}): the others sent its part.",
                task.name(),
                loss.why
            ));
        } else if let Some(loss) = &task.lost {
            degrade(format!(
                "The load generator lost {} after {:.0} s ({}): its requests up to second {:.0} count, and the load was smaller from then on.",
                task.name(),
                loss.at_seconds,
                loss.why,
                loss.counted_to_seconds
            ));
        }
    }
    let window = window_seconds * 1e3;
    if let Some(spread) = start_spread_ms(tasks).filter(|spread| *spread > START_DEGRADED * window)
    {
        degrade(format!(
            "The tasks of the load generator began up to {spread:.3} ms apart, which is over {:.0} % of the measured window ({window:.0} ms).",
            START_DEGRADED * 100.0
        ));
    }
    let Some(median) = ttft_p50_ms else { return };
    let limit = LATENESS_DEGRADED * median;
    let percent = LATENESS_DEGRADED * 100.0;
    let worst = tasks
        .iter()
        .filter(|task| task.clock_error_ms > limit)
        .max_by(|one, other| one.clock_error_ms.total_cmp(&other.clock_error_ms));
    if let Some(task) = worst {
        degrade(format!(
            "The clock of {} is known to {:.3} ms only, which is over {percent:.0} % of the median time to first token ({median:.3} ms): its share of the schedule may be off by that.",
            task.name(),
            task.clock_error_ms
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(task: u32, error: f64, skew: f64) -> TaskAccount {
        TaskAccount {
            task,
            node: format!("node{task}"),
            workers: 1,
            clock_error_ms: error,
            start_skew_ms: skew,
            ..TaskAccount::default()
        }
    }

    fn judged(tasks: &[TaskAccount], ttft: Option<f64>) -> (Verdict, String) {
        let mut validity = Validity {
            verdict: Verdict::Valid,
            reasons: Vec::new(),
        };
        judge(tasks, ttft, 10.0, &mut validity);
        (validity.verdict, validity.reasons.join("\n"))
    }

    #[test]
    fn tasks_that_keep_together_need_no_reason() {
        let tasks = [task(0, 0.0, 0.1), task(1, 0.05, 0.2), task(2, 0.1, 0.1)];
        assert_eq!(judged(&tasks, Some(20.0)), (Verdict::Valid, String::new()));
        let spread = start_spread_ms(&tasks).expect("three tasks");
        assert!((spread - 0.25).abs() < 1e-9, "{spread}");
        assert_eq!(start_spread_ms(&tasks[..1]), None);
    }

    #[test]
    fn each_fault_is_named_and_makes_a_result_degraded() {
        let lost = TaskAccount {
            lost: Some(Loss {
                at_seconds: 12.4,
                counted_to_seconds: 11.9,
                why: "the connection was closed".to_owned(),
            }),
            ..task(2, 0.0, 0.0)
        };
        let cases = [
            (vec![task(0, 0.0, 0.0), lost.clone()], None),
            (vec![TaskAccount { workers: 0, ..lost }], None),
            (vec![task(0, 0.0, 0.0), task(1, 2.1, 0.0)], Some(20.0)),
            (vec![task(0, 0.0, 0.0), task(1, 0.3, 120.0)], Some(20.0)),
        ];
        let told: Vec<String> = cases
            .iter()
            .map(|(tasks, ttft)| {
                let (verdict, reasons) = judged(tasks, *ttft);
                assert_eq!(verdict, Verdict::Degraded);
                reasons
            })
            .collect();
        insta::assert_snapshot!(told.join("\n"), @r"
        The load generator lost task 2 on node2 after 12 s (the connection was closed): its requests up to second 12 count, and the load was smaller from then on.
        The load generator lost task 2 on node2 before the load began (the connection was closed): the others sent its part.
        The clock of task 1 on node1 is known to 2.100 ms only, which is over 10 % of the median time to first token (20.000 ms): its share of the schedule may be off by that.
        The tasks of the load generator began up to 120.300 ms apart, which is over 1 % of the measured window (10000 ms).
        ");
    }
}
