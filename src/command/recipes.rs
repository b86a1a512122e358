//! `aif recipes`: what recipes there are, what they come to, what is wrong with them, and how to write one.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Shell;
use crate::{
    engine,
    exit::{Exit, Failure},
    files,
    launch::submission::{self, Request},
    library::{self, Found},
    recipe::{
        Arrival, Kind, LoadModel, Plan, check,
        describe::{json_schema, reference},
        expand::Variables,
        fault::Problem,
        template::template,
    },
    terminal, units,
};

/// Arguments of `aif recipes`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the recipes of this project
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Show what a recipe comes to: overrides, site and environment filled in
    Show {
        /// Name, or path of a file
        recipe: String,
        /// Override a value, as in `workload.concurrent_users=20`
        #[arg(long = "set", value_name = "KEY=VALUE")]
        sets: Vec<String>,
        /// Print JSON instead of YAML
        #[arg(long)]
        json: bool,
        /// Print the sbatch command that `aif submit` would run
        #[arg(long, conflicts_with = "json")]
        script: bool,
    },
    /// Check recipes; without a name, all of this project
    Check {
        /// Names, or paths of files
        recipes: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a commented recipe to start from
    New {
        /// Kind of recipe
        kind: KindArg,
        /// Its name; best ends in -server, -monitor or -test
        name: String,
        /// File to write; default: recipes/KINDs/NAME.yaml of this project
        #[arg(long, short)]
        output: Option<PathBuf>,
    },
    /// Print the JSON Schema of recipes, for editors
    Schema {
        /// Kind of recipe; default: all
        kind: Option<KindArg>,
        /// Print the reference for people instead: every key, its type, default and meaning
        #[arg(long)]
        reference: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindArg {
    Server,
    Monitor,
    Client,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Server => Self::Server,
            KindArg::Monitor => Self::Monitor,
            KindArg::Client => Self::Client,
        }
    }
}

/// Runs `aif recipes`.
#[expect(
    clippy::unused_async,
    reason = "every command has one shape, so that the command line dispatches them alike"
)]
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    match args.action {
        Action::List { json } => list(shell, json),
        Action::Show {
            recipe,
            sets,
            script: true,
            ..
        } => script(shell, &recipe, &sets),
        Action::Show {
            recipe, sets, json, ..
        } => show(shell, &recipe, &sets, json),
        Action::Check { recipes, json } => check_all(shell, &recipes, json),
        Action::New { kind, name, output } => new(shell, kind.into(), &name, output),
        Action::Schema { kind, reference } => schema(kind.map(Kind::from), reference),
    }
}

fn variables(shell: &Shell) -> Result<Variables, Failure> {
    let site = shell.site()?;
    Ok(library::variables(&shell.env, &site, &shell.home))
}

fn list(shell: &Shell, json: bool) -> anyhow::Result<Exit> {
    let variables = variables(shell)?;
    let mut rows = Vec::new();
    for kind in Kind::ALL {
        for (name, path) in library::list(&shell.home, kind) {
            let planned = read(&path).and_then(|found| {
                library::plan_found(&found, Some(kind), &[], &variables)
                    .map_err(|faults| Failure::new(Exit::Recipe, faults.to_string()))
            });
            let (service, about) = match &planned {
                Ok(resolved) => (resolved.plan.service_name(), summary(&resolved.plan)),
                Err(_) => ("", format!("not usable here: aif recipes check {name}")),
            };
            rows.push(json!({
                "name": name,
                "kind": kind.name(),
                "service_name": service,
                "summary": about,
                "usable": planned.is_ok(),
                "path": path,
            }));
        }
    }
    if json {
        terminal::json(&rows)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        terminal::note(format!(
            "no recipes in {}; set AIF_HOME to the project's folder",
            shell.home.join("recipes").display()
        ));
    }
    let field = |row: &Value, key: &str| row[key].as_str().unwrap_or("").to_owned();
    let width = |key: &str| {
        rows.iter()
            .map(|row| field(row, key).len())
            .max()
            .unwrap_or(0)
    };
    let (name, service) = (width("name"), width("service_name"));
    for row in &rows {
        terminal::line(format!(
            "{:7}  {:name$}  {:service$}  {}",
            field(row, "kind"),
            field(row, "name"),
            field(row, "service_name"),
            field(row, "summary"),
        ))?;
    }
    Ok(Exit::Done)
}

fn read(path: &Path) -> Result<Found, Failure> {
    library::find(Path::new(""), &path.display().to_string(), None)
}

/// What a recipe does, in a few words.
fn summary(plan: &Plan) -> String {
    match plan {
        Plan::Server(plan) => {
            let model = plan.model.as_deref().unwrap_or("model unknown");
            format!("{}, {model}", plan.engine.name())
        }
        Plan::Monitor(plan) => plan.scrape_interval.map_or_else(
            || "Prometheus".to_owned(),
            |interval| format!("Prometheus, every {} s", interval.as_secs_f64()),
        ),
        Plan::Client(plan) => match &plan.load {
            LoadModel::ClosedLoop {
                concurrent_users, ..
            } => format!("closed loop, {concurrent_users} users"),
            LoadModel::OpenLoop {
                requests_per_second: Some(rate),
                ..
            } => format!("open loop, {rate} requests/s"),
            LoadModel::OpenLoop { arrival, .. } => match arrival {
                Arrival::Ramp { from, to, .. } => format!("open loop, {from} to {to} requests/s"),
                Arrival::Trace { file } => format!("open loop, trace {}", file.display()),
                _ => "open loop".to_owned(),
            },
        },
    }
}

fn show(shell: &Shell, name: &str, sets: &[String], json: bool) -> anyhow::Result<Exit> {
    let resolved = library::resolve(&shell.home, name, None, sets, &variables(shell)?)?;
    for warning in &resolved.warnings {
        terminal::warning(warning);
    }
    if json {
        terminal::json(&resolved.entry.plan)?;
    } else {
        let mut plan = resolved.entry.plan;
        humanize(&mut plan);
        let text = serde_yaml::to_string(&plan).context("cannot show the plan")?;
        terminal::line(text.trim_end())?;
        if let Plan::Server(plan) = &resolved.plan {
            let known = json!({"profile": engine::profile(plan.engine).shown()});
            let known = serde_yaml::to_string(&known).context("cannot show the profile")?;
            terminal::line(format!(
                "\n# what aif knows of the engine beside the recipe\n{}",
                known.trim_end()
            ))?;
        }
    }
    Ok(Exit::Done)
}

fn script(shell: &Shell, name: &str, sets: &[String]) -> anyhow::Result<Exit> {
    let request = Request {
        what: name,
        sets,
        ..Request::default()
    };
    let submission = submission::prepare(&request, &shell.env, &shell.site()?, &shell.home)?;
    for warning in &submission.warnings {
        terminal::warning(warning);
    }
    terminal::line(submission.command())?;
    Ok(Exit::Done)
}

/// Durations as people read them; JSON keeps seconds and nanoseconds.
fn humanize(value: &mut Value) {
    match value {
        Value::Object(entries) => {
            if let (2, Some(seconds), Some(nanos)) = (
                entries.len(),
                entries.get("secs").and_then(Value::as_u64),
                entries.get("nanos").and_then(Value::as_u64),
            ) {
                let whole = Duration::from_secs(seconds) + Duration::from_nanos(nanos);
                *value = Value::String(units::human_duration(whole));
            } else {
                entries.values_mut().for_each(humanize);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(humanize),
        _ => {}
    }
}

fn check_all(shell: &Shell, names: &[String], json: bool) -> anyhow::Result<Exit> {
    let variables = variables(shell)?;
    let files: Vec<(Option<Kind>, Found)> = if names.is_empty() {
        let mut files = Vec::new();
        for kind in Kind::ALL {
            for (_, path) in library::list(&shell.home, kind) {
                files.push((Some(kind), read(&path)?));
            }
        }
        if files.is_empty() {
            let message = format!(
                "no recipes in {}; set AIF_HOME to the project's folder",
                shell.home.join("recipes").display()
            );
            return Err(Failure::new(Exit::NoInput, message).into());
        }
        files
    } else {
        names
            .iter()
            .map(|name| Ok((None, library::find(&shell.home, name, None)?)))
            .collect::<Result<_, Failure>>()?
    };
    let mut exit = Exit::Done;
    let mut told = Vec::new();
    for (kind, found) in files {
        let checked = library::plan_found(&found, kind, &[], &variables);
        let (faults, warnings) = match checked {
            Ok(resolved) => {
                let failure = match &resolved.plan {
                    Plan::Client(plan) => library::material(plan).err(),
                    Plan::Server(_) | Plan::Monitor(_) => None,
                };
                if exit == Exit::Done {
                    exit = failure.as_ref().map_or(Exit::Done, |failure| failure.exit);
                }
                let faults = failure.into_iter().map(|failure| Problem {
                    place: found.path.display().to_string(),
                    line: None,
                    column: None,
                    message: failure.to_string(),
                });
                (faults.collect(), resolved.warnings)
            }
            Err(faults) => {
                exit = Exit::Recipe;
                (faults.problems, Vec::new())
            }
        };
        if json {
            told.push(json!({"path": found.path, "faults": faults, "warnings": warnings}));
            continue;
        }
        for warning in &warnings {
            terminal::line(format!("warning: {warning}"))?;
        }
        for fault in &faults {
            terminal::line(fault)?;
        }
        if faults.is_empty() {
            terminal::line(format!("{}: ok", found.path.display()))?;
        }
    }
    if json {
        terminal::json(&told)?;
    }
    Ok(exit)
}

fn new(shell: &Shell, kind: Kind, name: &str, output: Option<PathBuf>) -> anyhow::Result<Exit> {
    if !check::is_name(name) {
        return Err(Failure::new(
            Exit::Usage,
            format!("{name:?} is no name of a recipe: letters, digits, `.`, `_` and `-`, at most 64 characters"),
        )
        .into());
    }
    let path = output.unwrap_or_else(|| {
        let folder = shell.home.join("recipes").join(kind.folder());
        folder.join(format!("{name}.yaml"))
    });
    let cannot = |error: files::Error| {
        Failure::caused(
            Exit::CannotCreate,
            format!("cannot write {}", path.display()),
            error.source,
        )
    };
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        files::create_folder(folder, 0o755).map_err(cannot)?;
    }
    let text = template(kind, name);
    if !files::create_exclusive(&path, text.as_bytes(), 0o644).map_err(cannot)? {
        return Err(Failure::new(
            Exit::CannotCreate,
            format!("{} is there already; take another name", path.display()),
        )
        .into());
    }
    terminal::line(path.display())?;
    terminal::note(format!(
        "edit it, then: aif recipes check {}",
        path.display()
    ));
    Ok(Exit::Done)
}

fn schema(kind: Option<Kind>, as_reference: bool) -> anyhow::Result<Exit> {
    let kinds = kind.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
    if as_reference {
        let texts: Vec<String> = kinds.into_iter().map(reference).collect();
        terminal::line(texts.join("\n").trim_end())?;
        return Ok(Exit::Done);
    }
    let schema = match kinds[..] {
        [kind] => json_schema(kind),
        _ => json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "aif recipe",
            "anyOf": kinds.into_iter().map(json_schema).collect::<Vec<_>>(),
        }),
    };
    terminal::json(&schema)?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    async fn aif(home: &Path, words: &[&str]) -> Result<Exit, Exit> {
        let shell = Shell {
            env: [("HOME", "/nowhere"), ("CONTAINER_DIR", "/i")]
                .into_iter()
                .collect(),
            home: home.to_owned(),
        };
        let line = Line::try_parse_from(["recipes"].iter().chain(words)).unwrap();
        run(line.args, &shell)
            .await
            .map_err(|error| Exit::of(&error))
    }

    #[tokio::test]
    async fn a_new_recipe_is_listed_checked_and_never_overwritten() {
        let home = tempfile::tempdir().unwrap();
        let home = home.path();
        for kind in ["server", "monitor", "client"] {
            assert_eq!(aif(home, &["new", kind, "mine"]).await, Ok(Exit::Done));
        }
        assert_eq!(
            aif(home, &["new", "server", "mine"]).await,
            Err(Exit::CannotCreate)
        );
        assert_eq!(
            aif(home, &["new", "server", "../mine"]).await,
            Err(Exit::Usage)
        );
        for words in [
            &["check"][..],
            &["list", "--json"],
            &["show", "mine", "--set", "description=x"],
        ] {
            assert_eq!(aif(home, words).await, Ok(Exit::Done), "{words:?}");
        }
        assert_eq!(
            aif(home, &["show", "mine", "--set", "nme=x"]).await,
            Err(Exit::Recipe)
        );
        assert_eq!(aif(home, &["show", "other"]).await, Err(Exit::NoInput));
        let bad = home.join("recipes/clients/bad.yaml");
        files::write_atomic(
            &bad,
            b"name: bad\nworkload: {}\n",
            0o644,
            files::Durability::Fast,
        )
        .unwrap();
        assert_eq!(aif(home, &["check", "--json"]).await, Ok(Exit::Recipe));
        assert_eq!(aif(home, &["list"]).await, Ok(Exit::Done));
        for words in [
            &["schema"][..],
            &["schema", "client"],
            &["schema", "server", "--reference"],
        ] {
            assert_eq!(aif(home, words).await, Ok(Exit::Done), "{words:?}");
        }
    }

    #[tokio::test]
    async fn every_shipped_recipe_passes() {
        let home = Path::new(env!("CARGO_MANIFEST_DIR"));
        assert_eq!(aif(home, &["check"]).await, Ok(Exit::Done));
    }
}
