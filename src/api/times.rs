//! Times of a request by the engine's own clock, as far as its answer tells them: llama.cpp's `timings`, Ollama's durations.

use std::time::Duration;

/// Times that an engine took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Loading the model.
    pub load: Option<Duration>,
    /// Reading the prompt.
    pub prompt: Option<Duration>,
    /// Writing the answer.
    pub decode: Option<Duration>,
    /// All of it.
    pub total: Option<Duration>,
}
