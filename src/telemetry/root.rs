//! Where the node's own files are read from: `/`, or in tests a tree that was captured on some other node.
//!
//! Everything that samplers read goes through here, so that a node which nobody has at hand (version 2 of cgroups, a GPU
//! of AMD, `InfiniBand`) is a folder of the tests. What is said of a path is always how the node names it. A file that
//! is not there, or that the kernel does not serve, is *unsupported*; any other error is a *failure*.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::sample::Absent;

/// The root of what is read.
#[derive(Debug, Clone)]
pub(super) struct Root(PathBuf);

impl Root {
    /// This node.
    pub(super) fn of_node() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A captured tree.
    #[cfg(test)]
    pub(super) fn at(folder: &Path) -> Self {
        Self(folder.to_owned())
    }

    fn real(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a file, without the white space around it.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Result<String, Absent> {
        let path = path.as_ref();
        read(&self.real(path)).map_err(|error| Absent::from_io(&path.display().to_string(), &error))
    }

    /// A file that holds one number.
    pub(super) fn number(&self, path: impl AsRef<Path>) -> Result<f64, Absent> {
        let path = path.as_ref();
        let text = self.text(path)?;
        let number = text.trim().parse();
        number.map_err(|_| Absent::Failed(format!("{} is no number: {text:?}", path.display())))
    }

    /// The names in a folder, sorted.
    pub(super) fn names(&self, folder: impl AsRef<Path>) -> Result<Vec<String>, Absent> {
        self.list(folder.as_ref(), |_| true)
    }

    /// The names of the folders in a folder, sorted. Links do not count: in `/sys` most of what looks like a folder is one.
    pub(super) fn folders(&self, folder: impl AsRef<Path>) -> Result<Vec<String>, Absent> {
        self.list(folder.as_ref(), |entry| {
            entry.file_type().is_ok_and(|kind| kind.is_dir())
        })
    }

    fn list(
        &self,
        folder: &Path,
        takes: impl Fn(&fs::DirEntry) -> bool,
    ) -> Result<Vec<String>, Absent> {
        let listed: io::Result<Vec<String>> = fs::read_dir(self.real(folder)).and_then(|entries| {
            entries
                .filter(|entry| entry.as_ref().map_or(true, &takes))
                .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                .collect()
        });
        let mut names =
            listed.map_err(|error| Absent::from_io(&folder.display().to_string(), &error))?;
        names.sort();
        Ok(names)
    }

    /// Is it a folder?
    pub(super) fn is_folder(&self, path: impl AsRef<Path>) -> bool {
        self.real(path.as_ref()).is_dir()
    }

    /// Is it there?
    pub(super) fn has(&self, path: impl AsRef<Path>) -> bool {
        self.real(path.as_ref()).exists()
    }
}

/// A whole file, without the white space at its end. The kernel's own files have no size that could be asked for, and
/// are small: asking first, and reading them in growing pieces, would be most of what a look costs.
fn read(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let mut whole = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(length) => whole.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut text = String::from_utf8_lossy(&whole).into_owned();
    text.truncate(text.trim_end().len());
    Ok(text)
}

/// The value of a key in a text of `key value` lines.
pub(super) fn key(text: &str, wanted: &str) -> Option<f64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == wanted).then(|| value.trim().parse().ok())?
    })
}
