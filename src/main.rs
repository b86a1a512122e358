//! The `aif` binary.
fn main() {}
