//! The images that recipes name: where they are, whether they are whole, and how a missing one is got.
//!
//! A missing image with a source is pulled once however many jobs or processes want it: the holder of its lease
//! ([`super::lease`]) pulls ([`super::pull`]) into a hidden folder beside it and renames it into place; the others wait,
//! say so, and go on when it is there. A job asks first whether the image is whole ([`super::sif`]), so that a broken copy
//! is one clear error and not a riddle of the engine's log.
//!
//! What can fail is told with what to do about it: no image and no source, or a source that cannot be reached or does
//! not know it (66), no Apptainer (69), no room or no right to write (73), somebody else pulling for too long (75).

mod fault;

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    digest::{self, Facts},
    lease::{Holder, Lease, Seen, Watch},
    pull::{self, Failed, Pull, Pulled},
    sif::{self, Flaw},
    source::{self, Pin, Source},
};
use crate::{
    env::Env,
    exit::{Exit, Failure, OrExit as _},
    files, library,
    recipe::{Launch, Plan, expand::Variables, script},
    shutdown::{Cause, Shutdown},
    site::Site,
};

pub use fault::no_program;

/// Somebody else's pull is waited for this long.
const PATIENCE: Duration = Duration::from_hours(1);
/// Between two words about the wait.
const WORD: Duration = Duration::from_secs(30);
const LOOKS: Duration = Duration::from_secs(1);

/// An image that a recipe names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its place.
    pub path: PathBuf,
    /// Where it can be had.
    pub source: Option<String>,
    /// The key of the recipe that may say so; a script has none.
    key: Option<&'static str>,
}

/// How an image is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    Missing,
    /// It is there, as far as its header tells.
    Whole,
    /// It is there, and of no use.
    Flawed(Flaw),
}

impl Image {
    /// Where the file that is there came from, if not from where the recipe says. Of one that we did not pull nothing is
    /// known.
    pub fn other_source<'a>(&self, facts: &'a Facts) -> Option<&'a str> {
        let (wanted, had) = (self.source.as_ref()?, facts.source.as_ref()?);
        (wanted != had).then_some(had)
    }

    /// Does the recipe name a digest that the file from elsewhere does not have?
    pub fn is_refused(&self, facts: &Facts, home: &Path) -> bool {
        let (Some(wanted), Some(had)) = (&self.source, self.other_source(facts)) else {
            return false;
        };
        let Pin::Digest(digest) = Source::new(wanted, home).pin() else {
            return false;
        };
        let pinned = match Source::new(had, home).pin() {
            Pin::Digest(digest) => Some(digest),
            _ => facts.source_digest.clone(),
        };
        pinned.is_none_or(|pinned| pinned != digest)
    }

    /// The image of a recipe; `None` where it names none, or, in a script, none that can be read from it.
    pub fn of(plan: &Plan, env: &Env, site: &Site, home: &Path) -> Option<Self> {
        let mut variables = library::variables(env, site, home);
        match plan {
            Plan::Server(server) => match &server.launch {
                Launch::Container(container) => {
                    let text = container.image.to_string_lossy();
                    let key = "service.container.source";
                    let source = container.source.clone();
                    Some(Self::named(&text, source, key, &variables, home))
                }
                Launch::Command(_) | Launch::Program(_) => {
                    variables.extend(server.env.clone());
                    let text = script::image(&server.launch, &variables)?;
                    Some(Self {
                        path: home.join(&server.working_dir).join(text),
                        source: None,
                        key: None,
                    })
                }
            },
            Plan::Monitor(monitor) => {
                let text = monitor.image.as_deref().filter(|_| monitor.enabled)?;
                let key = "prometheus.source";
                let source = monitor.source.clone();
                Some(Self::named(text, source, key, &variables, home))
            }
            Plan::Client(_) => None,
        }
    }

    /// The original's recipes name a URI where ours name a file: it is its own source, and the folder of images its place.
    fn named(
        text: &str,
        source: Option<String>,
        key: &'static str,
        variables: &Variables,
        home: &Path,
    ) -> Self {
        let key = Some(key);
        if source::is_uri(text) {
            let folder = variables
                .get("CONTAINER_DIR")
                .map_or_else(|| home.join("containers"), |folder| home.join(folder));
            return Self {
                path: folder.join(source::file_name(text)),
                source: Some(source.unwrap_or_else(|| text.to_owned())),
                key,
            };
        }
        Self {
            path: home.join(text),
            source,
            key,
        }
    }

    /// Looks at it.
    ///
    /// # Errors
    /// Where it is there and cannot be read.
    pub fn state(&self) -> Result<State, Failure> {
        match sif::flaw(&self.path) {
            Ok(None) => Ok(State::Whole),
            Ok(Some(flaw)) => Ok(State::Flawed(flaw)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::Missing),
            Err(error) => Err(Failure::caused(
                Exit::of_io(&error),
                format!("cannot read image {}", self.path.display()),
                error,
            )),
        }
    }
}

/// An image, wanted.
pub struct Wanted<'a> {
    /// The image.
    pub image: &'a Image,
    /// The recipe that names it, as `aif images pull` takes it.
    pub recipe: &'a str,
    /// Is it a role that wants it, or somebody who asked for the image itself? The latter replaces a broken one.
    pub by_role: bool,
    /// Get it again though it is there.
    pub force: bool,
    /// The environment.
    pub env: &'a Env,
    /// The site.
    pub site: &'a Site,
    /// Folder that relative sources are in.
    pub home: &'a Path,
    /// Says on the way how it goes.
    pub tell: &'a (dyn Fn(&str) + Sync),
    /// Ends it.
    pub shutdown: &'a Shutdown,
}

/// An image that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// What is known of it; a digest that nobody computed yet is not among it.
    pub facts: Facts,
    /// Did we pull it?
    pub pulled: bool,
}

impl Wanted<'_> {
    /// Makes sure that the image is there.
    ///
    /// # Errors
    /// Each with its code and what to do.
    pub async fn get(&self) -> Result<Got, Failure> {
        let path = &self.image.path;
        let before = Stamp::of(path);
        let state = self.image.state()?;
        match &state {
            State::Whole if !self.force => return self.got(),
            State::Flawed(flaw) if self.by_role || self.image.source.is_none() => {
                return Err(self.flawed(flaw));
            }
            State::Flawed(flaw) => {
                (self.tell)(&format!(
                    "image {} {flaw}; getting it again",
                    path.display()
                ));
            }
            State::Whole | State::Missing => {}
        }
        let Some(source) = &self.image.source else {
            return Err(self.no_source(state == State::Missing));
        };
        let source = Source::new(source, self.home);
        if let Some(folder) = path.parent() {
            files::create_folder(folder, 0o755).or_exit(Exit::CannotCreate, || {
                format!("there is no place for image {}", path.display())
            })?;
        }
        self.pull_or_wait(&source, before).await
    }

    async fn pull_or_wait(&self, source: &Source, before: Option<Stamp>) -> Result<Got, Failure> {
        let path = &self.image.path;
        // a broken one that is replaced, or one that is there already, is another file afterwards
        let is_new = || Stamp::of(path) != before && matches!(self.image.state(), Ok(State::Whole));
        let lease_file = pull::beside(path, "lease");
        let mut watch = Watch::new(&lease_file);
        let start = Instant::now();
        let mut next_word = start;
        loop {
            if is_new() {
                return self.got();
            }
            match watch.look() {
                // read before it is tried for: a file that many try to create is hard on a shared file system
                Seen::Free => {
                    let holder = Holder::own(self.env);
                    let token = holder.token.clone();
                    let taken = Lease::take(&lease_file, holder)
                        .map_err(|error| self.cannot_write(error))?;
                    let Some(lease) = taken else { continue };
                    // between the look above and the lease somebody may have finished
                    if is_new() {
                        return self.got();
                    }
                    tokio::select! {
                        pulled = self.pull(source, &token) => return pulled,
                        () = lease.renew() => (self.tell)(&format!(
                            "the lease of image {} was taken away: somebody else pulls it",
                            path.display()
                        )),
                    }
                }
                Seen::Dead(holder) => {
                    (self.tell)(&format!(
                        "nobody pulls image {} any more{}: going on instead",
                        path.display(),
                        holder.map_or_else(String::new, |holder| format!(" ({holder})"))
                    ));
                    watch
                        .take_away()
                        .map_err(|error| self.cannot_write(error))?;
                    continue;
                }
                Seen::Held(holder) if start.elapsed() > PATIENCE => {
                    return Err(self.too_long(holder.as_ref()));
                }
                Seen::Held(holder) if Instant::now() >= next_word => {
                    next_word = Instant::now() + WORD;
                    (self.tell)(&format!(
                        "waiting for image {}, which {} pulls",
                        path.display(),
                        holder.map_or_else(|| "somebody".to_owned(), |holder| holder.to_string())
                    ));
                }
                Seen::Held(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOKS) => {}
                () = self.shutdown.drain.cancelled() => return Err(self.stopped()),
            }
        }
    }

    /// Pulls it: we hold the lease.
    async fn pull(&self, source: &Source, token: &str) -> Result<Got, Failure> {
        let path = &self.image.path;
        pull::clean(path);
        let told = self.image.source.as_deref().unwrap_or_default();
        (self.tell)(&format!("pulling image {} from {told}", path.display()));
        let pull = Pull {
            source,
            image: path,
            token,
            env: self.env,
            site: self.site,
            tell: self.tell,
            shutdown: self.shutdown,
        };
        let pulled = pull.run().await.map_err(|failed| self.failed(failed))?;
        let facts = self.settle(pulled).await?;
        self.tell_pin(source, &facts);
        Ok(Got {
            facts,
            pulled: true,
        })
    }

    /// Sums the file that was pulled, and puts it into its place.
    async fn settle(&self, pulled: Pulled) -> Result<Facts, Failure> {
        let (file, stop) = (pulled.file(), self.shutdown.drain.clone());
        let summed = self.shutdown.tasks.spawn_blocking(move || {
            // a power cut leaves no half of it under its name
            fs::File::open(&file).and_then(|file| file.sync_all())?;
            digest::sum(&file, &stop)
        });
        let failed = |source| {
            let error = files::Error::new("write", &self.image.path, source);
            self.cannot_write(error)
        };
        let summed = summed.await.map_err(|_| self.stopped())?;
        let sum = summed.map_err(failed)?.ok_or_else(|| self.stopped())?;
        fs::rename(pulled.file(), &self.image.path).map_err(failed)?;
        let facts = Facts {
            digest: Some(format!("sha256:{sum}")),
            size: fs::metadata(&self.image.path).map_or(0, |meta| meta.len()),
            source: self.image.source.clone(),
            source_digest: pulled.source_digest.clone(),
        };
        if let Err(error) = digest::keep(&self.image.path, &facts) {
            (self.tell)(&format!("the digest of the image cannot be kept: {error}"));
        }
        Ok(facts)
    }

    /// A tag that moves is told, with what would not.
    fn tell_pin(&self, source: &Source, facts: &Facts) {
        let told = self.image.source.as_deref().unwrap_or_default();
        let digest = facts.source_digest.as_ref().or(facts.digest.as_ref());
        match (source.pin(), digest) {
            (Pin::Digest(digest), _) => (self.tell)(&format!("{told} is pinned to {digest}")),
            (Pin::Moving, Some(digest)) => {
                let mend = facts
                    .source_digest
                    .as_deref()
                    .and_then(|digest| source.pinned(digest))
                    .map_or_else(String::new, |pinned| {
                        format!("; to get the same image tomorrow, write the source as {pinned}")
                    });
                (self.tell)(&format!("{told} is unpinned; resolved to {digest}{mend}"));
            }
            _ => {}
        }
    }

    /// The image that is there may have come from elsewhere than the recipe says now: that is told, and where the recipe
    /// names a digest, it is another image than the one that was asked for. Of an image that we did not pull nothing is known.
    fn check_source(&self, facts: &Facts) -> Result<(), Failure> {
        let (Some(wanted), Some(had)) = (&self.image.source, self.image.other_source(facts)) else {
            return Ok(());
        };
        if self.image.is_refused(facts, self.home) {
            return Err(self.another(had));
        }
        (self.tell)(&format!(
            "warning: image {} came from {had}, and the recipe says {wanted}: it is used as it is; to get the recipe's: {}",
            self.image.path.display(),
            self.replacing()
        ));
        Ok(())
    }

    fn got(&self) -> Result<Got, Failure> {
        let mut facts = digest::known(&self.image.path).map_err(|error| {
            let message = format!("cannot read image {}", self.image.path.display());
            Failure::caused(Exit::of_io(&error), message, error)
        })?;
        self.check_source(&facts)?;
        facts.source = facts.source.or_else(|| self.image.source.clone());
        Ok(Got {
            facts,
            pulled: false,
        })
    }

    fn failed(&self, failed: Failed) -> Failure {
        match failed {
            Failed::Source { why, said } => self.not_pulled(why, &said),
            Failed::NoProgram => no_program(self.site),
            Failed::Files(error) => self.cannot_write(error),
            Failed::Stopped => self.stopped(),
        }
    }

    fn stopped(&self) -> Failure {
        let exit = self.shutdown.cause().map_or(Exit::Terminated, Cause::exit);
        let message = format!(
            "told to end before image {} was there",
            self.image.path.display()
        );
        Failure::new(exit, message)
    }
}

/// Tells a file from the one that replaces it.
#[derive(Debug, PartialEq, Eq)]
struct Stamp(u64, i64, i64, u64);

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        Some(Self(
            meta.ino(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.len(),
        ))
    }
}

#[cfg(test)]
mod tests;
