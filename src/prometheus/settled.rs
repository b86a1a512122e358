//! Has Prometheus seen the last of what was measured, and recorded what its rules make of it?
//!
//! Scrapes and evaluations have their own moments within the interval: who looks one interval after the last request may
//! find the last scrape, but the recorded series of the one before. So it is asked and not waited for: a scrape of each
//! target that began after the moment, and an evaluation of each group of rules that began after the last of these ended.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;

use super::query::{Client, Error, shape};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    health: String,
    last_scrape: Timestamp,
    /// In seconds.
    last_scrape_duration: f64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    last_evaluation: Timestamp,
}

impl Client {
    /// Was each target that answers scraped after this moment, and each group of rules evaluated after that?
    pub async fn has_seen(&self, moment: Timestamp) -> Result<bool, Error> {
        let mut data = self.fetch("targets?state=active").await?;
        let targets: Vec<Target> =
            serde_json::from_value(data["activeTargets"].take()).map_err(|error| shape(&error))?;
        let mut data = self.fetch("rules").await?;
        let groups: Vec<Group> =
            serde_json::from_value(data["groups"].take()).map_err(|error| shape(&error))?;
        Ok(is_settled(moment, &targets, &groups))
    }
}

/// A target that does not answer has nothing to tell.
fn is_settled(moment: Timestamp, targets: &[Target], groups: &[Group]) -> bool {
    let answering = || targets.iter().filter(|target| target.health != "down");
    let scraped = answering().all(|target| target.last_scrape > moment);
    let last = answering().filter_map(end).max().unwrap_or(moment);
    scraped && groups.iter().all(|group| group.last_evaluation > last)
}

fn end(target: &Target) -> Option<Timestamp> {
    let took = Duration::try_from_secs_f64(target.last_scrape_duration).ok()?;
    target.last_scrape.checked_add(took).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(health: &str, at: &str, last_scrape_duration: f64) -> Target {
        Target {
            health: health.to_owned(),
            last_scrape: at.parse().unwrap(),
            last_scrape_duration,
        }
    }

    fn group(at: &str) -> Group {
        Group {
            last_evaluation: at.parse().unwrap(),
        }
    }

    #[test]
    fn rules_must_be_evaluated_after_the_last_scrape_has_ended() {
        let moment = "2026-01-01T00:00:10Z".parse().unwrap();
        let targets = [
            target("up", "2026-01-01T00:00:11Z", 0.5),
            target("up", "2026-01-01T00:00:10.5Z", 0.1),
            target("down", "2026-01-01T00:00:09Z", 2.0),
        ];
        assert!(is_settled(moment, &targets, &[]));
        assert!(is_settled(
            moment,
            &targets,
            &[group("2026-01-01T00:00:12Z")]
        ));
        // while the last scrape was under way; of two groups one before it
        assert!(!is_settled(
            moment,
            &targets,
            &[group("2026-01-01T00:00:11.3Z")]
        ));
        let groups = ["2026-01-01T00:00:12Z", "2026-01-01T00:00:10Z"].map(group);
        assert!(!is_settled(moment, &targets, &groups));
    }

    #[test]
    fn each_target_that_answers_must_be_asked_once_more() {
        let moment = "2026-01-01T00:00:10Z".parse().unwrap();
        let late = [group("2026-01-01T00:01:00Z")];
        let old = target("up", "2026-01-01T00:00:10Z", 0.1);
        let never = target("unknown", "0001-01-01T00:00:00Z", 0.0);
        for target in [old, never] {
            assert!(!is_settled(moment, &[target], &late));
        }
        assert!(is_settled(moment, &[], &late));
    }
}
