//! Tests of the whole binary.

mod monitor;
