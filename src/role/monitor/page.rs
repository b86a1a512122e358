//! The page of a run while it goes on: the report, made of what there is so far, whenever somebody looks.
//!
//! It is read from the run's folder, where benches keep their checkpoints, from the registry as the monitor last saw it,
//! and from Prometheus. Nobody looking, it costs nothing; many looking, it is made once in [`REST`]. Alone, a monitor shows
//! the runs of all that it watches. What can fail is told on the page: a Prometheus that does not answer takes the charts
//! with it, and nothing else; one that answers some questions only gives the charts of these.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use tokio::time::Instant;

use super::{scope::Scope, timeline};
use crate::{
    clock,
    prometheus::{config, query::Client},
    registry::{
        Kind, Seen,
        record::{kind_name, state_name},
    },
    report::{
        Report, html,
        live::{Instance, Live, Load},
        text,
    },
    run::RunDir,
    telemetry::page::{Page, Rendering},
};

/// A page is shown again for so long.
const REST: Duration = Duration::from_secs(2);
/// A browser fetches it this often.
const RENEWED: Duration = Duration::from_secs(5);
/// Prometheus has this long to answer.
const LIMIT: Duration = Duration::from_secs(5);
/// All that benches tell of their loads.
const LOADS: &str = "{__name__=~\"aif_bench_(requests_total|requests_in_flight|load_seconds|load_ratio|loads_total)\"}";

/// What the monitor knows, for the page.
#[derive(Debug, Clone, Default)]
pub(super) struct Board(Arc<Mutex<Known>>);

#[derive(Debug, Clone, Default)]
struct Known {
    seen: Vec<Seen>,
    client: Option<Client>,
}

impl Board {
    /// Takes note.
    pub(super) fn note(&self, seen: &[Seen], client: Option<&Client>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Known {
            seen: seen.to_vec(),
            client: client.cloned(),
        };
    }

    fn known(&self) -> Known {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What pages are made of.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) board: Board,
    pub(super) run: RunDir,
    pub(super) scope: Scope,
    pub(super) since: Timestamp,
    pub(super) interval: Duration,
}

/// The page, for whoever knows the password of Prometheus.
pub(super) fn page(source: Source, password: String) -> Page {
    let source = Arc::new(source);
    let last: Arc<tokio::sync::Mutex<Option<(Instant, String)>>> = Arc::default();
    Page {
        user: config::USER,
        password,
        render: Box::new(move || -> Rendering {
            let (source, last) = (Arc::clone(&source), Arc::clone(&last));
            Box::pin(async move {
                let mut last = last.lock().await;
                if let Some((at, page)) = &*last
                    && at.elapsed() < REST
                {
                    return Ok(page.clone());
                }
                let page = render(&source).await?;
                *last = Some((Instant::now(), page.clone()));
                Ok(page)
            })
        }),
    }
}

async fn render(source: &Source) -> Result<String, String> {
    let known = source.board.known();
    let scope = &source.scope;
    let seen = known.seen.into_iter();
    let seen: Vec<Seen> = seen.filter(|seen| scope.holds(&seen.record)).collect();
    let (timeline, loads) = match &known.client {
        None => (None, Vec::new()),
        Some(client) => {
            // short, and what is looked at first
            let loads = tokio::time::timeout(LIMIT / 5, loads(client, &seen)).await;
            let timeline = timeline::ask(client, source.since, source.interval, LIMIT * 4 / 5);
            (Some(timeline.await), loads.unwrap_or_default())
        }
    };
    let live = Live {
        at: clock::now(),
        every: RENEWED,
        instances: seen.iter().map(instance).collect(),
        loads,
    };
    let runs = runs(&source.run, &seen);
    let own = source.run.clone();
    let rendering = tokio::task::spawn_blocking(move || {
        let mut report = match runs.as_slice() {
            [] => Report::read(&own),
            _ => Report::join(&runs, &own.path),
        }
        .map_err(|error| error.to_string())?;
        if let Some(part) = report.parts.iter_mut().find(|part| part.id == own.id) {
            part.timeline = timeline.or(part.timeline.take());
        }
        report.set_live(live);
        html::render(&report).map_err(|error| error.to_string())
    });
    rendering
        .await
        .map_err(|_| "the page could not be made".to_owned())?
}

/// The runs that are shown where there are others than its own: that of the monitor first.
fn runs(own: &RunDir, seen: &[Seen]) -> Vec<RunDir> {
    let mut ids: Vec<&str> = seen
        .iter()
        .filter_map(|seen| seen.record.run.as_deref())
        .filter(|id| *id != own.id)
        .collect();
    ids.sort_unstable();
    ids.dedup();
    let Some(folder) = own.path.parent() else {
        return Vec::new();
    };
    let others = ids
        .into_iter()
        .filter_map(|id| RunDir::open(&folder.join(id)).ok());
    let others: Vec<RunDir> = others.collect();
    if others.is_empty() {
        return others;
    }
    std::iter::once(own.clone()).chain(others).collect()
}

fn instance(seen: &Seen) -> Instance {
    let record = &seen.record;
    Instance {
        kind: kind_name(record.kind).to_owned(),
        recipe: record.recipe_name.clone(),
        node: record.node.clone(),
        state: state_name(record.state).to_owned(),
        alive: seen.liveness.name().to_owned(),
        since: text::clock(record.ready_at),
    }
}

/// How the loads go, by what their benches last told Prometheus.
async fn loads(client: &Client, seen: &[Seen]) -> Vec<Load> {
    let Ok(series) = client.instant(LOADS, None).await else {
        return Vec::new();
    };
    let mut loads: BTreeMap<&str, Load> = BTreeMap::new();
    for one in &series {
        let label = |name: &str| one.labels.get(name).map_or("", String::as_str);
        let Some(value) = one.points.last().map(|point| point.value) else {
            continue;
        };
        let load = loads.entry(label("instance_id")).or_default();
        match (label("__name__"), label("outcome")) {
            ("aif_bench_requests_total", "success") => load.answered += value,
            ("aif_bench_requests_total", _) => load.failed += value,
            ("aif_bench_requests_in_flight", _) => load.in_flight += value,
            ("aif_bench_load_seconds", _) => load.seconds = Some(value),
            ("aif_bench_load_ratio", _) => load.share = Some(value.clamp(0.0, 1.0)),
            ("aif_bench_loads_total", _) => load.number = Some(value),
            _ => {}
        }
    }
    let benches = seen.iter().filter(|seen| seen.record.kind == Kind::Bench);
    benches
        .filter_map(|seen| {
            let load = loads.remove(seen.record.instance_id.as_str())?;
            Some(Load {
                bench: seen.record.recipe_name.clone(),
                ..load
            })
        })
        .collect()
}
