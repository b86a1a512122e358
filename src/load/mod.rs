//! The load generator: when requests are sent, what they hold, and what became of them.
//!
//! [`arrival`], [`deal`], [`phase`], [`workload`], [`way`], [`sample`] and [`wire`] are pure. [`connection`] and [`exchange`] are
//! one request on the wire with its stamps, [`pace`] waits for a moment; [`dispatch`] is a load, [`worker`] sends its share
//! of it, [`talk`] is a conversation.
//!
//! # What it costs, and what nobody can save
//!
//! The generator must not be what it measures, so it has its own connections: no HTTP library between the socket and the
//! stamp. A request is one write, and a token that comes alone is one read: `strace` counts 124,650 reads for 124,649
//! tokens, and one `epoll_wait` for all that is ready. `valgrind` counts eleven allocations for a request and none for a
//! token. Bytes are scanned where they were read; an event that differs from the last only in its text is not parsed
//! ([`crate::api::repeat`]); statistics are added up at the end of a request ([`crate::stats::tally`]), so none is kept.
//!
//! The floor is the kernel: a bare loop that only writes and reads (`tests/perf/floor.rs`). CPU time in µs, on one core of
//! a virtual machine (AMD EPYC of 2024, Linux 6.18) with nothing else on it, by `tests/perf/run.sh`, with samples written
//! and without them. The bare loop stands beside each, as it ran in the same minute, for the machine is not the same every
//! day:
//!
//! | | with samples | bare loop | without | bare loop |
//! |---|---|---|---|---|
//! | request of 8 tokens in one write | 12.0 (4.9 in user mode) | 6.4 | 11.2 | 6.0 |
//! | request of 8 tokens, a write each | 35.7 (8.2) | 25.6 | 29.9 | 21.0 |
//! | token of 256, a write each | 3.5 (0.5) | 3.0 | 3.2 | 2.5 |
//! | token of 256, eight a write | 0.6 (0.2) | 0.4 | 0.5 | 0.3 |
//!
//! What is ours costs more or less with the machine, and the kernel's part less so. On two cores of an Intel Xeon (a virtual
//! machine whose host others use, Linux 6.18) the same rows were, with samples, 16 to 26 (9 to 17 in user mode) beside 6.0 to
//! 7.4, 39.7 (18.9) beside 30.0, 3.7 (1.1) beside 3.2 and 0.7 (0.3) beside 0.4, from one quarter of an hour to the next; the
//! build of which the table is cost 19 beside 7 to 8 in the same minutes.
//!
//! By a library (hyper, and JSON of every event) these were 21.7, 36.2, 3.3 and 1.1, beside a bare loop of 5.0, 21.3, 2.4
//! and 0.3.
//!
//! A token that comes alone costs a read of some 2 µs, most of it the acknowledgement that the kernel sends for it, and
//! up to 5 µs where the process slept before. Not sending it at once would save half, and make engines that
//! wait for it (Nagle) late: so it stays.
//!
//! Errors against the engine's own log, p99 in ms: with 1,000 streams of 100 tokens a second each 0.009 of the time to the
//! first token and 0.002 of a gap, the same where all are in step; with 10,000 streams of 10 tokens a second 0.008 and 0.002.
//! 5,000 requests a second leave 0.05 late and miss the rate by nothing. 10,000 streams take 94 MB (83 without samples), half
//! a million requests 48 MB (19). The first request leaves 6 ms after the start. On the Xeon: 0.022 and 0.012 with 1,000
//! streams, 0.023 and 0.011 with 10,000, 93 and 48 MB, 9 ms to the first request; 5,000 requests a second left 0.1 to 4.8 late
//! at p99, with samples and without, and by the older build, too: that machine is slowed down for some ms now and then. One of
//! five runs with 1,000 streams had 5.1 of a gap by that, and both with streams in step 10 to 23 of a first token.
//!
//! Stamps are the kernel's ([`receive`]): of when bytes came to this machine, not of when an event loop found the time to
//! read them. What that costs a token is hard to tell from nothing; stamps of the reading had errors of 0.2 to 0.5 and 0.3 to
//! 0.7 ms at p99 with 1,000 streams, and of milliseconds where the machine stopped for a moment. How long bytes lay there is
//! told with each result, so one sees what a client without it would have added. Encrypted answers are stamped when they are
//! read. Of what is read at once the last byte's coming counts: where the machine is so busy that tokens of a stream are read
//! together, their gaps are lost, and the result says so ([`crate::stats::validity`]).
//!
//! What all that was read at once shares is its stamp; how often that happened, and how late an event loop was for
//! moments of its own, is told with each result ([`crate::stats::results::Generator`]), and judged
//! ([`crate::stats::validity`]).

mod answer;
pub mod arrival;
mod beginning;
pub mod connection;
mod counted;
pub mod deal;
pub mod dispatch;
pub mod echo;
pub mod exchange;
mod observer;
pub mod pace;
pub mod phase;
pub mod receive;
pub mod room;
pub mod sample;
mod spent;
mod talk;
mod trace;
pub mod way;
pub mod wire;
pub mod worker;
pub mod workload;

#[cfg(test)]
mod tests;
