//! How a load is dealt out: to its tasks, and of each task to its workers, so that nothing is sent twice or left out.
//!
//! Users and arrivals have numbers, and are dealt in turn like cards: of `n` places, the `k`-th holds every number that
//! leaves `k` when divided by `n`. Whatever else a load has a number of follows from that: a task sends as many of all
//! requests of a closed loop as it has users, so that tasks end together, and a share of what is dealt adds up to the
//! whole exactly. Pure; nothing can fail.

use serde::{Deserialize, Serialize};

/// A place among those that something is dealt to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Its number, from 0 on.
    pub number: usize,
    /// Places in all.
    pub of: usize,
}

impl Share {
    /// The only place.
    pub const WHOLE: Self = Self { number: 0, of: 1 };

    /// Is this one dealt to it?
    pub const fn holds(self, index: u64) -> bool {
        index % self.of as u64 == self.number as u64
    }

    /// How many of so many are dealt to it.
    pub const fn count(self, all: u64) -> u64 {
        let (number, of) = (self.number as u64, self.of as u64);
        all / of + (all % of > number) as u64
    }

    /// The `n`-th that is dealt to it, from 0 on.
    pub const fn nth(self, n: u64) -> u64 {
        n * self.of as u64 + self.number as u64
    }
}

/// What a task has of a load's requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dealing {
    /// Its place among the tasks.
    pub task: Share,
    /// Users of the whole load; `None` where requests come by time.
    pub users: Option<u64>,
}

impl Dealing {
    /// Users of this task.
    pub fn own_users(self) -> u64 {
        self.task.count(self.users.unwrap_or(0))
    }

    /// How many of so many requests are its own: in rounds of all users, one each.
    pub fn count(self, all: u64) -> u64 {
        let Some(users) = self.users.filter(|users| *users > 0) else {
            return self.task.count(all);
        };
        all / users * self.own_users() + self.task.count(all % users)
    }

    /// The number, among all requests of the load, of the `n`-th of this task.
    pub fn nth(self, n: u64) -> u64 {
        let own = self.own_users();
        let Some(users) = self.users.filter(|_| own > 0) else {
            return self.task.nth(n);
        };
        n / own * users + self.task.nth(n % own)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(of: usize) -> impl Iterator<Item = Share> {
        (0..of).map(move |number| Share { number, of })
    }

    #[test]
    fn one_place_has_everything_in_order() {
        let dealing = Dealing {
            task: Share::WHOLE,
            users: Some(7),
        };
        assert_eq!((dealing.own_users(), dealing.count(1000)), (7, 1000));
        assert!((0..100).all(|n| dealing.nth(n) == n && Share::WHOLE.holds(n)));
    }

    #[test]
    fn a_task_without_users_sends_nothing_and_leaves_nothing_out() {
        let shares: Vec<u64> = all(4)
            .map(|task| {
                let users = Some(2);
                Dealing { task, users }.count(101)
            })
            .collect();
        assert_eq!(shares, [51, 50, 0, 0]);
    }

    proptest! {
        #[test]
        fn shares_add_up_to_the_whole(count in 0_u64..100_000, of in 1_usize..40) {
            prop_assert_eq!(all(of).map(|share| share.count(count)).sum::<u64>(), count);
            let few = count % 1000;
            for share in all(of) {
                let held = (0..few).filter(|index| share.holds(*index));
                let told: Vec<u64> = (0..share.count(few)).map(|n| share.nth(n)).collect();
                prop_assert_eq!(held.collect::<Vec<_>>(), told);
            }
        }

        #[test]
        fn each_request_has_one_sender(
            requests in 0_u64..2000, tasks in 1_usize..12, users in prop::option::of(1_u64..40),
        ) {
            let mut sent: Vec<u64> = all(tasks)
                .flat_map(|task| {
                    let dealing = Dealing { task, users };
                    (0..dealing.count(requests)).map(move |n| dealing.nth(n))
                })
                .collect();
            sent.sort_unstable();
            prop_assert_eq!(sent, (0..requests).collect::<Vec<_>>());
        }

        #[test]
        fn workers_of_a_task_share_what_it_has(
            tasks in 1_usize..6, workers in 1_usize..6, index in 0_u64..10_000,
        ) {
            // by their number within the task, so that tasks may have workers as many as they like
            let holders = all(tasks).filter(|task| task.holds(index)).flat_map(|task| {
                all(workers).filter(move |worker| worker.holds(index / task.of as u64))
            });
            prop_assert_eq!(holders.count(), 1);
        }
    }
}
