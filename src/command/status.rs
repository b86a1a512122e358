//! `aif status`: jobs that wait with Slurm's reason, jobs that run, instances, and where to look.
//!
//! A monitor serves the page of its run on its own node, which a browser elsewhere reaches through ssh: the line for that is
//! printed, with the file that holds the password, never with the password.

use serde_json::json;

use crate::{
    command::Shell,
    exit::Exit,
    prometheus::config::USER,
    registry::{Kind, Liveness, Record, Seen, Watch, record::state_name},
    slurm::client::{self, Job},
    terminal,
};

/// Arguments of `aif status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this job
    pub job: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Shows what there is.
///
/// # Errors
/// Where the registry cannot be read, or Slurm is there and does not answer.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    let jobs = if shell.env.find_program("squeue").is_some() {
        client::squeue(Some(nix::unistd::getuid().as_raw()), args.job.as_deref()).await?
    } else {
        Vec::new()
    };
    let mut seen = Watch::new(&shell.store()?).refresh().await;
    if let Some(job) = &args.job {
        seen.retain(|seen| seen.record.job_id == *job);
    }
    seen.sort_by_key(|seen| (seen.record.job_id.clone(), seen.record.rank));
    let through = through(shell);
    if args.json {
        let instances: Vec<_> = seen
            .iter()
            .map(|seen| {
                let page = page(seen, &through).map(|page| json!({"tunnel": page.tunnel, "url": page.url, "user": USER, "password_file": page.password_file}));
                json!({"record": seen.record, "alive": seen.liveness == Liveness::Alive, "page": page})
            })
            .collect();
        terminal::json(&json!({"jobs": jobs, "instances": instances}))?;
        return Ok(Exit::Done);
    }
    print_jobs(&jobs)?;
    print_instances(&seen, &through)?;
    if jobs.is_empty() && seen.is_empty() {
        terminal::line("nothing is running; `aif submit jobs/…` starts something")?;
    }
    Ok(Exit::Done)
}

fn print_jobs(jobs: &[Job]) -> std::io::Result<()> {
    for job in jobs {
        let place = match (job.state.as_str(), job.nodes.as_str()) {
            ("PENDING", _) => format!("waits: {}", job.reason),
            (_, "") => String::new(),
            (_, nodes) => format!("on {nodes}"),
        };
        terminal::line(format_args!(
            "job {:<10} {:<24} {:<10} {} of {}  {place}",
            job.id, job.name, job.state, job.elapsed, job.limit
        ))?;
    }
    Ok(())
}

fn print_instances(seen: &[Seen], through: &str) -> std::io::Result<()> {
    for seen in seen {
        let record = &seen.record;
        let endpoint = record.endpoints.api.as_deref().unwrap_or("-");
        terminal::line(format_args!(
            "  {:<10} {:<20} {:<9} {:<7} on {:<10} {endpoint}",
            record.title(),
            record.service_name,
            state_name(record.state),
            seen.liveness.name(),
            record.node
        ))?;
        if let Some(page) = page(seen, through) {
            terminal::line(format_args!(
                "           its page: {}\n           then {} in a browser, as user {USER} with the password in {}",
                page.tunnel, page.url, page.password_file
            ))?;
        }
    }
    Ok(())
}

/// How a browser comes to the page of a run.
#[derive(Debug, PartialEq, Eq)]
struct Page<'a> {
    tunnel: String,
    url: String,
    password_file: &'a str,
}

/// The page of a monitor or Grafana that is alive; nobody else has one.
fn page<'a>(seen: &'a Seen, through: &str) -> Option<Page<'a>> {
    let Record {
        kind,
        endpoints,
        auth,
        node,
        ..
    } = &seen.record;
    if seen.liveness == Liveness::Dead {
        return None;
    }
    let url = match kind {
        Kind::Monitor => endpoints.agent.as_ref(),
        Kind::Grafana => endpoints.api.as_ref(),
        _ => None,
    };
    let place = url?.strip_prefix("http://")?;
    let port = place.rsplit(':').next()?;
    // what listens on the loopback of a node is reached only from there
    let to = match kind {
        Kind::Grafana if node != through => format!("-J {through} {node}"),
        _ => through.to_owned(),
    };
    Some(Page {
        tunnel: format!("ssh -N -L {port}:{place} {to}"),
        url: format!("http://127.0.0.1:{port}/"),
        password_file: auth.key_file.as_deref()?,
    })
}

/// The machine that one logs in to: the site's, else this one.
fn through(shell: &Shell) -> String {
    let named = shell.site().ok().and_then(|site| site.login_host);
    named.unwrap_or_else(|| {
        nix::unistd::gethostname().map_or_else(
            |_| "this-host".to_owned(),
            |name| name.to_string_lossy().into_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_monitor_that_lives_has_a_page_and_nobody_else() {
        let seen = |kind, liveness| {
            let mut record = Record::new(kind, "vllm", "r", None, Some("run"));
            record.endpoints.agent = Some("http://node7:20311".to_owned());
            record.auth.key_file = Some("/home/u/.keys/m".to_owned());
            Seen { record, liveness }
        };
        let monitor = seen(Kind::Monitor, Liveness::Unknown);
        let page_of = page(&monitor, "login.example").unwrap();
        assert_eq!(page_of.tunnel, "ssh -N -L 20311:node7:20311 login.example");
        assert_eq!(page_of.url, "http://127.0.0.1:20311/");
        assert_eq!(page_of.password_file, "/home/u/.keys/m");
        let mut grafana = seen(Kind::Grafana, Liveness::Alive);
        "node7".clone_into(&mut grafana.record.node);
        grafana.record.endpoints.api = Some("http://127.0.0.1:20400".to_owned());
        let page_of = page(&grafana, "login.example").unwrap();
        assert_eq!(
            page_of.tunnel,
            "ssh -N -L 20400:127.0.0.1:20400 -J login.example node7"
        );
        assert_eq!(page_of.url, "http://127.0.0.1:20400/");
        for (kind, liveness) in [
            (Kind::Monitor, Liveness::Dead),
            (Kind::Server, Liveness::Alive),
            (Kind::Bench, Liveness::Alive),
        ] {
            assert_eq!(page(&seen(kind, liveness), "x"), None);
        }
    }
}
