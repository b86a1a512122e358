//! What a sampler gives: families of series, or the reason why there are none.
//!
//! A sampler that cannot run gives no series at all. A zero in its place would be a measurement that nobody made.

use std::io;

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
    name: &'static str,
    /// Help without a final period.
    help: &'static str,
    /// Base unit, which becomes part of the name.
    unit: Option<Unit>,
    shape: Shape,
    series: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Family {
    /// A family without series.
    pub(super) fn new(
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        shape: Shape,
    ) -> Self {
        Self {
            name,
            help,
            unit,
            shape,
            series: Vec::new(),
        }
    }

    /// A gauge without labels.
    pub(super) fn gauge(name: &'static str, help: &'static str, unit: Unit, value: f64) -> Self {
        let mut family = Self::new(name, help, Some(unit), Shape::Gauge);
        family.series.push((Vec::new(), value));
        family
    }

    /// A counter without labels.
    pub(super) fn counter(
        name: &'static str,
        help: &'static str,
        unit: Option<Unit>,
        value: f64,
    ) -> Self {
        let mut family = Self::new(name, help, unit, Shape::Counter);
        family.series.push((Vec::new(), value));
        family
    }

    /// One series more, told apart by one label.
    #[must_use]
    pub(super) fn with(mut self, label: &'static str, value: &str, measured: f64) -> Self {
        self.series
            .push((vec![(label, value.to_owned())], measured));
        self
    }

    /// One series more, told apart by two labels.
    #[must_use]
    pub(super) fn with_two(mut self, labels: [(&'static str, &str); 2], measured: f64) -> Self {
        let labels = labels.map(|(name, value)| (name, value.to_owned())).into();
        self.series.push((labels, measured));
        self
    }

    /// Writes descriptor and series.
    pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> std::fmt::Result {
        let kind = match self.shape {
            Shape::Counter => MetricType::Counter,
            Shape::Gauge => MetricType::Gauge,
        };
        // collectors write the help as it is: the period that the registry adds to its own metrics is added here
        let help = format!("{}.", self.help);
        let mut metric = encoder.encode_descriptor(self.name, &help, self.unit.as_ref(), kind)?;
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
        let text = format!("{what}: {error}");
        match error.kind() {
            io::ErrorKind::NotFound
            | io::ErrorKind::PermissionDenied
            | io::ErrorKind::Unsupported => Self::Unsupported(text),
            _ => Self::Failed(text),
        }
    }
}

/// What a sampler gave.
pub(super) type Reading = Result<Vec<Family>, Absent>;
