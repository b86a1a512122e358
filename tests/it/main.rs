//! Tests of the whole binary.

mod bench;
mod certificate;
mod doctor;
mod images;
mod lab;
mod layers;
mod monitor;
mod reference;
mod registry;
mod report;
mod samples;
mod series;
mod server;
mod site;
mod stack;
mod tasks;
mod tls;
mod turns;
