//! The load generator: when requests are sent, what they hold, and what became of them.
//!
//! [`arrival`], [`phase`], [`workload`] and [`sample`] are pure. [`connection`] and [`exchange`] are one request on the
//! wire with its stamps; [`dispatch`] sends many, by users or by time.

mod answer;
pub mod arrival;
pub mod connection;
pub mod dispatch;
pub mod exchange;
pub mod pace;
pub mod phase;
pub mod sample;
mod trace;
pub mod wire;
pub mod worker;
pub mod workload;

#[cfg(test)]
mod tests;
