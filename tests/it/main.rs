//! Tests of the whole binary.

mod lab;
mod layers;
mod registry;
mod report;
mod server;
