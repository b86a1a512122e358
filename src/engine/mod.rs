//! Engine profiles: what aif must know of a program that serves. One small file each, data more than code.

use crate::recipe::EngineKind;

/// How an engine takes its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyBy {
    /// A variable of its environment holds the key.
    Variable(&'static str),
    /// A variable of its environment names the file.
    FileVariable(&'static str),
    /// It takes none.
    None,
}

/// What aif must know of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Profile {
    /// Which one.
    pub kind: EngineKind,
    /// Path that answers 200 when it is ready.
    pub ready_path: &'static str,
    /// Path of its metrics.
    pub metrics_path: Option<&'static str>,
    /// How it takes a key.
    pub key: KeyBy,
    /// Names of its counters: prompt tokens (to be summed) …
    pub prompt_tokens: &'static [&'static str],
    /// … and output tokens.
    pub output_tokens: &'static [&'static str],
    /// Gauges of requests that run and that wait, for the report's charts.
    pub running: &'static [&'static str],
    /// Requests that wait.
    pub waiting: &'static [&'static str],
    /// Words in its log that tell what went wrong, and the mend.
    pub hints: &'static [(&'static str, &'static str)],
}

/// The profile of an engine.
pub fn profile(_kind: EngineKind) -> &'static Profile {
    todo!()
}
