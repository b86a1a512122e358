//! `aif services`: what is registered, alive or dead; static services added and removed; dead records cleared.
//!
//! A service that aif did not start (on another cluster's gateway, in a cloud) is added by its URL: it has no lease, and
//! a look-up finds it as any other. Only what is known to be dead is cleared: a record whose agent does not answer is
//! watched for its lease first.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::builder::PossibleValuesParser;
use hyper::{StatusCode, Uri};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio::time::Instant;

use super::Shell;
use crate::{
    api::client::{self, Access},
    clock,
    exit::{Exit, Failure, OrExit as _},
    files,
    recipe::EngineKind,
    registry::{Kind, Liveness, Record, Seen, State, Store, Watch, record::state_name},
    terminal,
    units::human_duration,
};

/// Between two looks at records that are not known to be dead or alive.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long a service that was added may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// No lease is longer.
const LONGEST_LEASE: Duration = Duration::from_secs(95);

/// Arguments of `aif services`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do instead of listing
    #[command(subcommand)]
    action: Option<Action>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Register a service that aif did not start
    Add(AddArgs),
    /// Remove a service that was added
    Remove {
        /// Name of the service
        name: String,
    },
    /// Remove the records of dead instances
    Clear,
}

#[derive(Debug, clap::Args)]
struct AddArgs {
    /// Name of the service
    name: String,
    /// Base URL of its API, such as <http://node7:8000>
    #[arg(long)]
    url: String,
    /// Model that it serves
    #[arg(long)]
    model: Option<String>,
    /// Engine
    #[arg(long, value_parser = PossibleValuesParser::new(EngineKind::ALL.map(EngineKind::name)))]
    engine: Option<String>,
    /// File that holds its key
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// One line of the list, for scripts.
#[derive(Debug, Serialize)]
struct Line<'a> {
    liveness: Liveness,
    record: &'a Record,
}

/// Lists, adds, removes or clears.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    let store = shell.store()?;
    match args.action {
        None => list(&store, args.json).await?,
        Some(Action::Add(add)) => {
            let mut record = static_record(&add)?;
            let answers = ask(&mut record).await;
            store
                .add_static(&record)
                .or_exit(Exit::Usage, || "the service cannot be added".to_owned())?;
            let model = record.model.map(|model| format!(", which serves {model}"));
            let model = model.unwrap_or_default();
            terminal::line(format_args!("added {} at {}{model}", add.name, add.url))?;
            if let Err(why) = answers {
                terminal::note(format_args!("aif: from here it does not answer: {why}"));
            }
        }
        Some(Action::Remove { name }) => {
            let records = store.records_of(&name);
            let Some(record) = records.iter().find(|record| record.kind == Kind::Static) else {
                let message = format!("no service {name} was added by `aif services add`");
                return Err(Failure::new(Exit::NoInput, message).into());
            };
            store.remove(record);
            terminal::line(format_args!("removed {name}"))?;
        }
        Some(Action::Clear) => clear(&store).await?,
    }
    Ok(Exit::Done)
}

async fn list(store: &Store, json: bool) -> std::io::Result<()> {
    let mut seen = Watch::new(store).refresh().await;
    // they have no lease: whether they live is known by asking
    for seen in &mut seen {
        if seen.record.kind == Kind::Static && ask(&mut seen.record).await.is_err() {
            seen.liveness = Liveness::Unknown;
        }
    }
    seen.sort_by(|a, b| {
        let key = |seen: &Seen| {
            let record = &seen.record;
            let job = (record.cluster.clone(), record.job_id.clone());
            // ranks of one engine together
            let rank = (record.nodes > 1).then(|| (job, record.step_id.clone(), record.rank));
            let name = record.service_name.clone();
            (name, rank, record.started_at)
        };
        key(a).cmp(&key(b))
    });
    if json {
        let lines: Vec<Line<'_>> = seen
            .iter()
            .map(|seen| Line {
                liveness: seen.liveness,
                record: &seen.record,
            })
            .collect();
        return terminal::json(&lines);
    }
    if seen.is_empty() {
        terminal::note(format_args!(
            "no services are registered in {}",
            store.root().display()
        ));
        return Ok(());
    }
    for line in table(&seen, clock::now()) {
        terminal::line(line)?;
    }
    Ok(())
}

fn table(seen: &[Seen], now: Timestamp) -> Vec<String> {
    let head = [
        "SERVICE", "INSTANCE", "KIND", "STATE", "LIFE", "NODE", "ENDPOINT", "AGE",
    ];
    let mut rows: Vec<[String; 8]> = vec![head.map(str::to_owned)];
    rows.extend(seen.iter().map(|seen| row(seen, now)));
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

fn row(seen: &Seen, now: Timestamp) -> [String; 8] {
    let record = &seen.record;
    let endpoints = &record.endpoints;
    // what clients are given; a further rank of an engine has nothing for them
    let agent = endpoints
        .agent
        .as_ref()
        .filter(|_| record.kind != Kind::Rank);
    let endpoint = endpoints.api.as_ref().or(agent);
    let age = now.duration_since(record.started_at);
    [
        record.service_name.clone(),
        record.instance_id.clone(),
        record.title(),
        state_name(record.state).to_owned(),
        seen.liveness.name().to_owned(),
        record.node.clone(),
        endpoint.map_or_else(|| "-".to_owned(), Clone::clone),
        // the clock of another node may be ahead of ours
        human_duration(age.try_into().unwrap_or_default()),
    ]
}

/// Asks a service that was added for its model, which is noted where none is. Any answer but a refusal of the key is one.
async fn ask(record: &mut Record) -> Result<(), String> {
    let access = match &record.auth.key_file {
        None => Access::Open,
        Some(file) => {
            let key = files::read_text(Path::new(file)).map_err(|error| error.to_string())?;
            Access::Bearer(key.trim().to_owned())
        }
    };
    let base = record.endpoints.api.as_deref().unwrap_or_default();
    let url = format!("{base}/v1/models");
    let answer = client::get(&url, &access, PATIENCE).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if matches!(
        answer.status,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN
    ) {
        return Err(format!("{url} answers {}: --key-file", answer.status));
    }
    let models: Value = answer.json().unwrap_or_default();
    if let (None, Some(model)) = (&record.model, models["data"][0]["id"].as_str()) {
        record.model = Some(model.to_owned());
    }
    Ok(())
}

fn static_record(add: &AddArgs) -> Result<Record, Failure> {
    let usage = |message: String| Failure::new(Exit::Usage, message);
    let base = add.url.trim_end_matches('/');
    let base = base.strip_suffix("/v1").unwrap_or(base);
    let uri: Uri = base
        .parse()
        .or_exit(Exit::Usage, || format!("{} is no URL", add.url))?;
    let host = uri
        .host()
        .filter(|_| uri.scheme_str() == Some("http"))
        .ok_or_else(|| usage(format!("{} is no http:// URL", add.url)))?;
    let key_file = match &add.key_file {
        None => None,
        Some(file) => Some(
            std::fs::canonicalize(file)
                .or_exit(Exit::NoInput, || format!("no key file {}", file.display()))?,
        ),
    };
    let mut record = Record::new(Kind::Static, &add.name, "static", None, None);
    "static".clone_into(&mut record.job_id);
    record.instance_id = format!("static-{}", add.name);
    host.clone_into(&mut record.node);
    host.clone_into(&mut record.address);
    record.cluster.clear();
    record.ports = vec![uri.port_u16().unwrap_or(80)];
    record.state = State::Ready;
    record.ready_at = Some(record.started_at);
    record.engine.clone_from(&add.engine);
    record.model.clone_from(&add.model);
    record.endpoints.api = Some(base.to_owned());
    record.auth.key_file = key_file.map(|file| file.display().to_string());
    Ok(record)
}

async fn clear(store: &Store) -> std::io::Result<()> {
    let mut watch = Watch::new(store);
    let deadline = Instant::now() + LONGEST_LEASE;
    let mut told = false;
    let seen = loop {
        let seen = watch.refresh().await;
        let unknown = seen
            .iter()
            .filter(|seen| seen.liveness == Liveness::Unknown)
            .count();
        if unknown == 0 || Instant::now() >= deadline {
            break seen;
        }
        if !told {
            told = true;
            terminal::note(format_args!(
                "{unknown} do not answer; watching them until their lease runs out"
            ));
        }
        tokio::time::sleep(INTERVAL).await;
    };
    let dead: Vec<&Seen> = seen
        .iter()
        .filter(|seen| seen.liveness == Liveness::Dead)
        .collect();
    for seen in &dead {
        store.remove(&seen.record);
        let record = &seen.record;
        terminal::line(format_args!(
            "removed {} of {}",
            record.instance_id, record.service_name
        ))?;
    }
    if dead.is_empty() {
        terminal::note("nothing is dead");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(name: &str, url: &str) -> AddArgs {
        AddArgs {
            name: name.to_owned(),
            url: url.to_owned(),
            model: Some("m".to_owned()),
            engine: None,
            key_file: None,
        }
    }

    #[test]
    fn the_table_is_aligned_and_says_who_lives() {
        let mut record = static_record(&add("far", "http://node7:8000/v1/")).unwrap();
        record.started_at = "2026-01-01T00:00:00Z".parse().unwrap();
        let mut other = record.clone();
        "server-42.0-3fa9c1".clone_into(&mut other.instance_id);
        other.kind = Kind::Server;
        other.endpoints.api = None;
        let seen = [
            Seen {
                record,
                liveness: Liveness::Alive,
            },
            Seen {
                record: other,
                liveness: Liveness::Dead,
            },
        ];
        let now = "2026-01-01T00:02:05Z".parse().unwrap();
        insta::assert_snapshot!(table(&seen, now).join("\n"), @r"
        SERVICE  INSTANCE            KIND    STATE  LIFE   NODE   ENDPOINT           AGE
        far      static-far          static  ready  alive  node7  http://node7:8000  2 min 05 s
        far      server-42.0-3fa9c1  server  ready  dead   node7  -                  2 min 05 s
        ");
    }

    #[test]
    fn a_static_service_needs_an_address_that_can_be_asked() {
        for url in [
            "https://node7",
            "node7:8000",
            "ftp://x",
            "http://",
            "not a url",
        ] {
            let error = static_record(&add("far", url)).unwrap_err();
            assert_eq!(error.exit, Exit::Usage, "{url}: {error}");
        }
        let record = static_record(&add("far", "http://node7:8000/v1")).unwrap();
        assert_eq!(record.endpoints.api.as_deref(), Some("http://node7:8000"));
        assert_eq!((record.ports, record.node.as_str()), (vec![8000], "node7"));
    }
}
