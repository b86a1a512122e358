//! Waiting for a moment, exactly.
//!
//! tokio's timer counts in milliseconds, which is far too coarse to send five thousand requests a second by. So the load
//! has a timer of the kernel's (`timerfd`, without the slack of other sleeps). Tests in paused time wait by tokio's.

use std::{future::Future, io, os::fd::AsFd as _, time::Duration};

use nix::sys::{
    time::TimeSpec,
    timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
};
use tokio::{io::AsyncReadExt as _, net::unix::pipe::Receiver, time::Instant};

/// Something that waits.
pub trait Pace: Send + 'static {
    /// Waits until then; not at all where it is past.
    fn until(&mut self, at: Instant) -> impl Future<Output = ()> + Send;
}

/// tokio's timer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Ticks;

impl Pace for Ticks {
    async fn until(&mut self, at: Instant) {
        tokio::time::sleep_until(at).await;
    }
}

/// A timer of the kernel's. Where it fails, tokio's takes its place: later by a millisecond, not wrong.
#[derive(Debug)]
pub struct Timer {
    timer: TimerFd,
    /// The same timer, read: eight bytes at each expiry. For tokio it is a pipe.
    expiries: Receiver,
}

impl Timer {
    /// A timer on the event loop that runs here.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?;
        let expiries = timer.as_fd().try_clone_to_owned()?;
        Ok(Self {
            timer,
            expiries: Receiver::from_owned_fd_unchecked(expiries)?,
        })
    }

    async fn wait(&mut self, at: Instant) -> io::Result<()> {
        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return Ok(());
            }
            let once = Expiration::OneShot(TimeSpec::from_duration(left));
            // forgets an expiry that was not read
            self.timer.set(once, TimerSetTimeFlags::empty())?;
            // more than it has: what a read leaves room for is known to be empty
            let _ = self.expiries.read(&mut [0; 16]).await?;
        }
    }
}

impl Pace for Timer {
    async fn until(&mut self, at: Instant) {
        if self.wait(at).await.is_err() {
            tokio::time::sleep_until(at).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_timer_is_never_early_and_waits_for_no_past() {
        let mut timer = Timer::new().expect("a timer");
        let start = Instant::now();
        for micros in [0, 300, 1700, 900, 2500] {
            let at = start + Duration::from_micros(micros);
            timer.until(at).await;
            assert!(Instant::now() >= at, "{micros}");
        }
    }

    #[tokio::test]
    async fn a_wait_that_was_given_up_does_not_shorten_the_next() {
        let mut timer = Timer::new().expect("a timer");
        let given_up = timer.until(Instant::now() + Duration::from_millis(1));
        tokio::select! {
            biased;
            () = given_up => panic!("it is not yet time"),
            () = std::future::ready(()) => {}
        }
        tokio::time::sleep(Duration::from_millis(3)).await;
        let at = Instant::now() + Duration::from_millis(5);
        timer.until(at).await;
        assert!(Instant::now() >= at);
    }
}
