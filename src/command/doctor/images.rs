//! The folder of images, and which of those that recipes name are there.
//!
//! A missing image is a warning: other recipes run without it, and how to get it is known.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use nix::unistd::{AccessFlags, access};

use super::{
    check::{Check, State, size},
    scene::{Scene, listed},
};
use crate::{
    apptainer::image,
    disk,
    recipe::{Launch, Plan},
};

const FOLDER: &str = "image folder";
/// Room for one engine's image and its unpacking.
const ROOM: u64 = 20_000_000_000;

pub(super) fn probe(scene: &Scene) -> Vec<Check> {
    if scene.site_is_faulty() {
        return vec![Check::not_here(
            FOLDER,
            "not known while the site file is faulty",
        )];
    }
    let folder = scene.variables().get("CONTAINER_DIR").map(PathBuf::from);
    let mut checks = vec![folder_check(
        folder.as_deref().map(|path| Seen::of(scene, path)).as_ref(),
    )];
    for (image, recipes) in images(scene) {
        let length = fs::metadata(&image).ok().map(|meta| meta.len());
        let wanted: Vec<&str> = recipes.iter().map(|(name, _)| *name).collect();
        let pulled = recipes.iter().find(|(_, has_source)| *has_source);
        let mend = pulled.map_or_else(
            || image::mend_of(&image),
            |(recipe, _)| format!("aif images pull {recipe}"),
        );
        checks.push(image_check(&image, length, &wanted, &mend));
    }
    checks
}

struct Seen {
    shown: String,
    exists: bool,
    readable: bool,
    writable: bool,
    room: Option<u64>,
}

impl Seen {
    fn of(scene: &Scene, path: &Path) -> Self {
        let near = disk::nearest(path);
        let may = |flags| access(&near, flags).is_ok();
        Self {
            shown: scene.shown(path),
            exists: path.is_dir(),
            readable: may(AccessFlags::R_OK | AccessFlags::X_OK),
            writable: may(AccessFlags::W_OK | AccessFlags::X_OK),
            room: disk::room(&near).ok(),
        }
    }
}

fn folder_check(seen: Option<&Seen>) -> Check {
    let Some(seen) = seen else {
        return Check::failed(
            FOLDER,
            "the site names none, so recipes that say ${CONTAINER_DIR} are not usable",
            "set container_dir in the site file, or export CONTAINER_DIR; where the site wants an account, export SLURM_ACCOUNT",
        );
    };
    let Seen { shown, .. } = seen;
    let elsewhere = "set container_dir in the site file to a folder of your own";
    let room = seen
        .room
        .map_or_else(String::new, |room| format!(", {} free", size(room)));
    if !seen.exists && !seen.writable {
        let found = format!("{shown} is not there and cannot be made");
        Check::failed(FOLDER, found, elsewhere)
    } else if !seen.exists {
        let found = format!("{shown} is not there yet{room}");
        Check::warning(FOLDER, found, format!("mkdir -p {shown}"))
    } else if !seen.readable {
        Check::failed(FOLDER, format!("{shown} cannot be read"), elsewhere)
    } else if !seen.writable {
        let found = format!("{shown} can be read but not written: images are its owner's to make");
        Check::warning(
            FOLDER,
            found,
            format!("ask its owner for what is missing, or {elsewhere}"),
        )
    } else if seen.room.is_some_and(|room| room < ROOM) {
        let found = format!("{shown}{room}, and an engine's image has 10 GB");
        Check::warning(FOLDER, found, format!("make room, or {elsewhere}"))
    } else {
        Check::ok(FOLDER, format!("{shown}{room}"))
    }
}

fn image_check(image: &Path, length: Option<u64>, recipes: &[&str], mend: &str) -> Check {
    let file = image.file_name().unwrap_or_default().to_string_lossy();
    let recipes = listed(recipes);
    match length {
        // no image of any engine is so small
        Some(length) if length > 1000 => {
            Check::ok(&file, format!("{}, for {recipes}", size(length)))
        }
        Some(_) => Check::bad(
            &file,
            State::Warning,
            format!("is empty; wanted by {recipes}"),
            format!("remove it, and {mend}"),
        ),
        None => Check::warning(&file, format!("missing; wanted by {recipes}"), mend),
    }
}

/// The images that server recipes name, each with its recipes and whether these say where it comes from.
fn images(scene: &Scene) -> BTreeMap<PathBuf, Vec<(&str, bool)>> {
    let variables = scene.variables();
    let folder = variables.get("CONTAINER_DIR");
    let mut found: BTreeMap<PathBuf, Vec<(&str, bool)>> = BTreeMap::new();
    for recipe in &scene.recipes {
        let Some(Plan::Server(plan)) = &recipe.plan else {
            continue;
        };
        let mut put = |image: PathBuf, has_source| {
            found
                .entry(image)
                .or_default()
                .push((recipe.name.as_str(), has_source));
        };
        match &plan.launch {
            Launch::Container(container) => {
                put(container.image.clone(), container.source.is_some());
            }
            Launch::Command(script) => {
                for image in folder
                    .map(|folder| in_script(script, folder))
                    .unwrap_or_default()
                {
                    put(image, false);
                }
            }
            Launch::Program(_) => {}
        }
    }
    found
}

/// The images in the folder of images that a script names. A script is the shell's to read, so this is a guess.
fn in_script(script: &str, folder: &str) -> Vec<PathBuf> {
    let apart = |c: char| c.is_whitespace() || "\"'=;&|()".contains(c);
    let paths = script.split(apart).filter_map(|word| {
        let rest = ["$CONTAINER_DIR/", "${CONTAINER_DIR}/"]
            .iter()
            .find_map(|start| word.strip_prefix(start))?;
        let is_image = Path::new(rest).extension().is_some_and(|end| end == "sif");
        (is_image && !rest.contains('$')).then(|| Path::new(folder).join(rest))
    });
    let mut paths: Vec<PathBuf> = paths.collect();
    paths.sort();
    paths.dedup();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_in_a_script_are_found_where_they_can_be_known() {
        let script = "#!/bin/bash\nmodule load X\nIMAGE=$CONTAINER_DIR/a.sif\nB=\"${CONTAINER_DIR}/b.sif\"; \
                      apptainer exec --nv $IMAGE x $CONTAINER_DIR/$NAME.sif $CONTAINER_DIR/a.sif /else/c.sif\n";
        assert_eq!(
            in_script(script, "/i"),
            [PathBuf::from("/i/a.sif"), PathBuf::from("/i/b.sif")]
        );
    }

    #[test]
    fn an_image_that_is_missing_is_a_warning_that_says_how_to_get_it() {
        let path = Path::new("/i/llamacpp.sif");
        let there = image_check(path, Some(250_000_000), &["a-server", "b-server"], "m");
        assert_eq!(there.found, "250 MB, for a-server, b-server");
        let missing = image_check(path, None, &["a-server"], &image::mend_of(path));
        assert_eq!(missing.state, State::Warning);
        assert_eq!(
            missing.mend.unwrap(),
            "make it with: sbatch/image-llamacpp.sh"
        );
        assert_eq!(
            image_check(path, Some(0), &["a"], "m").state,
            State::Warning
        );
    }

    #[test]
    fn the_folder_must_be_readable_and_may_be_anothers() {
        let seen = |exists, readable, writable| {
            let seen = Seen {
                shown: "/i".to_owned(),
                exists,
                readable,
                writable,
                room: Some(30_000_000_000),
            };
            folder_check(Some(&seen)).state
        };
        assert_eq!(seen(true, true, true), State::Ok);
        assert_eq!(seen(true, true, false), State::Warning);
        assert_eq!(seen(true, false, false), State::Failed);
        assert_eq!(seen(false, true, true), State::Warning);
        assert_eq!(seen(false, true, false), State::Failed);
        assert_eq!(folder_check(None).state, State::Failed);
    }
}
