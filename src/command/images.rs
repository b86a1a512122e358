//! `aif images`: what images recipes name, and how they come to the cluster.
//!
//! Compute nodes often have no way out, so images are pulled on a login node, before a job asks for them. A pull that is
//! asked for replaces a broken image; an image that is there and whole is left alone, unless by `--force`.

use std::collections::BTreeSet;

use clap::Subcommand;
use serde::Serialize;

use super::Shell;
use crate::{
    apptainer::{
        digest::{self, Facts},
        image::{Image, State, Wanted},
    },
    exit::{Exit, Failure},
    library::{self, Resolved},
    recipe::Kind,
    shutdown::{Cause, Shutdown},
    terminal,
};

/// Arguments of `aif images`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Pull the images that recipes name, where they are missing
    Pull {
        /// Recipes: names, or paths of files
        #[arg(required = true)]
        recipes: Vec<String>,
        /// Override a value, as in `service.container.source=docker://…`
        #[arg(long = "set", value_name = "[KIND:]KEY=VALUE")]
        sets: Vec<String>,
        /// Pull also what is there
        #[arg(long)]
        force: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// List the images that recipes name; without a recipe, of all in this project
    List {
        /// Recipes: names, or paths of files
        recipes: Vec<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `aif images`.
pub async fn run(args: Args, shell: &Shell) -> anyhow::Result<Exit> {
    match args.action {
        Action::Pull {
            recipes,
            sets,
            force,
            json,
        } => pull(shell, &recipes, &sets, force, json).await,
        Action::List { recipes, json } => list(shell, &recipes, json),
    }
}

/// An image, and the recipes that name it.
struct Named {
    image: Image,
    recipes: Vec<String>,
}

/// What is told of an image.
#[derive(Debug, Serialize)]
struct Row {
    image: String,
    recipes: Vec<String>,
    /// `pulled`, `present`, `other` (from elsewhere than the digest that its recipe names), `missing`, `broken`, `failed`.
    state: &'static str,
    /// Where the recipe says that it can be had.
    source: Option<String>,
    /// Where the file came from, if from elsewhere.
    came_from: Option<String>,
    #[serde(flatten)]
    facts: Option<Facts>,
    error: Option<String>,
}

impl Row {
    fn new(named: &Named, state: &'static str, facts: Option<Facts>) -> Self {
        let other = |facts: &Facts| named.image.other_source(facts).map(str::to_owned);
        let came_from = facts.as_ref().and_then(other);
        let facts = facts.map(|facts| Facts {
            source: None,
            ..facts
        });
        Self {
            image: named.image.path.display().to_string(),
            recipes: named.recipes.clone(),
            state,
            source: named.image.source.clone(),
            came_from,
            facts,
            error: None,
        }
    }
}

/// The recipes, planned; overrides go to the kinds that they mean.
fn resolve(shell: &Shell, names: &[String], sets: &[String]) -> anyhow::Result<Vec<Resolved>> {
    let site = shell.site()?;
    let variables = library::variables(&shell.env, &site, &shell.home);
    let plan = |name: &String, sets: &[String]| {
        library::resolve(&shell.home, name, None, sets, &variables)
    };
    if sets.is_empty() {
        return Ok(names
            .iter()
            .map(|name| plan(name, &[]))
            .collect::<Result<_, _>>()?);
    }
    let kinds = names
        .iter()
        .map(|name| Ok(plan(name, &[])?.plan.kind()))
        .collect::<Result<Vec<Kind>, Failure>>()?;
    let routed = library::route_overrides(sets, &kinds)?;
    let planned = names
        .iter()
        .zip(kinds)
        .map(|(name, kind)| plan(name, routed.of(kind)));
    Ok(planned.collect::<Result<_, _>>()?)
}

/// Each image once, in the order in which the recipes name them. A source that one recipe knows holds for all.
fn images(shell: &Shell, resolved: &[Resolved]) -> anyhow::Result<Vec<Named>> {
    let site = shell.site()?;
    let mut all: Vec<Named> = Vec::new();
    for recipe in resolved {
        let Some(image) = Image::of(&recipe.plan, &shell.env, &site, &shell.home) else {
            continue;
        };
        let name = library::name_of(&shell.home, &recipe.entry.path);
        match all.iter_mut().find(|named| named.image.path == image.path) {
            None => all.push(Named {
                image,
                recipes: vec![name],
            }),
            Some(known) => {
                if known.image.source.is_none() {
                    known.image = image;
                } else if image.source.is_some() && image.source != known.image.source {
                    let message = format!(
                        "{name} and {} name image {} with different sources: give it two names, or one source",
                        known.recipes.join(", "),
                        image.path.display()
                    );
                    return Err(Failure::new(Exit::Recipe, message).into());
                }
                known.recipes.push(name);
            }
        }
    }
    Ok(all)
}

async fn pull(
    shell: &Shell,
    names: &[String],
    sets: &[String],
    force: bool,
    json: bool,
) -> anyhow::Result<Exit> {
    let resolved = resolve(shell, names, sets)?;
    for warning in resolved.iter().flat_map(|recipe| &recipe.warnings) {
        terminal::warning(warning);
    }
    let site = shell.site()?;
    let named = images(shell, &resolved)?;
    let with_image: BTreeSet<&String> = named.iter().flat_map(|named| &named.recipes).collect();
    for recipe in &resolved {
        let name = library::name_of(&shell.home, &recipe.entry.path);
        if !with_image.contains(&name) {
            terminal::note(format_args!("aif: {name} names no image"));
        }
    }
    let shutdown = Shutdown::listen()?;
    let mut exit = Exit::Done;
    let mut rows = Vec::new();
    for named in &named {
        let wanted = Wanted {
            image: &named.image,
            recipe: &named.recipes[0],
            by_role: false,
            force,
            env: &shell.env,
            site: &site,
            home: &shell.home,
            tell: &|line| terminal::note(format_args!("aif: {line}")),
            shutdown: &shutdown,
        };
        let row = match wanted.get().await {
            Ok(got) if got.pulled => Row::new(named, "pulled", Some(got.facts)),
            Ok(got) => Row::new(
                named,
                "present",
                Some(summed(named, got.facts, &shutdown).await),
            ),
            Err(failure) => {
                let code = failure.exit;
                let error = format!("{:#}", anyhow::Error::from(failure));
                terminal::note(format_args!("aif: {error}"));
                if exit == Exit::Done {
                    exit = code;
                }
                let mut row = Row::new(named, "failed", None);
                row.error = Some(error);
                row
            }
        };
        if !json && row.state != "failed" {
            terminal::line(told(&row))?;
        }
        rows.push(row);
        // what is told to end pulls nothing more
        if let Some(cause) = shutdown.cause() {
            exit = Cause::exit(cause);
            break;
        }
    }
    if json {
        terminal::json(&rows)?;
    }
    Ok(exit)
}

/// A digest is computed once, and here somebody waits for it anyway.
async fn summed(named: &Named, facts: Facts, shutdown: &Shutdown) -> Facts {
    if facts.digest.is_some() || !named.image.path.is_file() {
        return facts;
    }
    let (path, stop) = (named.image.path.clone(), shutdown.drain.clone());
    let computed = shutdown
        .tasks
        .spawn_blocking(move || digest::compute(&path, &stop));
    let digest = computed.await.ok().and_then(|facts| facts.digest);
    Facts { digest, ..facts }
}

fn list(shell: &Shell, names: &[String], json: bool) -> anyhow::Result<Exit> {
    let named = if names.is_empty() {
        // a recipe that is not usable here is no reason to show none
        let all = Kind::ALL
            .into_iter()
            .flat_map(|kind| library::list(&shell.home, kind));
        let paths: Vec<String> = all.map(|(_, path)| path.display().to_string()).collect();
        let usable: Vec<Resolved> = paths
            .iter()
            .filter_map(|path| resolve(shell, std::slice::from_ref(path), &[]).ok())
            .flatten()
            .collect();
        images(shell, &usable)?
    } else {
        images(shell, &resolve(shell, names, &[])?)?
    };
    let mut rows = Vec::new();
    for named in &named {
        let known = digest::known(&named.image.path).ok();
        rows.push(match named.image.state() {
            Ok(State::Whole) => {
                let refused = |facts: &Facts| named.image.is_refused(facts, &shell.home);
                let is_other = known.as_ref().is_some_and(refused);
                Row::new(named, if is_other { "other" } else { "present" }, known)
            }
            Ok(State::Missing) => Row::new(named, "missing", None),
            Ok(State::Flawed(flaw)) => {
                let mut row = Row::new(named, "broken", known);
                row.error = Some(format!("it {flaw}"));
                row
            }
            Err(failure) => {
                let mut row = Row::new(named, "broken", None);
                row.error = Some(format!("{:#}", anyhow::Error::from(failure)));
                row
            }
        });
    }
    if json {
        terminal::json(&rows)?;
        return Ok(Exit::Done);
    }
    for row in &rows {
        terminal::line(told(row))?;
    }
    if rows.is_empty() {
        terminal::note("no recipe names an image");
    }
    Ok(Exit::Done)
}

/// An image in a line: what it is, and who wants it from where.
fn told(row: &Row) -> String {
    let mut parts = vec![row.state.to_owned()];
    if let Some(facts) = &row.facts {
        parts.push(megabytes(facts.size));
        parts.extend(facts.digest.clone());
    }
    parts.extend(row.error.clone());
    parts.push(match (&row.came_from, &row.source) {
        (Some(had), Some(source)) if row.state == "other" => format!(
            "from {had}, which is not the {source} of the recipe: aif images pull --force {}",
            row.recipes.join(" ")
        ),
        (Some(had), Some(source)) => format!("from {had}, where the recipe says {source}"),
        (_, Some(source)) => format!("from {source}"),
        (_, None) => "no source".to_owned(),
    });
    parts.push(format!("for {}", row.recipes.join(", ")));
    format!("{}: {}", row.image, parts.join(", "))
}

fn megabytes(size: u64) -> String {
    format!("{:.1} MB", size as f64 / 1e6)
}
