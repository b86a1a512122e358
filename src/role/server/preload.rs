//! Loads the model of an engine that answers before it has one, so that no client waits for that.
//!
//! It comes after the proof that the engine is ours and before anybody is told of it. What it takes counts as time to
//! ready, and is part of `service.readiness.timeout`. Without a model that the recipe tells there is nothing to load, and
//! the first request loads it. A model that the engine does not have, or cannot load, is a failure: a server that is told to
//! be ready and is not would be found by the bench, as errors.

use std::time::Duration;

use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{api::client, units::human_duration};

use super::{
    engine::{Engine, Failed},
    setup::Parts,
};

/// Loads the model into an engine that was started `start` ago; the engine is ended where that fails.
pub(super) async fn load(parts: &Parts<'_>, mut engine: Engine) -> Result<Engine, Failed> {
    let paths = parts.profile.preload;
    let Some(model) = parts.plan.model.as_deref().filter(|_| !paths.is_empty()) else {
        return Ok(engine);
    };
    let limit = parts.plan.readiness.timeout;
    let limit = limit.unwrap_or(parts.profile.load_timeout);
    let spent = Duration::from_secs_f64(engine.seconds_to_ready);
    let left = limit.saturating_sub(spent).max(Duration::from_secs(1));
    tracing::info!(model, "Loading the model");
    let start = Instant::now();
    let failure = tokio::select! {
        biased;
        how = engine.child.ended() => parts.death("the engine ended while it loaded its model", how),
        () = parts.context.shutdown.drain.cancelled() => parts.failure("told to end while the model was loaded"),
        loaded = ask(parts, &engine, model, left) => match loaded {
            Ok(()) => {
                engine.seconds_to_ready += start.elapsed().as_secs_f64();
                return Ok(engine);
            }
            Err(why) => parts.failure(&format!("the engine cannot load its model {model:?}: {why}")),
        },
        () = tokio::time::sleep(left) => parts.failure(&format!(
            "the engine had not loaded its model {model:?} within {} (service.readiness.timeout)",
            human_duration(limit)
        )),
    };
    engine.end(parts).await;
    Err(failure.into())
}

/// Asks one path after another, as long as the engine says that the model is not for it.
async fn ask(
    parts: &Parts<'_>,
    engine: &Engine,
    model: &str,
    left: Duration,
) -> Result<(), String> {
    // it stays until a request says otherwise: between ready and the first of them much time may pass
    let body = json!({"model": model, "keep_alive": -1});
    let mut why = String::new();
    for path in parts.profile.preload {
        let url = format!("{}{path}", engine.base_url());
        // the caller has the deadline
        let answer = client::post_json(&url, &parts.access(), &body, left * 2, None).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status.is_success() {
            return Ok(());
        }
        let said = answer.json::<Value>().unwrap_or_default();
        let said = said["error"].as_str().map(str::to_owned);
        let said = said.unwrap_or_else(|| answer.text());
        why = format!("{path} answers {}: {}", answer.status, said.trim());
        if answer.status == StatusCode::NOT_FOUND {
            let list = parts.profile.models_path.unwrap_or("/v1/models");
            why = format!(
                "{why}; pull it beforehand into the folder that the engine keeps its models in, or, where the recipe pulls it, \
                 let service.readiness.path be {list}/{model}"
            );
        }
        if answer.status != StatusCode::BAD_REQUEST {
            break;
        }
    }
    Err(why)
}
