//! `aif submit`: from a recipe, or a job script, to a job.
//!
//! sbatch's options come from recipe and site; they win over the `#SBATCH` lines of the script, so the script is handed
//! over as it is. It prints the job's id and what to type next and returns at once; with `--wait` it follows the job to
//! its end ([`follow`]).

mod follow;

use std::path::{Path, PathBuf};

use crate::{
    command::Shell,
    exit::{Exit, Failure, OrExit as _},
    library,
    recipe::{Kind, Plan, Resources},
    site::Site,
    slurm::{
        client,
        options::{self, Defaults},
    },
    terminal, units,
};

/// Arguments of `aif submit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Recipe (a path, or a name in recipes/), or a job script
    pub what: String,
    /// Print the command and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Follow the job to its end, print the summary, and exit with the job's code
    #[arg(long)]
    pub wait: bool,
    /// Overrides a value of the recipe
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Option for sbatch, for instance --sbatch=--time=01:00:00
    #[arg(long, value_name = "OPTION", allow_hyphen_values = true)]
    pub sbatch: Vec<String>,
    /// Arguments for the script
    #[arg(last = true)]
    pub arguments: Vec<String>,
}

/// What is handed to sbatch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Submission {
    /// Options, script, arguments of the script.
    words: Vec<String>,
    /// The script's name without its ending: the job's name where the script says no other.
    name: String,
}

/// Submits, and follows where that is asked.
///
/// # Errors
/// A recipe or a script that is not there, a site file that is wrong, a refusal by Slurm.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    let site = shell.site()?;
    let submission = prepare(&args, shell, &site)?;
    if args.dry_run {
        terminal::line(format_args!("sbatch {}", quoted(&submission.words)))?;
        return Ok(Exit::Done);
    }
    let id = client::sbatch(&submission.words, &shell.home)
        .await
        .or_exit(Exit::Unavailable, || {
            format!("{} was not submitted", args.what)
        })?;
    terminal::line(format_args!("job {id} submitted: {}", submission.name))?;
    if args.wait {
        return follow::to_the_end(&id, &submission.name, shell, &site).await;
    }
    terminal::line(format_args!(
        "  state   aif status {id}\n  output  tail -f {}\n  end     aif stop --job {id}",
        shell
            .home
            .join(format!("{}-{id}.out", submission.name))
            .display()
    ))?;
    if let Some(service) = service_of(&args, shell, &site) {
        terminal::line(format_args!("  ready   aif wait {service}"))?;
    }
    Ok(Exit::Done)
}

fn prepare(args: &Args, shell: &Shell, site: &Site) -> Result<Submission, Failure> {
    let script_given = is_script(&args.what);
    let (script, mut words, arguments) = if script_given {
        let script = [PathBuf::from(&args.what), shell.home.join(&args.what)]
            .into_iter()
            .find(|path| path.is_file());
        let script = script
            .ok_or_else(|| Failure::new(Exit::NoInput, format!("no job script {}", args.what)))?;
        (
            script,
            options::common(&defaults(site, &Resources::default())?),
            Vec::new(),
        )
    } else {
        let (kind, resources, path) = recipe(args, shell, site)?;
        let script = shell.home.join("jobs").join(match kind {
            Kind::Server => "server.sh",
            Kind::Monitor => "monitor.sh",
            Kind::Client => "bench.sh",
        });
        let mut arguments = vec![path];
        for set in &args.set {
            arguments.extend(["--set".to_owned(), set.clone()]);
        }
        let mut words = options::for_recipe(&resources, &defaults(site, &resources)?);
        words.push(format!(
            "--job-name={}",
            args.what
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .trim_end_matches(".yaml")
        ));
        (script, words, arguments)
    };
    if script_given && !args.set.is_empty() {
        let message =
            "--set changes a recipe; arguments for a job script follow after --".to_owned();
        return Err(Failure::new(Exit::Usage, message));
    }
    words.extend(args.sbatch.iter().cloned());
    let own_name = words
        .iter()
        .rev()
        .find_map(|word| word.strip_prefix("--job-name=").map(str::to_owned));
    let stem = script
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    words.push(script.display().to_string());
    words.extend(arguments);
    words.extend(args.arguments.iter().cloned());
    // sbatch names a job after its script, ending and all
    let name = own_name
        .or_else(|| job_name(&script))
        .unwrap_or_else(|| format!("{stem}.sh"));
    Ok(Submission { words, name })
}

/// The name that a script gives its job.
fn job_name(script: &Path) -> Option<String> {
    let text = crate::files::read_text(script).ok()?;
    let options = text.lines().filter_map(|line| line.strip_prefix("#SBATCH"));
    options
        .flat_map(str::split_whitespace)
        .find_map(|word| Some(word.strip_prefix("--job-name=")?.to_owned()))
}

fn recipe(args: &Args, shell: &Shell, site: &Site) -> Result<(Kind, Resources, String), Failure> {
    let variables = library::variables(&shell.env, site, &shell.home);
    let resolved = library::resolve(&shell.home, &args.what, None, &args.set, &variables)?;
    for warning in &resolved.warnings {
        terminal::note(format_args!("aif: {warning}"));
    }
    let (kind, resources) = match resolved.plan {
        Plan::Server(plan) => (Kind::Server, plan.resources),
        Plan::Monitor(plan) => (Kind::Monitor, plan.resources),
        Plan::Client(plan) => (Kind::Client, plan.resources),
    };
    Ok((kind, resources, resolved.entry.path))
}

/// Is a job script meant, and not a recipe?
fn is_script(what: &str) -> bool {
    Path::new(what).extension().is_some_and(|end| end == "sh")
}

fn service_of(args: &Args, shell: &Shell, site: &Site) -> Option<String> {
    if is_script(&args.what) {
        return None;
    }
    let variables = library::variables(&shell.env, site, &shell.home);
    match library::resolve(&shell.home, &args.what, None, &args.set, &variables)
        .ok()?
        .plan
    {
        Plan::Server(plan) => Some(plan.service_name),
        Plan::Monitor(_) | Plan::Client(_) => None,
    }
}

fn defaults(site: &Site, resources: &Resources) -> Result<Defaults, Failure> {
    let short = site.short_qos.iter().map(|(name, longest)| {
        let longest = units::parse_duration(longest).ok_or_else(|| {
            Failure::new(
                Exit::Site,
                format!(
                    "site {}: short_qos {name} takes a time, not {longest}",
                    site.name
                ),
            )
        })?;
        Ok((name.clone(), longest))
    });
    let short = short.collect::<Result<Vec<_>, Failure>>()?;
    let partition = resources
        .partition
        .as_ref()
        .map(|name| site.partitions.get(name).unwrap_or(name).clone());
    Ok(Defaults {
        account: site.account.clone(),
        qos: options::qos_for(resources.time_limit, &short, site.qos.as_deref()),
        gpu_request: site.gpu_request.clone(),
        partition,
        further: site.sbatch_options.clone(),
    })
}

/// Words as a shell would take them back.
fn quoted(words: &[String]) -> String {
    let plain = |word: &str| {
        !word.is_empty()
            && word
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || "-_=./:,%+@".contains(c))
    };
    let quote = |word: &String| {
        if plain(word) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', r"'\''"))
        }
    };
    words.iter().map(quote).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        let words = ["--time=01:00:00", "a b", "it's", ""].map(str::to_owned);
        assert_eq!(quoted(&words), r"--time=01:00:00 'a b' 'it'\''s' ''");
    }
}
