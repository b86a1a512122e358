//! What a report of a run that goes on says besides: who is there, how far the loads are, what fires at this moment.
//!
//! The page of a running run is the report itself, made of what there is so far, with a section more, and a script of a
//! few lines that fetches it again. Whoever serves it gives these facts; here they become rows. Pure.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{gather::Report, text};
use crate::{stats::results::Completeness, units};

/// A run at this moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Live {
    /// The moment.
    pub at: Timestamp,
    /// How often the page is to be renewed.
    pub every: Duration,
    /// Everybody who has registered.
    pub instances: Vec<Instance>,
    /// The loads of benches.
    pub loads: Vec<Load>,
}

/// Somebody who has registered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Instance {
    /// What it is.
    pub kind: String,
    /// Its recipe.
    pub recipe: String,
    /// Where it runs.
    pub node: String,
    /// Where it is in its life.
    pub state: String,
    /// Does it live?
    pub alive: String,
    /// Since when it is ready.
    pub since: String,
}

/// The load of a bench.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Load {
    /// Its recipe.
    pub bench: String,
    /// Requests that ended well.
    pub answered: f64,
    /// Those that ended badly.
    pub failed: f64,
    /// In flight.
    pub in_flight: f64,
    /// How long it has been loading, in seconds.
    pub seconds: Option<f64>,
    /// How much of it is done, from 0 to 1, where that is known.
    pub share: Option<f64>,
    /// Which load it is, where it has several.
    pub number: Option<f64>,
}

impl Load {
    /// How it goes, in a sentence.
    pub fn told(&self) -> String {
        let number = self.number.filter(|number| *number > 1.5);
        let number = number.map(|number| format!("load {number:.0}: "));
        let seconds = self.seconds.map(|seconds| {
            let time = Duration::try_from_secs_f64(seconds).unwrap_or_default();
            format!(", {} so far", units::human_duration(time))
        });
        let share = self.share.map(|share| format!(" ({:.0} %)", share * 100.0));
        format!(
            "{}{:.0} answered, {:.0} failed, {:.0} in flight{}{}",
            number.unwrap_or_default(),
            self.answered,
            self.failed,
            self.in_flight,
            seconds.unwrap_or_default(),
            share.unwrap_or_default()
        )
    }
}

impl Report {
    /// In a sentence, how it stands: what changes in it is worth being read aloud.
    pub(super) fn standing(&self, live: &Live) -> String {
        let count = live.instances.len();
        let ready = live.instances.iter().filter(|instance| {
            instance.alive == "alive" && ["ready", "draining", "done"].contains(&&*instance.state)
        });
        let loads = live.loads.iter().filter(|load| load.in_flight > 0.0);
        let done = self.benches().filter(|(_, bench)| {
            let results = bench.results.as_ref();
            results.is_some_and(|results| results.completeness != Completeness::Running)
        });
        let firing = self.firing().count();
        let many = |count: usize, one: &str, more: &str| match count {
            0 => format!("no {one}"),
            1 => format!("1 {one}"),
            count => format!("{count} {more}"),
        };
        format!(
            "{} of {count} instances ready, {} under way, {} done, {} firing.",
            ready.count(),
            many(loads.count(), "load", "loads"),
            many(done.count(), "bench", "benches"),
            many(firing, "alert", "alerts"),
        )
    }

    /// Alerts that fire at this moment, as far as the monitor has kept them.
    pub(super) fn firing(&self) -> impl Iterator<Item = String> {
        let parts = self.parts.iter();
        let rows = parts.flat_map(super::alerts::AlertRow::all);
        rows.filter(|row| row.state == super::alerts::FIRES)
            .map(|row| {
                format!(
                    "{} ({}): {}; {}",
                    row.alert, row.severity, row.about, row.summary
                )
            })
    }

    /// Makes it one of a run that goes on: what is not there yet is not missing.
    pub fn set_live(&mut self, live: Live) {
        for part in &mut self.parts {
            part.live = true;
            part.missing.clear();
            if let Some(alerts) = &mut part.alerts {
                alerts.until = Some(live.at);
            }
        }
        self.live = Some(live);
    }
}

impl Live {
    /// When it was, as it is written.
    pub(super) fn stamp(&self) -> String {
        text::stamp(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_tells_what_is_known_of_it() {
        let mut load = Load {
            answered: 12.0,
            failed: 1.0,
            in_flight: 4.0,
            ..Load::default()
        };
        assert_eq!(load.told(), "12 answered, 1 failed, 4 in flight");
        load.seconds = Some(12.5);
        load.share = Some(0.417);
        load.number = Some(1.0);
        assert_eq!(
            load.told(),
            "12 answered, 1 failed, 4 in flight, 12.5 s so far (42 %)"
        );
        load.number = Some(3.0);
        assert!(load.told().starts_with("load 3: 12 answered"));
    }
}
