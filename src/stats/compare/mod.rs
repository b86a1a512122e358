//! Do two loads differ, or did chance make the difference?
//!
//! [`run`] holds what a run observed, cut into cells of time; [`bootstrap`] draws blocks of these again and says how sure each
//! number is ([`blocks`] says how long a block must be); [`verdict`] takes two sides and judges their differences as one
//! family, with intervals by [`student`]. What is tested, at which level and with which correction stands in [`verdict`].
//!
//! It holds where a run is about the same from its beginning to its end. A drift, or times that hang together for longer
//! than an eighth of the window, make the intervals too narrow, and [`Estimates::too_short`] says so. Pure; nothing can
//! fail.

mod blocks;
mod bootstrap;
mod run;
mod spread;
mod student;
mod verdict;

pub use self::{
    bootstrap::{Estimate, Estimates, Statistic},
    run::{ERROR_RATE, GOODPUT, LATENCIES, RATES, Run, SLO_ATTAINMENT, is_share},
    verdict::{Difference, Interval, LEVEL, Verdict, differences, judge},
};

#[cfg(test)]
mod simulator_tests;
