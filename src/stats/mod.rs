//! Statistics: pure. From samples to a result that says how far it can be trusted.
//!
//! [`results`] is the format of `results.json`, [`summary`] turns samples into metrics, [`validity`] into a verdict.

pub mod results;
pub mod summary;
pub mod validity;
