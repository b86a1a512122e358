//! `aif wait`: until a service is registered, alive and ready.
//!
//! What counts is what a bench would take: the same scope, the same proof of life. So a script that waits and then
//! starts a bench does not wait twice.

use super::Shell;
use crate::{
    exit::{Exit, Failure, OrExit as _},
    registry::{Record, Scope, Wanted, lookup},
    shutdown::Shutdown,
    terminal,
    units::parse_duration,
};

/// Arguments of `aif wait`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Name of the service
    service: String,
    /// How long to wait, such as 90s or 30m
    #[arg(long, default_value = "30m", value_name = "TIME")]
    timeout: String,
    /// Only instances of this job
    #[arg(long, value_name = "ID")]
    job: Option<String>,
    /// Only this instance
    #[arg(long, value_name = "ID")]
    instance: Option<String>,
    /// Print the records as JSON
    #[arg(long)]
    json: bool,
}

/// Waits, and prints where the service is.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    let timeout = parse_duration(&args.timeout).ok_or_else(|| {
        let message = format!("--timeout takes a time such as 30m, not {}", args.timeout);
        Failure::new(Exit::Usage, message)
    })?;
    let store = shell.store()?;
    let scope = Scope::new(shell.job().as_ref(), None, &shell.site()?.clusters);
    let wanted = Wanted {
        service: args.service,
        job: args.job,
        instance: args.instance,
    };
    let shutdown = Shutdown::listen().or_exit(Exit::Bug, || "no signal handlers".to_owned())?;
    let found = lookup::wait_ready(&store, &scope, &wanted, timeout, &shutdown)
        .await
        .map_err(|error| Failure::new(error.exit(), error.to_string()))?;
    if args.json {
        terminal::json(&found)?;
    } else {
        for record in &found {
            terminal::line(sentence(record))?;
        }
    }
    Ok(Exit::Done)
}

fn sentence(record: &Record) -> String {
    let url = record.endpoints.api.as_deref().unwrap_or("an unknown URL");
    format!(
        "{} is ready at {url} ({} on {}, job {})",
        record.service_name, record.instance_id, record.node, record.job_id
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Kind;

    #[test]
    fn it_says_where_the_service_is() {
        let mut record = Record::new(Kind::Server, "vllm", "r", None, None);
        "server-42.0-3fa9c1".clone_into(&mut record.instance_id);
        "node1".clone_into(&mut record.node);
        "42".clone_into(&mut record.job_id);
        record.endpoints.api = Some("http://node1:8000".to_owned());
        assert_eq!(
            sentence(&record),
            "vllm is ready at http://node1:8000 (server-42.0-3fa9c1 on node1, job 42)"
        );
    }
}
