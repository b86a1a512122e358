//! The scenarios: a recipe, an engine, and what is told of the run.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitCode, Stdio},
};

use aif::stats::histogram::Distribution;
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::Value;

use crate::{compare::errors, now, pin};

/// What is to be run.
pub(crate) struct Wanted {
    pub(crate) aif: PathBuf,
    pub(crate) only: Vec<String>,
    pub(crate) seconds: u64,
    pub(crate) long: bool,
    pub(crate) samples: bool,
    pub(crate) keep: Option<PathBuf>,
}

/// A command and where it runs.
#[derive(Debug, Args)]
pub(crate) struct Cost {
    /// CPU to run on.
    #[arg(long, default_value_t = 1)]
    cpu: usize,
    /// The command.
    #[arg(last = true)]
    argv: Vec<String>,
}

/// Runs the command; writes start, CPU time in user and kernel mode (µs), and peak memory (KiB).
pub(crate) fn cost(cost: &Cost) -> anyhow::Result<ExitCode> {
    pin(cost.cpu)?;
    let start = now();
    let status = Command::new(&cost.argv[0])
        .args(&cost.argv[1..])
        .stdout(Stdio::null())
        .status()?;
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    writeln!(
        std::io::stdout(),
        "{start} {} {} {}",
        micros(usage.user_time()),
        micros(usage.system_time()),
        usage.max_rss()
    )?;
    anyhow::ensure!(status.success(), "the command ended with {status}");
    Ok(ExitCode::SUCCESS)
}

/// What a process cost.
#[derive(Debug, Clone, Copy)]
struct Spent {
    start: u64,
    user: f64,
    kernel: f64,
    memory_mb: f64,
}

/// What the engine counted.
#[derive(Debug, Clone, Copy)]
struct Served {
    first: u64,
    requests: f64,
    tokens: f64,
    writes: f64,
    late_ms: f64,
}

/// An engine that runs.
struct Engine {
    child: Child,
    output: BufReader<ChildStdout>,
    port: String,
}

impl Engine {
    fn start(flags: &[&str], first: bool) -> anyhow::Result<Self> {
        let mut child = me(first)?
            .arg("engine")
            .args(flags)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        let mut port = String::new();
        output.read_line(&mut port)?;
        let port = port.trim().to_owned();
        Ok(Self {
            child,
            output,
            port,
        })
    }

    fn stop(mut self) -> anyhow::Result<Served> {
        drop(self.child.stdin.take());
        let mut told = String::new();
        self.output.read_to_string(&mut told)?;
        self.child.wait()?;
        let numbers = numbers(&told);
        anyhow::ensure!(numbers.len() == 5, "the engine said {told:?}");
        Ok(Served {
            first: numbers[0],
            requests: numbers[1] as f64,
            tokens: numbers[2] as f64,
            writes: numbers[3] as f64,
            late_ms: numbers[4] as f64 / 1e6,
        })
    }
}

/// This program again; in front of all others, if it shall and may.
fn me(first: bool) -> anyhow::Result<Command> {
    let own = std::env::current_exe()?;
    if !(first && nix::unistd::geteuid().is_root()) {
        return Ok(Command::new(own));
    }
    let mut command = Command::new("chrt");
    command.args(["--fifo", "1"]).arg(own);
    Ok(command)
}

fn numbers(text: &str) -> Vec<u64> {
    let words = text.split_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}

fn spent(command: &mut Command) -> anyhow::Result<Spent> {
    let output = command.output()?;
    let numbers = numbers(&String::from_utf8_lossy(&output.stdout));
    anyhow::ensure!(
        output.status.success() && numbers.len() == 4,
        "{command:?} ended with {}",
        output.status
    );
    Ok(Spent {
        start: numbers[0],
        user: numbers[1] as f64,
        kernel: numbers[2] as f64,
        memory_mb: numbers[3] as f64 / 1024.0,
    })
}

/// A place for files, and how `aif` is run in it.
struct Lab<'a> {
    wanted: &'a Wanted,
    folder: PathBuf,
}

/// A load.
struct Load {
    /// Of the recipe.
    workload: String,
    /// Tokens of an answer.
    tokens: u64,
    /// Of the engine.
    engine: Vec<String>,
    /// Are stamps kept on both sides?
    stamps: bool,
    /// Does it go before whatever else runs here? Only where half of a CPU is enough for it.
    first: bool,
}

struct Ran {
    spent: Spent,
    served: Served,
    results: Value,
}

impl Ran {
    fn number(&self, pointer: &str) -> f64 {
        let found = self.results.pointer(pointer).and_then(Value::as_f64);
        found.unwrap_or(f64::NAN)
    }

    /// Requests that are in no file of samples, as a share of all.
    fn missing(&self) -> String {
        let (rows, missing) = (
            self.number("/samples/rows"),
            self.number("/samples/missing"),
        );
        if rows.is_nan() {
            return "no samples".to_owned();
        }
        format!(
            "{:.1} % of samples missing",
            100.0 * missing / (rows + missing)
        )
    }

    /// What the generator says of itself.
    fn account(&self) -> String {
        let of = |name: &str| self.number(&format!("/generator/{name}"));
        format!(
            "loop delay p50 {:.3} p99 {:.3} max {:.3} ms, {:.1} % of chunks bundled, {:.0} % CPU, {}",
            of("loop_delay_p50_ms"),
            of("loop_delay_p99_ms"),
            of("loop_delay_max_ms"),
            of("bundled_share") * 100.0,
            of("cpu_share") * 100.0,
            self.missing()
        )
    }
}

impl Lab<'_> {
    fn run(&self, load: &Load) -> anyhow::Result<Ran> {
        let recipe = self.folder.join("load.yaml");
        let text = format!(
            "name: load\nservice_name: s\ntarget: {{timeout_seconds: 60}}\nworkload: {{{}, warmup_seconds: 1}}\ndataset: {{type: synthetic, params: {{model_name: m, prompt_length: 16, max_tokens: {}}}}}\noutput: {{samples: {}}}\n",
            load.workload, load.tokens, self.wanted.samples
        );
        #[expect(clippy::disallowed_methods, reason = "a file of our own")]
        std::fs::write(&recipe, text)?;
        let log = self.folder.join("engine.log");
        let mut flags: Vec<&str> = load.engine.iter().map(String::as_str).collect();
        let path = log.display().to_string();
        if load.stamps {
            flags.extend(["--log", &path]);
        }
        let engine = Engine::start(&flags, load.first)?;
        let filter = if load.stamps {
            "warn,aif::load=trace"
        } else {
            "warn"
        };
        let out = self.folder.join("out");
        let spent = spent(
            me(load.first)?
                .args(["cost", "--"])
                .arg(&self.wanted.aif)
                .arg("bench")
                .arg(&recipe)
                .arg("--url")
                .arg(format!("http://127.0.0.1:{}", engine.port))
                .arg("--out")
                .arg(&out)
                .arg("--allow-invalid")
                .env_clear()
                .env("PATH", "/usr/local/bin:/usr/bin:/bin")
                .env("HOME", &self.folder)
                .env("AIF_HOME", &self.folder)
                .env("AIF_SITE", "plain")
                .env("AIF_LOG", filter)
                .current_dir(&self.folder)
                .stderr(std::fs::File::create(self.trace())?),
        )?;
        let served = engine.stop()?;
        let results = serde_json::from_slice(&std::fs::read(out.join("results.json"))?)?;
        Ok(Ran {
            spent,
            served,
            results,
        })
    }

    fn trace(&self) -> PathBuf {
        self.folder.join("client.log")
    }

    /// The bare loop on the same engine.
    fn floor(&self, load: &Load, users: u64) -> anyhow::Result<(Spent, Served)> {
        let flags: Vec<&str> = load.engine.iter().map(String::as_str).collect();
        let engine = Engine::start(&flags, false)?;
        let me = std::env::current_exe()?;
        let spent = spent(
            Command::new(&me)
                .args(["cost", "--"])
                .arg(&me)
                .args(["floor", "--port", &engine.port])
                .args(["--users", &users.to_string()])
                .args(["--tokens", &load.tokens.to_string()])
                .args(["--seconds", &self.wanted.seconds.to_string()]),
        )?;
        Ok((spent, engine.stop()?))
    }

    /// Flat out: CPU time of a request or a token, of ours and of the bare loop.
    fn cost(&self, tokens: u64, per_write: u64) -> anyhow::Result<String> {
        let users = 32;
        let load = Load {
            workload: format!(
                "pattern: closed-loop, concurrent_users: {users}, duration_seconds: {}",
                self.wanted.seconds
            ),
            tokens,
            engine: vec!["--per-write".to_owned(), per_write.to_string()],
            stamps: false,
            first: false,
        };
        let ran = self.run(&load)?;
        let (floor, floor_served) = self.floor(&load, users)?;
        let (unit, amount, floor_amount) = if tokens > 64 {
            ("token", ran.served.tokens, floor_served.tokens)
        } else {
            ("request", ran.served.requests, floor_served.requests)
        };
        let of = |spent: Spent, amount: f64| (spent.user + spent.kernel) / amount;
        let (ours, bare) = (of(ran.spent, amount), of(floor, floor_amount));
        Ok(format!(
            "{ours:.2} µs CPU/{unit} (user {:.2}, kernel {:.2}); bare loop {bare:.2} (user {:.2}, kernel {:.2}); ratio {:.2}; {:.0} requests/s, {:.2} µs wall/{unit}, {}",
            ran.spent.user / amount,
            ran.spent.kernel / amount,
            floor.user / floor_amount,
            floor.kernel / floor_amount,
            ours / bare,
            ran.number("/throughput_req_per_sec"),
            1e6 / ran.number("/throughput_req_per_sec")
                / if tokens > 64 { tokens as f64 } else { 1.0 },
            ran.missing(),
        ))
    }

    /// Many streams of known times: errors of what was measured.
    fn streams(
        &self,
        users: u64,
        gap_us: u64,
        tokens: u64,
        flag: Option<&str>,
    ) -> anyhow::Result<String> {
        let load = Load {
            workload: format!(
                "pattern: closed-loop, concurrent_users: {users}, duration_seconds: {}",
                self.wanted.seconds
            ),
            tokens,
            engine: ["--ttft-us", "50000", "--gap-us", &gap_us.to_string()]
                .into_iter()
                .chain(flag)
                .map(ToOwned::to_owned)
                .collect(),
            stamps: true,
            first: true,
        };
        let ran = self.run(&load)?;
        let errors = errors(&self.trace(), &self.folder.join("engine.log"), 0)?;
        let of = |all: &Distribution| {
            let [p50, p99] = [0.5, 0.99].map(|part| all.quantile_ms(part));
            format!("p50 {p50:.3} p99 {p99:.3} max {:.3}", all.max_ms())
        };
        let spent = ran.spent.user + ran.spent.kernel;
        Ok(format!(
            "error in ms: TTFT {}; ITL {}; token's stamp {} ({} requests); engine late {:.1} ms at most, {:.2} µs CPU/token, {:.0} MB; generator: {}",
            of(&errors.first),
            of(&errors.gap),
            of(&errors.delay),
            errors.matched,
            ran.served.late_ms,
            spent / ran.served.tokens,
            ran.spent.memory_mb,
            ran.account(),
        ))
    }

    fn open(&self) -> anyhow::Result<String> {
        let rate = 5000.0;
        let load = Load {
            workload: format!(
                "pattern: open-loop, requests_per_second: {rate}, arrival: {{process: constant}}, duration_seconds: {}",
                self.wanted.seconds
            ),
            tokens: 8,
            engine: vec!["--per-write".to_owned(), "0".to_owned()],
            stamps: false,
            first: true,
        };
        let ran = self.run(&load)?;
        let achieved = ran.number("/generator/achieved_rate");
        let spent = ran.spent.user + ran.spent.kernel;
        Ok(format!(
            "rate error {:.3} %; lateness in ms: p50 {:.3} p99 {:.3} max {:.3}; {:.2} µs CPU/request; {:.0} errors; generator: {}",
            (achieved / rate - 1.0).abs() * 100.0,
            ran.number("/generator/lateness_p50_ms"),
            ran.number("/generator/lateness_p99_ms"),
            ran.number("/generator/lateness_max_ms"),
            spent / ran.served.requests,
            ran.number("/errors"),
            ran.account(),
        ))
    }

    fn requests(&self, count: u64) -> anyhow::Result<Ran> {
        self.run(&Load {
            workload: format!(
                "pattern: closed-loop, concurrent_users: 32, total_requests: {count}"
            ),
            tokens: 8,
            engine: vec!["--per-write".to_owned(), "0".to_owned()],
            stamps: false,
            first: false,
        })
    }

    fn begin(&self) -> anyhow::Result<String> {
        let mut times = Vec::new();
        let mut memory = 0.0_f64;
        for _ in 0..5 {
            let ran = self.requests(1)?;
            times.push((ran.served.first - ran.spent.start) as f64 / 1e6);
            memory = memory.max(ran.spent.memory_mb);
        }
        times.sort_by(f64::total_cmp);
        Ok(format!(
            "{:.1} ms to the first request (median of 5, largest {:.1}); {memory:.0} MB",
            times[2], times[4]
        ))
    }

    fn memory(&self) -> anyhow::Result<String> {
        let counts: &[u64] = if self.wanted.long {
            &[100_000, 1_000_000, 10_000_000]
        } else {
            &[100_000, 500_000]
        };
        let mut text = String::new();
        for count in counts {
            let ran = self.requests(*count)?;
            let (memory, each) = (
                ran.spent.memory_mb,
                (ran.spent.user + ran.spent.kernel) / ran.served.requests,
            );
            let writes = ran.served.writes / ran.served.requests;
            write!(
                text,
                "{count} requests: {memory:.0} MB, {each:.1} µs CPU each ({writes:.1} writes, {}); ",
                ran.missing()
            )?;
        }
        Ok(text)
    }
}

/// CPU time of the whole machine so far, in ms.
fn busy() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/stat")?;
    let fields = numbers(stat.lines().next().unwrap_or_default());
    // user, nice, system, idle, waiting, interrupts, soft interrupts
    let busy = [0, 1, 2, 5, 6].iter().filter_map(|at| fields.get(*at));
    Ok(busy.sum::<u64>() as f64 * 10.0)
}

/// CPU time of ours that has ended, in ms.
fn own() -> anyhow::Result<f64> {
    let mut sum = 0.0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        for time in [usage.user_time(), usage.system_time()] {
            sum += time.tv_sec() as f64 * 1e3 + time.tv_usec() as f64 / 1e3;
        }
    }
    Ok(sum)
}

type Scenario = fn(&Lab<'_>) -> anyhow::Result<String>;

const SCENARIOS: [(&str, &str, Scenario); 10] = [
    ("start", "process start to first request", |lab| lab.begin()),
    ("request-whole", "8 tokens in one write, flat out", |lab| {
        lab.cost(8, 0)
    }),
    ("request-each", "8 tokens, a write each, flat out", |lab| {
        lab.cost(8, 1)
    }),
    ("token-each", "256 tokens, a write each, flat out", |lab| {
        lab.cost(256, 1)
    }),
    ("token-eight", "256 tokens, 8 a write, flat out", |lab| {
        lab.cost(256, 8)
    }),
    (
        "streams-1k",
        "1,000 streams, 50 ms + 10 ms a token",
        |lab| lab.streams(1000, 10_000, 100, Some("--stagger")),
    ),
    (
        "streams-10k",
        "10,000 streams, 50 ms + 100 ms a token",
        |lab| lab.streams(10_000, 100_000, 20, Some("--stagger")),
    ),
    (
        "lockstep-1k",
        "1,000 streams in step, 50 ms + 10 ms a token",
        |lab| lab.streams(1000, 10_000, 100, None),
    ),
    ("open-5k", "5,000 requests/s of 8 tokens", |lab| lab.open()),
    ("memory", "memory after many requests", |lab| lab.memory()),
];

/// Runs what is wanted, prints a line for each.
pub(crate) fn run(wanted: &Wanted) -> anyhow::Result<ExitCode> {
    let folder = match &wanted.keep {
        Some(folder) => folder.clone(),
        None => std::env::temp_dir().join(format!("aif-perf-{}", std::process::id())),
    };
    std::fs::create_dir_all(&folder)?;
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["recipes", "sbatch"] {
        let link = folder.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(project.join(name), link)?;
        }
    }
    let lab = Lab {
        wanted,
        folder: folder.clone(),
    };
    let mut out = std::io::stdout();
    writeln!(
        out,
        "(others: CPUs that were busy with something else meanwhile)"
    )?;
    for (name, what, scenario) in SCENARIOS {
        let only = &wanted.only;
        if !only.is_empty() && !only.iter().any(|start| name.starts_with(start.as_str())) {
            continue;
        }
        let before = (now(), busy()?, own()?);
        let told = scenario(&lab)?;
        let wall = (now() - before.0) as f64 / 1e6;
        let others = (busy()? - before.1 - (own()? - before.2)).max(0.0) / wall;
        writeln!(out, "{name:14} {what}; others {others:.2}")?;
        writeln!(out, "{:14} {told}", "")?;
        out.flush()?;
    }
    if wanted.keep.is_none() {
        std::fs::remove_dir_all(&folder)?;
    }
    Ok(ExitCode::SUCCESS)
}
