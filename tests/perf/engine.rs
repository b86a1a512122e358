//! The engine that the generator is measured on: the product's own of known times ([`aif::load::echo`]), as a process of its own
//! on one core, with a log of what it did.
//!
//! It runs until standard input closes, then writes its counts and, with `--log`, every true time.

use std::{
    io::{self, BufWriter, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use aif::load::echo::{self, Setup, Speed};
use clap::Args;

use crate::{key, pin};

/// How the engine answers.
#[derive(Debug, Clone, Args)]
pub(crate) struct Flags {
    /// CPU to run on.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Microseconds to the first token.
    #[arg(long, default_value_t = 0)]
    ttft_us: u64,
    /// Microseconds between tokens.
    #[arg(long, default_value_t = 0)]
    gap_us: u64,
    /// The first answer on a connection ends early, each at another token: users that began together go apart, and
    /// stay so. Tokens are then due at any time, too, and not all at once.
    #[arg(long)]
    stagger: bool,
    /// Tokens in a write; 0: the whole answer is one.
    #[arg(long, default_value_t = 1)]
    per_write: u64,
    /// Keeps every time of every request, and writes them here.
    #[arg(long)]
    log: Option<PathBuf>,
}

/// A request by the first words of its prompt.
fn tag(body: &[u8]) -> Option<u64> {
    const PROMPT: &[u8] = b"\"prompt\":\"";
    let at = body.windows(PROMPT.len()).position(|part| part == PROMPT)?;
    Some(key(&body[at + PROMPT.len()..]))
}

/// Runs until standard input closes.
pub(crate) fn run(flags: &Flags) -> anyhow::Result<ExitCode> {
    pin(flags.cpu)?;
    let listener = echo::listener()?;
    writeln!(io::stdout(), "{}", listener.local_addr()?.port())?;
    io::stdout().flush()?;
    let (end, told) = UnixStream::pair()?;
    told.set_nonblocking(true)?;
    // waits for the end of input, on a thread that costs nothing until then
    std::thread::spawn(move || {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        drop(end);
    });
    let setup = Setup {
        speed: Speed {
            first: Duration::from_micros(flags.ttft_us),
            gap: Duration::from_micros(flags.gap_us),
            per_write: flags.per_write,
            share: 1.0,
            stagger: flags.stagger,
        },
        key: None,
        tag: flags.log.is_some().then_some(tag),
        room: usize::MAX,
        cpus: Vec::new(),
    };
    let log = echo::serve(listener, &told, setup)?;
    writeln!(
        io::stdout(),
        "{} {} {} {} {}",
        log.first,
        log.came,
        log.tokens,
        log.writes,
        log.late
    )?;
    if let Some(path) = &flags.log {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        for request in &log.requests {
            let times: Vec<String> = request.at.iter().map(u64::to_string).collect();
            writeln!(file, "{} {}", request.tag, times.join(" "))?;
        }
        file.flush()?;
    }
    Ok(ExitCode::SUCCESS)
}
