//! Logs: `tracing` events on standard error.
//!
//! A person at a terminal reads one compact line per event. In a job the lines are JSON, each with the role, the run,
//! the job and the node, so that the logs of many roles can be put together by `cat` and filtered by `jq`. The four
//! come from the subscriber and not from a root span: a span would be lost in every task that forgets to carry it.
//!
//! `AIF_LOG` filters, in the syntax of `EnvFilter`; `info` where it is unset or cannot be read, which is then told.

use std::{fmt, io::IsTerminal as _};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer, time::FormatTime},
    registry::LookupSpan,
};

use crate::{env::Env, slurm::job_env::JobEnv};

/// Whose log it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Identity {
    role: String,
    run: String,
    job_id: Option<String>,
    node: Option<String>,
}

/// Starts logging to standard error. A second call in one process (tests) leaves the first subscriber in place.
pub fn start(role: &str, run: &str, job: Option<&JobEnv>, env: &Env) {
    let identity = Identity {
        role: role.to_owned(),
        run: run.to_owned(),
        job_id: job.map(|job| job.job_id.clone()),
        node: job.map(|job| job.node.clone()),
    };
    let wanted = env.get("AIF_LOG").unwrap_or("info");
    let (filter, problem) = match EnvFilter::try_new(wanted) {
        Ok(filter) => (filter, None),
        Err(error) => (EnvFilter::new("info"), Some(error)),
    };
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let in_run = job.is_some() || env.get("AIF_RUN_DIR").is_some();
    let started = if in_run && !terminal {
        let lines = Lines { identity };
        tracing::subscriber::set_global_default(builder.event_format(lines).finish())
    } else {
        let lines = builder
            .compact()
            .with_target(false)
            .with_timer(Clock)
            .with_ansi(terminal && env.get("NO_COLOR").is_none());
        tracing::subscriber::set_global_default(lines.finish())
    };
    if let (Ok(()), Some(error)) = (started, problem) {
        tracing::warn!(%error, value = wanted, "AIF_LOG cannot be read; logging at info");
    }
}

/// The time of day, for people.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, w: &mut Writer<'_>) -> fmt::Result {
        write!(w, "{}", jiff::Zoned::now().strftime("%H:%M:%S"))
    }
}

/// One JSON object a line.
struct Lines {
    identity: Identity,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let mut line = Map::new();
        line.insert("time".to_owned(), crate::clock::now().to_string().into());
        line.insert("level".to_owned(), metadata.level().as_str().into());
        let identity = &self.identity;
        let known = [
            ("role", Some(&identity.role)),
            ("run", Some(&identity.run)),
            ("job_id", identity.job_id.as_ref()),
            ("node", identity.node.as_ref()),
        ];
        for (name, value) in known {
            if let Some(value) = value {
                line.insert(name.to_owned(), value.as_str().into());
            }
        }
        line.insert("target".to_owned(), metadata.target().into());
        event.record(&mut Fields(&mut line));
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// Puts the fields of an event into a JSON object.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        self.0.insert(field.name().to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use tracing_subscriber::fmt::MakeWriter;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Captured {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_line_in_a_job_tells_whose_it_is() {
        let captured = Captured::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(captured.clone())
            .event_format(Lines {
                identity: Identity {
                    role: "monitor".to_owned(),
                    run: "vllm-7".to_owned(),
                    job_id: Some("7".to_owned()),
                    node: None,
                },
            })
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("First");
            tracing::warn!(port = 9090, path = "a \"b\"", "The port is busy");
        });
        let text = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["message"], "First");
        assert_eq!(lines[1]["role"], "monitor");
        assert_eq!(lines[1]["run"], "vllm-7");
        assert_eq!(lines[1]["job_id"], "7");
        assert_eq!(lines[1]["port"], 9090);
        assert_eq!(lines[1]["path"], "a \"b\"");
        assert_eq!(lines[1]["level"], "WARN");
        assert!(lines[1].get("node").is_none());
    }
}
