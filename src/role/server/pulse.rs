//! An engine that hangs: its process lives, and nothing answers.
//!
//! A busy engine may be slow to answer, so one answer of any kind is life, a question has seconds, and only a long silence
//! counts. How long it has lasted is shown at each scrape (`aif_server_silence_seconds`); when it is as long as the recipe
//! says (`service.liveness.timeout`), the engine is lost as one that ended.

use std::{future::pending, time::Duration};

use tokio::time::{Instant, sleep};

use super::{engine::Engine, setup::Parts};
use crate::{api::client, exit::Failure, units::human_duration};

/// Between two questions.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Questions that must have had no answer: one alone may have been lost.
const QUESTIONS: u32 = 3;

/// Comes when the engine has answered nothing for as long as the recipe says.
pub(super) async fn hung(parts: &Parts<'_>, engine: &Engine) -> Failure {
    let Some(limit) = parts.plan.liveness else {
        return pending().await;
    };
    let path = parts.plan.readiness.path.as_deref();
    let url = format!(
        "{}{}",
        engine.base_url(),
        path.unwrap_or(parts.profile.ready_path)
    );
    let interval = INTERVAL.min(limit / (QUESTIONS + 1));
    let mut last = Instant::now();
    let mut missed = 0;
    loop {
        sleep(interval).await;
        let asked = Instant::now();
        let patience = PATIENCE.min(limit);
        if client::get(&url, &parts.access(), patience).await.is_ok() {
            if missed >= QUESTIONS {
                let silence = last.elapsed().as_secs_f64();
                tracing::info!(silence, "The engine answers again");
            }
            last = Instant::now();
            missed = 0;
            parts.shared.silence(Duration::ZERO);
            continue;
        }
        missed += 1;
        let silence = last.elapsed();
        parts.shared.silence(silence);
        if missed == QUESTIONS {
            tracing::warn!(
                silence = silence.as_secs_f64(),
                url,
                patience = asked.elapsed().as_secs_f64(),
                "The engine lives, but does not answer"
            );
        }
        if missed >= QUESTIONS && silence >= limit {
            return parts.failure(&format!(
                "the engine hangs: it lives, but {url} was not answered for {} (service.liveness.timeout)",
                human_duration(limit)
            ));
        }
    }
}
