//! Site file, project, the binary that jobs will find, and the recipes.

use std::path::PathBuf;

use super::{
    check::Check,
    scene::{Scene, listed},
};

/// What a project's folder must hold.
const PARTS: [&str; 3] = ["recipes", "jobs", "sbatch/prelude.sh"];

pub(super) fn site(scene: &Scene) -> Vec<Check> {
    let name = "site file";
    vec![match &scene.found {
        Ok((chosen, site)) => {
            let file = chosen
                .path
                .as_ref()
                .map_or_else(|| "built in, no file".to_owned(), |path| scene.shown(path));
            Check::ok(name, format!("{}: {file} ({})", site.name, chosen.why))
        }
        Err(faults) => Check::failed(
            name,
            faults.replace('\n', "; "),
            "correct it, or choose another: AIF_SITE=NAME for one of sbatch/sites/",
        ),
    }]
}

pub(super) fn home(scene: &Scene) -> Vec<Check> {
    let (name, home) = ("project", &scene.shell.home);
    let missing: Vec<&str> = PARTS
        .into_iter()
        .filter(|part| !home.join(part).exists())
        .collect();
    vec![if missing.is_empty() {
        Check::ok(name, scene.shown(home))
    } else {
        Check::failed(
            name,
            format!("{} has no {}", scene.shown(home), listed(missing)),
            "call aif from the project's folder, or export AIF_HOME",
        )
    }]
}

/// The binary that job scripts take, by the rule of `sbatch/prelude.sh`.
pub(super) fn candidate(scene: &Scene) -> Option<PathBuf> {
    let home = &scene.shell.home;
    ["bin/aif", "target/release/aif"]
        .map(|path| home.join(path))
        .into_iter()
        .find(|path| path.is_file())
        .or_else(|| scene.shell.env.find_program("aif"))
}

pub(super) fn binary(scene: &Scene) -> Vec<Check> {
    let name = "aif for jobs";
    let own = std::env::current_exe().unwrap_or_default();
    vec![match candidate(scene) {
        Some(path) => {
            let same = path.canonicalize().ok() == own.canonicalize().ok();
            let note = if same {
                ""
            } else {
                " (not the one that runs now)"
            };
            Check::ok(name, format!("{}{note}", scene.shown(&path)))
        }
        // roles are then started as this very program
        None if !scene.slurm => Check::ok(name, scene.shown(&own)),
        None => Check::failed(
            name,
            format!(
                "no bin/aif in {}, and no aif on the PATH",
                scene.shown(&scene.shell.home)
            ),
            "in the project's folder: cargo build --release --locked && install -D target/release/aif bin/aif",
        ),
    }]
}

pub(super) fn recipes(scene: &Scene) -> Vec<Check> {
    let name = "recipes";
    let faulty: Vec<&str> = scene
        .recipes
        .iter()
        .filter(|recipe| recipe.plan.is_none())
        .map(|recipe| recipe.name.as_str())
        .collect();
    vec![if scene.recipes.is_empty() {
        // that the project is missing is told elsewhere
        Check::not_here(name, "none in the project's folder")
    } else if faulty.is_empty() {
        Check::ok(name, format!("{}, all usable here", scene.recipes.len()))
    } else {
        let found = format!(
            "{} of {} are not usable here: {}",
            faulty.len(),
            scene.recipes.len(),
            listed(&faulty)
        );
        Check::warning(
            name,
            found,
            format!("see why: aif recipes check {}", faulty[0]),
        )
    }]
}
