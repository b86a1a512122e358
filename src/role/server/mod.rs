//! The server: one engine, wrapped, proven ready, registered, and ended with grace.
//!
//! Life: step file → record `starting`, agent → image → engine → ready, proven → record `ready` → until told to end or
//! until the engine ends → `draining` → clients gone → one TERM to the engine → record withdrawn.
//!
//! The engine's exit code is told and logged; the role ends with one of ours: 0 when it served until it was told to end,
//! 66 without an image, 69 when the engine was not ready in time, died before it was, or died more often than the
//! recipe allows, 143 or 130 when it was told to end before it was ready.
//!
//! The role is its engine's subreaper: whatever the engine starts and loses stays below it, so that the end leaves
//! nothing, and nothing is ever killed that it did not start.

mod death;
mod drain;
mod engine;
mod last_words;
mod launch;
mod metrics;
mod preload;
mod pulse;
mod ranks;
mod setup;

use std::time::Duration;

use crate::{
    exit::{Exit, Failure},
    recipe::ServerPlan,
    registry::{Record, State},
    role::{Context, StepNote},
    run::RecipeEntry,
    shutdown::Cause,
};

use engine::{Engine, Failed};
use ranks::Peers;
use setup::Parts;

pub use ranks::rank;

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The plan.
    pub plan: ServerPlan,
    /// The recipe, as the manifest keeps it.
    pub entry: RecipeEntry,
}

/// Runs an engine until it is told to end, or until the engine ends for good.
pub async fn run(config: Config, context: &Context) -> anyhow::Result<Exit> {
    nix::sys::prctl::set_child_subreaper(true)?;
    let rank = rank(&config.plan, context.job.as_ref(), &context.env)?;
    if rank == 0 {
        return serve(&config, context, rank, None).await;
    }
    let Some(leader) = ranks::leader(&config.plan, context).await? else {
        return Ok(told(context));
    };
    let context = Context {
        run: ranks::run_of(&leader, context),
        ..context.clone()
    };
    serve(&config, &context, rank, Some(&leader)).await
}

async fn serve(
    config: &Config,
    context: &Context,
    rank: u32,
    leader: Option<&Record>,
) -> anyhow::Result<Exit> {
    let step = StepNote::begin(&ranks::step_name(rank), &config.plan.name, context)?;
    let parts = setup::start(config, context, step, leader).await?;
    let ended = match Peers::meet(&parts).await {
        Ok(Some(peers)) => {
            let ended = engines(&parts, &peers).await;
            peers.conclude(&parts, ended).await
        }
        Ok(None) => Ok(before_ready(&parts)),
        Err(failure) => Err(failure),
    };
    if leader.is_some() {
        parts.last_word(&ended);
    }
    parts.leave();
    Ok(ended?)
}

/// One engine after another, until the last one's end.
async fn engines(parts: &Parts<'_>, peers: &Peers) -> Result<Exit, Failure> {
    let shutdown = &parts.context.shutdown;
    let restart = parts.plan.restart;
    if let Err(failed) = parts.fetch_image().await {
        return match parts.told_or(failed) {
            Ok(exit) => Ok(exit),
            Err(failure) => Err(peers.first(parts, failure).await),
        };
    }
    let mut backoff = restart.backoff;
    let mut restarts = 0;
    loop {
        let brought = tokio::select! {
            brought = Engine::bring_up(parts, peers) => brought,
            gone = peers.gone(&parts.context.store) => {
                gone.follow(parts.context)?;
                return Ok(before_ready(parts));
            }
        };
        let failure = match brought {
            Ok(engine) => {
                if peers.follows() {
                    parts.announce_rank(&engine);
                } else {
                    parts.announce(&engine).await?;
                }
                tokio::select! {
                    biased;
                    // Slurm may end both at once: who is told to end has not lost its engine
                    () = shutdown.drain.cancelled() => {
                        peers.drain(parts, &engine).await;
                        return Ok(after_ready(parts));
                    }
                    how = engine.child.ended() => {
                        let failure = parts.death("the engine ended after it was ready", how);
                        let failure = peers.first(parts, failure).await;
                        engine.clean_up().await;
                        failure
                    }
                    failure = pulse::hung(parts, &engine), if !peers.follows() => {
                        let failure = peers.first(parts, failure).await;
                        engine.end(parts).await;
                        failure
                    }
                    gone = peers.gone(&parts.context.store) => {
                        if let Err(failure) = gone.follow(parts.context) {
                            engine.end(parts).await;
                            return Err(failure);
                        }
                        peers.drain(parts, &engine).await;
                        return Ok(after_ready(parts));
                    }
                }
            }
            Err(_) if shutdown.drain.is_cancelled() => return Ok(before_ready(parts)),
            // what fails at the first start fails again: nobody waits for that
            Err(Failed { failure, .. }) if restarts == 0 => {
                return Err(peers.first(parts, failure).await);
            }
            Err(Failed { failure, .. }) => failure,
        };
        if restarts >= restart.max {
            return Err(failure);
        }
        restarts += 1;
        parts.lost(restarts);
        tracing::error!(%failure, restarts, of = restart.max, ?backoff, "Starting the engine again");
        tokio::select! {
            () = tokio::time::sleep(backoff) => {}
            () = shutdown.drain.cancelled() => return Ok(before_ready(parts)),
        }
        backoff = (backoff * 2).min(Duration::from_mins(5));
    }
}

/// Told to end while the engine was not ready.
fn before_ready(parts: &Parts<'_>) -> Exit {
    tracing::info!("Told to end before the engine was ready");
    parts.state(State::Draining);
    told(parts.context)
}

fn told(context: &Context) -> Exit {
    let cause = context.shutdown.cause();
    cause.map_or(Exit::Terminated, Cause::exit)
}

/// Told to end while it served: that is how a server ends.
fn after_ready(parts: &Parts<'_>) -> Exit {
    match parts.context.shutdown.cause() {
        Some(Cause::Interrupted) => Exit::Interrupted,
        _ => Exit::Done,
    }
}
