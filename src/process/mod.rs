//! Processes and sockets of this machine: what is ours, what listens, what others can reach.

pub mod address;
