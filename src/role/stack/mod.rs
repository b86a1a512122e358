//! The stack: the batch step that holds the other roles together and always ends with a report.
//!
//! It makes nothing itself: it starts roles as steps ([`crate::launch`]), waits on events (an exit, a signal, a record
//! that turned ready), and ends the roles in their order: bench, monitor, server. When everything gets TERM at once
//! (`scancel`), the roles keep that order by themselves by watching each other's records; the stack then only waits.
//!
//! [`Stack`] is the state; [`start`] starts its roles, [`wait`] says what became of them, and [`loss`] what is made of one
//! that ended too soon; [`sweep`] clears away what one that was killed has left; [`ending`] decides the exit code;
//! [`account`] keeps the manifest.

mod account;
mod ending;
mod loss;
mod start;
mod sweep;
mod wait;

use std::{path::PathBuf, time::Duration};

use tokio::time::Instant;

use self::{ending::Codes, start::gpus_for, wait::Event};
use crate::{
    exit::{Exit, Failure},
    launch::{Launch, Running},
    library::Resolved,
    role::Context,
    run::Manifest,
    terminal,
};

/// A bench whose server is gone has this long to keep what it measured.
const BENCH_AFTER_SERVER: Duration = Duration::from_secs(4);
/// A role that was released may take this long, while nobody is in a hurry: the archive of a long run is packed meanwhile.
const RELEASED: Duration = Duration::from_mins(10);

/// What a stack is made of.
pub struct Config {
    /// The server, unless the service is there already.
    pub server: Option<Resolved>,
    /// The monitor.
    pub monitor: Option<Resolved>,
    /// Benches, run one after another.
    pub benches: Vec<Resolved>,
    /// How roles are started.
    pub launcher: Box<dyn Launch>,
    /// Go on to exit 0 when a result is invalid.
    pub allow_invalid: bool,
    /// Folder of the registry.
    pub registry: PathBuf,
}

struct Stack<'a> {
    config: Config,
    context: &'a Context,
    manifest: Manifest,
    server: Option<Running>,
    monitor: Option<Running>,
    monitor_restarted: bool,
    codes: Codes,
    /// Time for the end, settled when the stack is first told to end.
    grace: Option<Duration>,
    started: Instant,
}

/// Runs the stack to its end.
///
/// # Errors
/// Only where nothing could be started; everything later is told in the manifest and by the exit code.
pub async fn run(config: Config, context: &Context) -> anyhow::Result<Exit> {
    let manifest = account::begin(&config, context)?;
    let mut stack = Stack {
        config,
        context,
        manifest,
        server: None,
        monitor: None,
        monitor_restarted: false,
        codes: Codes::default(),
        grace: None,
        started: Instant::now(),
    };
    stack.keep();
    let worked = stack.work().await;
    if let Err(failure) = &worked {
        stack.problem(failure.to_string());
    }
    stack.end_roles().await;
    let told = context.shutdown.cause();
    let exit = match worked {
        Err(failure) if told.is_none() => failure.exit,
        _ => stack
            .codes
            .exit(told, context.job.as_ref().and_then(|job| job.ends_at)),
    };
    Ok(account::finish(&mut stack.manifest, context, exit).await)
}

impl Stack<'_> {
    async fn work(&mut self) -> Result<(), Failure> {
        if let Some(server) = &self.config.server {
            let gpus = gpus_for(server, self.context)?;
            self.server = Some(self.start("server", server, &["server"], gpus)?);
        }
        self.monitor = self.start_monitor()?;
        if !self.wait_server_ready().await? {
            return Ok(());
        }
        self.wait_monitor_ready().await;
        for index in 0..self.config.benches.len() {
            if self.context.shutdown.drain.is_cancelled() || !self.run_bench(index).await? {
                break;
            }
        }
        Ok(())
    }

    /// Runs one bench. `Ok(false)`: no further one makes sense.
    async fn run_bench(&mut self, index: usize) -> Result<bool, Failure> {
        if self.config.server.is_some() && self.server.is_none() {
            return Ok(false);
        }
        let recipe = &self.config.benches[index];
        let name = format!("bench-{}", recipe.plan.name());
        let mut words = vec!["bench"];
        if self.config.allow_invalid {
            words.push("--allow-invalid");
        }
        let started = Instant::now();
        let mut bench = self.start(&name, recipe, &words, 0)?;
        let mut deadline: Option<Instant> = None;
        loop {
            match self.next(Some(&mut bench)).await {
                Event::BenchEnded(code) => {
                    self.bench_ended(&name, code).await;
                    self.keep();
                    return Ok(deadline.is_none());
                }
                Event::ServerEnded(code) => {
                    self.server_lost(code, "while a bench was running");
                    bench.release();
                    deadline = Some(Instant::now() + BENCH_AFTER_SERVER);
                }
                Event::MonitorEnded(code) => self.monitor_lost(code),
                Event::Told => {
                    bench.release();
                    deadline = Some(Instant::now() + self.told_grace().mul_f64(0.4));
                }
                Event::Tick => {
                    let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
                    if over || self.context.shutdown.stop.is_cancelled() {
                        bench.kill().await;
                    } else if deadline.is_none()
                        && let Err(failure) = self.check_started(&name, started)
                    {
                        bench.kill().await;
                        return Err(failure);
                    }
                }
            }
        }
    }

    /// Ends what still runs, in order, each within its share of the time.
    async fn end_roles(&mut self) {
        if let Some(mut monitor) = self.monitor.take() {
            let code = self.end(&mut monitor, 0.7).await;
            self.codes.monitor.get_or_insert(code);
            self.told("monitor", code);
        }
        if let Some(mut server) = self.server.take() {
            let code = self.end(&mut server, 0.9).await;
            self.codes.server.get_or_insert(code);
            self.told("server", code);
        }
        // all have ended: what still stands in the registry was left by one that was killed
        let context = self.context;
        context.sweep(|record| context.owns(record));
    }

    fn told_grace(&mut self) -> Duration {
        let context = self.context;
        *self.grace.get_or_insert_with(|| context.led_grace())
    }

    async fn end(&mut self, role: &mut Running, share: f64) -> i32 {
        role.release();
        let shutdown = self.context.shutdown.clone();
        let released = Instant::now();
        let (limit, within) = loop {
            let told = shutdown.told_ago();
            let limit = match told {
                Some(ago) => self.told_grace().mul_f64(share).saturating_sub(ago),
                None => RELEASED.saturating_sub(released.elapsed()),
            };
            tokio::select! {
                code = role.wait() => break (limit, Some(code)),
                () = tokio::time::sleep(limit) => break (limit, None),
                () = shutdown.stop.cancelled() => break (limit, None),
                // from now on there is less time
                () = shutdown.drain.cancelled(), if told.is_none() => {}
            }
        };
        if let Some(code) = within {
            return wait::own_code(code, &role.name, &self.context.run);
        }
        self.problem(format!(
            "the {} did not end within {:.0} s and was killed",
            role.name,
            released.elapsed().max(limit).as_secs_f64()
        ));
        role.kill().await;
        role.wait().await
    }

    fn problem(&mut self, text: String) {
        terminal::note(format_args!("aif: {text}"));
        self.manifest.problems.push(text);
    }

    fn keep(&mut self) {
        account::keep(&mut self.manifest, self.context);
    }
}
