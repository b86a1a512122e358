//! Several loads, one after another, as one bench: a sweep, a search, or repeats.
//!
//! Each load has a folder below `levels/` with a result of its own, and its checkpoints; the result of the whole is
//! written again after each, so that a bench that is killed leaves every load that it finished. Calibration is made once:
//! it depends on the prompts' lengths and not on the load. Told to end, a load is cut short as any other, kept as
//! interrupted, and what was planned behind it is named as not run.
//!
//! What can fail: a load, with what it ends with; a result that cannot be written ends the series, and what was written
//! before stands.

use std::{collections::VecDeque, fmt::Write as _, path::Path, time::Duration};

use super::{
    Bench, END_SLACK, calibrate::Calibration, place::Place, service::Service, watch::Ending,
};
use crate::{
    exit::Failure,
    files,
    load::workload,
    recipe::{Course, Quantity, Series as Planned, Slo},
    stats::{
        results::Results,
        series::{
            self, Ended, Level, NotRun, Purpose, Series, saturation,
            search::{Next, Search},
        },
    },
};

/// What came of a series.
pub(super) struct Done {
    /// The result of the whole.
    pub(super) results: Results,
    /// Why the last load ended.
    pub(super) ending: Ending,
    /// Was everything written?
    pub(super) written: Result<(), Failure>,
}

/// A load that is to be run.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Turn {
    level: Option<f64>,
    repeat: Option<u32>,
    purpose: Option<Purpose>,
}

/// What is run next.
#[derive(Debug)]
enum Order {
    /// These, in this order.
    Given(VecDeque<Turn>),
    /// What the search says.
    Sought(Search),
}

impl Order {
    fn of(planned: &Planned) -> Self {
        let repeat = |number| (planned.repeats > 1).then_some(number);
        let turns = |levels: Vec<Option<f64>>| {
            let turn = |level: Option<f64>| {
                (1..=planned.repeats).map(move |number| Turn {
                    level,
                    repeat: repeat(number),
                    purpose: None,
                })
            };
            Self::Given(levels.into_iter().flat_map(turn).collect())
        };
        match &planned.course {
            Course::Repeats => turns(vec![None]),
            Course::Sweep(sweep) => turns(sweep.levels.iter().copied().map(Some).collect()),
            Course::Search(search) => Self::Sought(Search::new(*search)),
        }
    }

    /// The next load, or why there is none.
    fn next(&mut self, planned: &Planned, series: &Series) -> Result<Turn, Ended> {
        match self {
            Self::Sought(search) => match search.next() {
                Next::Try(level, purpose) => Ok(Turn {
                    level: Some(level),
                    repeat: None,
                    purpose: Some(purpose),
                }),
                Next::End(ended) => Err(ended),
            },
            Self::Given(turns) => {
                let next = turns.front().ok_or(Ended::Complete)?;
                if let Course::Sweep(sweep) = &planned.course
                    && sweep.stop_when_slo_missed
                    // all repeats of a level are run
                    && next.repeat.is_none_or(|number| number == 1)
                    && series.levels.iter().any(|level| level.met == Some(false))
                {
                    return Err(Ended::SloMissed);
                }
                turns.pop_front().ok_or(Ended::Complete)
            }
        }
    }

    /// What is left.
    fn left(&self) -> Vec<NotRun> {
        let Self::Given(turns) = self else {
            return Vec::new();
        };
        let one = |turn: &Turn| NotRun {
            requested: turn.level,
            repeat: turn.repeat,
        };
        turns.iter().map(one).collect()
    }
}

/// The name of a load's folder: `03-8rps`, `04-5.657rps-confirm`, `02-repeat2`.
fn folder(number: u32, turn: &Turn, of: Option<Quantity>) -> String {
    let mut name = format!("levels/{number:02}");
    if let (Some(level), Some(of)) = (turn.level, of) {
        let unit = match of {
            Quantity::RequestsPerSecond => "rps",
            Quantity::ConcurrentUsers => "users",
        };
        let _ = write!(name, "-{level}{unit}");
    }
    if let Some(repeat) = turn.repeat {
        let _ = write!(name, "-repeat{repeat}");
    }
    if turn.purpose == Some(Purpose::Confirm) {
        name += "-confirm";
    }
    name
}

/// The limits by their keys in a recipe.
fn limits(slo: &Slo) -> impl Iterator<Item = (String, f64)> {
    [
        ("ttft_ms", slo.ttft_ms),
        ("tpot_ms", slo.tpot_ms),
        ("e2e_ms", slo.e2e_ms),
    ]
    .into_iter()
    .filter_map(|(key, limit)| Some((key.to_owned(), limit?)))
}

impl Bench<'_> {
    /// Runs all loads of a series.
    pub(super) async fn series(
        &self,
        planned: &Planned,
        place: Place,
        service: &Service,
        calibration: &Calibration,
    ) -> anyhow::Result<Done> {
        let plan = &self.config.plan;
        let of = planned.of();
        let mut series = Series::new(planned, limits(&plan.slo).collect());
        let mut order = Order::of(planned);
        // whole results, of which one is shown
        let mut all: Vec<Results> = Vec::new();
        let (ended, ending, written) = loop {
            let turn = match order.next(planned, &series) {
                Ok(turn) => turn,
                Err(ended) => break (ended, Ending::Planned, Ok(())),
            };
            if !all.is_empty()
                && let Some(ending) = self.pause(planned.pause, service).await
            {
                put_back(&mut order, turn);
                break (Ended::Interrupted, ending, Ok(()));
            }
            let number = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let load = plan.turn(of.zip(turn.level), number);
            let name = folder(number + 1, &turn, of);
            tracing::info!(load = name, seed = load.workload.seed, "Loading next");
            let path = self.folder.join(&name);
            let own = Place::take(&path)?;
            let measured = Box::pin(self.measure(service, calibration, &load, &path)).await?;
            let written = own.write(&load, &measured);
            let attainment = planned.slo_attainment();
            let met = attainment.map(|share| series::met(&measured.results, share));
            let level = entry(
                &measured.results,
                number + 1,
                &turn,
                (name, met),
                load.workload.seed,
            );
            tracing::info!(
                load = level.name(of),
                requests_per_second = measured.results.throughput_req_per_sec,
                verdict = ?level.validity.verdict,
                met,
                "Measured a load"
            );
            series.levels.push(level);
            all.push(measured.results);
            if measured.ending == Ending::Planned
                && let Order::Sought(search) = &mut order
            {
                search.tell(turn.level.unwrap_or_default(), met == Some(true));
            }
            if let Order::Sought(search) = &order {
                series.search = Some(search.found());
            }
            if measured.ending != Ending::Planned || written.is_err() {
                break (Ended::Interrupted, measured.ending, written);
            }
            if let Some(results) = whole(&mut series, &all) {
                checkpoint(&self.folder, &results);
            }
        };
        series.ended = Some(ended);
        series.not_run = order.left();
        let results = whole(&mut series, &all).ok_or_else(|| {
            Failure::new(
                crate::exit::Exit::Bug,
                "a series came to its end without a load",
            )
        })?;
        let vllm = results
            .series
            .as_ref()
            .and_then(|series| series.headline.as_ref());
        let vllm =
            vllm.and_then(|name| files::read_json(&self.folder.join(name).join("vllm.json")).ok());
        let put = place.put(&results, vllm.as_ref());
        Ok(Done {
            results,
            ending,
            written: written.and(put),
        })
    }

    /// Waits between two loads; tells why there is no next one, where there is none.
    async fn pause(&self, pause: Duration, service: &Service) -> Option<Ending> {
        let shutdown = &self.context.shutdown;
        tokio::select! {
            biased;
            () = shutdown.drain.cancelled() => return Some(Ending::Told),
            () = shutdown.stop.cancelled() => return Some(Ending::Told),
            () = tokio::time::sleep(pause) => {}
        }
        let left = service.ends_in(END_SLACK);
        left.is_some_and(|left| left.is_zero())
            .then_some(Ending::OutOfTime)
    }
}

/// A load that did not come to its turn is told as not run.
fn put_back(order: &mut Order, turn: Turn) {
    if let Order::Given(turns) = order {
        turns.push_front(turn);
    }
}

/// The result of the whole, as far as it is known; none without a load.
fn whole(series: &mut Series, all: &[Results]) -> Option<Results> {
    series.conclude();
    let shown = all.get(series.shown()?)?.clone();
    let stimulus = workload::stimulus_of_all(all.iter().map(|one| one.stimulus_sha256.as_str()));
    let ended_at = all.last()?.ended_at;
    let results = series.clone().summarize(shown, stimulus);
    Some(Results {
        ended_at,
        // they stand beside each load
        samples: None,
        ..results
    })
}

fn checkpoint(folder: &Path, results: &Results) {
    if let Err(error) = files::write_json(&folder.join("results.json"), results) {
        tracing::warn!(%error, "Cannot write a checkpoint of the results");
    }
}

fn entry(
    results: &Results,
    number: u32,
    turn: &Turn,
    (folder, met): (String, Option<bool>),
    seed: u64,
) -> Level {
    Level {
        number,
        requested: turn.level,
        repeat: turn.repeat,
        purpose: turn.purpose,
        seed,
        folder,
        met,
        saturated: saturation::shortfall(results).is_some(),
        completeness: results.completeness,
        validity: results.validity.clone(),
        total_requests: results.total_requests,
        successes: results.successes,
        errors: results.errors,
        started_at: results.started_at,
        duration_seconds: results.duration_seconds,
        stimulus_sha256: results.stimulus_sha256.clone(),
        metrics: results.metrics.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::ClientPlan;

    fn turns(workload: &str) -> Vec<String> {
        let plan = ClientPlan::of(&format!("{workload}, duration_seconds: 1"), "");
        let planned = plan.series.expect("several loads");
        let series = Series::new(&planned, std::iter::empty().collect());
        let mut order = Order::of(&planned);
        let mut names = Vec::new();
        while let Ok(turn) = order.next(&planned, &series) {
            let number = u32::try_from(names.len()).unwrap();
            names.push(folder(number + 1, &turn, planned.of()));
        }
        names
    }

    #[test]
    fn loads_are_run_in_their_order_and_their_folders_say_which() {
        assert_eq!(
            turns("sweep: {requests_per_second: [0.5, 8]}, repeats: 2"),
            [
                "levels/01-0.5rps-repeat1",
                "levels/02-0.5rps-repeat2",
                "levels/03-8rps-repeat1",
                "levels/04-8rps-repeat2"
            ]
        );
        assert_eq!(
            turns("sweep: {concurrent_users: {from: 1, to: 16, steps: 5, scale: log}}"),
            [1, 2, 4, 8, 16]
                .into_iter()
                .zip(1..)
                .map(|(users, n)| format!("levels/{n:02}-{users}users"))
                .collect::<Vec<_>>()
        );
        assert_eq!(
            turns("concurrent_users: 1, repeats: 2"),
            ["levels/01-repeat1", "levels/02-repeat2"]
        );
    }
}
