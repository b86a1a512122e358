//! What a load takes from a file: nothing, a [`trace`], or [`texts`].
//!
//! Pure: text in, requests out. The file itself is read by whoever may ([`crate::library`]); its checksum goes into the
//! stimulus, its path does not: the same file elsewhere asks the same.

use std::{path::Path, sync::Arc};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{
    texts::{self, Text},
    trace::{self, Row},
    vectors::Set,
};
use crate::recipe::{Arrival, ClientPlan, LoadModel};

/// Faults of a file that are told; a file of another form has one in each line.
const TOLD: usize = 10;

/// Why a line of a file is of no use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineFault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub message: String,
}

impl LineFault {
    /// A fault of a line.
    pub fn new(line: usize, message: impl Into<String>) -> Self {
        Self {
            line,
            message: message.into(),
        }
    }
}

/// What a file gave.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Material {
    /// No file is asked for.
    #[default]
    None,
    /// Times and lengths.
    Trace(Arc<Vec<Row>>, FileFacts),
    /// What requests say.
    Texts(Arc<Vec<Text>>, FileFacts),
    /// Vectors, which come from a seed.
    Vectors(Arc<Set>),
}

/// What is told of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FileFacts {
    /// SHA-256 of its content, in hex.
    pub sha256: String,
    /// Requests that it holds.
    pub requests: usize,
    /// What else it holds and no request was made of.
    pub passed_over: usize,
}

impl Material {
    /// The file that a plan wants read.
    pub fn wanted(plan: &ClientPlan) -> Option<&Path> {
        match &plan.load {
            LoadModel::OpenLoop {
                arrival: Arrival::Trace { file },
                ..
            } => Some(file),
            _ => Some(&plan.workload.dataset.as_ref()?.file),
        }
    }

    /// What this text, of the wanted file, gives.
    ///
    /// # Errors
    /// Its faults, one a line, by the name of the file and their lines.
    pub fn of(plan: &ClientPlan, text: &str) -> Result<Self, String> {
        let Some(file) = Self::wanted(plan) else {
            return Ok(Self::None);
        };
        let facts = |requests, passed_over| FileFacts {
            sha256: hex(&Sha256::digest(text.as_bytes())),
            requests,
            passed_over,
        };
        let told = |faults: Vec<LineFault>| told(file, &faults);
        match &plan.workload.dataset {
            None => {
                let rows = trace::parse(text).map_err(told)?;
                let facts = facts(rows.len(), 0);
                Ok(Self::Trace(Arc::new(rows), facts))
            }
            Some(dataset) => {
                let own = dataset.own_lengths;
                let read = texts::parse(dataset.kind, plan.api, own, text).map_err(told)?;
                let facts = facts(read.0.len(), read.1);
                Ok(Self::Texts(Arc::new(read.0), facts))
            }
        }
    }

    /// What is told of the file, where there is one.
    pub const fn facts(&self) -> Option<&FileFacts> {
        match self {
            Self::None | Self::Vectors(_) => None,
            Self::Trace(_, facts) | Self::Texts(_, facts) => Some(facts),
        }
    }
}

fn told(file: &Path, faults: &[LineFault]) -> String {
    let line = |fault: &LineFault| format!("{}:{}: {}", file.display(), fault.line, fault.message);
    let mut lines: Vec<String> = faults.iter().take(TOLD).map(line).collect();
    if faults.len() > TOLD {
        lines.push(format!("and {} more", faults.len() - TOLD));
    }
    lines.join("\n")
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

/// Reads JSON objects, one a line, and makes something of each; empty lines are passed over.
pub fn lines_of<L: DeserializeOwned, T>(
    text: &str,
    mut make: impl FnMut(L) -> Result<T, String>,
) -> Result<Vec<T>, Vec<LineFault>> {
    let (mut made, mut faults) = (Vec::new(), Vec::new());
    let filled = |(_, line): &(usize, &str)| !line.trim().is_empty();
    for (line, text) in (1..).zip(text.lines()).filter(filled) {
        let read = serde_json::from_str(text).map_err(|error| plainly(&error));
        match read.and_then(&mut make) {
            Ok(one) => made.push(one),
            Err(message) => faults.push(LineFault::new(line, message)),
        }
    }
    if made.is_empty() && faults.is_empty() {
        faults.push(LineFault::new(1, "holds no request"));
    }
    if faults.is_empty() {
        Ok(made)
    } else {
        Err(faults)
    }
}

/// An error of JSON without its line, which is told before it.
pub fn plainly(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(plain) if error.is_data() => plain.to_owned(),
        Some(plain) => format!("is no JSON: {plain} at column {}", error.column()),
        None => text,
    }
}
