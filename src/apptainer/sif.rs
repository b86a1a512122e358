//! Is an image whole? Told by its header, in a few reads, so that a job can ask each time it starts.
//!
//! A copy that broke off, a full disk, a page of a proxy saved under the image's name: Apptainer notices when it mounts
//! the file, and says `squashfuse_ll exited`, which helps nobody; `apptainer inspect` does not notice at all. A SIF file
//! begins with a launch line, magic and a table of descriptors, each with the place of its data: the file must reach as
//! far as the farthest of them. A bare squashfs says in its superblock how long it is. What a file holds is not
//! read here: that is what its digest is for.

use std::{
    fmt, fs,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

/// Before it comes the launch line.
const MAGIC_AT: usize = 32;
const MAGIC: &[u8] = b"SIF_MAGIC";
/// From the magic on: versions, id, times, counts, and the place of table and data.
const HEADER: usize = 128;
const TABLE_AT: usize = 96;
const TABLE_BYTES: usize = 104;
/// A descriptor, and where in it these stand: is it used, where does its data begin, how long is it?
const DESCRIPTOR: usize = 585;
const USED_AT: usize = 4;
const DATA_AT: usize = 17;
const DATA_BYTES: usize = 25;
/// Longer than the table of any image; a longer one is noise.
const LONGEST_TABLE: u64 = 64 << 20;
/// Where a squashfs says how long it is.
const SQUASHFS_BYTES: usize = 40;
const EXT_MAGIC_AT: u64 = 1080;

/// What is wrong with an image file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// It ends too early.
    Truncated {
        /// Its size.
        size: u64,
        /// The size that its header tells, at the least.
        expected: u64,
    },
    /// It is nothing that Apptainer runs.
    NoImage {
        /// Its size.
        size: u64,
        /// What it seems to be.
        looks: &'static str,
    },
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { size, expected } => write!(
                f,
                "is truncated: it has {size} bytes, and by its header {expected} at the least"
            ),
            Self::NoImage { size, looks } => write!(
                f,
                "is no image ({looks}, {size} bytes): a SIF or squashfs file was expected"
            ),
        }
    }
}

/// Looks at an image file; a folder (a sandbox) is taken as it is.
///
/// # Errors
/// Where it cannot be read.
pub fn flaw(path: &Path) -> io::Result<Option<Flaw>> {
    let mut file = fs::File::open(path)?;
    let meta = file.metadata()?;
    if meta.is_dir() {
        return Ok(None);
    }
    let size = meta.len();
    let mut head = Vec::with_capacity(HEADER);
    io::Read::by_ref(&mut file)
        .take(HEADER as u64)
        .read_to_end(&mut head)?;
    let expected = if head.get(MAGIC_AT..).is_some_and(|at| at.starts_with(MAGIC)) {
        end_of_sif(&mut file, &head, size)?
    } else if head.starts_with(b"hsqs") {
        number(&head, SQUASHFS_BYTES).unwrap_or(HEADER as u64)
    } else if is_ext(&mut file)? {
        return Ok(None);
    } else {
        let looks = looks(&head);
        return Ok(Some(Flaw::NoImage { size, looks }));
    };
    Ok((size < expected).then_some(Flaw::Truncated { size, expected }))
}

/// Where the farthest data of a SIF ends; where not even its table is there, where that ends.
fn end_of_sif(file: &mut fs::File, head: &[u8], size: u64) -> io::Result<u64> {
    let (Some(table), Some(length)) = (number(head, TABLE_AT), number(head, TABLE_BYTES)) else {
        return Ok(HEADER as u64);
    };
    let end = table.saturating_add(length);
    if end > size || length > LONGEST_TABLE {
        return Ok(end);
    }
    let mut descriptors = vec![0; usize::try_from(length).unwrap_or(0)];
    file.seek(SeekFrom::Start(table))?;
    file.read_exact(&mut descriptors)?;
    let ends = descriptors
        .chunks_exact(DESCRIPTOR)
        .filter(|descriptor| descriptor[USED_AT] != 0)
        .filter_map(|descriptor| {
            number(descriptor, DATA_AT)?.checked_add(number(descriptor, DATA_BYTES)?)
        });
    Ok(ends.max().unwrap_or(end))
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    let eight = bytes.get(at..at + 8)?.try_into().ok()?;
    Some(u64::from_le_bytes(eight))
}

fn is_ext(file: &mut fs::File) -> io::Result<bool> {
    let mut magic = [0; 2];
    file.seek(SeekFrom::Start(EXT_MAGIC_AT))?;
    match file.read_exact(&mut magic) {
        Ok(()) => Ok(magic == [0x53, 0xEF]),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

fn looks(head: &[u8]) -> &'static str {
    let text = String::from_utf8_lossy(head).trim_start().to_lowercase();
    if head.is_empty() {
        "an empty file"
    } else if text.starts_with("<!doctype") || text.starts_with("<html") {
        "a web page"
    } else if text.starts_with("version https://git-lfs") {
        "a pointer of git-lfs"
    } else if head.starts_with(&[0x1F, 0x8B]) || text.contains("ustar") {
        "an archive"
    } else if head.iter().all(|byte| *byte == 0) {
        "nothing but zeros"
    } else {
        "unknown"
    }
}

/// A SIF of so many bytes with nothing in it.
#[cfg(test)]
pub(crate) fn sample(size: usize) -> Vec<u8> {
    const TABLE: usize = 4096;
    let mut bytes = vec![0; size.max(TABLE + DESCRIPTOR)];
    bytes[..28].copy_from_slice(b"#!/usr/bin/env run-singulari");
    bytes[MAGIC_AT..MAGIC_AT + MAGIC.len()].copy_from_slice(MAGIC);
    let mut put = |at: usize, value: usize| {
        bytes[at..at + 8].copy_from_slice(&(value as u64).to_le_bytes());
    };
    put(TABLE_AT, TABLE);
    put(TABLE_BYTES, DESCRIPTOR);
    put(TABLE + DATA_AT, TABLE + DESCRIPTOR);
    put(TABLE + DATA_BYTES, size.saturating_sub(TABLE + DESCRIPTOR));
    bytes[TABLE + USED_AT] = 1;
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{self, Durability};

    fn look(content: &[u8]) -> Option<Flaw> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.sif");
        files::write_atomic(&path, content, 0o644, Durability::Fast).unwrap();
        flaw(&path).unwrap()
    }

    #[test]
    fn a_whole_sif_has_no_flaw_and_each_cut_one_has() {
        let whole = sample(9000);
        assert_eq!(look(&whole), None);
        // what a signature appends is no flaw
        assert_eq!(look(&[&whole[..], b"more"].concat()), None);
        for size in [8999, 5000, 4681] {
            let expected = 9000;
            let size_u64 = size as u64;
            let flaw = Flaw::Truncated {
                size: size_u64,
                expected,
            };
            assert_eq!(look(&whole[..size]), Some(flaw), "{size} bytes");
        }
        for size in [4680, 4000, 128, 50] {
            let flaw = look(&whole[..size]).unwrap();
            assert!(matches!(flaw, Flaw::Truncated { .. }), "{size}: {flaw:?}");
        }
        insta::assert_snapshot!(look(&whole[..5000]).unwrap(), @"is truncated: it has 5000 bytes, and by its header 9000 at the least");
    }

    #[test]
    fn a_squashfs_tells_its_length_and_a_filesystem_or_folder_is_left_alone() {
        let mut squashfs = b"hsqs".to_vec();
        squashfs.resize(4096, 0);
        squashfs[SQUASHFS_BYTES..SQUASHFS_BYTES + 8].copy_from_slice(&4000_u64.to_le_bytes());
        assert_eq!(look(&squashfs), None);
        assert!(matches!(
            look(&squashfs[..3999]),
            Some(Flaw::Truncated {
                size: 3999,
                expected: 4000
            })
        ));
        let mut ext = vec![0; 2048];
        ext[1080..1082].copy_from_slice(&[0x53, 0xEF]);
        assert_eq!(look(&ext), None);
        assert_eq!(flaw(Path::new("/")).unwrap(), None);
    }

    #[test]
    fn what_is_no_image_is_called_what_it_is() {
        for (content, looks) in [
            (&b""[..], "an empty file"),
            (b"<!DOCTYPE html><html>", "a web page"),
            (b"hello", "unknown"),
            (&[0; 4096], "nothing but zeros"),
        ] {
            let size = content.len() as u64;
            assert_eq!(look(content), Some(Flaw::NoImage { size, looks }));
        }
        assert!(flaw(Path::new("/nowhere/x.sif")).is_err());
    }

    proptest::proptest! {
        #[test]
        fn no_file_panics(mut bytes in proptest::collection::vec(0_u8.., 0..9000), sif in 0..2) {
            if sif == 1 && bytes.len() > 64 {
                bytes[MAGIC_AT..MAGIC_AT + MAGIC.len()].copy_from_slice(MAGIC);
            }
            let _ = look(&bytes);
        }
    }
}
