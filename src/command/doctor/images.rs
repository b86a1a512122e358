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
    apptainer::image::{self, Image},
    disk,
    exit::Failure,
    recipe::Plan,
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
    // where Prometheus is on the PATH, no monitor needs an image
    let servers = scene
        .images()
        .into_iter()
        .filter(|(recipe, _)| matches!(recipe.plan, Some(Plan::Server(_))));
    let mut named: BTreeMap<PathBuf, (Image, Vec<&str>)> = BTreeMap::new();
    for (recipe, image) in servers {
        let known = named
            .entry(image.path.clone())
            .or_insert_with(|| (image.clone(), Vec::new()));
        // who says where it comes from is named first: from there it is pulled
        if image.source.is_some() && known.0.source.is_none() {
            known.0 = image;
            known.1.insert(0, &recipe.name);
        } else {
            known.1.push(&recipe.name);
        }
    }
    for (image, recipes) in named.values() {
        let size = fs::metadata(&image.path).map_or(0, |meta| meta.len());
        checks.push(image_check(
            &image.path,
            image.state(),
            size,
            recipes,
            &image.mend(recipes[0]),
        ));
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

fn image_check(
    image: &Path,
    found: Result<image::State, Failure>,
    length: u64,
    recipes: &[&str],
    mend: &str,
) -> Check {
    let file = image.file_name().unwrap_or_default().to_string_lossy();
    let recipes = listed(recipes);
    let wanted = |what: &str| format!("{what}; wanted by {recipes}");
    match found {
        Ok(image::State::Whole) => Check::ok(&file, format!("{}, for {recipes}", size(length))),
        Ok(image::State::Missing) => Check::warning(&file, wanted("missing"), mend),
        Ok(image::State::Flawed(flaw)) => {
            let mend = format!("replace it: {mend}");
            Check::bad(&file, State::Warning, wanted(&flaw.to_string()), mend)
        }
        Err(failure) => {
            let error = format!("{:#}", anyhow::Error::from(failure));
            Check::bad(
                &file,
                State::Warning,
                wanted(&error),
                "ask its owner to let you read it",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apptainer::sif::Flaw;

    #[test]
    fn an_image_that_is_missing_or_cut_off_is_a_warning_that_says_how_to_get_it() {
        let path = Path::new("/i/llamacpp.sif");
        let check =
            |state| image_check(path, Ok(state), 250_000_000, &["a-server", "b-server"], "M");
        let there = check(image::State::Whole);
        assert_eq!(there.found, "250 MB, for a-server, b-server");
        let missing = check(image::State::Missing);
        assert_eq!(missing.state, State::Warning);
        assert_eq!(missing.mend.as_deref(), Some("M"));
        let cut = check(image::State::Flawed(Flaw::Truncated {
            size: 1,
            expected: 2,
        }));
        assert_eq!(cut.state, State::Warning);
        assert!(cut.found.starts_with("is truncated"), "{}", cut.found);
        assert_eq!(cut.mend.as_deref(), Some("replace it: M"));
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
