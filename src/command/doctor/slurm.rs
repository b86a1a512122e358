//! Slurm: commands, version, where we are in it, whether its controller answers, partitions and account.
//!
//! A machine without Slurm is no failure: stacks then run as plain processes. A few bounded calls, all at once: they ask the
//! controller and the accounting, which `aif` otherwise leaves in peace.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    LIMIT,
    check::{Check, State, version},
    scene::{Scene, listed},
};
use crate::{
    recipe::Plan,
    site::Site,
    slurm::{
        client::{self, Partition},
        hostlist,
        job_env::JobEnv,
    },
};

/// Commands without which nothing runs.
const NEEDED: [&str; 4] = ["sbatch", "srun", "squeue", "scancel"];
/// Commands of which something is missed, and what.
const WANTED: [(&str, &str); 2] = [
    ("sacct", "reports will not tell what a job has used"),
    ("scontrol", "aif doctor cannot ask the controller"),
];
/// The versions that were tried, first and last.
const TRIED: ((u32, u32), (u32, u32)) = ((22, 5), (25, 11));

pub(super) async fn probe(scene: Arc<Scene>) -> Vec<Check> {
    let missing = |name: &str| scene.shell.env.find_program(name).is_none();
    let mut checks = vec![commands(scene.slurm, missing)];
    if !scene.slurm || missing("sinfo") || missing("scontrol") {
        return checks;
    }
    let user = user(&scene);
    let (said, cluster, controllers, partitions, accounts) = tokio::join!(
        bounded(client::version()),
        bounded(client::cluster()),
        bounded(client::ping()),
        bounded(client::partitions()),
        bounded(client::accounts(&user)),
    );
    checks.push(version_check(&said));
    let host = nix::unistd::gethostname().unwrap_or_default();
    let place = Place {
        job: scene.job.as_ref(),
        shell_of: scene.shell.env.get("SLURM_JOB_ID"),
        host: &host.to_string_lossy(),
        partitions: partitions.as_deref().unwrap_or_default(),
    };
    checks.push(place.judge());
    checks.push(controller(&controllers));
    checks.push(partition_check(
        &wanted_partitions(&scene),
        !scene.site().partitions.is_empty(),
        &partitions,
    ));
    checks.extend(site_of_jobs(&scene, cluster.ok().flatten().as_deref()));
    checks.push(account(scene.site().account.as_deref(), &user, &accounts));
    checks
}

async fn bounded<T>(call: impl Future<Output = Result<T, client::Error>>) -> Result<T, String> {
    match tokio::time::timeout(LIMIT, call).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
    }
}

fn user(scene: &Scene) -> String {
    if let Some(name) = scene.shell.env.get("USER") {
        return name.to_owned();
    }
    let id = nix::unistd::geteuid();
    let entry = nix::unistd::User::from_uid(id).ok().flatten();
    entry.map_or_else(|| id.to_string(), |entry| entry.name)
}

/// The partitions that recipes ask for, by the site's names, and those that the site names besides.
fn wanted_partitions(scene: &Scene) -> BTreeSet<String> {
    let plans = scene
        .recipes
        .iter()
        .filter_map(|recipe| recipe.plan.as_ref());
    let named = plans.filter_map(|plan: &Plan| plan.resources().partition.as_deref());
    let translated = named.map(|name| scene.site().partition(name).to_owned());
    translated
        .chain(scene.site().partitions.values().cloned())
        .collect()
}

/// A site may be chosen by the name of the cluster, which jobs have in their environment and login nodes have not.
fn site_of_jobs(scene: &Scene, cluster: Option<&str>) -> Option<Check> {
    let (cluster, Ok((here, _))) = (cluster?, &scene.found) else {
        return None;
    };
    let env = scene.shell.env.clone().with("SLURM_CLUSTER_NAME", cluster);
    let there = Site::choose(&env, &scene.shell.home).ok()?;
    (there.path != here.path).then(|| {
        let file = there.path.unwrap_or_default();
        let name = file.file_stem().unwrap_or_default().to_string_lossy();
        Check::warning(
            "site of jobs",
            format!("jobs of the cluster {cluster} take {}", scene.shown(&file)),
            format!("to have the same here: export AIF_SITE={name}"),
        )
    })
}

fn commands(slurm: bool, missing: impl Fn(&str) -> bool) -> Check {
    let name = "Slurm";
    if !slurm {
        return Check::not_here(
            name,
            "none here; stacks run as local processes: aif stack --local",
        );
    }
    let needed: Vec<&str> = NEEDED.into_iter().filter(|name| missing(name)).collect();
    if !needed.is_empty() {
        let mend = "put Slurm's bin folder on the PATH; inside a container they are not there: call aif outside";
        return Check::failed(name, format!("not on the PATH: {}", listed(needed)), mend);
    }
    if let Some((command, loss)) = WANTED.into_iter().find(|(name, _)| missing(name)) {
        let found = format!("{command} is not on the PATH: {loss}");
        return Check::warning(name, found, "put it on the PATH, or do without");
    }
    Check::ok(name, "its commands are on the PATH")
}

fn version_check(said: &Result<String, String>) -> Check {
    let name = "Slurm's version";
    let unknown = |found: &str| Check::warning(name, found, "ask the site which version it runs");
    let said = match said {
        Ok(said) => said,
        Err(error) => return unknown(error),
    };
    let Some(version) = version(said) else {
        return unknown(&format!("{said:?} is no version that is known"));
    };
    let (first, last) = TRIED;
    let range = format!("{}.{:02} to {}.{:02}", first.0, first.1, last.0, last.1);
    if version < first {
        let found = format!("{said} is older than what is known to work ({range})");
        Check::warning(
            name,
            found,
            "try a small stack first: sbatch jobs/llamacpp-stack.sh",
        )
    } else if version > last {
        let found = format!("{said} is newer than what was tried ({range})");
        Check::warning(
            name,
            found,
            "try a small stack first: sbatch jobs/llamacpp-stack.sh",
        )
    } else {
        Check::ok(name, said.as_str())
    }
}

/// Where this process is, as Slurm sees it.
struct Place<'a> {
    job: Option<&'a JobEnv>,
    /// The job whose shell this is, also where the shell is on none of its nodes.
    shell_of: Option<&'a str>,
    host: &'a str,
    partitions: &'a [Partition],
}

impl Place<'_> {
    fn judge(&self) -> Check {
        let name = "where we are";
        if let Some(job) = self.job {
            let part = job.step_id.as_ref().map_or_else(
                || "the batch script".to_owned(),
                |step| format!("step {step}"),
            );
            return Check::ok(
                name,
                format!("in {part} of job {} on {}", job.job_id, job.node),
            );
        }
        if let Some(job) = self.shell_of {
            let found = format!(
                "in a shell of job {job}, on none of its nodes: roles are started as steps, srun --overlap -N1 -n1 aif …"
            );
            return Check::ok(name, found);
        }
        let short = self.host.split('.').next().unwrap_or_default();
        let is_node = self.partitions.iter().any(|partition| {
            let nodes = hostlist::expand(&partition.nodes).unwrap_or_default();
            nodes.iter().any(|node| node == short || node == self.host)
        });
        if is_node {
            return Check::warning(
                name,
                format!("on the node {}, but in no job", self.host),
                "run stacks in a job: sbatch jobs/llamacpp-stack.sh, or srun --pty bash",
            );
        }
        Check::ok(
            name,
            format!("{}, a login node: jobs are submitted from here", self.host),
        )
    }
}

fn controller(said: &Result<Vec<String>, String>) -> Check {
    let name = "Slurm's controller";
    let mend = "try again in a minute, else tell the site's support; running jobs go on without it";
    match said {
        // `Slurmctld(primary) at head is UP`
        Ok(lines) if lines.iter().any(|line| line.ends_with("is UP")) => {
            Check::ok(name, listed(lines))
        }
        Ok(lines) if lines.is_empty() => Check::failed(name, "it does not answer", mend),
        Ok(lines) => Check::failed(name, listed(lines), mend),
        Err(error) => Check::failed(name, error.as_str(), mend),
    }
}

/// `mapped`: does the site file say which partitions are meant?
fn partition_check(
    wanted: &BTreeSet<String>,
    mapped: bool,
    there: &Result<Vec<Partition>, String>,
) -> Check {
    let name = "partitions";
    let there = match there {
        Ok(there) => there,
        Err(error) => {
            return Check::warning(name, error.as_str(), "see for yourself: sinfo");
        }
    };
    let up = |name: &&String| there.iter().any(|one| one.name == **name && one.up);
    let (good, bad): (Vec<&String>, Vec<&String>) = wanted.iter().partition(up);
    if bad.is_empty() {
        return Check::ok(name, format!("{}: up", listed(good)));
    }
    let known = |name: &&String| there.iter().any(|one| one.name == **name);
    let (down, unknown): (Vec<&String>, Vec<&String>) = bad.into_iter().partition(known);
    let mut found = Vec::new();
    if !unknown.is_empty() {
        let names = listed(there.iter().map(|one| &one.name));
        found.push(format!("no {} here; there are: {names}", listed(unknown)));
    }
    if !down.is_empty() {
        found.push(format!("{}: down", listed(down)));
    }
    // a site that names partitions of which none is there describes another cluster
    let state = if good.is_empty() && mapped {
        State::Failed
    } else {
        State::Warning
    };
    let mend = "say in the site file which is meant, partitions: {cpu: NAME, gpu: NAME}, or give sbatch --partition";
    Check::bad(name, state, found.join("; "), mend)
}

fn account(named: Option<&str>, user: &str, there: &Result<Vec<String>, String>) -> Check {
    let name = "account";
    match (named, there) {
        (Some(account), Ok(there)) if there.iter().any(|one| one == account) => {
            Check::ok(name, format!("{account}, of the site file"))
        }
        (Some(account), Ok(there)) if !there.is_empty() => Check::warning(
            name,
            format!(
                "{account}, of the site file, is not among those of {user}: {}",
                listed(there)
            ),
            "correct account in the site file (or SLURM_ACCOUNT), or ask to be added to it",
        ),
        (None, Ok(there)) if !there.is_empty() => Check::ok(
            name,
            format!("Slurm's default for {user}, among: {}", listed(there)),
        ),
        (named, there) => {
            let named = named.unwrap_or("none is named");
            let why = match there {
                Ok(_) => format!("Slurm's accounting knows no account of {user}"),
                Err(error) => error.clone(),
            };
            Check::not_here(
                name,
                format!("{named}; whether it exists cannot be asked: {why}"),
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::Env;

    fn partition(name: &str, up: bool, nodes: &str) -> Partition {
        Partition {
            name: name.to_owned(),
            up,
            nodes: nodes.to_owned(),
        }
    }

    fn wanted(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn without_slurm_stacks_run_locally_and_that_is_no_failure() {
        let check = commands(false, |_| true);
        assert_eq!(check.state, State::NotHere);
        assert!(check.found.contains("aif stack --local"));
        assert_eq!(commands(true, |name| name == "srun").state, State::Failed);
        assert_eq!(commands(true, |name| name == "sacct").state, State::Warning);
        assert_eq!(commands(true, |_| false).state, State::Ok);
    }

    #[test]
    fn versions_outside_of_what_was_tried_are_warned_of() {
        let state = |said: &str| version_check(&Ok(said.to_owned())).state;
        assert_eq!(state("22.05.8"), State::Ok);
        assert_eq!(state("24.11.5"), State::Ok);
        assert_eq!(state("25.11.0"), State::Ok);
        assert_eq!(state("21.08.8-2"), State::Warning);
        assert_eq!(state("26.05.1"), State::Warning);
        assert_eq!(state("?"), State::Warning);
    }

    #[test]
    fn login_node_node_batch_and_step_are_told_apart() {
        let partitions = [partition("cpu", true, "node[1-3]")];
        let judged = |job: Option<&str>, host: &str| {
            let env: Env = job
                .unwrap_or_default()
                .lines()
                .filter_map(|line| line.split_once('='))
                .collect();
            let job = JobEnv::from_env(&env);
            let place = Place {
                job: job.as_ref(),
                shell_of: env.get("SLURM_JOB_ID"),
                host,
                partitions: &partitions,
            };
            let check = place.judge();
            (check.state, check.found)
        };
        let batch = include_str!("../../../tests/data/slurm/batch-24.11.env");
        let step = include_str!("../../../tests/data/slurm/step-24.11.env");
        assert!(
            judged(Some(batch), "node1")
                .1
                .starts_with("in the batch script of job ")
        );
        assert!(
            judged(Some(step), "node1")
                .1
                .starts_with("in step 0 of job ")
        );
        assert!(
            judged(Some("SLURM_JOB_ID=7"), "head")
                .1
                .contains("shell of job 7")
        );
        assert_eq!(judged(None, "node2.cluster").0, State::Warning);
        let login = judged(None, "head.cluster");
        assert_eq!(login.0, State::Ok);
        assert!(login.1.contains("login node"), "{}", login.1);
    }

    #[test]
    fn a_controller_that_is_down_is_a_failure_unless_another_is_up() {
        let said = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned());
            controller(&Ok(lines.collect())).state
        };
        assert_eq!(said(&["Slurmctld(primary) at head is UP"]), State::Ok);
        assert_eq!(said(&["Slurmctld(primary) at head is DOWN"]), State::Failed);
        let both = [
            "Slurmctld(primary) at a is DOWN",
            "Slurmctld(backup) at b is UP",
        ];
        assert_eq!(said(&both), State::Ok);
        assert_eq!(said(&[]), State::Failed);
        assert_eq!(controller(&Err("no".to_owned())).state, State::Failed);
    }

    #[test]
    fn partitions_that_are_not_there_are_named_with_those_that_are() {
        let there = Ok(vec![
            partition("batch", true, "n1"),
            partition("gpu", true, "n2"),
        ]);
        let both = partition_check(&wanted(&["batch", "gpu"]), true, &there);
        assert_eq!(
            (both.state, both.found.as_str()),
            (State::Ok, "batch, gpu: up")
        );
        let one = partition_check(&wanted(&["cpu", "gpu"]), true, &there);
        assert_eq!(one.state, State::Warning);
        assert_eq!(one.found, "no cpu here; there are: batch, gpu");
        let none = wanted(&["cpu"]);
        assert_eq!(partition_check(&none, true, &there).state, State::Failed);
        let state = partition_check(&none, false, &there).state;
        assert_eq!(
            state,
            State::Warning,
            "recipes' own names are no claim about this cluster"
        );
        let down = Ok(vec![partition("cpu", false, "n1")]);
        assert_eq!(partition_check(&none, false, &down).found, "cpu: down");
    }

    #[test]
    fn an_account_is_held_to_those_of_the_user() {
        let there = Ok(vec!["p1".to_owned(), "p2".to_owned()]);
        assert_eq!(account(Some("p1"), "u", &there).state, State::Ok);
        assert_eq!(account(Some("p9"), "u", &there).state, State::Warning);
        assert_eq!(account(None, "u", &there).state, State::Ok);
        let silent = account(None, "u", &Err("no".to_owned()));
        assert_eq!(silent.state, State::NotHere);
        assert_eq!(
            account(Some("p1"), "u", &Ok(Vec::new())).state,
            State::NotHere
        );
    }
}
