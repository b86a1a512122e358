//! Is more asked of a service than it does?
//!
//! An open loop over what a service can do is late by more with each second. Limits on latency that are wide enough for
//! the whole load are kept all the same, and a search would call a rate kept that is not served. So of the second half
//! of the window, when what began before it has had time to end, as many requests must have ended as were sent, but for
//! a tenth. The number in flight varies by chance: of a service that keeps up it is Poisson's at both ends of the half,
//! so a lack within what their difference has by chance says nothing.
//!
//! Pure; a load whose slices were not kept is not judged.

use crate::stats::results::Results;

/// Share of what is sent that must end.
const SERVED: f64 = 0.9;
/// Standard deviations by which both may differ: one time in twenty by chance, if the tenth is not more.
const DEVIATIONS: f64 = 1.645;

/// What was sent and what ended in the second half of a window, if the second falls short. A closed loop waits for its
/// answers and cannot ask more than is done.
pub fn shortfall(results: &Results) -> Option<(u64, u64)> {
    results.generator.requested_rate?;
    // what came after the end may be told in the last
    let (_, slices) = results.slices.split_last()?;
    let end = results.warmup_seconds + results.duration_seconds;
    let middle = end - results.duration_seconds / 2.0;
    let (mut sent, mut ended, mut in_flight) = (0, 0, 0);
    for slice in slices {
        if slice.t < middle {
            in_flight = slice.in_flight;
        } else if slice.t + 1.0 <= end {
            sent += slice.sent;
            ended += slice.completed + slice.errors;
        }
    }
    let lack = sent as f64 - ended as f64;
    let chance = DEVIATIONS * (2.0 * in_flight as f64).sqrt();
    let is_short = lack > (1.0 - SERVED) * sent as f64 && lack > chance;
    is_short.then_some((sent, ended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats::{frame::Frame, results::Slice};

    /// An open loop of 2 requests a second, 30 s after 2 s of warm-up, with so many that end in each second.
    fn results(ended: impl Fn(u64) -> u64) -> Results {
        let mut results = Frame::example().results;
        results.generator.requested_rate = Some(2.0);
        results.warmup_seconds = 2.0;
        results.duration_seconds = 30.0;
        let mut in_flight = 0;
        results.slices = (0..32)
            .map(|second| {
                in_flight += 2 - ended(second);
                Slice {
                    t: second as f64,
                    sent: 2,
                    completed: ended(second),
                    in_flight,
                    ..Slice::default()
                }
            })
            .collect();
        results
    }

    #[test]
    fn a_rate_that_is_not_served_falls_short() {
        let two_thirds = results(|second| if second % 3 == 0 { 2 } else { 1 });
        assert_eq!(shortfall(&two_thirds), Some((28, 19)));
        let half = results(|_| 1);
        assert_eq!(shortfall(&half), Some((28, 14)));
    }

    #[test]
    fn answers_that_take_their_time_are_no_shortfall() {
        // nothing ends before the tenth second; one that waits more or less
        let slow = results(|second| if second < 10 { 0 } else { 2 });
        assert_eq!(shortfall(&slow), None);
        let odd = results(|second| if second == 20 { 0 } else { 2 });
        assert_eq!(shortfall(&odd), None);
        let closed = Results {
            generator: crate::stats::results::Generator::default(),
            ..results(|_| 1)
        };
        assert_eq!(shortfall(&closed), None);
        assert_eq!(shortfall(&Frame::example().results), None);
    }
}
