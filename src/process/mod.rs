//! Processes and sockets of this machine: what is ours, what listens, what others can reach.
//!
//! [`child`] starts and ends a process with all that it starts, [`guard`] does the ending when nobody else is left to,
//! [`tree`] reads who descends from whom, [`ready`] waits for a probe, [`port`] draws ports, [`proof`] says whose a
//! listening socket is, [`address`] how other nodes reach this one, [`ask`] has another program say something,
//! [`shared_memory`] clears what a killed one leaves there.

pub mod address;
pub mod ask;
pub mod child;
pub mod guard;
pub mod port;
pub mod proof;
pub mod ready;
pub mod shared_memory;
pub mod tree;
