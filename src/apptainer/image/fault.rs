//! What is told of an image that is not to be had: what is wrong, in Apptainer's own words where it has any, and the mend.

use std::path::Path;

use super::{Flaw, Image, Wanted};
use crate::{
    apptainer::{lease::Holder, why::Why},
    exit::{Exit, Failure},
    files,
    site::Site,
};

/// There is nothing that runs containers.
pub fn no_program(site: &Site) -> Failure {
    let message = if site.modules.is_empty() {
        "neither apptainer nor singularity is on the PATH; load its module (site file: modules)"
            .to_owned()
    } else {
        let modules = site.modules.join(" ");
        format!(
            "the site's modules ({modules}) bring neither apptainer nor singularity: correct \"modules\" in the site file"
        )
    };
    Failure::new(Exit::Unavailable, message)
}

impl Image {
    /// How one comes to it where it is missing, as a recipe wants it.
    pub fn mend(&self, recipe: &str) -> String {
        match &self.source {
            Some(_) => format!("aif images pull {recipe}"),
            None => self.without_source(recipe, "put it there"),
        }
    }

    fn without_source(&self, recipe: &str, put: &str) -> String {
        let path = &self.path;
        let folder = path.parent().unwrap_or(Path::new(".")).display();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        match &*name {
            "llamacpp.sif" => return format!("make it with: sbatch/image-llamacpp.sh {folder}"),
            "vllm-cpu.sif" => return format!("make it with: sbatch/image-vllm.sh {folder}"),
            _ => {}
        }
        let vllm = name
            .strip_prefix("vllm-openai_")
            .and_then(|rest| rest.strip_suffix(".sif"));
        if let Some(tag) = vllm {
            return format!(
                "{put}, on a node with a way out: apptainer pull --force {} docker://vllm/vllm-openai:{tag}",
                path.display()
            );
        }
        match self.key {
            Some(key) => format!(
                "{put}, or say in the recipe where it comes from ({key}: docker://…) and run: aif images pull {recipe}"
            ),
            None => format!(
                "{put}, on a node with a way out: apptainer pull --force {} docker://…",
                path.display()
            ),
        }
    }
}

impl Wanted<'_> {
    fn path(&self) -> std::path::Display<'_> {
        self.image.path.display()
    }

    /// It is missing, or to be got again, and nobody says from where.
    pub(super) fn no_source(&self, missing: bool) -> Failure {
        let what = if missing {
            "is missing"
        } else {
            "has no source to get it from again"
        };
        let mend = self.image.without_source(self.recipe, "put it there");
        Failure::new(
            Exit::NoInput,
            format!("image {} {what}; {mend}", self.path()),
        )
    }

    /// The command that puts the recipe's image in the place of another one.
    pub(super) fn replacing(&self) -> String {
        format!("aif images pull {} --force", self.recipe)
    }

    /// It came from elsewhere, and the recipe is pinned to a digest.
    pub(super) fn another(&self, had: &str) -> Failure {
        let wanted = self.image.source.as_deref().unwrap_or_default();
        let message = format!(
            "image {} is not the one that the recipe is pinned to: it came from {had}, and the recipe says {wanted}; get that one: {}",
            self.path(),
            self.replacing()
        );
        Failure::new(Exit::NoInput, message)
    }

    /// It is broken.
    pub(super) fn flawed(&self, flaw: &Flaw) -> Failure {
        let mend = if self.image.source.is_some() {
            format!("get it again: aif images pull {}", self.recipe)
        } else {
            self.image
                .without_source(self.recipe, "put a whole one in its place")
        };
        let message = format!("image {} {flaw}; {mend}", self.path());
        Failure::new(Exit::NoInput, message)
    }

    /// Apptainer, or the copy of a file, failed.
    pub(super) fn not_pulled(&self, why: Why, said: &str) -> Failure {
        let source = self.image.source.as_deref().unwrap_or_default();
        let again = format!("aif images pull {}", self.recipe);
        let mend = match why {
            Why::Network if self.by_role => {
                format!("this node has no way there; on one that has, a login node, run: {again}")
            }
            Why::Network => {
                "this machine has no way there: run it on one that has, set https_proxy, or copy the file to its place"
                    .to_owned()
            }
            Why::Unknown => "check its name and tag".to_owned(),
            Why::Denied => format!(
                "registries also say so of a name that they do not know: check it, or log in: apptainer registry login --username NAME {}",
                registry(source)
            ),
            Why::PlainHttp => {
                "where that is meant, export APPTAINER_NOHTTPS=1".to_owned()
            }
            Why::Busy => format!("log in (apptainer registry login), or try again later: {again}"),
            Why::Space => format!("{}, and try again: {again}", self.room(said)),
            Why::Unwritable => {
                "choose a folder that you may write (container_dir in the site file), or ask who owns it"
                    .to_owned()
            }
            Why::Kind => {
                "no such kind of source: there are docker://, oras://, library://, shub://, https://, docker-archive:, oci-archive:, oci:, docker-daemon:, and the path of an image file"
                    .to_owned()
            }
            Why::Flawed => format!("check the source, and try again: {again}"),
            Why::Other => format!("try by hand: apptainer pull {} {source}", self.path()),
        };
        Failure::new(
            why.exit(),
            format!(
                "image {} cannot be pulled from {source}: {said}; {mend}",
                self.path()
            ),
        )
    }

    /// Which folder is full, and what to do about it.
    fn room(&self, said: &str) -> String {
        let folder = self.image.path.parent().unwrap_or(Path::new("."));
        let full = said.split([' ', ':']).find(|word| word.starts_with('/'));
        let Some(full) = full.filter(|full| !Path::new(full).starts_with(folder)) else {
            return format!("make room in {}", folder.display());
        };
        if full.contains("/cache") {
            "make room in apptainer's cache (apptainer cache clean), or set APPTAINER_CACHEDIR to a folder with room"
                .to_owned()
        } else {
            "set APPTAINER_TMPDIR to a folder with room: the image is unpacked there".to_owned()
        }
    }

    /// A file of ours cannot be written.
    pub(super) fn cannot_write(&self, error: files::Error) -> Failure {
        let folder = self.image.path.parent().unwrap_or(Path::new("."));
        let why = Why::of_io(&error.source);
        let mend = match why {
            Why::Space => format!("make room in {}", folder.display()),
            _ => format!(
                "choose a folder that you may write (container_dir in the site file), or ask who owns {}",
                folder.display()
            ),
        };
        let message = format!("image {} cannot be put in place; {mend}", self.path());
        Failure::caused(Exit::CannotCreate, message, error)
    }

    /// Somebody else has been pulling for longer than anybody waits.
    pub(super) fn too_long(&self, holder: Option<&Holder>) -> Failure {
        let who = holder.map_or_else(|| "somebody else".to_owned(), ToString::to_string);
        Failure::new(
            Exit::TryAgain,
            format!(
                "image {} is not there after an hour, and {who} still pulls it; try again when that has ended",
                self.path()
            ),
        )
    }
}

/// The registry of a source, as one logs in to it.
fn registry(source: &str) -> String {
    let (scheme, rest) = source.split_once("://").unwrap_or(("docker", source));
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    // without a dot or a port it is a name on Docker Hub
    let host = if path.is_empty() || !host.contains(['.', ':']) {
        "docker.io"
    } else {
        host
    };
    format!("{scheme}://{host}")
}
