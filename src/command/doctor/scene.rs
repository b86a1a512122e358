//! What every probe is given: environment, site, recipes, and whether there is a Slurm.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
};

use crate::{
    apptainer::{command, image::Image},
    command::Shell,
    library,
    recipe::{Kind, Plan, expand::Variables},
    site::{Chosen, Site},
    slurm::job_env::JobEnv,
};

/// Slurm's commands by which one knows that there is a Slurm.
const SIGNS: [&str; 3] = ["sbatch", "srun", "scontrol"];

/// A recipe of the project.
pub(super) struct Recipe {
    pub(super) name: String,
    /// Its plan; `None` where it is faulty, or wants what the site does not say.
    pub(super) plan: Option<Plan>,
}

pub(super) struct Scene {
    pub(super) shell: Shell,
    /// The site and its file, or what is wrong with it.
    pub(super) found: Result<(Chosen, Site), String>,
    site: Site,
    pub(super) recipes: Vec<Recipe>,
    /// Images of Prometheus that recipes name and that are there.
    pub(super) monitor_images: Vec<PathBuf>,
    pub(super) job: Option<JobEnv>,
    /// Is there a Slurm, so that other nodes must see what is here?
    pub(super) slurm: bool,
}

impl Scene {
    pub(super) fn gather(shell: Shell) -> Self {
        let found = Site::choose(&shell.env, &shell.home)
            .and_then(|chosen| Ok((chosen, Site::load(&shell.env, &shell.home)?)))
            .map_err(|error| error.to_string());
        let mut scene = Self::of(shell, found);
        let variables = scene.variables();
        for kind in Kind::ALL {
            for (name, path) in library::list(&scene.shell.home, kind) {
                let found = library::find(Path::new(""), &path.display().to_string(), None).ok();
                let planned = found.and_then(|found| {
                    library::plan_found(&found, Some(kind), &[], &variables).ok()
                });
                scene.recipes.push(Recipe {
                    name,
                    plan: planned.map(|resolved| resolved.plan),
                });
            }
        }
        let monitors = scene.images().into_iter().filter_map(|(recipe, image)| {
            let is_monitor = matches!(recipe.plan, Some(Plan::Monitor(_)));
            (is_monitor && image.path.is_file()).then_some(image.path)
        });
        scene.monitor_images = monitors.collect();
        scene
    }

    /// Where not even the site file can be read in time.
    pub(super) fn silent(shell: Shell) -> Self {
        let limit = super::LIMIT.as_secs();
        let message = format!("no answer within {limit} s from the file system of home or project");
        Self::of(shell, Err(message))
    }

    fn of(shell: Shell, found: Result<(Chosen, Site), String>) -> Self {
        let job = shell.job();
        let has = |name: &&str| shell.env.find_program(name).is_some();
        let slurm = SIGNS.iter().any(has) || shell.env.get("SLURM_JOB_ID").is_some();
        let site = found.as_ref().map(|(_, site)| site.clone());
        Self {
            site: site.unwrap_or_default(),
            found,
            recipes: Vec::new(),
            monitor_images: Vec::new(),
            job,
            slurm,
            shell,
        }
    }

    /// The site; one of which nothing is known where its file is faulty.
    pub(super) fn site(&self) -> &Site {
        &self.site
    }

    /// Does something run containers, here or with the site's modules?
    pub(super) fn has_apptainer(&self) -> bool {
        command::program(&self.shell.env, &self.site).is_some()
    }

    pub(super) fn site_is_faulty(&self) -> bool {
        self.found.is_err()
    }

    /// The variables that recipes may use.
    pub(super) fn variables(&self) -> Variables {
        library::variables(&self.shell.env, &self.site, &self.shell.home)
    }

    /// The images that recipes name, as far as that can be known.
    pub(super) fn images(&self) -> Vec<(&Recipe, Image)> {
        let Shell { env, home } = &self.shell;
        let of = |plan: &Plan| Image::of(plan, env, &self.site, home);
        let named = self.recipes.iter();
        named
            .filter_map(|recipe| Some((recipe, of(recipe.plan.as_ref()?)?)))
            .collect()
    }

    /// What is said below the list.
    pub(super) fn advice(&self) -> Option<&'static str> {
        (self.slurm && self.job.is_none()).then_some(
            "This holds for this machine; nodes may differ. To ask one: srun -n1 bin/aif doctor",
        )
    }

    /// A path for people: below the home it begins with `~`, which shells take as well.
    pub(super) fn shown(&self, path: &Path) -> String {
        match path.strip_prefix(self.shell.env.home()) {
            Ok(inner) if self.shell.env.get("HOME").is_some() && inner != Path::new("") => {
                format!("~/{}", inner.display())
            }
            _ => path.display().to_string(),
        }
    }
}

/// Names, separated by commas.
pub(super) fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let texts: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    texts.join(", ")
}
