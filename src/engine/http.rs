//! Anything that answers HTTP: nothing is known of it, so nothing is claimed.
//!
//! Without a readiness path of the recipe, any answer below 500 to `/` counts: many services have nothing at their root
//! and answer 404 there, which still says that they serve.

use super::{Drain, KeyBy, LARGE_MODELS, Profile};
use crate::recipe::EngineKind;

pub(super) const PROFILE: Profile = Profile {
    kind: EngineKind::Http,
    ready_path: "/",
    load_timeout: LARGE_MODELS,
    apis: &[],
    drain: Drain::UNKNOWN,
    open_paths: &[],
    metrics_path: None,
    key: KeyBy::None,
    models_path: None,
    preload: &[],
    guarded_path: None,
    version: None,
    prompt_tokens: &[],
    output_tokens: &[],
    running: &[],
    waiting: &[],
    kv_cache: &[],
    time_to_first_token: None,
    inter_token_latency: &[],
    tokenizing: None,
    failures: &[],
    recorded: &[],
    aliases: &[],
    caches: &[],
    ranks: None,
    hints: &[],
};
