//! What a stack waits for: the end of a role, a word to end, a record that turned ready, a step that starts.

use std::time::Duration;

use tokio::time::Instant;

use super::Stack;
use crate::{
    exit::{Exit, Failure},
    launch::Running,
    registry::{Kind, State},
    run::RunDir,
};

/// How often records are looked at while the stack waits.
const TICK: Duration = Duration::from_millis(250);
/// A step that has not written its file after this long has not started.
const STEP_START: Duration = Duration::from_secs(30);
/// A monitor may take this long to be ready before benches start without it.
const MONITOR_READY: Duration = Duration::from_secs(30);

/// Something that the stack waited for.
#[derive(Debug)]
pub(super) enum Event {
    ServerEnded(i32),
    MonitorEnded(i32),
    BenchEnded(i32),
    Told,
    Tick,
}

impl Stack<'_> {
    /// The next event. A role that was lost is taken out by whoever handles its end.
    pub(super) async fn next(&mut self, bench: Option<&mut Running>) -> Event {
        let told = self.context.shutdown.drain.is_cancelled();
        let run = &self.context.run;
        tokio::select! {
            biased;
            code = ended(bench, run) => Event::BenchEnded(code),
            code = ended(self.server.as_mut(), run) => Event::ServerEnded(code),
            code = ended(self.monitor.as_mut(), run) => Event::MonitorEnded(code),
            () = self.context.shutdown.drain.cancelled(), if !told => Event::Told,
            () = tokio::time::sleep(TICK) => Event::Tick,
        }
    }

    /// Waits until the server is ready. `Ok(false)`: it never will be, or the stack was told to end.
    pub(super) async fn wait_server_ready(&mut self) -> Result<bool, Failure> {
        if self.server.is_none() {
            return Ok(true);
        }
        loop {
            match self.next(None).await {
                Event::ServerEnded(code) => {
                    self.server_lost(code, "before it was ready");
                    return Ok(false);
                }
                Event::MonitorEnded(code) => self.monitor_lost(code),
                Event::Told => return Ok(false),
                Event::Tick if self.has(Kind::Server, State::Ready) => {
                    tracing::info!(
                        seconds = self.started.elapsed().as_secs_f64(),
                        "The server is ready"
                    );
                    self.keep();
                    return Ok(true);
                }
                Event::Tick => self.check_started("server", self.started)?,
                Event::BenchEnded(_) => {}
            }
        }
    }

    pub(super) async fn wait_monitor_ready(&mut self) {
        let deadline = Instant::now() + MONITOR_READY;
        while self.monitor.is_some()
            && Instant::now() < deadline
            && !self.has(Kind::Monitor, State::Ready)
        {
            match self.next(None).await {
                Event::MonitorEnded(code) => self.monitor_lost(code),
                Event::ServerEnded(code) => {
                    self.server_lost(code, "before the first bench");
                    return;
                }
                Event::Told => return,
                Event::BenchEnded(_) | Event::Tick => {}
            }
        }
        if self.monitor.is_some() && !self.has(Kind::Monitor, State::Ready) {
            self.problem(format!(
                "the monitor was not ready after {} s: benches start without it",
                MONITOR_READY.as_secs()
            ));
        }
    }

    /// Is there a record of this run of that kind and state?
    fn has(&self, kind: Kind, state: State) -> bool {
        self.context
            .store
            .records()
            .iter()
            .any(|record| self.context.owns(record) && record.kind == kind && record.state == state)
    }

    pub(super) fn check_started(&self, name: &str, since: Instant) -> Result<(), Failure> {
        if since.elapsed() < STEP_START || self.context.run.step(name).exists() {
            return Ok(());
        }
        let hint = format!(
            "the step of {name} has not started after {} s: srun may wait for memory or GPUs that the job does not have, see {}",
            STEP_START.as_secs(),
            self.context.run.log(name).display()
        );
        Err(Failure::new(Exit::Unavailable, hint))
    }
}

/// The end of a role; never, where there is none.
async fn ended(role: Option<&mut Running>, run: &RunDir) -> i32 {
    match role {
        Some(role) => own_code(role.wait().await, &role.name, run),
        None => std::future::pending().await,
    }
}

/// The code of a role by its own word, where it had a last one and the launcher gives none of ours: srun ends with 1
/// when the kernel killed any process of the step for want of memory.
pub(super) fn own_code(code: i32, name: &str, run: &RunDir) -> i32 {
    let said = || run.steps().remove(name)?.exit;
    match Exit::from_code(code) {
        None => said().map_or(code, |exit| i32::from(exit.code())),
        Some(_) => code,
    }
}
