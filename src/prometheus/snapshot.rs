//! The archive of a run's metrics: Prometheus's data, packed into one file with its checksum beside it.
//!
//! A short run has no blocks yet, only a write-ahead log, so the API is asked for a snapshot, which includes the newest
//! samples. Where Prometheus is gone the data folder itself is packed: it opens again just as well, after a replay.
//!
//! One `tar.zst` because a data folder is many small files, and those are what a parallel file system does worst. It is
//! written beside its final name and renamed, so an archive that exists is whole.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use crate::files::{self, Durability};

/// Name of the archive in a run's `metrics` folder.
pub const ARCHIVE: &str = "snapshot.tar.zst";
/// Fast, and good enough for samples that Prometheus has compressed already.
const LEVEL: i32 = 3;
/// What a data folder holds that is not data.
const NOT_DATA: [&str; 3] = ["snapshots", "lock", "queries.active"];

/// Why an archive was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of it.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// It ends too early, or is none.
    #[error("{} is damaged: it cannot be unpacked to its end", archive.display())]
    Torn {
        /// The archive.
        archive: PathBuf,
        /// What was found.
        #[source]
        source: io::Error,
    },
    /// Its content is not what its checksum says.
    #[error("{} is damaged: its SHA-256 is not the one in {}", archive.display(), checksum.display())]
    Damaged {
        /// The archive.
        archive: PathBuf,
        /// The file with the checksum.
        checksum: PathBuf,
    },
}

/// An archive that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The file.
    pub path: PathBuf,
    /// Its checksum.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// The file with the checksum of an archive.
pub fn checksum_file(archive: &Path) -> PathBuf {
    let mut name = archive.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

/// Packs a data folder (or a snapshot of one) into this file.
pub fn pack(folder: &Path, archive: &Path) -> Result<Packed, Error> {
    let failed = |source| files::Error::new("write", archive, source);
    if let Some(parent) = archive.parent() {
        files::create_folder(parent, 0o755)?;
    }
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let temporary = archive.with_file_name(format!(".{name}.{}", std::process::id()));
    // a new archive with an old checksum would look damaged, should we be killed between the two
    let _ = fs::remove_file(checksum_file(archive));
    let packed = write_archive(folder, &temporary)
        .and_then(|written| fs::rename(&temporary, archive).map(|()| written));
    let (sha256, bytes) = packed.map_err(|source| {
        let _ = fs::remove_file(&temporary);
        failed(source)
    })?;
    // the form that sha256sum -c reads
    files::write_atomic(
        &checksum_file(archive),
        format!("{sha256}  {name}\n").as_bytes(),
        0o644,
        Durability::Synced,
    )?;
    Ok(Packed {
        path: archive.to_owned(),
        sha256,
        bytes,
    })
}

fn write_archive(folder: &Path, to: &Path) -> io::Result<(String, u64)> {
    let file = Hashing {
        inner: File::create(to)?,
        digest: Sha256::new(),
        bytes: 0,
    };
    let mut builder = tar::Builder::new(zstd::Encoder::new(BufWriter::new(file), LEVEL)?);
    builder.follow_symlinks(false);
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if NOT_DATA.iter().any(|other| name == *other) {
            continue;
        }
        if entry.file_type()?.is_dir() {
            builder.append_dir_all(&name, entry.path())?;
        } else {
            builder.append_path_with_name(entry.path(), &name)?;
        }
    }
    let written = builder
        .into_inner()?
        .finish()?
        .into_inner()
        .map_err(io::IntoInnerError::into_error)?;
    written.inner.sync_all()?;
    Ok((hexadecimal(&written.digest.finalize()), written.bytes))
}

/// Unpacks an archive into a folder that exists. Its checksum is compared where there is one: `false` where there is none,
/// as after a monitor that was killed before it wrote it.
pub fn unpack(archive: &Path, into: &Path) -> Result<bool, Error> {
    let failed = |source| files::Error::new("read", archive, source);
    let checksum = checksum_file(archive);
    let expected = match fs::read_to_string(&checksum) {
        Ok(expected) => Some(expected),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(source) => return Err(files::Error::new("read", &checksum, source).into()),
    };
    if let Some(expected) = &expected {
        let mut digest = Sha256::new();
        let mut file = File::open(archive).map_err(failed)?;
        io::copy(&mut file, &mut digest).map_err(failed)?;
        let actual = hexadecimal(&digest.finalize());
        if expected.split_whitespace().next() != Some(actual.as_str()) {
            return Err(Error::Damaged {
                archive: archive.to_owned(),
                checksum,
            });
        }
    }
    let file = File::open(archive).map_err(failed)?;
    let mut decoder = zstd::Decoder::new(file).map_err(failed)?;
    // tar refuses paths that lead out of the folder, and does not read beyond its own end
    let unpacked = tar::Archive::new(&mut decoder)
        .unpack(into)
        .and_then(|()| io::copy(&mut decoder, &mut io::sink()));
    match unpacked {
        Ok(_) => Ok(expected.is_some()),
        // what is no fault of the archive
        Err(source)
            if matches!(
                source.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::PermissionDenied
                    | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            Err(failed(source).into())
        }
        Err(source) => Err(Error::Torn {
            archive: archive.to_owned(),
            source,
        }),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hashes and counts what passes through it.
struct Hashing {
    inner: File,
    digest: Sha256,
    bytes: u64,
}

impl Write for Hashing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.digest.update(&buffer[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(path: &Path, content: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        files::write_atomic(path, content.as_bytes(), 0o644, Durability::Fast).unwrap();
    }

    fn data() -> tempfile::TempDir {
        let data = tempfile::tempdir().unwrap();
        put(&data.path().join("01ABC/meta.json"), "{}");
        put(&data.path().join("wal/00000000"), "samples");
        put(&data.path().join("lock"), "");
        put(&data.path().join("snapshots/old/meta.json"), "{}");
        data
    }

    #[test]
    fn what_is_packed_is_unpacked_and_nothing_else() {
        let (data, run, again) = (
            data(),
            tempfile::tempdir().unwrap(),
            tempfile::tempdir().unwrap(),
        );
        let archive = run.path().join("metrics").join(ARCHIVE);
        let packed = pack(data.path(), &archive).unwrap();
        assert_eq!(packed.bytes, fs::metadata(&archive).unwrap().len());
        let line = files::read_text(&checksum_file(&archive)).unwrap();
        assert_eq!(line, format!("{}  {ARCHIVE}\n", packed.sha256));

        assert!(unpack(&archive, again.path()).unwrap(), "checked");
        assert_eq!(
            files::read_text(&again.path().join("wal/00000000")).unwrap(),
            "samples"
        );
        assert!(again.path().join("01ABC/meta.json").exists());
        assert!(!again.path().join("lock").exists());
        assert!(!again.path().join("snapshots").exists());
        assert_eq!(
            fs::read_dir(run.path().join("metrics")).unwrap().count(),
            2,
            "no leftovers"
        );
    }

    #[test]
    fn a_damaged_archive_is_told() {
        let (data, run) = (data(), tempfile::tempdir().unwrap());
        let archive = run.path().join(ARCHIVE);
        pack(data.path(), &archive).unwrap();
        let mut bytes = fs::read(&archive).unwrap();
        bytes[20] ^= 1;
        files::write_atomic(&archive, &bytes, 0o644, Durability::Fast).unwrap();
        let error = unpack(&archive, run.path()).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_torn_archive_is_told_also_without_its_checksum() {
        let (data, run) = (data(), tempfile::tempdir().unwrap());
        let archive = run.path().join(ARCHIVE);
        pack(data.path(), &archive).unwrap();
        fs::remove_file(checksum_file(&archive)).unwrap();
        let whole = fs::read(&archive).unwrap();
        assert!(!unpack(&archive, run.path()).unwrap(), "not checked");
        for length in [0, 3, whole.len() / 2, whole.len() - 1] {
            files::write_atomic(&archive, &whole[..length], 0o644, Durability::Fast).unwrap();
            let error = unpack(&archive, run.path()).unwrap_err();
            assert!(matches!(error, Error::Torn { .. }), "{length}: {error:?}");
        }
    }

    #[test]
    fn a_missing_archive_names_itself() {
        let error = unpack(Path::new("/nowhere/snapshot.tar.zst"), Path::new("/tmp")).unwrap_err();
        assert_eq!(error.to_string(), "cannot read /nowhere/snapshot.tar.zst");
    }
}
