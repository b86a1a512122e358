//! From a recipe or a job script to the words that sbatch is given.
//!
//! sbatch's options come from recipe and site; they win over the `#SBATCH` lines of the script, so the script is handed
//! over as it is. `aif submit` runs the command, `aif recipes show --script` prints it. What can fail: a recipe or
//! script that is not there, a secret among the overrides.

use std::path::{Path, PathBuf};

use crate::{
    env::Env,
    exit::{Exit, Failure, OrExit as _},
    files,
    library::{self, Resolved},
    recipe::{Plan, Resources},
    site::Site,
    slurm::options::{self, Defaults},
};

/// What is to be submitted.
#[derive(Debug, Clone, Default)]
pub struct Request<'a> {
    /// A recipe, or a job script (ends in `.sh`).
    pub what: &'a str,
    /// Overrides of the recipe.
    pub sets: &'a [String],
    /// Further options of sbatch.
    pub sbatch: &'a [String],
    /// Further arguments of the script.
    pub arguments: &'a [String],
}

/// What is handed to sbatch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Submission {
    /// Options, script, arguments of the script.
    pub words: Vec<String>,
    /// The job's name: by an option, by the script, else the script's own name.
    pub name: String,
    /// The service that the job brings, where that is known.
    pub service: Option<String>,
    /// What should be said about the recipe.
    pub warnings: Vec<String>,
}

impl Submission {
    /// The command, as a shell takes it.
    pub fn command(&self) -> String {
        format!("sbatch {}", quoted(&self.words))
    }
}

/// Works out what sbatch is given.
pub fn prepare(
    request: &Request<'_>,
    env: &Env,
    site: &Site,
    home: &Path,
) -> Result<Submission, Failure> {
    let is_script = Path::new(request.what)
        .extension()
        .is_some_and(|end| end == "sh");
    let mut submission = if is_script {
        of_script(request, site, home)?
    } else {
        let variables = library::variables(env, site, home);
        let resolved = library::resolve(home, request.what, None, request.sets, &variables)?;
        of_recipe(request, resolved, site, home)?
    };
    submission.words.extend(request.arguments.iter().cloned());
    Ok(submission)
}

fn of_script(request: &Request<'_>, site: &Site, home: &Path) -> Result<Submission, Failure> {
    if !request.sets.is_empty() {
        let message = "--set changes a recipe; arguments for a job script follow after --";
        return Err(Failure::new(Exit::Usage, message));
    }
    let script = [PathBuf::from(request.what), home.join(request.what)]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| {
            let message = format!(
                "no job script {}: neither here nor in {}",
                request.what,
                home.display()
            );
            Failure::new(Exit::NoInput, message)
        })?;
    let text = files::read_text(&script)
        .or_exit(Exit::NoInput, || "the job script cannot be read".to_owned())?;
    let mut words = Vec::new();
    for (index, partition) in components(&text).into_iter().enumerate() {
        if index > 0 {
            words.push(":".to_owned());
        }
        let resources = Resources {
            partition,
            ..Resources::default()
        };
        words.extend(options::for_component(&defaults(site, &resources)));
    }
    Ok(finish(request, words, &script))
}

/// The components of a job script, one in any but a heterogeneous job: the partition that each names in a line
/// `#AIF partition=gpu`. Scripts are the same on every site, which has its own names for partitions.
fn components(script: &str) -> Vec<Option<String>> {
    let mut partitions = vec![None];
    for line in script.lines() {
        if line.split_whitespace().eq(["#SBATCH", "hetjob"]) {
            partitions.push(None);
        } else if let Some(name) = line.trim().strip_prefix("#AIF partition=")
            && let Some(last) = partitions.last_mut()
        {
            *last = Some(name.trim().to_owned());
        }
    }
    partitions
}

fn of_recipe(
    request: &Request<'_>,
    resolved: Resolved,
    site: &Site,
    home: &Path,
) -> Result<Submission, Failure> {
    let sets = resolved.set_arguments()?;
    let (script, resources, service) = match resolved.plan {
        Plan::Server(plan) => ("server.sh", plan.resources, Some(plan.service_name)),
        Plan::Monitor(plan) => ("monitor.sh", plan.resources, None),
        Plan::Client(plan) => ("bench.sh", plan.resources, None),
    };
    let mut words = options::for_recipe(&resources, &defaults(site, &resources));
    let name = request.what.rsplit('/').next().unwrap_or_default();
    words.push(format!("--job-name={}", name.trim_end_matches(".yaml")));
    let mut submission = finish(request, words, &home.join("jobs").join(script));
    submission.words.push(resolved.entry.path);
    submission.words.extend(sets);
    submission.service = service;
    submission.warnings = resolved.warnings;
    Ok(submission)
}

fn finish(request: &Request<'_>, mut words: Vec<String>, script: &Path) -> Submission {
    words.extend(request.sbatch.iter().cloned());
    // the last of several options is the one that sbatch takes
    let by_option = words
        .iter()
        .rev()
        .find_map(|word| word.strip_prefix("--job-name=").map(str::to_owned));
    let name = by_option
        .or_else(|| name_in(script))
        .unwrap_or_else(|| file_name(script));
    words.push(script.display().to_string());
    Submission {
        words,
        name,
        service: None,
        warnings: Vec::new(),
    }
}

/// The name that a script gives its job.
fn name_in(script: &Path) -> Option<String> {
    let text = files::read_text(script).ok()?;
    let options = text.lines().filter_map(|line| line.strip_prefix("#SBATCH"));
    options
        .flat_map(str::split_whitespace)
        .find_map(|word| Some(word.strip_prefix("--job-name=")?.to_owned()))
}

/// sbatch names a job after its script, ending and all.
fn file_name(script: &Path) -> String {
    script
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn defaults(site: &Site, resources: &Resources) -> Defaults {
    Defaults {
        account: site.account.clone(),
        qos: site.qos_for(resources.time_limit).map(str::to_owned),
        gpu_request: site.gpu_request.clone(),
        partition: resources
            .partition
            .as_deref()
            .map(|name| site.partition(name).to_owned()),
        further: site.sbatch_options.clone(),
    }
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

    fn submitted(what: &str, sets: &[&str]) -> Result<Submission, Failure> {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        let env: Env = [("CONTAINER_DIR", "/images")].into_iter().collect();
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let request = Request {
            what,
            sets: &sets,
            sbatch: &["--job-name=mine".to_owned()],
            arguments: &["--out=x".to_owned()],
        };
        prepare(&request, &env, &Site::default(), home)
    }

    #[test]
    fn options_stand_before_the_script_and_its_arguments_after_it() {
        let submission = submitted("llamacpp-server", &["service.readiness.timeout=5m"]).unwrap();
        let home = env!("CARGO_MANIFEST_DIR");
        let command = submission.command().replace(home, "HOME");
        assert!(
            command.ends_with(
                "--job-name=mine HOME/jobs/server.sh HOME/recipes/servers/llamacpp-server.yaml --set service.readiness.timeout=5m --out=x"
            ),
            "{command}"
        );
        assert_eq!(submission.name, "mine");
        assert!(submission.service.is_some());
    }

    #[test]
    fn a_heterogeneous_job_gets_its_options_component_by_component() {
        let submission = submitted("jobs/llamacpp-hetjob.sh", &[]).unwrap();
        assert!(
            submission
                .command()
                .starts_with("sbatch --partition=gpu : --partition=cpu --job-name=mine "),
            "{}",
            submission.command()
        );
    }

    #[test]
    fn what_cannot_be_submitted_is_told() {
        let told = |what: &str, sets: &[&str]| {
            let failure = submitted(what, sets).unwrap_err();
            let text = failure
                .to_string()
                .replace(env!("CARGO_MANIFEST_DIR"), "HOME");
            format!("{}: {text}", failure.exit.code())
        };
        insta::assert_snapshot!(told("no/such.sh", &[]), @"66: no job script no/such.sh: neither here nor in HOME");
        insta::assert_snapshot!(told("jobs/server.sh", &["a=b"]), @"64: --set changes a recipe; arguments for a job script follow after --");
        insta::assert_snapshot!(told("llamacpp-server", &["service.env.API_KEY=sesame-7"]), @"64: --set service.env.API_KEY holds a secret, which others could read in the arguments of a step or job: export it as a variable, and write the value as '${VARIABLE}'");
    }
}
