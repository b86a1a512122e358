//! What a request has for itself that the requests of a known API share: its line, and the judge of its answer.

use std::sync::Arc;

use crate::api::judge::Judge;

/// Where a request goes, and what its answer is held against.
#[derive(Debug, Clone)]
pub struct Way {
    /// The method.
    pub method: &'static str,
    /// The path, after that of the target.
    pub path: String,
    /// Who says what its answer is worth.
    pub judge: Arc<dyn Judge>,
}
