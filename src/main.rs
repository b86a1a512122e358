//! The `aif` binary: see the library for everything.

use std::process::ExitCode;

fn main() -> ExitCode {
    aif::run(std::env::args_os(), aif::env::Env::of_process())
}
