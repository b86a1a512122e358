//! Qdrant, a vector database. By its documentation (configuration, security, monitoring; v1.19); it was **not run on the
//! real one**, only against a double that speaks this. The image of `qdrant-server` is of the same release.
//!
//! - `qdrant` has no flag for its port: `QDRANT__SERVICE__HOST`, `QDRANT__SERVICE__HTTP_PORT`, `QDRANT__SERVICE__GRPC_PORT`
//!   and `QDRANT__STORAGE__STORAGE_PATH` are read from the environment.
//! - `/readyz` is 200 when it serves; `/` tells its version. `/metrics` is Prometheus's text.
//! - `QDRANT__SERVICE__API_KEY` guards the API, by the header `api-key` or as a bearer. `/`, `/healthz`, `/readyz` and
//!   `/livez` stay open (`api_key_whitelist` of `src/actix/mod.rs`), and so does its web page where the image has one; `/metrics`
//!   does not.
//! - Its complaints: its page of common errors (too many files, a WAL that is held), issues 2231 and 7206 of its repository.

use std::time::Duration;

use super::{Drain, KeyBy, Profile};
use crate::recipe::{Api, EngineKind};

pub(super) const PROFILE: Profile = Profile {
    kind: EngineKind::Qdrant,
    ready_path: "/readyz",
    load_timeout: Duration::from_mins(10),
    apis: &[Api::Qdrant],
    drain: Drain::UNKNOWN,
    open_paths: &["/", "/healthz", "/readyz", "/livez"],
    metrics_path: Some("/metrics"),
    ranks: None,
    key: KeyBy::Variable("QDRANT__SERVICE__API_KEY"),
    models_path: None,
    preload: &[],
    guarded_path: Some("/collections"),
    version: Some(("/", "version")),
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
    hints: &[
        (
            "Can't open Collections meta Wal",
            "another Qdrant holds the same storage: give each instance a folder of its own (QDRANT__STORAGE__STORAGE_PATH)",
        ),
        (
            "Can't init WAL",
            "the stored collections are damaged, as after a kill: give it an empty folder (QDRANT__STORAGE__STORAGE_PATH), or restore a snapshot",
        ),
        (
            "Failed to create snapshots temp directory",
            "it may not write its snapshots: give it a folder that it may (QDRANT__STORAGE__SNAPSHOTS_PATH)",
        ),
        (
            "os error 24",
            "too many open files for its segments: `ulimit -n 10000` in the script before it is started",
        ),
    ],
};
