//! Tests of the whole binary.

mod layers;
mod monitor;
mod report;
