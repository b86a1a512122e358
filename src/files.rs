//! Files as an interface: whoever reads a file of ours sees the old or the new content, never half of it.
//!
//! A file is written under a temporary name in its own folder and renamed into place. `fsync` costs a round trip on a
//! shared file system, so the caller says whether the content must survive a power cut ([`Durability`]). Every error
//! names its path. What can fail: permissions, quota and full disks, all reported as [`Error`].

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// An I/O error that names its path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct Error {
    /// What was tried: "read", "write" …
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

impl Error {
    /// Wraps what the system said with the path it said it of.
    pub fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            source,
        }
    }
}

/// Must the content survive a power cut?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync` before the rename: results, changes of state.
    Synced,
    /// No `fsync`: heartbeats, status that is renewed soon.
    Fast,
}

/// Replaces a file's content in one step. The mode is that of the new file.
pub fn write_atomic(
    path: &Path,
    content: &[u8],
    mode: u32,
    durability: Durability,
) -> Result<(), Error> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unique = format!(
        ".{name}.{}.{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let temporary = path.with_file_name(unique);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        drop(file);
        fs::rename(&temporary, path)
    })();
    written.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        Error::new("write", path, source)
    })
}

/// Writes a value as indented JSON with a final newline, in one step, mode 0644.
pub fn write_json(path: &Path, value: &impl serde::Serialize) -> Result<(), Error> {
    let mut content = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::new("encode", path, error.into()))?;
    content.push(b'\n');
    write_atomic(path, &content, 0o644, Durability::Synced)
}

/// Reads a JSON file.
pub fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, Error> {
    let content = fs::read(path).map_err(|source| Error::new("read", path, source))?;
    serde_json::from_slice(&content).map_err(|error| Error::new("decode", path, error.into()))
}

/// Reads a text file.
pub fn read_text(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|source| Error::new("read", path, source))
}

/// Makes a folder and its parents with this mode; it may exist.
pub fn create_folder(path: &Path, mode: u32) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|source| Error::new("create folder", path, source))
}

/// Creates a file that must not exist yet. `Ok(false)`: it exists.
pub fn create_exclusive(path: &Path, content: &[u8], mode: u32) -> Result<bool, Error> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
    {
        Ok(mut file) => {
            let written = file.write_all(content).and_then(|()| file.sync_all());
            written.map_err(|source| {
                let _ = fs::remove_file(path);
                Error::new("write", path, source)
            })?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(Error::new("create", path, source)),
    }
}

/// Removes every file and folder whose name begins so; what cannot be removed stays.
pub fn remove_named(folder: &Path, beginning: &str) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(beginning.as_bytes())
        {
            continue;
        }
        let _ = if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
    }
}

/// Takes room in a folder for what must be written later, however full its file system is by then. The room is freed when
/// the file is closed, at the latest by the end of the process: it has no name any more.
pub fn reserve(folder: &Path, bytes: usize) -> Result<File, Error> {
    let path = folder.join(format!(".reserve.{}", std::process::id()));
    let taken = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        // written and not only asked for: file systems that count quotas promise nothing before
        file.write_all(&vec![0; bytes])?;
        file.sync_all()?;
        Ok(file)
    })();
    let _ = fs::remove_file(&path);
    taken.map_err(|source| Error::new("write to", folder, source))
}

/// Opens a log file for appending, with its folder.
pub fn open_log(path: &Path) -> Result<File, Error> {
    if let Some(folder) = path.parent() {
        create_folder(folder, 0o755)?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|source| Error::new("open", path, source))
}

/// What of a text file is kept to be looked through when it failed.
const TAIL: u64 = 64 * 1024;

/// The last lines of a text file, oldest first; empty where it cannot be read.
pub fn tail(path: &Path, lines: usize) -> Vec<String> {
    let mut all = tail_after(path, 0);
    all.split_off(all.len().saturating_sub(lines))
}

/// The lines of a text file that were written after its byte `from`, oldest first, and of these the last 64 KiB; empty
/// where it cannot be read.
pub fn tail_after(path: &Path, from: u64) -> Vec<String> {
    use std::io::{Read as _, Seek as _, SeekFrom};
    let read = (|| -> io::Result<String> {
        let mut file = File::open(path)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL).max(from)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    })();
    let text = read.unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_sees_the_whole_new_content_and_no_leftovers() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        write_json(&path, &1).unwrap();
        write_json(&path, &2).unwrap();
        assert_eq!(read_json::<u8>(&path).unwrap(), 2);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn reserved_room_has_no_name_and_needs_a_folder() {
        let folder = tempfile::tempdir().unwrap();
        let room = reserve(folder.path(), 5000).unwrap();
        assert_eq!(room.metadata().unwrap().len(), 5000);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let error = reserve(Path::new("/nowhere"), 1).unwrap_err();
        assert_eq!(error.to_string(), "cannot write to /nowhere");
    }

    #[test]
    fn errors_name_the_path() {
        let error =
            write_atomic(Path::new("/nowhere/at/all"), b"", 0o600, Durability::Fast).unwrap_err();
        assert_eq!(error.to_string(), "cannot write /nowhere/at/all");
    }

    #[test]
    fn an_exclusive_file_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(create_exclusive(&path, b"one", 0o600).unwrap());
        assert!(!create_exclusive(&path, b"two", 0o600).unwrap());
        assert_eq!(read_text(&path).unwrap(), "one");
    }

    #[test]
    fn the_tail_is_the_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        write_atomic(&path, b"a\nb\nc\n", 0o644, Durability::Fast).unwrap();
        assert_eq!(tail(&path, 2), ["b", "c"]);
        assert!(tail(Path::new("/nowhere"), 2).is_empty());
    }
}
