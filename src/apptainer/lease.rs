//! One at a time, on any file system: the lease of a pull.
//!
//! Jobs of many nodes may want the same missing image at once. Locks are no help: `flock` is local on some Lustre mounts
//! and a matter of luck on NFS. So whoever makes `.<image>.lease` exclusively pulls, and renews it; the others watch. A
//! lease that stands still for [`LEASE`] on the watcher's own clock is dead (its holder was killed, its node is gone), and
//! so is at once one of this host whose process is gone. A dead one is taken away by a rename, which one watcher wins; if
//! what it has then is not the lease that it saw, somebody was faster, and it is put back.
//!
//! It saves work, nothing depends on it: an image comes into place by a rename, so that of two who pull all the same the
//! last one wins, and nobody sees half a file.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::{
    env::Env,
    files::{self, Durability},
};

/// The holder renews its lease this often.
pub const RENEWAL: Duration = Duration::from_secs(5);
/// A lease that stands still for longer is nobody's. NFS may show a renewal a minute late.
pub const LEASE: Duration = Duration::from_secs(90);

/// Who pulls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Tells one holder from all others.
    pub token: String,
    /// Its user.
    pub user: String,
    /// Its host.
    pub host: String,
    /// Its process.
    pub pid: u32,
    /// Where that number means something: the pid namespace.
    pids: String,
    /// Its job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Rises with each renewal.
    sequence: u64,
}

impl Holder {
    /// This process.
    pub fn own(env: &Env) -> Self {
        let uid = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(uid).ok().flatten();
        Self {
            token: uuid::Uuid::new_v4().simple().to_string()[..12].to_owned(),
            user: user.map_or_else(|| uid.to_string(), |user| user.name),
            host: host(),
            pid: std::process::id(),
            pids: pid_namespace(),
            job: env.get("SLURM_JOB_ID").map(str::to_owned),
            sequence: 0,
        }
    }

    /// Is it a process of this host that is gone?
    fn is_gone(&self) -> bool {
        self.host == host()
            && self.pids == pid_namespace()
            && !self.pids.is_empty()
            && !Path::new("/proc").join(self.pid.to_string()).exists()
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on {}, process {}", self.user, self.host, self.pid)?;
        match &self.job {
            Some(job) => write!(f, " of job {job}"),
            None => Ok(()),
        }
    }
}

fn host() -> String {
    nix::unistd::gethostname()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn pid_namespace() -> String {
    fs::read_link("/proc/self/ns/pid")
        .map(|link| link.display().to_string())
        .unwrap_or_default()
}

/// A lease that we hold; it ends when it is dropped.
#[derive(Debug)]
pub struct Lease {
    path: PathBuf,
    holder: Holder,
}

impl Lease {
    /// Takes the lease; `None` where somebody holds it.
    pub fn take(path: &Path, holder: Holder) -> Result<Option<Self>, files::Error> {
        let taken = files::create_exclusive(path, &encoded(&holder), 0o644)?;
        Ok(taken.then(|| Self {
            path: path.to_owned(),
            holder,
        }))
    }

    /// Renews it for ever. Comes when it is somebody else's: then another pulls.
    pub async fn renew(&self) {
        let mut holder = self.holder.clone();
        loop {
            tokio::time::sleep(RENEWAL).await;
            match read(&self.path) {
                Some(other) if other.token != holder.token => return,
                _ => {}
            }
            holder.sequence += 1;
            let written =
                files::write_atomic(&self.path, &encoded(&holder), 0o644, Durability::Fast);
            if let Err(error) = written {
                tracing::warn!(%error, "Cannot renew the lease of an image; trying again");
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if read(&self.path).is_some_and(|holder| holder.token == self.holder.token) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn encoded(holder: &Holder) -> Vec<u8> {
    let mut text = serde_json::to_vec(holder).unwrap_or_default();
    text.push(b'\n');
    text
}

fn read(path: &Path) -> Option<Holder> {
    files::read_json(path).ok()
}

/// What a watcher sees of a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// There is none.
    Free,
    /// It is held, by whom where that can be read.
    Held(Option<Holder>),
    /// Its holder is gone.
    Dead(Option<Holder>),
}

/// Watches the lease of somebody else.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    content: Vec<u8>,
    since: Instant,
}

impl Watch {
    /// Watches from now on.
    pub fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            content: Vec::new(),
            since: Instant::now(),
        }
    }

    /// Looks again.
    pub fn look(&mut self) -> Seen {
        let Ok(content) = fs::read(&self.path) else {
            return Seen::Free;
        };
        if content != self.content {
            (self.content, self.since) = (content, Instant::now());
        }
        let holder: Option<Holder> = serde_json::from_slice(&self.content).ok();
        if self.since.elapsed() > LEASE || holder.as_ref().is_some_and(Holder::is_gone) {
            Seen::Dead(holder)
        } else {
            Seen::Held(holder)
        }
    }

    /// Takes the lease away that was seen to be dead; who else does is as welcome.
    ///
    /// # Errors
    /// Where the folder does not let us, as one with a sticky bit does not where the lease is another user's.
    pub fn take_away(&self) -> Result<(), files::Error> {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let mut away = self.path.clone().into_os_string();
        away.push(format!(".{unique}"));
        let away = PathBuf::from(away);
        match fs::rename(&self.path, &away) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(files::Error::new("remove", &self.path, source)),
        }
        if fs::read(&away).is_ok_and(|content| content != self.content) {
            // a new holder's: back to it, unless it renewed it meanwhile
            let _ = fs::hard_link(&away, &self.path);
        }
        let _ = fs::remove_file(&away);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(host: &str, pid: u32) -> Holder {
        Holder {
            host: host.to_owned(),
            pid,
            ..Holder::own(&Env::default())
        }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".a.sif.lease");
        (folder, path)
    }

    #[test]
    fn it_is_held_once_and_says_by_whom() {
        let (folder, path) = place();
        let env: Env = [("SLURM_JOB_ID", "7")].into_iter().collect();
        let own = Holder::own(&env);
        let lease = Lease::take(&path, own.clone()).unwrap().unwrap();
        assert!(Lease::take(&path, of("b", 1)).unwrap().is_none());
        let mut watch = Watch::new(&path);
        assert_eq!(watch.look(), Seen::Held(Some(own.clone())));
        let told = own.to_string();
        assert!(
            told.ends_with(&format!("process {} of job 7", own.pid)),
            "{told}"
        );
        drop(lease);
        assert_eq!(watch.look(), Seen::Free);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_dead_when_it_stands_still_and_not_while_it_is_renewed() {
        let (_folder, path) = place();
        let lease = Lease::take(&path, of("elsewhere", 1)).unwrap().unwrap();
        let mut watch = Watch::new(&path);
        let watching = async {
            for _ in 0..60 {
                assert!(matches!(watch.look(), Seen::Held(_)));
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        };
        tokio::select! {
            () = watching => {}
            () = lease.renew() => panic!("nobody else took it"),
        }
        assert!(matches!(watch.look(), Seen::Held(_)));
        tokio::time::advance(LEASE + Duration::from_secs(1)).await;
        assert!(matches!(watch.look(), Seen::Dead(Some(_))));
        watch.take_away().unwrap();
        assert_eq!(watch.look(), Seen::Free);
    }

    #[test]
    fn a_process_of_this_host_that_is_gone_holds_nothing() {
        let (_folder, path) = place();
        let mut gone = std::process::Command::new("true").spawn().unwrap();
        gone.wait().unwrap();
        let kept = Lease::take(&path, of(&host(), gone.id())).unwrap().unwrap();
        assert!(matches!(Watch::new(&path).look(), Seen::Dead(Some(_))));
        drop(kept);
        let _lease = Lease::take(&path, of("elsewhere", gone.id()))
            .unwrap()
            .unwrap();
        assert!(
            matches!(Watch::new(&path).look(), Seen::Held(_)),
            "its number says nothing here"
        );
    }

    #[test]
    fn half_a_lease_is_one() {
        let (_folder, path) = place();
        files::create_exclusive(&path, b"{\"tok", 0o644).unwrap();
        assert_eq!(Watch::new(&path).look(), Seen::Held(None));
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_late_takes_no_living_lease_away() {
        let (folder, path) = place();
        let dead = Lease::take(&path, of("elsewhere", 1)).unwrap().unwrap();
        let (mut fast, mut slow) = (Watch::new(&path), Watch::new(&path));
        assert!(matches!(fast.look(), Seen::Held(_)));
        assert!(matches!(slow.look(), Seen::Held(_)));
        tokio::time::advance(LEASE * 2).await;
        assert!(matches!(fast.look(), Seen::Dead(_)));
        assert!(matches!(slow.look(), Seen::Dead(_)));
        fast.take_away().unwrap();
        let new = of("there", 2);
        let living = Lease::take(&path, new.clone()).unwrap().unwrap();
        slow.take_away().unwrap();
        assert_eq!(read(&path), Some(new));
        // nor does the holder that was taken for dead
        drop(dead);
        drop(living);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
