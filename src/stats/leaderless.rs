//! The result of several tasks that lost their leader, from what each of them left.
//!
//! A member's samples hold a frame of its own: what it asked and measured, with its account first, and behind it the
//! leader's, which left nothing. It is read only where there is none of the leader's. Windows ended when each member
//! missed its leader: the earliest end is that of all, so that no window has a time in which one sent nothing. What
//! samples do not tell is taken from the member that was worst off. Pure; nothing can fail.

use super::{
    frame::Frame,
    results::{Generator, TargetFacts},
    tasks::{self, TaskAccount},
};

impl Frame {
    /// Of what all tasks have left; `None` where the leader, or a bench of one task, left its own.
    pub fn without_leader(all: &[&Self]) -> Option<Self> {
        let account = |frame: &Self| frame.results.generator.tasks.first().cloned();
        let mut accounts: Vec<TaskAccount> = all
            .iter()
            .map(|frame| account(frame).filter(|own| own.task > 0))
            .collect::<Option<_>>()?;
        let mut whole = (*all.iter().min_by_key(|frame| frame.planned.end)?).clone();
        let leader = whole.results.generator.tasks.get(1).cloned();
        accounts.extend(leader);
        accounts.sort_by_key(|account| account.task);
        for other in all {
            let (told, facts) = (&other.results.generator, &other.facts);
            worst(&mut whole.results.generator, told);
            whole.elapsed = whole.elapsed.max(other.elapsed);
            whole.facts.cpu_share = whole.facts.cpu_share.max(facts.cpu_share);
            for (all, one) in [
                (
                    &mut whole.facts.stamp_delay_p99_ms,
                    facts.stamp_delay_p99_ms,
                ),
                (&mut whole.facts.loop_delay_max_ms, facts.loop_delay_max_ms),
                (&mut whole.facts.read_delay_p99_ms, facts.read_delay_p99_ms),
            ] {
                *all = larger(*all, one);
            }
        }
        whole.results.target = target(&whole.results.target, all);
        let generator = &mut whole.results.generator;
        generator.cpu_seconds = accounts.iter().map(|task| task.cpu_seconds).sum();
        generator.workers = Some(accounts.iter().map(|task| task.workers).sum());
        generator.worker_cpu_shares = (accounts.iter())
            .flat_map(|task| task.worker_cpu_shares.iter().copied())
            .collect();
        generator.start_spread_ms = tasks::start_spread_ms(&accounts);
        generator.tasks = accounts;
        Some(whole)
    }
}

/// Takes over from another task what was worse there.
fn worst(all: &mut Generator, one: &Generator) {
    for (all, one) in [
        (&mut all.loop_delay_p50_ms, one.loop_delay_p50_ms),
        (&mut all.loop_delay_p99_ms, one.loop_delay_p99_ms),
        (&mut all.loop_delay_max_ms, one.loop_delay_max_ms),
        (&mut all.read_delay_p50_ms, one.read_delay_p50_ms),
        (&mut all.read_delay_p99_ms, one.read_delay_p99_ms),
        (&mut all.read_delay_max_ms, one.read_delay_max_ms),
        (&mut all.cpu_share, one.cpu_share),
        (&mut all.memory_mb, one.memory_mb),
    ] {
        *all = larger(*all, one);
    }
    let stamped = all.kernel_stamped_share.into_iter();
    all.kernel_stamped_share = stamped.chain(one.kernel_stamped_share).reduce(f64::min);
}

fn larger(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.into_iter().chain(other).reduce(f64::max)
}

/// The target, with the requests of all.
fn target(of: &TargetFacts, all: &[&Frame]) -> TargetFacts {
    let sum = |of: fn(&TargetFacts) -> &Vec<u64>| {
        let mut sums: Vec<u64> = Vec::new();
        for frame in all {
            let one = of(&frame.results.target);
            sums.resize(sums.len().max(one.len()), 0);
            for (sum, one) in sums.iter_mut().zip(one) {
                *sum += one;
            }
        }
        sums
    };
    TargetFacts {
        requests: sum(|target| &target.requests),
        failed: sum(|target| &target.failed),
        ..of.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::stats::tasks::Loss;

    /// What this task left, which missed its leader then.
    fn left(task: u32, end: u64, requests: u64) -> Frame {
        let mut frame = Frame::example();
        frame.planned.end = Duration::from_millis(end);
        frame.results.target.requests = vec![requests, 1];
        frame.results.generator.loop_delay_max_ms = Some(f64::from(task));
        frame.facts.cpu_share = f64::from(task) / 10.0;
        let own = TaskAccount {
            task,
            workers: 2,
            cpu_seconds: 1.5,
            worker_cpu_shares: vec![0.1, f64::from(task) / 10.0],
            ..TaskAccount::default()
        };
        let leader = TaskAccount {
            lost: Some(Loss::default()),
            ..TaskAccount::default()
        };
        frame.results.generator.tasks = vec![own, leader];
        frame
    }

    #[test]
    fn members_without_a_leader_are_one_result() {
        let (one, two) = (left(1, 2500, 7), left(2, 2400, 5));
        let whole = Frame::without_leader(&[&one, &two]).expect("no leader");
        assert_eq!(whole.planned.end, Duration::from_millis(2400));
        assert_eq!(whole.results.target.requests, [12, 2]);
        let busiest = two.facts.cpu_share.to_bits();
        assert_eq!(whole.facts.cpu_share.to_bits(), busiest);
        let generator = &whole.results.generator;
        assert_eq!(generator.loop_delay_max_ms, Some(2.0));
        assert_eq!(generator.cpu_seconds.to_bits(), f64::to_bits(3.0));
        assert_eq!(generator.worker_cpu_shares, [0.1, 0.1, 0.1, 0.2]);
        let tasks: Vec<_> = (generator.tasks.iter())
            .map(|task| (task.task, task.lost.is_some()))
            .collect();
        assert_eq!(tasks, [(0, true), (1, false), (2, false)]);
    }

    #[test]
    fn a_leader_that_is_there_has_the_word() {
        let mut led = left(0, 3000, 7);
        assert_eq!(Frame::without_leader(&[&led, &left(1, 2500, 7)]), None);
        led.results.generator.tasks.clear();
        assert_eq!(Frame::without_leader(&[&led]), None, "one task");
        assert_eq!(Frame::without_leader(&[]), None);
    }
}
