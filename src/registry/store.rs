//! The registry's folder: permissions, keys, reading records.
//!
//! It holds bearers and says where services listen, so it is its owner's alone: 0700 and 0600. A folder of ours that is
//! looser (the original tool made it by the umask) is tightened with a notice; one with a foreign owner is refused,
//! because its owner could point our load at anything. The registry itself may be reached by a link (homes are full of
//! them), but nothing inside it may be one: a link in there could lead a write anywhere.

use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::{self, Read as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    fcntl::OFlag,
    unistd::{AccessFlags, access},
};

use super::record::{Kind, Record};
use crate::files::{self, Durability};

/// No record is larger; what is, is no record.
const LARGEST: u64 = 1 << 20;

/// A shorter key is none.
const KEY_LENGTH: usize = 32;

/// The folder of the keys of instances.
const KEYS: &str = ".keys";

/// What can go wrong with the registry.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder of it.
    #[error(transparent)]
    Files(#[from] files::Error),
    /// Somebody else's folder.
    #[error(
        "{} belongs to user {owner}, not to you; set AIF_REGISTRY to a folder of your own",
        path.display()
    )]
    Foreign {
        /// The folder or file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// A link or something else where a file or folder of ours is due.
    #[error("{} is not what the registry puts there (a link?); remove it", path.display())]
    Unexpected {
        /// What it is.
        path: PathBuf,
    },
    /// A name that cannot be a file's.
    #[error(
        "{name:?} cannot be the name of a {what}: letters, digits, '.', '_' and '-', 64 at the most, a letter or digit first, and no .json at the end"
    )]
    Name {
        /// What it should name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// `scrape.key` holds no key.
    #[error("{} holds no key; remove it, and it is made again", path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
}

/// The registry.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the registry, making it where it is missing: 0700, tightened where looser, refused with a foreign owner.
    pub fn open(root: &Path) -> Result<Self, Error> {
        files::create_folder(root, 0o700)?;
        let root = fs::canonicalize(root)
            .map_err(|source| files::Error::new("open folder", root, source))?;
        own(&root, true)?;
        Ok(Self { root })
    }

    /// Looks at a registry without changing anything: the modes of its folder and of the key of all agents, each `None`
    /// where it is not there yet.
    pub fn inspect(root: &Path) -> Result<(Option<u32>, Option<u32>), Error> {
        let root = match fs::canonicalize(root) {
            Ok(root) => root,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((None, None)),
            Err(source) => return Err(files::Error::new("open folder", root, source).into()),
        };
        let mode = look(&root, true)?;
        let store = Self { root };
        let key = store.scrape_key_file();
        if fs::symlink_metadata(&key).is_err() {
            return Ok((Some(mode), None));
        }
        let key_mode = look(&key, false)?;
        if files::read_text(&key)?.trim().len() < KEY_LENGTH {
            return Err(Error::NoKey { path: key });
        }
        Ok((Some(mode), Some(key_mode)))
    }

    /// Can records be written here? A home that a node has read-only would fail every role for itself.
    pub fn check_writable(&self) -> Result<(), Error> {
        access(&self.root, AccessFlags::W_OK | AccessFlags::X_OK)
            .map_err(|errno| files::Error::new("write to", &self.root, errno.into()).into())
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The bearer of all agents of this user; made exclusively, 0600, at the first call.
    pub fn scrape_key(&self) -> Result<String, Error> {
        let path = self.scrape_key_file();
        if !path.exists() {
            let made = self
                .root
                .join(format!(".scrape.key.{}", uuid::Uuid::new_v4().simple()));
            files::create_exclusive(&made, new_key().as_bytes(), 0o600)?;
            // a link appears with its content: nobody reads half a key
            let linked = fs::hard_link(&made, &path);
            let key = files::read_text(&made);
            let _ = fs::remove_file(&made);
            match linked {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => {
                    files::create_exclusive(&path, key?.as_bytes(), 0o600)?;
                }
            }
        }
        own(&path, false)?;
        // where the file system knows no links, its maker may be between creating and writing
        for _ in 0..50 {
            let key = files::read_text(&path)?.trim().to_owned();
            if key.len() >= KEY_LENGTH {
                return Ok(key);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(Error::NoKey { path })
    }

    /// The file of the same.
    pub fn scrape_key_file(&self) -> PathBuf {
        self.root.join("scrape.key")
    }

    /// Makes a key for one instance; gives its file and the key.
    pub fn create_key(&self, instance_id: &str) -> Result<(PathBuf, String), Error> {
        check_name("instance", instance_id)?;
        let path = self.folder(KEYS)?.join(instance_id);
        let key = new_key();
        files::write_atomic(&path, key.as_bytes(), 0o600, Durability::Synced)?;
        Ok((path, key))
    }

    /// Every record that can be read; foreign, half-written and newer files are passed over.
    pub fn records(&self) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(&self.root) else {
            return Vec::new();
        };
        entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| check_name("service", name).is_ok())
            .flat_map(|service| self.records_of(&service))
            .collect()
    }

    /// Every record of a service that can be read.
    pub fn records_of(&self, service: &str) -> Vec<Record> {
        let Ok(entries) = fs::read_dir(self.root.join(service)) else {
            return Vec::new();
        };
        entries
            .filter_map(Result::ok)
            .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
            .map(|entry| entry.path())
            .filter_map(|path| Some((path.file_stem()?.to_str()?.to_owned(), read_record(&path)?)))
            .filter(|(stem, record)| record.service_name == service && record.instance_id == *stem)
            .map(|(_, record)| record)
            .collect()
    }

    /// The file of a record.
    pub(super) fn record_file(&self, record: &Record) -> PathBuf {
        self.root
            .join(&record.service_name)
            .join(format!("{}.json", record.instance_id))
    }

    /// The file of the original layout.
    pub(super) fn newest_file(&self, service: &str) -> PathBuf {
        self.root.join(format!("{service}.json"))
    }

    /// Makes a folder inside, or checks the one that is there.
    fn folder(&self, name: &str) -> Result<PathBuf, Error> {
        let path = self.root.join(name);
        files::create_folder(&path, 0o700)?;
        own(&path, true)?;
        Ok(path)
    }

    /// Writes the record of a service that is not ours: nobody renews it.
    pub fn add_static(&self, record: &Record) -> Result<(), Error> {
        self.write(record, Durability::Synced)
    }

    /// Writes a record into its file, which is nobody else's to write.
    pub(super) fn write(&self, record: &Record, durability: Durability) -> Result<(), Error> {
        check_name("service", &record.service_name)?;
        check_name("instance", &record.instance_id)?;
        let write = || {
            self.folder(&record.service_name)?;
            write_file(&self.record_file(record), record, durability)
        };
        // the last other record may take the folder along just before the file is made
        write().or_else(|_| write())
    }

    /// Writes `<service>.json`.
    pub(super) fn write_newest(&self, record: &Record) -> Result<(), Error> {
        write_file(
            &self.newest_file(layout_name(record)),
            record,
            Durability::Synced,
        )
    }

    /// Removes a record with its key; the service's folder goes with its last record.
    pub fn remove(&self, record: &Record) {
        let names = [
            ("service", &record.service_name),
            ("instance", &record.instance_id),
        ];
        if names
            .iter()
            .any(|(what, name)| check_name(what, name).is_err())
        {
            return;
        }
        let _ = fs::remove_file(self.record_file(record));
        let _ = fs::remove_file(self.root.join(KEYS).join(&record.instance_id));
        // fails where others are left, as it should
        let _ = fs::remove_dir(self.root.join(&record.service_name));
        self.repoint(record);
    }

    /// Where `<service>.json` names this instance: the newest other of its kind that is ready, or nothing.
    pub(super) fn repoint(&self, record: &Record) {
        let path = self.newest_file(layout_name(record));
        let named = read_record(&path).map(|named| named.instance_id);
        // a file of the original tool, or of another instance, is not ours to touch
        if named.as_deref() != Some(&record.instance_id) {
            return;
        }
        let others = match record.kind {
            Kind::Monitor => self.records(),
            _ => self.records_of(&record.service_name),
        };
        let kind = match record.kind {
            Kind::Monitor => Kind::Monitor,
            _ => Kind::Server,
        };
        let newest = others
            .into_iter()
            .filter(|other| other.instance_id != record.instance_id)
            .filter(|other| other.kind == kind && other.state == super::State::Ready)
            .max_by_key(|other| other.ready_at);
        match newest {
            Some(other) => {
                if let Err(error) = self.write_newest(&other) {
                    tracing::warn!(%error, "Cannot renew the record of the original layout");
                }
            }
            None => {
                let _ = fs::remove_file(path);
            }
        }
    }
}

/// The name of the file of the original layout: the service, and `prometheus` for what watches it.
fn layout_name(record: &Record) -> &str {
    match record.kind {
        Kind::Monitor => "prometheus",
        _ => &record.service_name,
    }
}

fn write_file(path: &Path, record: &Record, durability: Durability) -> Result<(), Error> {
    let mut content = serde_json::to_vec_pretty(record)
        .map_err(|error| files::Error::new("encode", path, error.into()))?;
    content.push(b'\n');
    files::write_atomic(path, &content, 0o600, durability)?;
    Ok(())
}

/// The record in a file; links, giants and files of others are passed over.
fn read_record(path: &Path) -> Option<Record> {
    if path.extension()? != "json" {
        return None;
    }
    let file = open_plain(path, false).ok()?;
    let meta = file.metadata().ok()?;
    if !meta.is_file() || meta.len() > LARGEST || meta.uid() != nix::unistd::geteuid().as_raw() {
        return None;
    }
    let mut content = Vec::new();
    file.take(LARGEST).read_to_end(&mut content).ok()?;
    serde_json::from_slice(&content).ok()
}

/// Opens what must be no link; never waits, should it be a pipe.
fn open_plain(path: &Path, folder: bool) -> io::Result<File> {
    let mut flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    if folder {
        flags |= OFlag::O_DIRECTORY;
    }
    OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path)
}

/// Refuses what is not ours, and gives its mode.
fn look(path: &Path, folder: bool) -> Result<u32, Error> {
    let link =
        fs::symlink_metadata(path).map_err(|source| files::Error::new("look at", path, source))?;
    let expected = if folder {
        link.is_dir()
    } else {
        link.is_file()
    };
    if !expected {
        return Err(Error::Unexpected {
            path: path.to_owned(),
        });
    }
    let owner = link.uid();
    if owner != nix::unistd::geteuid().as_raw() {
        return Err(Error::Foreign {
            path: path.to_owned(),
            owner,
        });
    }
    Ok(link.permissions().mode() & 0o777)
}

/// Refuses what is not ours; tightens what is ours and looser than it should be.
fn own(path: &Path, folder: bool) -> Result<(), Error> {
    let mode = look(path, folder)?;
    if mode & 0o077 != 0 {
        // by the open file, so that nothing can be put in its place between the look and the change
        open_plain(path, folder)
            .and_then(|file| file.set_permissions(Permissions::from_mode(mode & 0o700)))
            .map_err(|source| files::Error::new("tighten", path, source))?;
        tracing::warn!(
            path = %path.display(),
            was = format!("{mode:04o}"),
            "Made a part of the registry readable by its owner only"
        );
    }
    Ok(())
}

/// May this be a file name in the registry?
pub fn check_name(what: &'static str, name: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let good = name.len() <= 64
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(plain)
        && Path::new(name).extension().is_none_or(|end| end != "json");
    if good {
        Ok(())
    } else {
        Err(Error::Name {
            what,
            name: name.to_owned(),
        })
    }
}

/// 244 bits from the system's generator, in hexadecimal: safe in files, headers and URLs.
fn new_key() -> String {
    format!(
        "{}{}",
        uuid::Uuid::new_v4().simple(),
        uuid::Uuid::new_v4().simple()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::{super::record::tests::ready, *};

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    fn put(path: &Path, content: &[u8]) {
        files::create_folder(path.parent().unwrap(), 0o700).unwrap();
        files::write_atomic(path, content, 0o600, Durability::Fast).unwrap();
    }

    #[test]
    fn everything_is_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/registry");
        let store = Store::open(&root).unwrap();
        store.scrape_key().unwrap();
        let (key_file, _) = store.create_key("i").unwrap();
        let record = ready("s", "7", "i");
        store.write(&record, Durability::Fast).unwrap();
        for (path, expected) in [
            (root.clone(), 0o700),
            (root.join("s"), 0o700),
            (root.join(".keys"), 0o700),
            (store.scrape_key_file(), 0o600),
            (key_file, 0o600),
            (store.record_file(&record), 0o600),
        ] {
            assert_eq!(mode(&path), expected, "{}", path.display());
        }
    }

    #[test]
    fn a_looser_folder_of_ours_is_tightened() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
        Store::open(folder.path()).unwrap();
        assert_eq!(mode(folder.path()), 0o700);
    }

    #[test]
    fn a_foreign_folder_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            return; // only root can give a folder away
        }
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(folder.path(), Some(1234), None).unwrap();
        let error = Store::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("belongs to user 1234"), "{error}");
    }

    #[test]
    fn a_link_inside_is_never_followed() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        symlink(elsewhere.path(), folder.path().join("s")).unwrap();
        let error = store.write(&ready("s", "7", "i"), Durability::Fast);
        assert!(matches!(error, Err(Error::Unexpected { .. })), "{error:?}");
        assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
        assert!(store.records().is_empty());
    }

    #[test]
    fn the_scrape_key_is_one_for_all() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| store.scrape_key())).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap().unwrap())
                .collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0] && key.len() == 64));
    }

    #[test]
    fn foreign_half_written_and_newer_files_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let record = ready("s", "7", "i");
        store.write(&record, Durability::Fast).unwrap();
        let text = serde_json::to_string(&record).unwrap();
        let root = folder.path();
        put(&root.join("s/half.json"), &text.as_bytes()[..40]);
        put(&root.join("s/empty.json"), b"");
        put(&root.join("s/.i.json.1.0"), text.as_bytes());
        put(
            &root.join("s/other-name.json"),
            text.replace("\"s\"", "\"t\"").as_bytes(),
        );
        put(
            &root.join("s/newer.json"),
            text.replace("\"ready\"", "\"hibernating\"")
                .replace("\"i\"", "\"newer\"")
                .as_bytes(),
        );
        put(&root.join("s/notes.txt"), b"hello");
        put(&root.join("s.json"), br#"{"job_id": "1", "node": "n"}"#);
        put(&root.join("bad name/i.json"), text.as_bytes());
        symlink("/etc/passwd", root.join("s/link.json")).unwrap();
        nix::unistd::mkfifo(&root.join("s/pipe.json"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(store.records(), [record]);
    }

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for name in [
            "",
            ".",
            "..",
            ".keys",
            "a/b",
            "a b",
            "-x",
            "x.json",
            &"x".repeat(65),
        ] {
            assert!(check_name("service", name).is_err(), "{name:?}");
        }
        for name in ["vllm", "a.b_c-9", "server-local-12-3fa9c1"] {
            assert!(check_name("service", name).is_ok(), "{name:?}");
        }
        let error = check_name("service", "../x").unwrap_err().to_string();
        insta::assert_snapshot!(error, @r#""../x" cannot be the name of a service: letters, digits, '.', '_' and '-', 64 at the most, a letter or digit first, and no .json at the end"#);
    }
}
