//! What a sampler gives: families of series, or the reason why there are none.
//!
//! A sampler that cannot run gives no series at all. A zero in its place would be a measurement that nobody made.

use std::{borrow::Cow, fmt, io};

use prometheus_client::{encoding::DescriptorEncoder, metrics::MetricType, registry::Unit};

/// Counters rise and are differenced; gauges go up and down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Only rises.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// One metric and its series.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Family {
    /// Name without unit and `_total`.
    name: Cow<'static, str>,
    /// Help without a final period.
    help: Cow<'static, str>,
    /// Base unit, which becomes part of the name.
    unit: Option<Unit>,
    shape: Shape,
    pub(super) series: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Family {
    /// A family without series.
    pub(super) fn new(
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
        unit: Option<Unit>,
        shape: Shape,
    ) -> Self {
        Self {
            name: name.into(),
            help: help.into(),
            unit,
            shape,
            series: Vec::new(),
        }
    }

    /// A gauge without series.
    pub(super) fn gauge(
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
        unit: Option<Unit>,
    ) -> Self {
        Self::new(name, help, unit, Shape::Gauge)
    }

    /// A counter without series.
    pub(super) fn counter(
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
        unit: Option<Unit>,
    ) -> Self {
        Self::new(name, help, unit, Shape::Counter)
    }

    /// The only series, without labels.
    #[must_use]
    pub(super) fn alone(mut self, measured: f64) -> Self {
        self.series.push((Vec::new(), measured));
        self
    }

    /// One series more.
    #[must_use]
    pub(super) fn with<const N: usize>(
        mut self,
        labels: [(&'static str, &str); N],
        measured: f64,
    ) -> Self {
        self.push(labels, measured);
        self
    }

    /// One series more.
    pub(super) fn push<const N: usize>(
        &mut self,
        labels: [(&'static str, &str); N],
        measured: f64,
    ) {
        let labels = labels.map(|(name, value)| (name, value.to_owned())).into();
        self.series.push((labels, measured));
    }

    /// Is it the same metric?
    pub(super) fn is_like(&self, other: &Self) -> bool {
        self.name == other.name && self.unit == other.unit
    }

    /// Writes descriptor and series; nothing where there are none.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.series.is_empty() {
            return Ok(());
        }
        let kind = match self.shape {
            Shape::Counter => MetricType::Counter,
            Shape::Gauge => MetricType::Gauge,
        };
        // collectors write the help as it is: the period that the registry adds to its own metrics is added here
        let help = format!("{}.", self.help);
        let mut metric = encoder.encode_descriptor(&self.name, &help, self.unit.as_ref(), kind)?;
        for (labels, value) in &self.series {
            let labels: Vec<(&str, &str)> = labels
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            let mut series = metric.encode_family(&labels)?;
            match self.shape {
                Shape::Counter => series
                    .encode_counter::<prometheus_client::encoding::NoLabelSet, _, f64>(
                        value, None,
                    )?,
                Shape::Gauge => series.encode_gauge(value)?,
            }
        }
        Ok(())
    }
}

/// A unit that the crate has no name for: `watts`, `hertz`, `ratio`.
pub(super) fn unit(name: &str) -> Unit {
    Unit::Other(name.to_owned())
}

/// Why a sampler gave nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Absent {
    /// This node or job does not have it, and will not have it later.
    #[error("{0}")]
    Unsupported(String),
    /// It should be there, but could not be read this time.
    #[error("{0}")]
    Failed(String),
}

impl Absent {
    /// What an I/O error means: a file that does not exist, or that the kernel was told not to serve, is unsupported.
    pub(super) fn from_io(what: &str, error: &io::Error) -> Self {
        let text = format!("{what}: {}", plain(error));
        let closed = [nix::libc::EOPNOTSUPP, nix::libc::ENODEV];
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::Unsupported => Self::Unsupported(text),
            _ if error
                .raw_os_error()
                .is_some_and(|code| closed.contains(&code)) =>
            {
                Self::Unsupported(text)
            }
            _ => Self::Failed(text),
        }
    }

    /// The same, with more to say.
    #[must_use]
    pub(super) fn hint(self, more: &str) -> Self {
        match self {
            Self::Unsupported(text) => Self::Unsupported(format!("{text} ({more})")),
            Self::Failed(text) => Self::Failed(format!("{text} ({more})")),
        }
    }
}

/// The words of an error, without the number that the library adds.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// What a sampler gave: its series, and what is to be known of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Sampled {
    /// The series.
    pub(super) families: Vec<Family>,
    /// What it should have given and could not: the sampler is degraded.
    pub(super) wanting: Option<String>,
    /// What a reader should know of figures that are as good as they can be.
    pub(super) note: Option<String>,
}

impl From<Vec<Family>> for Sampled {
    fn from(families: Vec<Family>) -> Self {
        Self {
            families,
            ..Self::default()
        }
    }
}

impl Sampled {
    /// The same, less than it should be.
    #[must_use]
    pub(super) fn wanting(mut self, what: impl Into<String>) -> Self {
        self.wanting = Some(what.into());
        self
    }

    /// The same, with a word to its reader.
    #[must_use]
    pub(super) fn note(mut self, what: impl Into<String>) -> Self {
        self.note = Some(what.into());
        self
    }
}

/// What a sampler gave, or why it gave nothing.
pub(super) type Reading = Result<Sampled, Absent>;

/// A source of series. One that looks at one thing from several sides gives a reading for each.
pub(super) trait Sampler: Send + fmt::Debug {
    /// Looks now. The names never change from one look to the next.
    fn sample(&mut self) -> Vec<(&'static str, Reading)>;
}
