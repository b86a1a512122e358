//! `aif doctor`: what a stack needs and does not find on this site, each with what to do about it.
//!
//! A table of probes ([`PROBES`]), asked all at once. Each gathers facts and hands them to a judgement, which is pure and
//! tested on captured answers. None hides another, and none holds the command up: programs and file systems get
//! [`LIMIT`], after which the silence is the finding. Files are looked at in threads of their own, because a network
//! file system whose server is gone does not fail but hangs. Nothing is changed; what is written for a trial is removed.
//!
//! It ends with 0 where a stack could run, 78 where the site file is faulty, and 69 where anything else is missing,
//! whatever the reason: the list tells the reasons, and there may be several.

mod check;
mod container;
mod folders;
mod images;
mod node;
mod project;
mod prometheus;
mod scene;
mod slurm;
mod table;

use std::{pin::Pin, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{sync::oneshot, task::JoinSet};

use self::{
    check::{Check, State, Verdict},
    scene::Scene,
};
use crate::{command::Shell, exit::Exit, terminal};

/// Time that each question has.
const LIMIT: Duration = Duration::from_secs(5);

/// Arguments of `aif doctor`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit codes:
   0  a stack can run; warnings do not count
  69  something that a stack needs is missing, for whatever reason
  78  the site file is invalid

Nodes may differ from a login node: `srun -n1 bin/aif doctor` asks one.")]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a probe of programs comes to.
type Answer = Pin<Box<dyn Future<Output = Vec<Check>> + Send>>;

#[derive(Clone, Copy)]
enum Ask {
    /// Looks at files, in a thread of its own.
    Files(fn(&Scene) -> Vec<Check>),
    /// Runs programs, and sees itself that each ends in time.
    Programs(fn(Arc<Scene>) -> Answer),
}

struct Probe {
    name: &'static str,
    /// What it means when files do not answer.
    silence: State,
    ask: Ask,
}

const fn files(name: &'static str, silence: State, ask: fn(&Scene) -> Vec<Check>) -> Probe {
    Probe {
        name,
        silence,
        ask: Ask::Files(ask),
    }
}

const fn programs(name: &'static str, ask: fn(Arc<Scene>) -> Answer) -> Probe {
    Probe {
        name,
        silence: State::Warning,
        ask: Ask::Programs(ask),
    }
}

/// All that is looked at, in the order of the list.
static PROBES: [Probe; 15] = [
    files("site file", State::Failed, project::site),
    files("project", State::Failed, project::home),
    files("aif for jobs", State::Failed, project::binary),
    files("recipes", State::Warning, project::recipes),
    programs("Slurm", |scene| Box::pin(slurm::probe(scene))),
    programs("container runtime", |scene| {
        Box::pin(container::probe(scene))
    }),
    files("container folders", State::Warning, container::folders),
    programs("Prometheus", |scene| Box::pin(prometheus::probe(scene))),
    files("registry", State::Failed, folders::registry),
    files("results", State::Failed, folders::results),
    files("shared folders", State::Warning, folders::shared),
    files("images", State::Failed, images::probe),
    files("node's disk", State::Failed, folders::local),
    programs("clock", |scene| Box::pin(node::clock(scene))),
    programs("limits and GPUs", |scene| Box::pin(node::probe(scene))),
];

/// Looks at everything and tells.
///
/// # Errors
/// Where nothing can be printed.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    let gathering = shell.clone();
    let scene = in_time(move || Scene::gather(gathering)).await;
    let scene = scene.unwrap_or_else(|| Scene::silent(shell.clone()));
    let (site_is_faulty, advice) = (scene.site_is_faulty(), scene.advice());
    let checks = examine(Arc::new(scene)).await;
    let verdict = Verdict::of(&checks);
    if args.json {
        terminal::json(&json!({"verdict": verdict, "checks": checks}))?;
    } else {
        for line in table::lines(&checks, advice) {
            terminal::line(line)?;
        }
    }
    Ok(verdict.exit(site_is_faulty))
}

/// Asks all probes at once; their findings keep the order of the table.
async fn examine(scene: Arc<Scene>) -> Vec<Check> {
    let mut asked = JoinSet::new();
    for (index, probe) in PROBES.iter().enumerate() {
        let scene = Arc::clone(&scene);
        asked.spawn(async move { (index, examine_one(probe, scene).await) });
    }
    let mut found = asked.join_all().await;
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().flat_map(|(_, checks)| checks).collect()
}

async fn examine_one(probe: &Probe, scene: Arc<Scene>) -> Vec<Check> {
    match probe.ask {
        Ask::Programs(ask) => ask(scene).await,
        Ask::Files(ask) => in_time(move || ask(&scene)).await.unwrap_or_else(|| {
            let found = format!("no answer within {} s", LIMIT.as_secs());
            let mend = "the file system behind it hangs: try again, else tell the site's support";
            vec![Check::bad(probe.name, probe.silence, found, mend)]
        }),
    }
}

/// Runs this in a thread of its own; `None` where it has not ended in time. A thread that hangs ends with the process.
async fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        // nobody listens any more where time was up
        let _ = sender.send(work());
    });
    tokio::time::timeout(LIMIT, receiver).await.ok()?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_hangs_is_a_finding() {
        fn hangs(_: &Scene) -> Vec<Check> {
            loop {
                std::thread::park();
            }
        }
        let probe = files("registry", State::Failed, hangs);
        let shell = Shell {
            env: crate::env::Env::default(),
            home: "/nowhere".into(),
        };
        let found = examine_one(&probe, Arc::new(Scene::silent(shell))).await;
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].state, State::Failed);
        assert_eq!(found[0].found, "no answer within 5 s");
    }
}
