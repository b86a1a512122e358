//! Tests of the whole binary.

mod bench;
mod browser;
mod certificate;
mod compare;
mod doctor;
mod doubles;
mod images;
mod index;
mod lab;
mod layers;
mod monitor;
mod original;
mod page;
mod reference;
mod registry;
mod report;
mod samples;
mod series;
mod server;
mod services;
mod site;
mod stack;
mod tasks;
mod tls;
mod turns;
mod vectors;
