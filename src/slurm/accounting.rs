//! What `sacct` says of a job, read: how long, with what, with how much energy.
//!
//! A heterogeneous job has a line for each component (`62+0`, `62+1`), an array only that of its task. Seen from inside, the
//! job still runs: `ElapsedRaw` is then the time until the question, and there is no energy yet, for Slurm adds that up when a job ends.
//! `AllocTRES` counts GPUs as `gres/gpu`, beside it by type where the site names types. Energy is empty, 0 or a number that
//! stands for "none" (2⁶⁴−2) where nothing measures it. Pure; a field that is missing or foreign is `None`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The fields that are asked for.
pub const FIELDS: [&str; 11] = [
    "JobID",
    "State",
    "Elapsed",
    "ElapsedRaw",
    "AllocTRES",
    "CPUTimeRAW",
    "ConsumedEnergyRaw",
    "Submit",
    "Eligible",
    "Start",
    "End",
];

/// From here on a number of Slurm's stands for no number.
const NO_VALUE: f64 = 1.0e18;

/// One line of `sacct`, field by field.
pub type Line = BTreeMap<String, String>;

/// What accounting says of a job, added up.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Accounting {
    /// Was the job over when it was asked?
    pub ended: bool,
    /// The job, or its components.
    pub components: Vec<Component>,
}

/// A job, or a component of a heterogeneous one.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Component {
    /// Its id.
    pub id: String,
    /// Seconds from its start, without those that it was suspended.
    pub seconds: Option<f64>,
    /// What it has: `cpu`, `node`, `gres/gpu`, `billing` … by name.
    pub has: BTreeMap<String, f64>,
    /// Joules, where Slurm measures them.
    pub joules: Option<f64>,
}

/// Lines as the manifest keeps them: the fields of the first, and all of them as `components` where there are several.
pub fn kept(lines: &[Line]) -> Option<Value> {
    let mut value = json!(lines.first()?);
    if lines.len() > 1 {
        value["components"] = json!(lines);
    }
    Some(value)
}

impl Accounting {
    /// Reads what [`kept`] made, also of a manifest that holds only some of the fields.
    pub fn of_kept(value: &Value) -> Self {
        let line = |value: &Value| -> Line {
            let fields = value.as_object().into_iter().flatten();
            fields
                .filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect()
        };
        let lines: Vec<Line> = match value["components"].as_array() {
            Some(components) => components.iter().map(line).collect(),
            None => vec![line(value)],
        };
        Self::of(&lines)
    }

    /// Reads lines of `sacct --allocations`.
    pub fn of(lines: &[Line]) -> Self {
        Self {
            ended: !lines.is_empty() && lines.iter().all(is_over),
            components: lines.iter().map(Component::of).collect(),
        }
    }

    /// Hours of a resource, over all components: `node`, `cpu`, `gres/gpu`, `billing`. `None` where a component does not
    /// say how long it ran, or none says what it has.
    pub fn hours(&self, resource: &str) -> Option<f64> {
        let mut sum = None;
        for component in &self.components {
            if let Some(count) = component.count(resource) {
                *sum.get_or_insert(0.0) += count * component.seconds? / 3600.0;
            }
        }
        sum
    }

    /// Joules of all components; `None` unless each has its figure.
    pub fn joules(&self) -> Option<f64> {
        let each = self.components.iter().map(|component| component.joules);
        each.sum::<Option<f64>>().filter(|joules| *joules > 0.0)
    }
}

impl Component {
    fn of(line: &Line) -> Self {
        let field = |name: &str| line.get(name).map_or("", |text| text.trim());
        let has = tres(field("AllocTRES"));
        let number = |text: &str| text.parse::<f64>().ok();
        let joules = number(field("ConsumedEnergyRaw"))
            .filter(|joules| *joules > 0.0)
            .or_else(|| has.get("energy").copied())
            .filter(|joules| *joules > 0.0 && *joules < NO_VALUE);
        Self {
            id: field("JobID").to_owned(),
            seconds: number(field("ElapsedRaw")).or_else(|| elapsed(field("Elapsed"))),
            has,
            joules,
        }
    }

    /// How many of a resource it has. Where only types of GPUs are told, their sum.
    pub fn count(&self, resource: &str) -> Option<f64> {
        let typed = format!("{resource}:");
        self.has.get(resource).copied().or_else(|| {
            let types = self.has.iter().filter(|(name, _)| name.starts_with(&typed));
            types.map(|(_, count)| *count).reduce(|a, b| a + b)
        })
    }
}

/// Slurm has new states at times: over is what it gave an end to and does not call by a name of one that goes on.
fn is_over(line: &Line) -> bool {
    let field = |name: &str| line.get(name).map_or("", String::as_str);
    let goes_on = ["RUNNING", "PENDING", "SUSPENDED", "COMPLETING", "REQUEUED"];
    let state = field("State");
    let ended = !matches!(field("End"), "" | "Unknown" | "None");
    ended && !state.is_empty() && !goes_on.iter().any(|name| state.starts_with(name))
}

/// `cpu=4,gres/gpu:a100=2,mem=8G` by name; sizes with their suffix in MiB, as Slurm counts memory.
fn tres(text: &str) -> BTreeMap<String, f64> {
    let pairs = text.split(',').filter_map(|pair| pair.rsplit_once('='));
    pairs
        .filter_map(|(name, value)| {
            let (digits, factor) = match value.chars().next_back()? {
                'K' => (&value[..value.len() - 1], 1.0 / 1024.0),
                'M' => (&value[..value.len() - 1], 1.0),
                'G' => (&value[..value.len() - 1], 1024.0),
                'T' => (&value[..value.len() - 1], 1024.0 * 1024.0),
                'P' => (&value[..value.len() - 1], 1024.0 * 1024.0 * 1024.0),
                _ => (value, 1.0),
            };
            Some((name.trim().to_owned(), digits.parse::<f64>().ok()? * factor))
        })
        .collect()
}

/// `[days-]hours:minutes:seconds` in seconds.
fn elapsed(text: &str) -> Option<f64> {
    let (days, rest) = match text.split_once('-') {
        Some((days, rest)) => (days.parse::<f64>().ok()?, rest),
        None => (0.0, text),
    };
    let parts: Vec<f64> = rest
        .split(':')
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    let seconds = parts.iter().fold(0.0, |sum, part| sum * 60.0 + part);
    (parts.len() == 3).then_some(days * 86_400.0 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Line> {
        crate::slurm::client::parse_sacct(text, &FIELDS)
    }

    /// As `sacct` of 24.11 says it from inside the job, and as it says it afterwards.
    const RUNNING: &str = "24|RUNNING|00:00:30|30|billing=4,cpu=4,gres/gpu=2,mem=4G,node=1|120||2026-11-24T20:00:00+0000|2026-11-24T20:00:00+0000|2026-11-24T20:00:01+0000|Unknown\n";
    const OVER: &str = "25+0|COMPLETED|1-00:00:07|86407|billing=2,cpu=2,gres/gpu=8,mem=16000M,node=2|172814|0|2026-11-24T20:00:00+0000|2026-11-24T20:00:00+0000|2026-11-24T20:00:01+0000|2026-11-25T20:00:08+0000\n\
        25+1|COMPLETED|1-00:00:00|86400|billing=1,cpu=6,mem=8G,node=1|518400|0|2026-11-24T20:00:00+0000|2026-11-24T20:00:00+0000|2026-11-24T20:00:01+0000|2026-11-25T20:00:01+0000\n";

    #[test]
    fn a_job_that_runs_counts_to_the_question() {
        let accounting = Accounting::of(&lines(RUNNING));
        assert!(!accounting.ended);
        let hours = |name| accounting.hours(name).unwrap() * 3600.0;
        assert!((hours("cpu") - 120.0).abs() < 1e-9);
        assert!((hours("gres/gpu") - 60.0).abs() < 1e-9);
        assert!((hours("node") - 30.0).abs() < 1e-9);
        assert_eq!(accounting.joules(), None);
    }

    #[test]
    fn components_of_a_job_are_added_up() {
        let accounting = Accounting::of(&lines(OVER));
        assert!(accounting.ended);
        let seconds = |name| format!("{:.0}", accounting.hours(name).unwrap() * 3600.0);
        assert_eq!(
            [seconds("cpu"), seconds("node"), seconds("gres/gpu")],
            ["691214", "259214", "691256"]
        );
        let again = Accounting::of_kept(&kept(&lines(OVER)).unwrap());
        assert_eq!(again, accounting);
        assert_eq!(accounting.hours("gres/tpu"), None);
        assert_eq!(accounting.joules(), None, "0 is not measured");
    }

    #[test]
    fn energy_and_types_of_gpus_are_read_in_every_form() {
        let of = |tres: &str, energy: &str| {
            let line =
                format!("7|COMPLETED|00:01:00||{tres}|||{energy}||||x\n").replace("|||", "||");
            Accounting::of(&lines(&line))
        };
        let gpus = of("cpu=8,gres/gpu:a100=2,gres/gpu:v100=1,node=1", "1234");
        assert_eq!(gpus.components[0].count("gres/gpu"), Some(3.0));
        assert_eq!(gpus.components[0].seconds, Some(60.0), "of Elapsed");
        assert_eq!(gpus.joules(), Some(1234.0));
        assert_eq!(of("cpu=8,energy=900,node=1", "").joules(), Some(900.0));
        assert_eq!(of("cpu=8", "18446744073709551614").joules(), None);
        assert_eq!(of("cpu=8,energy=18446744073709551614", "").joules(), None);
    }

    #[test]
    fn what_makes_no_sense_is_not_known() {
        assert!(!Accounting::of(&[]).ended);
        let accounting = Accounting::of(&lines("garbage\n"));
        assert_eq!((accounting.ended, accounting.hours("cpu")), (false, None));
        assert_eq!(elapsed("1:00"), None);
        let has = tres("mem=8G,cpu=x,=,node=2");
        assert_eq!(has.get("mem"), Some(&8192.0));
        assert_eq!(has.get("cpu"), None);
    }
}
