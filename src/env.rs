//! The environment, read once.
//!
//! Everything that depends on a variable takes an [`Env`], so tests give their own and nothing in the program changes
//! behaviour behind its caller's back. The variables that belong to us are listed in [`OURS`]; Slurm's are read by
//! `slurm::job_env`.

use std::{collections::BTreeMap, path::PathBuf};

/// Our own variables and what each is for.
pub const OURS: [(&str, &str); 11] = [
    (
        "AIF_HOME",
        "folder that holds jobs/, recipes/ and sbatch/; default: the folder the job was submitted from",
    ),
    (
        "AIF_REGISTRY",
        "folder of the registry; default: ~/.ubenchai/discover",
    ),
    ("AIF_RUN_DIR", "run folder that a stack gives to its steps"),
    (
        "AIF_SITE",
        "name of a site in sbatch/sites/, or path of a site file",
    ),
    (
        "AIF_LOG",
        "log filter, as of tracing's EnvFilter; default: info",
    ),
    (
        "AIF_CPUS",
        "how a stack shares the CPUs of a node among its roles",
    ),
    (
        "AIF_GRACE_SECONDS",
        "time that a role has to end after TERM; default: 25",
    ),
    (
        "AIF_LOCAL_JOB",
        "what stands for a job id where a stack runs without Slurm",
    ),
    (
        "AIF_LAUNCHER",
        "`local` in a role that a stack started as a plain process",
    ),
    (
        "AIF_INSTANCE",
        "mark that the server sets in its engine's environment",
    ),
    (
        "AIF_API_KEY_FILE",
        "file of the instance's key, which the server sets in its engine's environment",
    ),
];

/// A snapshot of environment variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env {
    variables: BTreeMap<String, String>,
}

impl Env {
    /// The environment of this process. Variables that are not UTF-8 are left out.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    pub fn of_process() -> Self {
        let variables = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { variables }
    }

    /// The value of a variable; an empty one counts as unset, as shells treat it.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }

    /// The value of a variable as a number; `None` where it is unset or no number.
    pub fn number<T: std::str::FromStr>(&self, name: &str) -> Option<T> {
        self.get(name)?.parse().ok()
    }

    /// The value of a variable as a path.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from)
    }

    /// The user's home.
    pub fn home(&self) -> PathBuf {
        self.path("HOME").unwrap_or_else(|| PathBuf::from("/"))
    }

    /// All variables, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.variables
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// This environment with one variable more, or another value of it.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.variables.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The first program of this name on `PATH`.
    pub fn find_program(&self, name: &str) -> Option<PathBuf> {
        use std::os::unix::fs::PermissionsExt as _;
        let path = self.get("PATH").unwrap_or("/usr/local/bin:/usr/bin:/bin");
        path.split(':')
            .filter(|folder| !folder.is_empty())
            .map(|folder| PathBuf::from(folder).join(name))
            .find(|file| {
                std::fs::metadata(file)
                    .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
            })
    }
}

impl<'a> FromIterator<(&'a str, &'a str)> for Env {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
        Self {
            variables: pairs
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }
}
