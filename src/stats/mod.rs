//! Statistics: pure. From samples to a result that says how far it can be trusted.
//!
//! [`results`] is the format of `results.json`, [`frame`] fills it, [`summary`] has its words, [`tally`] adds samples up (by
//! the second: [`seconds`], by what it is: [`observed`], as others count: [`events`], by the turn: [`turns`]), [`series`]
//! tells several loads as one, [`validity`] turns facts into a verdict, [`tasks`] those of a load of several tasks;
//! [`histogram`] holds observations, [`order`] says how sure a percentile is, [`engine_counters`] reads what an engine
//! counted itself, [`beside`] puts its means beside ours, [`leaderless`] reads what tasks left without their leader,
//! [`certificate`] holds what the generator measured against what was true,
//! [`compare`] says whether two loads differ.

pub mod beside;
pub mod certificate;
pub mod compare;
pub mod engine_counters;
pub mod events;
pub mod frame;
pub mod histogram;
mod leaderless;
pub mod observed;
pub mod order;
pub mod results;
pub mod seconds;
pub mod series;
pub mod summary;
pub mod tally;
pub mod tasks;
pub mod turns;
pub mod validity;
pub mod whole;
