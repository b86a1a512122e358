//! The SHA-256 of an image, computed once: `<image>.sha256` beside it keeps the sum.
//!
//! It is the file that `sha256sum -c` reads, so that people and the scripts of `sbatch/` use the same one. Ours begins
//! with a comment that says which file was summed: size and time of change, and where it came from. An image of 10 GB is
//! then not read again at each start, and a sum is never taken for that of another file. One without that comment was made
//! by somebody else: it counts unless the image is newer.

use std::{
    fs,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio_util::sync::CancellationToken;

use crate::files;

const MARK: &str = "# aif: ";

/// What is known of an image file; what a manifest says of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its SHA-256, as `sha256:…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its size in bytes.
    pub size: u64,
    /// Where it was pulled from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The digest that the source's tag stood for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_digest: Option<String>,
}

/// The comment: which file was summed.
#[derive(Debug, Serialize, Deserialize)]
struct Comment {
    modified: String,
    #[serde(flatten)]
    facts: Facts,
}

/// The file that keeps the sum.
pub fn sidecar(image: &Path) -> PathBuf {
    let mut name = image.as_os_str().to_owned();
    name.push(".sha256");
    name.into()
}

/// What is known without reading the image; its digest is `None` where no sum of this very file is kept.
///
/// # Errors
/// Where the image is not there.
pub fn known(image: &Path) -> io::Result<Facts> {
    let meta = fs::metadata(image)?;
    let size = meta.len();
    let bare = Facts {
        size,
        ..Facts::default()
    };
    let path = sidecar(image);
    let Ok(text) = files::read_text(&path) else {
        return Ok(bare);
    };
    let line = text.lines().find(|line| !line.starts_with('#'));
    let sum = line.and_then(|line| line.split_whitespace().next());
    let Some(sum) =
        sum.filter(|sum| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit()))
    else {
        return Ok(bare);
    };
    let digest = Some(format!("sha256:{}", sum.to_ascii_lowercase()));
    let comment = text.lines().find_map(|line| line.strip_prefix(MARK));
    Ok(match comment.map(serde_json::from_str::<Comment>) {
        Some(Ok(own)) if own.facts.size == size && own.modified == modified(&meta) => Facts {
            digest,
            ..own.facts
        },
        None if fs::metadata(&path).is_ok_and(|sum| stamp(&sum) >= stamp(&meta)) => {
            Facts { digest, ..bare }
        }
        _ => bare,
    })
}

/// What is known, and the digest computed where no sum of this very file is kept; then it is kept. Without one where
/// the image cannot be read as a file, or where `stop` comes.
pub fn compute(image: &Path, stop: &CancellationToken) -> Facts {
    let mut facts = known(image).unwrap_or_default();
    if facts.digest.is_none()
        && let Ok(Some(sum)) = sum(image, stop)
    {
        facts.digest = Some(format!("sha256:{sum}"));
        if let Err(error) = keep(image, &facts) {
            tracing::debug!(%error, "The digest of the image cannot be kept; it is computed again next time");
        }
    }
    facts
}

/// The SHA-256 of a file; `None` where `stop` comes.
///
/// # Errors
/// Where it cannot be read.
pub fn sum(file: &Path, stop: &CancellationToken) -> io::Result<Option<String>> {
    let mut file = fs::File::open(file)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    while !stop.is_cancelled() {
        match file.read(&mut buffer)? {
            0 => return Ok(Some(format!("{:x}", hasher.finalize()))),
            count => hasher.update(&buffer[..count]),
        }
    }
    Ok(None)
}

/// Keeps what is known of an image beside it.
///
/// # Errors
/// Where it cannot be written.
pub fn keep(image: &Path, facts: &Facts) -> Result<(), files::Error> {
    let path = sidecar(image);
    let meta = fs::metadata(image).map_err(|source| files::Error::new("read", image, source))?;
    let sum = facts.digest.as_deref().unwrap_or_default();
    let comment = Comment {
        modified: modified(&meta),
        facts: Facts {
            digest: None,
            size: meta.len(),
            ..facts.clone()
        },
    };
    let comment = serde_json::to_string(&comment)
        .map_err(|error| files::Error::new("encode", &path, error.into()))?;
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    let sum = sum.trim_start_matches("sha256:");
    let text = format!("{MARK}{comment}\n{sum}  {name}\n");
    files::write_atomic(&path, text.as_bytes(), 0o644, files::Durability::Fast)
}

fn stamp(meta: &fs::Metadata) -> (i64, i64) {
    (meta.mtime(), meta.mtime_nsec())
}

fn modified(meta: &fs::Metadata) -> String {
    format!("{}.{:09}", meta.mtime(), meta.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Durability;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn put(path: &Path, text: &str) {
        files::write_atomic(path, text.as_bytes(), 0o644, Durability::Fast).unwrap();
    }

    fn set_modified(path: &Path, seconds: i64) {
        use nix::sys::{stat::UtimensatFlags, stat::utimensat, time::TimeSpec};
        let time = TimeSpec::new(seconds, 0);
        let flags = UtimensatFlags::FollowSymlink;
        utimensat(nix::fcntl::AT_FDCWD, path, &time, &time, flags).unwrap();
    }

    #[test]
    fn it_is_computed_once_and_again_when_the_file_is_another() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.sif");
        put(&image, "abc");
        let stop = CancellationToken::new();
        assert_eq!(known(&image).unwrap().digest, None);
        let facts = compute(&image, &stop);
        assert_eq!(facts.digest.as_deref(), Some(&*format!("sha256:{ABC}")));
        assert_eq!(facts.size, 3);
        assert_eq!(known(&image).unwrap(), facts);

        // the same size, another time: nothing is known of it
        put(&image, "abd");
        set_modified(&image, 1);
        assert_eq!(known(&image).unwrap().digest, None);
        assert_ne!(compute(&image, &stop).digest, facts.digest);
        stop.cancel();
        put(&image, "abcd");
        assert_eq!(compute(&image, &stop).digest, None, "told to stop");
        assert_eq!(sum(&image, &stop).unwrap(), None, "told to stop");
        let folder = sum(folder.path(), &CancellationToken::new());
        assert!(
            folder.is_err(),
            "what cannot be read is no end that was told"
        );
    }

    #[test]
    fn what_it_keeps_can_be_checked_by_everybody() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.sif");
        put(&image, "abc");
        let facts = Facts {
            digest: Some(format!("sha256:{ABC}")),
            size: 3,
            source: Some("docker://a:1".to_owned()),
            source_digest: Some("sha256:0".to_owned()),
        };
        keep(&image, &facts).unwrap();
        assert_eq!(known(&image).unwrap(), facts);
        let check = std::process::Command::new("sha256sum")
            .args(["--check", "--strict", "a.sif.sha256"])
            .current_dir(folder.path())
            .output()
            .unwrap();
        assert!(check.status.success(), "{check:?}");
    }

    #[test]
    fn the_sum_of_somebody_else_counts_unless_the_image_is_newer() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.sif");
        put(&image, "abc");
        let told = "1".repeat(64);
        put(&sidecar(&image), &format!("{told}  a.sif\n"));
        set_modified(&image, 100);
        set_modified(&sidecar(&image), 100);
        let digest = Some(format!("sha256:{told}"));
        assert_eq!(known(&image).unwrap().digest, digest);
        set_modified(&image, 101);
        assert_eq!(known(&image).unwrap().digest, None);
        put(&sidecar(&image), "no sum\n");
        assert_eq!(known(&image).unwrap().digest, None);
        assert!(known(Path::new("/nowhere")).is_err());
    }
}
