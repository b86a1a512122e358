//! `ChromaDB`, a vector database: `chroma run` of 1.5.9, run for real.
//!
//! - `chroma run --path DIR --host H --port P`: ready in a second or two. `/api/v2/heartbeat` is 200 when it serves, `/api/v1`
//!   is gone (410). Its `/api/v2/version` tells "1.0.0" whatever the release is, so that is no version to record.
//! - No metrics (`/metrics` is 404) and no key: the bench tells what there is to tell. Its API is in `src/api/vectors/chroma.rs`.
//! - On TERM it ends within half a second when it has nothing to do; what it does to requests was not tried.

use std::time::Duration;

use super::{Drain, KeyBy, Profile};
use crate::recipe::{Api, EngineKind};

pub(super) const PROFILE: Profile = Profile {
    kind: EngineKind::Chroma,
    ready_path: "/api/v2/heartbeat",
    load_timeout: Duration::from_mins(5),
    apis: &[Api::Chroma],
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
