//! Tests of the whole binary.

mod layers;
mod report;
