//! With which code a stack ends: interrupted, else the first failure in the order server, bench, monitor.

use jiff::{SignedDuration, Timestamp};

use crate::{clock, exit::Exit, shutdown::Cause};

/// A job that is told to end this near its projected end met its time limit: `--signal=B:TERM@120` may come 60 s early.
const NEAR_THE_END: SignedDuration = SignedDuration::from_secs(185);

/// How the roles ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Codes {
    pub(super) server: Option<i32>,
    pub(super) benches: Vec<i32>,
    pub(super) monitor: Option<i32>,
}

impl Codes {
    /// The code of the stack.
    pub(super) fn exit(&self, told: Option<Cause>, ends_at: Option<Timestamp>) -> Exit {
        match told {
            Some(Cause::Terminated)
                if ends_at.is_some_and(|end| end.duration_since(clock::now()) < NEAR_THE_END) =>
            {
                return Exit::TimeLimit;
            }
            Some(cause) => return cause.exit(),
            None => {}
        }
        let ends = self.server.iter().chain(&self.benches).chain(&self.monitor);
        ends.copied()
            .find(|code| *code != 0)
            .map_or(Exit::Done, |code| {
                // a role that was killed (137) or never came to our code is a role that was lost
                Exit::from_code(code).unwrap_or(Exit::Unavailable)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_in_the_order_server_bench_monitor_counts() {
        let codes = |server, benches: &[i32], monitor| Codes {
            server,
            benches: benches.to_vec(),
            monitor,
        };
        let cases = [
            (codes(Some(0), &[0, 0], Some(0)), Exit::Done),
            (codes(Some(69), &[143], Some(0)), Exit::Unavailable),
            (codes(Some(0), &[0, 80], Some(69)), Exit::Invalid),
            (codes(Some(0), &[0], Some(69)), Exit::Unavailable),
            (codes(Some(137), &[0], None), Exit::Unavailable),
            (codes(None, &[], None), Exit::Done),
        ];
        for (codes, exit) in cases {
            assert_eq!(codes.exit(None, None), exit, "{codes:?}");
        }
    }

    #[test]
    fn an_interruption_counts_above_all() {
        let codes = Codes {
            server: Some(69),
            ..Codes::default()
        };
        let far = clock::now() + SignedDuration::from_hours(1);
        let near = clock::now() + SignedDuration::from_secs(100);
        assert_eq!(
            codes.exit(Some(Cause::Interrupted), Some(near)),
            Exit::Interrupted
        );
        assert_eq!(
            codes.exit(Some(Cause::Terminated), Some(far)),
            Exit::Terminated
        );
        assert_eq!(
            codes.exit(Some(Cause::Terminated), Some(near)),
            Exit::TimeLimit
        );
        assert_eq!(codes.exit(Some(Cause::Terminated), None), Exit::Terminated);
    }
}
