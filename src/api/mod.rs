//! APIs of engines: requests and answers (pure), requests that a recipe writes out, the SSE scanner, a short cut for events that are alike, and a small HTTP client for all that is not load.

pub mod client;
pub mod http;
pub mod judge;
pub mod lines;
mod ollama;
pub mod openai;
pub mod repeat;
pub mod sse;
pub mod times;
pub mod vectors;
