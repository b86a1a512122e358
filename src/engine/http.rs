//! Anything that answers HTTP: nothing is known of it, so nothing is claimed.
//!
//! Without a readiness path of the recipe, any answer below 500 to `/` counts: many services have nothing at their root
//! and answer 404 there, which still says that they serve.
//!
//! Its hints are of programs at large (Node says EADDRINUSE, Python and the loader of programs what they lack), and of Triton, whose
//! recipe has no profile of its own: "Socket '…' already in use" is of its tests (`qa/L0_lifecycle/test.sh`).

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
    hints: &[
        (
            "EADDRINUSE",
            "the port is taken: use `ports: [auto]` and {port} in the arguments",
        ),
        (
            "' already in use",
            "the port is taken: use `ports: [auto]` and {port} in the arguments",
        ),
        (
            "failed to stat file",
            "Triton has no such model repository: check the path after --model-repository, and that the container sees it (binds)",
        ),
        (
            "ModuleNotFoundError: No module named",
            "the image or environment lacks a Python module: take one that has it, or check which python the command runs",
        ),
        (
            "error while loading shared libraries",
            "the program lacks a library: load the module that brings it (site file), or run the program in its container",
        ),
        (
            "Exec format error",
            "the program is made for another kind of processor than this node has",
        ),
    ],
};
