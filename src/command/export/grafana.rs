//! `aif export RUN --grafana DIR`: dashboards, and the provisioning by which a Grafana finds them and the run's Prometheus.
//!
//! The Grafana is the user's own, on any machine that reaches the node: that of a run that is over is served by `aif open RUN`,
//! which writes the same files for it. The data source holds the password of Prometheus, which ends with the run; others cannot
//! read it.

use std::path::Path;

use super::{Args, login, url};
use crate::{
    command::Shell,
    engine,
    exit::{Exit, Failure, OrExit as _},
    prometheus::{
        archive::scrape_interval,
        dashboards::Shown,
        provisioning::{self, Source},
    },
    terminal,
};

/// Writes the files.
pub(super) async fn write(folder: &Path, args: &Args, shell: &Shell) -> anyhow::Result<Exit> {
    let source = match (url(args), &args.source) {
        (Some(url), _) => Source {
            url: url.to_owned(),
            login: login(args)?,
            interval: None,
        },
        (None, Some(name)) => {
            let run = shell.find_run(name)?;
            let Some(live) = shell.live_monitor(&run).await? else {
                let message = format!(
                    "the Prometheus of {} is not there any more: `aif open {name} --grafana {}` serves its archive, and writes the files for that",
                    run.id,
                    folder.display()
                );
                return Err(Failure::new(Exit::Unavailable, message).into());
            };
            Source::own(live.url, live.password, scrape_interval(&run))
        }
        (None, None) => return Err(Failure::new(Exit::Usage, "a run or --url is needed").into()),
    };
    let boards = engine::dashboards();
    let provisioning = provisioning::write(folder, &source, &boards, Shown::Live)
        .or_exit(Exit::CannotCreate, || {
            "the files for Grafana cannot be written".to_owned()
        })?;
    terminal::line(format_args!(
        "{} dashboards in {}; a Grafana that is started with GF_PATHS_PROVISIONING={} shows them, of {}",
        boards.len(),
        folder.join("dashboards").display(),
        provisioning.display(),
        source.url,
    ))?;
    Ok(Exit::Done)
}
