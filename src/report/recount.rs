//! A result computed again from the samples beside it.
//!
//! Nothing but the files of samples is read, in their order; the first of them holds what no sample tells, or of tasks
//! that lost their leader all of them. The same code
//! counts as in the bench, so what differs from `results.json` was changed there, or is missing here. What can fail: files
//! that cannot be read.

use std::path::Path;

use serde_json::Value;

use crate::{
    samples::{self, Error, files_in, reader::Reader},
    stats::{
        frame::{Asked, Frame},
        results::{Results, Samples},
        tally::Tally,
    },
};

/// What the samples of a folder say.
pub struct Recount {
    /// The files, by task.
    readers: Vec<Reader>,
    /// What no sample tells.
    pub frame: Frame,
    /// The samples, added up.
    pub tally: Tally,
    /// The result.
    pub results: Results,
}

impl Recount {
    /// Counts the samples of a folder; `None` where there are none.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn of(folder: &Path) -> Result<Option<Self>, Error> {
        let files = files_in(folder);
        let readers = files.iter().map(|path| Reader::open(path));
        let readers = readers.collect::<Result<Vec<_>, _>>()?;
        let Some(first) = readers.first() else {
            return Ok(None);
        };
        let frames: Vec<&Frame> = readers.iter().map(|reader| &reader.frame).collect();
        let leaderless = Frame::without_leader(&frames);
        // tasks have numbers of their own
        let is_of_tasks = readers.len() > 1 || leaderless.is_some();
        let frame = leaderless.unwrap_or_else(|| first.frame.clone());
        let mut tally = frame.tally();
        let mut told = Samples::default();
        for (reader, path) in readers.iter().zip(&files) {
            // each task learns at its own moment that the load is cut short
            let mut own = reader.frame.tally();
            told.rows += reader.each(|request| own.take(&request.sample))?;
            tally.merge(&own);
            told.missing += reader.missing;
            let name = path.file_name().unwrap_or_default();
            told.files.push(name.to_string_lossy().into_owned());
        }
        let mut asked = Asked::default();
        if frame.lengths_vary {
            // requests have their numbers in the order of their times: those of the window come last
            let offered = tally.whole().requests;
            let first = offered.saturating_sub(tally.counts().total);
            for reader in &readers {
                reader.each(|request| {
                    // of tasks, each is in the window by its time
                    let in_window = if is_of_tasks {
                        reader.frame.planned.owns(request.sample.intended)
                    } else {
                        request.sample.index >= first
                    };
                    if in_window {
                        asked.take(request.asked_prompt_tokens, request.asked_output_tokens);
                    }
                })?;
            }
        }
        let mut results = frame.fill(&tally, &asked);
        results.samples = Some(told);
        Ok(Some(Self {
            readers,
            frame,
            tally,
            results,
        }))
    }

    /// Requests that are in no file.
    pub fn missing(&self) -> u64 {
        self.readers.iter().map(|reader| reader.missing).sum()
    }

    /// Gives every request of the window, in the order of the files.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn each(&self, mut take: impl FnMut(&samples::reader::Request)) -> Result<(), Error> {
        for reader in &self.readers {
            reader.each(|request| {
                if reader.frame.planned.owns(request.sample.intended) {
                    take(request);
                }
            })?;
        }
        Ok(())
    }
}

/// Where two documents differ: `/metrics/x/avg: 1 there, 2 here`.
pub fn differences(there: &Value, here: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", there, here, &mut found);
    found
}

fn compare(path: &str, there: &Value, here: &Value, found: &mut Vec<String>) {
    match (there, here) {
        (Value::Object(one), Value::Object(other)) => {
            let keys = one
                .keys()
                .chain(other.keys().filter(|key| !one.contains_key(*key)));
            for key in keys {
                let (one, other) = (&there[key], &here[key]);
                compare(&format!("{path}/{key}"), one, other, found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (at, (one, other)) in one.iter().zip(other).enumerate() {
                compare(&format!("{path}/{at}"), one, other, found);
            }
        }
        _ if there == here => {}
        _ => found.push(format!(
            "{path}: {} there, {} here",
            short(there),
            short(here)
        )),
    }
}

fn short(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Array(all) => format!("a list of {}", all.len()),
        Value::Object(_) => "an object".to_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_difference_is_told_with_its_place() {
        let there = json!({"a": 1, "b": {"c": [1, 2.5]}, "d": [1], "same": [{"x": null}]});
        let here =
            json!({"a": 2, "b": {"c": [1, 2.25], "e": true}, "d": [], "same": [{"x": null}]});
        assert_eq!(
            differences(&there, &here),
            [
                "/a: 1 there, 2 here",
                "/b/c/1: 2.5 there, 2.25 here",
                "/b/e: nothing there, true here",
                "/d: a list of 1 there, a list of 0 here",
            ]
        );
        assert!(differences(&there, &there).is_empty());
    }
}
