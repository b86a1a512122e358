//! One pull, from a source to a file that is whole; and what a failed one means.
//!
//! `apptainer --debug pull` into a folder of its own beside the image: with the debug lines it tells the digest that a tag
//! stands for, and what it leaves when it is killed (`tmp-copy-…`, as large as the image) goes with the folder. Its
//! temporary files, an unpacked image of tens of GB, have a folder of our own naming, so that the next pull on this node can
//! take away what a killed one left. Told to end, it gets TERM and cleans up; what it started (`mksquashfs`, which it
//! leaves behind) is killed by the guard.
//! What it said of a failure is read by [`Why`].

use std::{
    collections::BTreeMap,
    fs,
    future::pending,
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{sif, source::Source, why::Why};
use crate::{
    disk,
    env::Env,
    files,
    process::{
        child::{Child, Ended, Spec},
        guard,
    },
    shutdown::Shutdown,
    site::Site,
};

/// How long Apptainer may take to clean up.
const GRACE: Duration = Duration::from_secs(10);
/// Between two words about how it goes.
const WORD: Duration = Duration::from_secs(30);
/// Time to count what has come.
const COUNTING: Duration = Duration::from_millis(100);
/// Lines that are told where none says what was fatal.
const LAST_LINES: usize = 3;

/// A pull that failed.
#[derive(Debug)]
pub enum Failed {
    /// The source did not give an image.
    Source {
        /// Why.
        why: Why,
        /// What was said.
        said: String,
    },
    /// There is no Apptainer.
    NoProgram,
    /// A file of ours.
    Files(files::Error),
    /// Told to end.
    Stopped,
}

impl From<files::Error> for Failed {
    fn from(error: files::Error) -> Self {
        Self::Files(error)
    }
}

/// What a pull is done with.
pub struct Pull<'a> {
    /// Where the image comes from.
    pub source: &'a Source,
    /// The image's place: the folder is made beside it.
    pub image: &'a Path,
    /// Tells this pull from others.
    pub token: &'a str,
    /// The environment.
    pub env: &'a Env,
    /// The site: its node-local folder, and its modules.
    pub site: &'a Site,
    /// Says on the way how it goes.
    pub tell: &'a (dyn Fn(&str) + Sync),
    /// Ends it.
    pub shutdown: &'a Shutdown,
}

/// A file that was pulled, not yet in its place; its folder is removed when it is dropped.
#[derive(Debug)]
pub struct Pulled {
    folder: Folder,
    /// The digest that the source's tag stands for.
    pub source_digest: Option<String>,
}

impl Pulled {
    /// The file.
    pub fn file(&self) -> PathBuf {
        self.folder.0.join("image.sif")
    }
}

/// A folder that is removed when it is dropped.
#[derive(Debug)]
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

/// Removes a tree. An unpacked image has folders that not even their owner may write.
fn remove(path: &Path) {
    if fs::remove_dir_all(path).is_ok() {
        return;
    }
    let mut open = vec![path.to_owned()];
    while let Some(folder) = open.pop() {
        let _ = fs::set_permissions(&folder, fs::Permissions::from_mode(0o700));
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        open.extend(
            entries
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path()),
        );
    }
    let _ = fs::remove_dir_all(path);
}

/// A file or folder of ours beside an image, hidden.
pub fn beside(image: &Path, suffix: &str) -> PathBuf {
    let name = image.file_name().unwrap_or_default().to_string_lossy();
    image.with_file_name(format!(".{name}.{suffix}"))
}

/// Takes away what killed pulls of this image left beside it. Only the holder of its lease may.
pub fn clean(image: &Path) {
    let prefix = beside(image, "");
    let prefix = prefix.file_name().unwrap_or_default().to_string_lossy();
    let entries = image.parent().and_then(|folder| fs::read_dir(folder).ok());
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&*prefix) && name.ends_with(".partial") {
            remove(&entry.path());
        }
    }
}

impl Pull<'_> {
    /// Pulls: the file is whole, and still in a folder of its own.
    pub async fn run(&self) -> Result<Pulled, Failed> {
        let folder = beside(self.image, &format!("{}.partial", self.token));
        files::create_folder(&folder, 0o700)?;
        let mut pulled = Pulled {
            folder: Folder(folder),
            source_digest: None,
        };
        let file = pulled.file();
        match self.source {
            Source::File(path) => self.copy(path, &file).await?,
            Source::Uri(uri) => pulled.source_digest = self.apptainer(uri, &pulled).await?,
        }
        let flaw = sif::flaw(&file).map_err(|error| files::Error::new("read", &file, error))?;
        if let Some(flaw) = flaw {
            return Err(Failed::Source {
                why: Why::Flawed,
                said: format!("what came {flaw}"),
            });
        }
        Ok(pulled)
    }

    async fn copy(&self, from: &Path, to: &Path) -> Result<(), Failed> {
        let source = fs::File::open(from).map_err(|error| Failed::Source {
            why: Why::of(&error.to_string()),
            said: format!("{}: {error}", from.display()),
        })?;
        let (to, stop) = (to.to_owned(), self.shutdown.drain.clone());
        let whole = source.metadata().ok().map(|facts| facts.len());
        let copying = to.clone();
        let copied = self
            .shutdown
            .tasks
            .spawn_blocking(move || copy(source, &copying, &stop));
        let told = watched(copied, |time| {
            let far = so_far(time, bytes_in(&to), whole);
            (self.tell)(&format!("still copying {}, {far}", from.display()));
        });
        match told.await {
            Ok(done) => done,
            Err(_) => Err(Failed::Stopped),
        }
    }

    /// Has Apptainer pull, and reads what it said.
    async fn apptainer(&self, uri: &str, pulled: &Pulled) -> Result<Option<String>, Failed> {
        let file = pulled.file().display().to_string();
        let log = pulled.folder.0.join("log");
        let words = ["--debug", "pull", "--force", &file, uri].map(str::to_owned);
        let argv = super::command::argv(self.env, self.site, &words).ok_or(Failed::NoProgram)?;
        let temporary = self.temporary_folder()?;
        self.warn_of_cache();
        let folder = temporary.0.display().to_string();
        let variables = ["APPTAINER_TMPDIR", "SINGULARITY_TMPDIR"];
        let spec = Spec {
            argv: guard::guarded(argv),
            env: BTreeMap::from(variables.map(|name| (name.to_owned(), folder.clone()))),
            folder: self.image.parent().unwrap_or(Path::new("/")).to_owned(),
            log: log.clone(),
        };
        let child = Child::start(&spec, self.shutdown).map_err(|error| Failed::Source {
            why: Why::Other,
            said: error.to_string(),
        })?;
        let ends = async {
            tokio::select! {
                how = child.ended() => Some(how),
                () = self.shutdown.drain.cancelled() => {
                    child.stop(GRACE, pending()).await;
                    None
                }
            }
        };
        let told = watched(ends, |time| {
            // layers are unpacked into the one, the image is made in the other
            let bytes = bytes_in(&pulled.folder.0) + bytes_in(&temporary.0);
            let last = said(&log).into_iter().rfind(|line| !line.is_empty());
            (self.tell)(&format!(
                "still pulling {}, {}{}",
                self.image.display(),
                so_far(time, bytes, None),
                last.map_or_else(String::new, |line| format!(": {line}"))
            ));
        });
        let Some(ended) = told.await else {
            return Err(Failed::Stopped);
        };
        if ended == Ended::Code(0) {
            return Ok(source_digest(&files::read_text(&log).unwrap_or_default()));
        }
        let lines = said(&log);
        let fatal = lines.iter().rfind(|line| line.starts_with("FATAL"));
        let said = match fatal {
            Some(line) => line
                .trim_start_matches("FATAL")
                .trim_start_matches([':', ' '])
                .to_owned(),
            None if lines.is_empty() => format!("apptainer ended: {ended}"),
            None => lines[lines.len().saturating_sub(LAST_LINES)..].join(" | "),
        };
        Err(Failed::Source {
            // a shell that loads modules says it so
            why: if ended == Ended::Code(127) {
                return Err(Failed::NoProgram);
            } else {
                Why::of(&said)
            },
            said,
        })
    }

    /// The folder for Apptainer's temporary files: where the user wants them, else on the node's own disk. Always of the
    /// same name for the same image, so that what a killed pull left there goes now.
    fn temporary_folder(&self) -> Result<Folder, Failed> {
        let root = ["APPTAINER_TMPDIR", "SINGULARITY_TMPDIR"]
            .iter()
            .find_map(|name| self.env.path(name))
            .unwrap_or_else(|| self.site.local_folder(self.env));
        let path = self.image.as_os_str().as_encoded_bytes();
        let hash = format!("{:x}", Sha256::digest(path));
        let user = nix::unistd::getuid();
        let folder = root.join(format!("aif-pull-{user}-{}", &hash[..12]));
        remove(&folder);
        files::create_folder(&folder, 0o700)?;
        Ok(Folder(folder))
    }

    /// Apptainer's cache wants renames and locks that hold; on NFS it is slow and may break.
    fn warn_of_cache(&self) {
        let cache = ["APPTAINER_CACHEDIR", "SINGULARITY_CACHEDIR"]
            .iter()
            .find_map(|name| self.env.path(name))
            .unwrap_or_else(|| self.env.home().join(".apptainer/cache"));
        let on_nfs = disk::Kind::of(&disk::nearest(&cache)).is_ok_and(|kind| kind.name == "NFS");
        if on_nfs {
            (self.tell)(&format!(
                "apptainer's cache {} is on NFS, where it is slow and may break: set APPTAINER_CACHEDIR to a folder elsewhere",
                cache.display()
            ));
        }
    }
}

/// Waits for the work, with a word now and then for how long it has been going on.
async fn watched<T>(work: impl Future<Output = T>, word: impl Fn(Duration)) -> T {
    let start = Instant::now();
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(WORD) => word(start.elapsed()),
        }
    }
}

/// How far it is.
fn so_far(time: Duration, bytes: u64, whole: Option<u64>) -> String {
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let whole = whole.map_or_else(String::new, |whole| format!(" of {:.1}", megabytes(whole)));
    format!(
        "for {} s, {:.1}{whole} MB so far",
        time.as_secs(),
        megabytes(bytes)
    )
}

/// The bytes of all files below this path, or of the one that it is; of those that are seen in [`COUNTING`], for an image's
/// files may be a hundred thousand on a network's file system, and nothing else goes on meanwhile.
fn bytes_in(path: &Path) -> u64 {
    let mut bytes = 0;
    let begun = Instant::now();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        if begun.elapsed() > COUNTING {
            break;
        }
        match fs::symlink_metadata(&path) {
            Ok(facts) if facts.is_dir() => {
                let entries = fs::read_dir(&path).into_iter().flatten().flatten();
                open.extend(entries.map(|entry| entry.path()));
            }
            Ok(facts) if facts.is_file() => bytes += facts.len(),
            _ => {}
        }
    }
    bytes
}

fn copy(mut from: fs::File, to: &Path, stop: &CancellationToken) -> Result<(), Failed> {
    let failed = |source| files::Error::new("write", to, source);
    let mut file = fs::File::create_new(to).map_err(failed)?;
    let mut buffer = vec![0; 1 << 20];
    while !stop.is_cancelled() {
        let count = from.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            file.set_permissions(fs::Permissions::from_mode(0o644))
                .map_err(failed)?;
            return Ok(());
        }
        file.write_all(&buffer[..count]).map_err(failed)?;
    }
    Err(Failed::Stopped)
}

/// What it said, without what is for its makers: `LEVEL [U=1,P=2]  function()  text` is cut to `LEVEL text`.
fn said(log: &Path) -> Vec<String> {
    files::tail(log, 200)
        .iter()
        .map(|line| line.trim())
        .filter(|line| !line.is_empty())
        .filter(|line| {
            !["DEBUG", "VERBOSE"]
                .iter()
                .any(|level| line.starts_with(level))
        })
        .map(|line| match line.split_once('[') {
            Some((level, rest)) if rest.starts_with("U=") => {
                let text = rest.split_once("()").map_or(rest, |(_, text)| text);
                format!("{} {}", level.trim(), text.trim())
            }
            _ => line.to_owned(),
        })
        .map(|line| without_noise(&line))
        .collect()
}

/// What says where in Apptainer it happened, and the source once more.
fn without_noise(line: &str) -> String {
    const PLACES: [&str; 3] = [
        "While making image from oci registry: ",
        "While pulling image from oci registry: ",
        "error fetching image to cache: ",
    ];
    let line = PLACES
        .iter()
        .fold(line.to_owned(), |line, place| line.replace(place, ""));
    let cut = line
        .split_once("failed to get checksum for ")
        .and_then(|(before, after)| Some(format!("{before}{}", after.split_once(": ")?.1)));
    cut.unwrap_or(line)
}

/// The digest that a tag stands for, as the debug lines tell it.
fn source_digest(log: &str) -> Option<String> {
    let line = log
        .lines()
        .find(|line| line.contains("source image digest for "))?;
    let digest = line.rsplit(" is ").next()?.trim();
    let is_sum = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_sum.then(|| format!("sha256:{digest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Durability;

    #[test]
    fn debug_lines_are_left_out_and_tell_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let digest = "f498ad6f064f68bf0f0deb4678f7772a60ee39928fa7e561c78a614d9df8ca83";
        let text = format!(
            "DEBUG   [U=0,P=3]      getDockerRefDigest()          docker.GetDigest source image digest for docker://h:1/t:1 is {digest}\n\
             DEBUG   [U=0,P=3]      getDockerRefDigest()          docker.GetDigest digest for docker://h:1/t:1 is 5fa8\n\
             INFO    [U=0,P=3]      pull()                        Using cached SIF image\n\
             FATAL   [U=0,P=3]      pullRun()                     While making image from oci registry: error fetching image to cache: failed to get checksum for docker://h:1/t:1: manifest unknown\n"
        );
        files::write_atomic(&log, text.as_bytes(), 0o644, Durability::Fast).unwrap();
        assert_eq!(
            said(&log),
            ["INFO Using cached SIF image", "FATAL manifest unknown"]
        );
        assert_eq!(source_digest(&text), Some(format!("sha256:{digest}")));
        assert_eq!(source_digest("INFO nothing\n"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_pull_tells_how_many_bytes_it_has() {
        let folder = tempfile::tempdir().unwrap();
        let unpacked = folder.path().join("rootfs/usr");
        files::create_folder(&unpacked, 0o755).unwrap();
        let told = std::cell::RefCell::new(Vec::new());
        let work = async {
            for name in ["layer", "library"] {
                let file = unpacked.join(name);
                files::write_atomic(&file, &vec![0; 1_500_000], 0o644, Durability::Fast).unwrap();
                tokio::time::sleep(WORD + Duration::from_secs(1)).await;
            }
            7
        };
        let done = watched(work, |time| {
            let far = so_far(time, bytes_in(folder.path()), None);
            told.borrow_mut().push(far);
        });
        assert_eq!(done.await, 7);
        assert_eq!(
            told.into_inner(),
            ["for 30 s, 1.5 MB so far", "for 60 s, 3.0 MB so far"]
        );
        assert_eq!(
            so_far(WORD, bytes_in(&unpacked.join("layer")), Some(6_000_000)),
            "for 30 s, 1.5 of 6.0 MB so far"
        );
    }

    #[test]
    fn what_a_killed_pull_left_is_taken_away_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("a.sif");
        let left = folder.path().join(".a.sif.abc.partial/rootfs/locked");
        files::create_folder(&left, 0o755).unwrap();
        fs::File::create(left.join("file")).unwrap();
        fs::set_permissions(&left, fs::Permissions::from_mode(0o555)).unwrap();
        let other = folder.path().join(".b.sif.abc.partial");
        files::create_folder(&other, 0o755).unwrap();
        clean(&image);
        assert!(!folder.path().join(".a.sif.abc.partial").exists());
        assert!(other.exists());
    }
}
