//! APIs of engines: requests and answers (pure), the SSE scanner, and a small HTTP client for all that is not load.

pub mod client;
pub mod openai;
pub mod sse;
