//! Tests of the whole binary.

mod lab;
mod layers;
mod monitor;
mod reference;
mod registry;
mod report;
mod server;
mod site;
