//! The load generator: when requests are sent, what they hold, and what became of them.
//!
//! [`arrival`], [`deal`], [`phase`], [`workload`], [`sample`] and [`wire`] are pure. [`connection`] and [`exchange`] are
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
//! a virtual machine (AMD EPYC of 2024, Linux 6.18), by `tests/perf/run.sh`:
//!
//! | | by a library | now | of it in user mode | bare loop |
//! |---|---|---|---|---|
//! | request of 8 tokens in one write | 21.7 | 8.9 | 3.7 | 5.0 |
//! | request of 8 tokens, a write each | 36.2 | 25.3 | 6.2 | 21.3 |
//! | token of 256, a write each | 3.3 | 2.9 | 0.6 | 2.4 |
//! | token of 256, eight a write | 1.1 | 0.4 | 0.1 | 0.3 |
//!
//! A token that comes alone costs a read of some 2 µs, most of it the acknowledgement that the kernel sends for it, and
//! up to 5 µs where the process slept before. Not sending it at once would save half, and make engines that
//! wait for it (Nagle) late: so it stays.
//!
//! Errors against the engine's own log, p99 in ms: with 1,000 streams of 100 tokens a second each, 0.08 of the time to the
//! first token and 0.13 of a gap; with 10,000 streams of 10 tokens a second, 0.5 and 0.3. 5,000 requests a second leave
//! 0.09 late and miss the rate by nothing. 10,000 streams take 53 MB, ten million requests 19 MB, and the first request
//! leaves 12 ms after the start.
//!
//! How long bytes lay in the socket before they were read is not asked of the kernel at each read: its stamp comes by
//! `recvmsg` with a buffer for it, and not by the plain read that a token costs now. It is in what `--calibrate` finds
//! ([`crate::stats::certificate`]): there the time from a token's writing to its stamp is known from the other side.
//!
//! What all that was read at once shares is its stamp; how often that happened, and how late an event loop was for
//! moments of its own, is told with each result ([`crate::stats::results::Generator`]), and judged
//! ([`crate::stats::validity`]).

mod answer;
pub mod arrival;
mod beginning;
pub mod connection;
pub mod deal;
pub mod dispatch;
pub mod echo;
pub mod exchange;
pub mod pace;
pub mod phase;
pub mod sample;
mod talk;
mod trace;
pub mod wire;
pub mod worker;
pub mod workload;

#[cfg(test)]
mod tests;
