//! `aif export RUN`: series of a run, live or archived, or of any Prometheus, as JSON, CSV or `OpenMetrics`.
//!
//! A run whose monitor is alive is asked there; else its archive is served again for as long as the question takes.
//! Without an expression everything is exported; without times the whole run. A time may be relative to what there is:
//! `+30s` after its start, `-5m` before its end, which is now where Prometheus lives. A time that an archive does not hold is
//! refused (66).
//!
//! Metrics that an engine has renamed are found under either name: those of `--engine`, and a `--query` that is a name.
//!
//! `--grafana DIR` exports no series but [`grafana`]'s files, by which a Grafana of one's own shows them.

mod grafana;

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;

use crate::{
    api::client::Access,
    clock,
    command::Shell,
    engine,
    exit::{Exit, Failure, OrExit as _},
    files::{self, Durability},
    prometheus::{
        archive::{Local, Served, scrape_interval},
        config::USER,
        export::{Format, render},
        folder::Sharing,
        process::choose_port,
        query::{Client, Range, Series},
        renamed::{self, Pair},
    },
    recipe::{EngineKind, PortChoice},
    run::{Manifest, RunDir},
    shutdown::Shutdown,
    terminal, units,
};

/// Everything that there is.
const ALL: &str = "{__name__!=\"\"}";
/// Step where neither the user nor the run tells one.
const STEP: Duration = Duration::from_secs(15);
/// What is exported of a Prometheus of which nothing is known.
const LAST: Duration = Duration::from_hours(1);

/// Arguments of `aif export`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run (its folder, its name in results/, or its job's id), or the URL of a Prometheus
    #[arg(value_name = "RUN|URL", required_unless_present = "url")]
    pub source: Option<String>,
    /// URL of a Prometheus, in place of a run
    #[arg(long, value_name = "URL", conflicts_with = "source")]
    pub url: Option<String>,
    /// Expression to export; every series where neither it nor an engine is given
    #[arg(long, short, value_name = "PROMQL")]
    pub query: Option<String>,
    /// Export the metrics of this engine, under all names that its releases gave them
    #[arg(long, conflicts_with = "query", value_parser = ENGINES)]
    pub engine: Option<String>,
    /// Values at this time: RFC 3339, seconds since 1970, or relative: -5m before the end, +30s after the start
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true, conflicts_with_all = ["start", "end", "step"])]
    pub at: Option<When>,
    /// First time of a range; the start of the run where it is not given
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    pub start: Option<When>,
    /// Last time of a range; the end of the run where it is not given
    #[arg(long, value_name = "TIME", value_parser = parse_time, allow_hyphen_values = true)]
    pub end: Option<When>,
    /// Distance of points, such as 2s; the scrape interval where it is not given
    #[arg(long, value_name = "DURATION", value_parser = parse_step)]
    pub step: Option<Duration>,
    /// Form of the output; json, or what the name of --out ends in: .csv, .om or .prom
    #[arg(long, value_enum)]
    pub format: Option<Format>,
    /// The same as --format json
    #[arg(long, conflicts_with = "format")]
    pub json: bool,
    /// File to write; standard output where it is not given
    #[arg(long, short, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Write dashboards and provisioning for a Grafana into this folder instead, to ask the Prometheus of a run that goes on, or that at the URL
    #[arg(long, value_name = "DIR", conflicts_with_all = ["query", "engine", "at", "start", "end", "step", "format", "json", "out", "allow_shared_tsdb"])]
    pub grafana: Option<PathBuf>,
    /// Unpack an archive on a network file system where this machine has nothing else; it may break
    #[arg(long)]
    pub allow_shared_tsdb: bool,
    /// User of the Prometheus at the URL
    #[arg(long, requires = "password_file")]
    pub user: Option<String>,
    /// File that holds that user's password
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
}

/// The engines whose metrics have a name in front.
const ENGINES: [&str; 5] = [
    EngineKind::Vllm.name(),
    EngineKind::LlamaCpp.name(),
    EngineKind::Tgi.name(),
    EngineKind::Sglang.name(),
    EngineKind::Trtllm.name(),
];

/// A time as the user gives it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum When {
    /// This one.
    At(Timestamp),
    /// So long after the start of what there is.
    AfterStart(Duration),
    /// So long before its end.
    BeforeEnd(Duration),
}

impl When {
    fn of(self, span: (Timestamp, Timestamp)) -> Timestamp {
        match self {
            Self::At(time) => time,
            Self::AfterStart(time) => span.0.saturating_add(time).unwrap_or(span.1),
            Self::BeforeEnd(time) => span.1.saturating_sub(time).unwrap_or(span.0),
        }
    }
}

fn parse_time(text: &str) -> Result<When, String> {
    let seconds = || {
        let milliseconds = text.parse::<f64>().ok()? * 1000.0;
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the cast saturates, and what is out of range is refused below"
        )]
        let milliseconds = milliseconds
            .is_finite()
            .then_some(milliseconds.round() as i64)?;
        Timestamp::from_millisecond(milliseconds).ok()
    };
    let relative = || {
        let (sign, length) = text.split_at_checked(1)?;
        let length = units::parse_duration(length)?;
        match sign {
            "+" => Some(When::AfterStart(length)),
            "-" => Some(When::BeforeEnd(length)),
            _ => None,
        }
    };
    let signed = text.starts_with(['+', '-']);
    let absolute = || text.parse().ok().or_else(seconds).map(When::At);
    relative()
        .or_else(|| (!signed).then(absolute)?)
        .ok_or_else(|| {
            "a time is 2025-01-31T12:00:00Z (RFC 3339), seconds since 1970, -5m (before the end) or +30s (after the start)"
                .to_owned()
        })
}

fn parse_step(text: &str) -> Result<Duration, String> {
    units::parse_duration(text)
        .filter(|step| step.as_millis() > 0)
        .ok_or_else(|| "a step is a duration of at least 1ms, such as 2s".to_owned())
}

/// What is asked, and what is known of it.
struct Source {
    client: Client,
    /// The archive that is served for this question.
    served: Option<Served>,
    span: (Timestamp, Timestamp),
    step: Duration,
}

/// What the user wants to know.
#[derive(Debug, PartialEq)]
enum Question {
    At(Timestamp),
    Over(Range),
}

impl Question {
    /// A time means an instant, a range a range. Without either an expression is asked at the end, and everything
    /// over the whole run: an instant would miss what ended before.
    fn of(args: &Args, span: (Timestamp, Timestamp), step: Duration) -> Self {
        let ranged = args.start.is_some() || args.end.is_some() || args.step.is_some();
        match (args.at, &args.query) {
            (Some(at), _) => Self::At(at.of(span)),
            (None, Some(_)) if !ranged => Self::At(span.1),
            _ => Self::Over(Range {
                start: args.start.map_or(span.0, |time| time.of(span)),
                end: args.end.map_or(span.1, |time| time.of(span)),
                step: args.step.unwrap_or(step),
            }),
        }
    }
}

/// Exports.
///
/// # Errors
/// Where there is nobody to be asked, the expression is wrong, or the file cannot be written.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    if let Some(folder) = &args.grafana {
        return grafana::write(folder, &args, shell).await;
    }
    // a signal must not leave a Prometheus behind
    let shutdown = Shutdown::listen()?;
    let exported = tokio::select! {
        exported = export(&args, shell) => exported?,
        () = shutdown.drain.cancelled() => {
            return Ok(shutdown.cause().map_or(Exit::Interrupted, crate::shutdown::Cause::exit));
        }
    };
    let named = args.out.as_deref().and_then(Format::of_file);
    let format = args.format.or(named.filter(|_| !args.json));
    let format = format.unwrap_or(Format::Json);
    let text = render(format, &expression(&args), &exported);
    let points: usize = exported.iter().map(|series| series.points.len()).sum();
    match &args.out {
        Some(path) => {
            files::write_atomic(path, text.as_bytes(), 0o644, Durability::Synced)
                .or_exit(Exit::CannotCreate, || {
                    "the export cannot be written".to_owned()
                })?;
            terminal::note(format_args!(
                "aif: {} series with {points} points in {}",
                exported.len(),
                path.display()
            ));
        }
        None => terminal::line(text.trim_end())?,
    }
    Ok(Exit::Done)
}

/// What Prometheus is asked, but for renamed metrics.
fn expression(args: &Args) -> String {
    match (&args.query, &args.engine) {
        (Some(query), _) => query.clone(),
        // `vllm_` are the recorded names of the original tool
        (None, Some(engine)) => format!("{{__name__=~\"{engine}[:_].+\"}}"),
        (None, None) => ALL.to_owned(),
    }
}

/// The Prometheus that is named by its URL.
fn url(args: &Args) -> Option<&str> {
    let named = args.source.as_deref().filter(|text| text.contains("://"));
    args.url.as_deref().or(named)
}

async fn export(args: &Args, shell: &Shell) -> anyhow::Result<Vec<Series>> {
    let source = match (url(args), &args.source) {
        (Some(url), _) => of_url(url, args)?,
        (None, Some(run)) => {
            let sharing = Sharing::of(args.allow_shared_tsdb);
            of_run(&shell.find_run(run)?, sharing, shell).await?
        }
        (None, None) => return Err(Failure::new(Exit::Usage, "a run or --url is needed").into()),
    };
    let aliases: Vec<Pair> = engine::profiles()
        .flat_map(|profile| profile.aliases)
        .copied()
        .collect();
    let query = expression(args);
    let either = renamed::either(&query, &aliases);
    let asked = either.as_ref().map_or(&query, |(asked, _)| asked);
    let question = Question::of(args, source.span, source.step);
    let answer = match question {
        Question::At(at) => source.client.instant(asked, Some(at)).await,
        Question::Over(range) => source.client.range(asked, range).await,
    };
    let held = source.served.as_ref().and_then(|served| served.span);
    if let Some(served) = source.served {
        served.stop().await;
    }
    let mut series = answer.map_err(|error| {
        let exit = match &error {
            crate::prometheus::query::Error::Refused { .. }
            | crate::prometheus::query::Error::Range => Exit::Usage,
            _ => Exit::Unavailable,
        };
        Failure::caused(exit, "nothing was exported", error)
    })?;
    if series.is_empty() {
        nothing(&question, held)?;
    }
    if let Some((_, name)) = &either {
        renamed::rename(&mut series, name);
    }
    if args.engine.is_some() {
        renamed::complete(&mut series, &aliases);
    }
    Ok(series)
}

/// Says of an archive that had no answer what it holds. That nothing was measured at a time is an answer; that the time is none
/// of the archive's is a mistake.
fn nothing(question: &Question, held: Option<(Timestamp, Timestamp)>) -> Result<(), Failure> {
    let Some((first, last)) = held else {
        return Ok(());
    };
    let (start, end) = match question {
        Question::At(at) => (*at, *at),
        Question::Over(range) => (range.start, range.end),
    };
    let holds = format!("the archive holds {first:.0} to {last:.0}");
    if end < first || start > last {
        let asked = if start == end {
            format!("{start:.0}")
        } else {
            format!("{start:.0} to {end:.0}")
        };
        let message = format!(
            "nothing was exported: {holds}, and {asked} was asked for; times may be relative to it, as in --at +30s or --at -10s"
        );
        return Err(Failure::new(Exit::NoInput, message));
    }
    terminal::note(format_args!(
        "aif: no series answer the expression at that time; {holds}"
    ));
    Ok(())
}

/// User and password of the Prometheus at the URL, where they are given.
fn login(args: &Args) -> anyhow::Result<Option<(String, String)>> {
    let Some(file) = &args.password_file else {
        return Ok(None);
    };
    let user = args.user.clone().unwrap_or_else(|| USER.to_owned());
    Ok(Some((user, files::read_text(file)?.trim().to_owned())))
}

fn of_url(url: &str, args: &Args) -> anyhow::Result<Source> {
    let access = match login(args)? {
        None => Access::Open,
        Some((user, password)) => Access::Basic(user, password),
    };
    let now = clock::now();
    Ok(Source {
        client: Client::new(url, access),
        served: None,
        span: (now - LAST, now),
        step: STEP,
    })
}

async fn of_run(run: &RunDir, sharing: Sharing, shell: &Shell) -> anyhow::Result<Source> {
    let step = scrape_interval(run).unwrap_or(STEP);
    if let Some(live) = shell.live_monitor(run).await? {
        let access = Access::Basic(USER.to_owned(), live.password);
        return Ok(Source {
            client: Client::new(&live.url, access),
            served: None,
            span: (live.since, clock::now()),
            step,
        });
    }
    let site = shell.site()?;
    let port = choose_port([127, 0, 0, 1].into(), PortChoice::Auto, site.ports())
        .or_exit(Exit::Unavailable, || {
            "the archive cannot be served".to_owned()
        })?;
    let folder = site.local_folder(&shell.env);
    let local = Local {
        parent: &folder,
        sharing,
    };
    let served = Served::of_run(run, local, (&shell.env, &site), port)
        .await
        .map_err(|error| Failure::caused(error.exit(), "the archive cannot be served", error))?;
    let span = served
        .span
        .or_else(|| span_of(run))
        .unwrap_or_else(|| (clock::now() - LAST, clock::now()));
    Ok(Source {
        client: served.client().clone(),
        served: Some(served),
        span,
        step,
    })
}

fn span_of(run: &RunDir) -> Option<(Timestamp, Timestamp)> {
    let manifest = files::read_json::<Manifest>(&run.manifest()).ok()?;
    Some((manifest.started_at, manifest.ended_at?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &[&str]) -> Result<Args, String> {
        Command::try_parse_from([&["export"], words].concat())
            .map(|command| command.args)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn times_as_people_and_programs_write_them() {
        let noon = Timestamp::from_second(1_738_324_800).unwrap();
        for text in [
            "2025-01-31T12:00:00Z",
            "2025-01-31T13:00:00+01:00",
            "1738324800",
            "1738324800.0",
        ] {
            assert_eq!(parse_time(text), Ok(When::At(noon)), "{text}");
        }
        let span = (noon, noon + Duration::from_secs(100));
        for (text, second) in [("-0", 100), ("-30s", 70), ("+30", 30), ("+1m", 60)] {
            let time = parse_time(text).unwrap().of(span);
            assert_eq!(time.duration_since(noon).as_secs(), second, "{text}");
        }
        for text in ["", "yesterday", "inf", "1e300", "-", "+x", "-1738324800.x"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert!(parse_step("0").is_err());
        assert_eq!(parse_step("2s"), Ok(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_asked_follows_from_what_is_given() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let step = Duration::from_secs(2);
        let over = |start, end, step| {
            Question::Over(Range {
                start: at(start),
                end: at(end),
                step: Duration::from_secs(step),
            })
        };
        let cases: [(&[&str], Question); 5] = [
            (&["r"], over(10, 20, 2)),
            (&["r", "--query", "up"], Question::At(at(20))),
            (&["r", "--query", "up", "--at", "15"], Question::At(at(15))),
            (&["r", "--query", "up", "--step", "1s"], over(10, 20, 1)),
            (&["r", "--start", "12", "--end", "14"], over(12, 14, 2)),
        ];
        for (words, question) in cases {
            let args = parse(words).unwrap();
            assert_eq!(
                Question::of(&args, (at(10), at(20)), step),
                question,
                "{words:?}"
            );
        }
    }

    #[test]
    fn a_time_that_the_archive_does_not_hold_is_refused() {
        let at = |second: i64| Timestamp::from_second(1_738_324_800 + second).unwrap();
        let held = Some((at(0), at(100)));
        let over = |start, end| {
            Question::Over(Range {
                start: at(start),
                end: at(end),
                step: STEP,
            })
        };
        for question in [Question::At(at(0)), Question::At(at(100)), over(-50, 0)] {
            assert!(nothing(&question, held).is_ok(), "{question:?}");
        }
        for (question, asked) in [
            (Question::At(at(101)), "and 2025-01-31T12:01:41Z was asked"),
            (
                over(-20, -10),
                "and 2025-01-31T11:59:40Z to 2025-01-31T11:59:50Z was asked",
            ),
        ] {
            let refused = nothing(&question, held).unwrap_err();
            assert_eq!(refused.exit, Exit::NoInput);
            let told = refused.to_string();
            assert!(
                told.contains(asked)
                    && told.contains("holds 2025-01-31T12:00:00Z to 2025-01-31T12:01:40Z"),
                "{told}"
            );
            assert!(
                nothing(&question, None).is_ok(),
                "who lives, may answer later"
            );
        }
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(parse(&[]).unwrap_err().contains("<RUN|URL>"));
        assert!(parse(&["r", "--url", "http://h"]).is_err());
        assert!(parse(&["r", "--engine", "vllm", "--query", "up"]).is_err());
        assert!(parse(&["r", "--engine", "nothing"]).is_err());
        assert!(parse(&["--url", "http://h", "--start", "-5m"]).is_ok());
        assert!(parse(&["r", "--at", "1", "--start", "1"]).is_err());
        assert!(
            parse(&["http://h", "--user", "u"])
                .unwrap_err()
                .contains("--password-file")
        );
    }
}
