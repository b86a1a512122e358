//! Finding recipes.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{
    exit::{Exit, Failure},
    files,
    recipe::{Kind, schema::nearest},
};

/// A recipe's file and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// Finds a recipe by its path, or by its name among those of the wanted kind, or of any.
pub fn find(home: &Path, name: &str, wanted: Option<Kind>) -> Result<Found, Failure> {
    let is_path = name.contains('/') || is_yaml(Path::new(name));
    let path = if is_path {
        PathBuf::from(name)
    } else {
        named(home, name, wanted)?
    };
    let text = files::read_text(&path).map_err(|error| {
        // Text that is no UTF-8 is a fault of the recipe, not of ours.
        let exit = match Exit::of_io(&error.source) {
            Exit::Bug => Exit::Recipe,
            exit => exit,
        };
        let message = format!("cannot read the recipe {}", path.display());
        Failure::caused(exit, message, error.source)
    })?;
    Ok(Found { path, text })
}

/// The recipe of this file, as commands take it: its name where it is one of the project's, else its path.
pub fn name_of(home: &Path, path: &str) -> String {
    let file = Path::new(path);
    let is_own = Kind::ALL
        .into_iter()
        .any(|kind| file.parent() == Some(&home.join("recipes").join(kind.folder())));
    let stem = file.file_stem().filter(|_| is_own && is_yaml(file));
    stem.map_or_else(
        || path.to_owned(),
        |stem| stem.to_string_lossy().into_owned(),
    )
}

/// Every recipe of a kind, as name and path, sorted by name.
pub fn list(home: &Path, kind: Kind) -> Vec<(String, PathBuf)> {
    let folder = home.join("recipes").join(kind.folder());
    let mut list: Vec<(String, PathBuf)> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| is_yaml(path) && path.is_file())
        .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), path)))
        .collect();
    list.sort();
    list
}

fn named(home: &Path, name: &str, wanted: Option<Kind>) -> Result<PathBuf, Failure> {
    let kinds = wanted.map_or_else(|| Kind::ALL.to_vec(), |kind| vec![kind]);
    let known: Vec<(String, PathBuf)> = kinds.iter().flat_map(|kind| list(home, *kind)).collect();
    if let Some((_, path)) = known.iter().find(|(known, _)| known == name) {
        return Ok(path.clone());
    }
    let what = wanted.map_or_else(
        || "recipe".to_owned(),
        |kind| format!("{} recipe", kind.name()),
    );
    let folder = home.join("recipes").join(wanted.map_or("", Kind::folder));
    let other = Kind::ALL
        .into_iter()
        .filter(|kind| wanted.is_some_and(|wanted| wanted != *kind))
        .find(|kind| list(home, *kind).iter().any(|(known, _)| known == name));
    let advice = if let Some(other) = other {
        format!("it is a {} recipe", other.name())
    } else if let Some(near) = nearest(name, known.iter().map(|(known, _)| known.as_str())) {
        format!("did you mean {near:?}?")
    } else if known.is_empty() {
        "there are none: name a file, or set AIF_HOME to the project's folder".to_owned()
    } else {
        let names: Vec<&str> = known.iter().map(|(known, _)| known.as_str()).collect();
        format!("there are {}", names.join(", "))
    };
    Err(Failure::new(
        Exit::NoInput,
        format!("no {what} {name:?} in {}; {advice}", folder.display()),
    ))
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|suffix| suffix == "yaml" || suffix == "yml")
}
