//! How a process of ours is told to end.
//!
//! TERM, INT and USR1 mean *drain*: finish what is in flight, keep what was measured, leave no trace. A second TERM or
//! INT, two seconds or more after the first, means *stop*: end now. (Slurm sends TERM twice within 10 ms at a time limit,
//! so a second one counts only when it is a person's. USR1 never counts: a stack that got TERM together with its roles
//! still tells each of them in turn.) Two tokens say so to everybody; tasks run on one tracker, so that the end can wait
//! for them.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::exit::Exit;

/// A second signal counts only this long after the first.
const SECOND_SIGNAL: Duration = Duration::from_secs(2);

/// Why the process was told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Cause {
    /// USR1: the stack is done with this role.
    Released,
    /// TERM: scancel, time limit, preemption.
    Terminated,
    /// INT: a person at the keyboard.
    Interrupted,
}

impl Cause {
    /// The exit code of a process that could not finish its work for this cause.
    pub fn exit(self) -> Exit {
        match self {
            Self::Interrupted => Exit::Interrupted,
            Self::Released | Self::Terminated => Exit::Terminated,
        }
    }
}

/// The two tokens, the tracker, and the cause. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled by the first signal: finish what is in flight, then end.
    pub drain: CancellationToken,
    /// Cancelled by a second signal: end now. Cancels `drain` too.
    pub stop: CancellationToken,
    /// Every task is spawned here.
    pub tasks: TaskTracker,
    cause: Arc<OnceLock<(Cause, Instant)>>,
    insisted: Arc<OnceLock<Instant>>,
}

impl Shutdown {
    /// Nothing listens to signals: for tests and for commands that end by themselves.
    pub fn new() -> Self {
        Self::default()
    }

    /// Listens to TERM, INT and USR1 from now on.
    ///
    /// # Errors
    /// Where the handlers cannot be installed.
    pub fn listen() -> io::Result<Self> {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut user = signal(SignalKind::user_defined1())?;
        let told = shutdown.clone();
        // not on the tracker: it lives as long as the process, and the end waits for the tracker
        tokio::runtime::Handle::current().spawn(async move {
            loop {
                let cause = tokio::select! {
                    _ = terminate.recv() => Cause::Terminated,
                    _ = interrupt.recv() => Cause::Interrupted,
                    _ = user.recv() => Cause::Released,
                };
                tracing::info!(?cause, "Received a signal to end");
                told.tell(cause);
            }
        });
        Ok(shutdown)
    }

    /// Tells the process to end, as a signal does.
    pub fn tell(&self, cause: Cause) {
        self.cause.get_or_init(|| (cause, Instant::now()));
        self.drain.cancel();
        if cause != Cause::Released
            && self.insisted.get_or_init(Instant::now).elapsed() >= SECOND_SIGNAL
        {
            self.stop.cancel();
        }
    }

    /// Why the process was told to end; `None` while it was not.
    pub fn cause(&self) -> Option<Cause> {
        self.cause.get().map(|(cause, _)| *cause)
    }

    /// Time since the process was told to end; `None` while it was not.
    pub fn told_ago(&self) -> Option<Duration> {
        self.cause.get().map(|(_, first)| first.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn two_signals_at_once_are_one() {
        let shutdown = Shutdown::new();
        assert_eq!(shutdown.cause(), None);
        shutdown.tell(Cause::Terminated);
        shutdown.tell(Cause::Terminated);
        assert!(shutdown.drain.is_cancelled());
        assert!(!shutdown.stop.is_cancelled());
        tokio::time::advance(Duration::from_secs(2)).await;
        shutdown.tell(Cause::Interrupted);
        assert!(shutdown.stop.is_cancelled());
        assert_eq!(
            shutdown.cause(),
            Some(Cause::Terminated),
            "the first cause is the cause"
        );
    }
}
