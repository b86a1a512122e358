//! `aif open RUN`: the archived Prometheus of a run, served again on this machine until Ctrl-C.
//!
//! It works on a copy, so the archive stays as it was, and listens on 127.0.0.1 only: the line for `ssh -L` that is
//! printed is how one gets there from elsewhere. Others on this machine reach the port, too, so a password that is made
//! for the occasion is asked for and printed. The link opens the graph at the time of the run; Prometheus's own
//! start page shows the last hour, in which an archive has nothing. With `--grafana DIR` the files are written by which a
//! Grafana on this machine shows it, with the password in one of them, at the time of the run.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::{
    command::Shell,
    engine,
    exit::{Exit, Failure, OrExit as _},
    prometheus::{
        archive::{Local, Served, scrape_interval},
        config::USER,
        dashboards::Shown,
        folder::Sharing,
        process::choose_port,
        provisioning, snapshot,
    },
    recipe::PortChoice,
    shutdown::Shutdown,
    site::Site,
    terminal, units,
};

/// Arguments of `aif open`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run: its folder, its name in results/, or its job's id
    pub run: String,
    /// Port on 127.0.0.1; a free one where it is not given
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// Also write dashboards and provisioning for a Grafana on this machine into this folder
    #[arg(long, value_name = "DIR")]
    pub grafana: Option<PathBuf>,
    /// Unpack it on a network file system where this machine has nothing else; it may break
    #[arg(long)]
    pub allow_shared_tsdb: bool,
}

/// Serves the archive until it is told to end.
///
/// # Errors
/// Where there is no archive, or Prometheus cannot serve it.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    let shutdown = Shutdown::listen()?;
    let site = shell.site()?;
    let run = shell.find_run(&args.run)?;
    if shell
        .live_monitor(&run)
        .await
        .is_ok_and(|live| live.is_some())
    {
        let hint = format!(
            "{0} goes on: look at its live page, to which `aif status` tells the way, or ask its Prometheus by `aif export {0}`",
            run.id
        );
        if !run.metrics().join(snapshot::ARCHIVE).is_file() {
            let message = format!("{hint}; its metrics are archived at its end");
            return Err(Failure::new(Exit::NoInput, message).into());
        }
        terminal::note(format_args!(
            "aif: {hint}; what is opened was archived before"
        ));
    }
    let wanted = args.port.map_or(PortChoice::Auto, PortChoice::Fixed);
    let port = choose_port([127, 0, 0, 1].into(), wanted, site.ports())
        .or_exit(Exit::Unavailable, || {
            "the archive cannot be served".to_owned()
        })?;
    // who names a port has a tunnel to it
    if let (Some(wanted), true) = (args.port, port.fallback) {
        let message = format!("port {wanted} is taken: name another, or none for any that is free");
        return Err(Failure::new(Exit::Unavailable, message).into());
    }
    terminal::note(format_args!("aif: unpacking the metrics of {} …", run.id));
    let folder = site.local_folder(&shell.env);
    let local = Local {
        parent: &folder,
        sharing: Sharing::of(args.allow_shared_tsdb),
    };
    let started = tokio::select! {
        started = Served::of_run(&run, local, (&shell.env, &site), port) => started,
        () = shutdown.drain.cancelled() => return Ok(Exit::Done),
    };
    let mut served = started
        .map_err(|error| Failure::caused(error.exit(), "the archive cannot be served", error))?;

    if !served.checked {
        terminal::note("aif: no checksum lies beside the archive: it is taken as it is");
    }
    terminal::line(format_args!(
        "Prometheus of {}: {}",
        run.id,
        link(served.port, served.span)
    ))?;
    terminal::line(format_args!(
        "It asks for user {USER} and password {}",
        served.password
    ))?;
    if let Some((first, last)) = served.span {
        terminal::line(format_args!("It holds {first:.0} to {last:.0}."))?;
    }
    if let Some(folder) = &args.grafana {
        let source = provisioning::Source::own(
            format!("http://127.0.0.1:{}", served.port),
            served.password.clone(),
            scrape_interval(&run),
        );
        let shown = served
            .span
            .map_or(Shown::Live, |(first, last)| Shown::Span(first, last));
        let provisioning = provisioning::write(folder, &source, &engine::dashboards(), shown)
            .or_exit(Exit::CannotCreate, || {
                "the files for Grafana cannot be written".to_owned()
            })?;
        terminal::line(format_args!(
            "For a Grafana on this machine: GF_PATHS_PROVISIONING={}",
            provisioning.display()
        ))?;
    }
    terminal::line(format_args!(
        "From another machine: {}",
        tunnel(served.port, &site, shell)
    ))?;
    terminal::line("Ctrl-C ends it; the archive stays as it is.")?;
    tokio::select! {
        () = shutdown.drain.cancelled() => {
            served.stop().await;
            Ok(Exit::Done)
        }
        error = served.exited() => {
            Err(Failure::caused(Exit::Unavailable, "the archive is no longer served", error).into())
        }
    }
}

/// A link to the graph at the end of the run.
fn link(port: u16, span: Option<(Timestamp, Timestamp)>) -> String {
    let base = format!("http://127.0.0.1:{port}");
    let Some((first, last)) = span else {
        return base;
    };
    let length = last.duration_since(first).unsigned_abs();
    let seconds = length.as_secs().max(60);
    format!(
        "{base}/graph?g0.expr=up&g0.tab=0&g0.range_input={}&g0.end_input={}",
        units::prometheus_duration(std::time::Duration::from_secs(seconds)),
        last.strftime("%Y-%m-%d%%20%H%%3A%M%%3A%S")
    )
}

/// The line that brings the port to another machine.
fn tunnel(port: u16, site: &Site, shell: &Shell) -> String {
    let host = nix::unistd::gethostname().map_or_else(
        |_| "this-host".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    let forward = format!("ssh -N -L {port}:127.0.0.1:{port}");
    match (&site.login_host, shell.job()) {
        (Some(login), Some(job)) => format!("{forward} -J {login} {}", job.node),
        (None, Some(job)) => format!("{forward} {}", job.node),
        // a login host is often a name for several machines: this one is meant
        (Some(login), None) if *login != host => format!("{forward} -J {login} {host}"),
        _ => format!("{forward} {host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    #[test]
    fn the_link_shows_the_time_of_the_run() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(
            link(9090, Some((at(1_738_324_800), at(1_738_324_920)))),
            "http://127.0.0.1:9090/graph?g0.expr=up&g0.tab=0&g0.range_input=120s&g0.end_input=2025-01-31%2012%3A02%3A00"
        );
        assert_eq!(link(9090, None), "http://127.0.0.1:9090");
    }

    #[test]
    fn the_way_in_leads_over_the_login_host() {
        let shell = |env: Env| Shell {
            env,
            home: "/".into(),
        };
        let job: Env = [("SLURM_JOB_ID", "7"), ("SLURMD_NODENAME", "n1")]
            .into_iter()
            .collect();
        let site = Site {
            login_host: Some("login.example".to_owned()),
            ..Site::default()
        };
        assert_eq!(
            tunnel(9090, &site, &shell(job.clone())),
            "ssh -N -L 9090:127.0.0.1:9090 -J login.example n1"
        );
        assert_eq!(
            tunnel(9090, &Site::default(), &shell(job)),
            "ssh -N -L 9090:127.0.0.1:9090 n1"
        );
    }
}
