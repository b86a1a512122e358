//! Tests of the whole binary.

mod lab;
mod layers;
mod registry;
mod monitor;
mod report;
mod server;
