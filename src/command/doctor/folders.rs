//! Folders that a stack writes to: the registry with its key, the results, the node's own disk; and whether other nodes
//! can see what they must.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
};

use super::{
    check::{Check, State, size},
    project,
    scene::{Scene, listed},
};
use crate::{
    disk::{self, Kind, Medium},
    registry::{Store, store},
};

/// Less room than this is warned of: logs and results of some runs.
const ROOM: u64 = 1_000_000_000;

/// What is known of a folder that is written to.
#[derive(Debug)]
struct Seen {
    shown: String,
    exists: bool,
    kind: Option<Kind>,
    room: Option<u64>,
    trial: Result<i64, io::Error>,
}

impl Seen {
    /// Looks at a folder, or at where it would be made.
    fn of(scene: &Scene, path: &Path) -> Self {
        let near = disk::nearest(path);
        Self {
            shown: scene.shown(path),
            exists: path.is_dir(),
            kind: Kind::of(&near).ok(),
            room: disk::room(&near).ok(),
            trial: disk::trial(&near),
        }
    }

    /// In a few words.
    fn words(&self) -> String {
        let kind = self.kind.map_or("unknown", |kind| kind.name);
        let room = self
            .room
            .map_or_else(String::new, |room| format!(", {} free", size(room)));
        let new = if self.exists {
            ""
        } else {
            ", made when it is needed"
        };
        format!("{}, on {kind}{room}{new}", self.shown)
    }

    /// Why nothing can be written, or that little can.
    fn fault(&self, name: &str, elsewhere: &str) -> Option<Check> {
        if let Err(error) = &self.trial {
            let found = format!("{} cannot be written: {error}", self.shown);
            return Some(Check::failed(name, found, elsewhere));
        }
        let low = self.room.filter(|room| *room < ROOM)?;
        let found = format!("{} has {} left", self.shown, size(low));
        Some(Check::warning(
            name,
            found,
            format!("make room, or {elsewhere}"),
        ))
    }
}

pub(super) fn registry(scene: &Scene) -> Vec<Check> {
    let folder = scene.shell.registry_folder();
    let inspected = Store::inspect(&folder);
    let seen = Seen::of(scene, &folder);
    let mut checks = registry_checks(&inspected, &seen);
    let kind = seen.kind.map_or("unknown", |kind| kind.name);
    checks.extend(seen.trial.ok().map(|ahead| stamps(ahead, kind)));
    checks
}

fn registry_checks(
    inspected: &Result<(Option<u32>, Option<u32>), store::Error>,
    seen: &Seen,
) -> Vec<Check> {
    const NAME: &str = "registry";
    const KEY: &str = "registry's key";
    let elsewhere = "export AIF_REGISTRY= a folder of your own that the nodes see";
    let loose = |name: &str, what: &str, mode: u32| {
        Check::warning(
            name,
            format!("{what} has mode {mode:04o}, so others may read what is in it"),
            "the next role makes it yours alone",
        )
    };
    let (mode, key) = match inspected {
        Ok(modes) => *modes,
        Err(error @ store::Error::NoKey { .. }) => {
            return vec![Check::failed(KEY, error.to_string(), "remove the file")];
        }
        Err(error) => return vec![Check::failed(NAME, error.to_string(), elsewhere)],
    };
    let folder = seen.fault(NAME, elsewhere).unwrap_or_else(|| match mode {
        Some(mode) if mode & 0o077 != 0 => loose(NAME, &seen.shown, mode),
        _ => Check::ok(NAME, seen.words()),
    });
    let key = match key {
        None => Check::ok(KEY, "not made yet; the first role makes it"),
        Some(mode) if mode & 0o077 != 0 => loose(KEY, "scrape.key", mode),
        Some(mode) => Check::ok(KEY, format!("scrape.key, mode {mode:04o}")),
    };
    vec![folder, key]
}

/// This node's clock, and that by which the registry's files are stamped.
fn stamps(ahead: i64, kind: &str) -> Check {
    let name = "stamps of files";
    let apart = ahead.unsigned_abs();
    if apart > 1000 {
        let side = if ahead > 0 { "ahead of" } else { "behind" };
        let found = format!("files on {kind} are stamped {apart} ms {side} this node's clock");
        let mend = "tell the site's support: the clock of this node or of the file server is wrong";
        return Check::warning(name, found, mend);
    }
    Check::ok(name, format!("{apart} ms from this node's clock ({kind})"))
}

pub(super) fn results(scene: &Scene) -> Vec<Check> {
    let name = "results";
    let seen = Seen::of(scene, &scene.shell.results_folder());
    let elsewhere = "call aif from a folder that you may write to, or name one by --out";
    let check = seen.fault(name, elsewhere);
    vec![check.unwrap_or_else(|| Check::ok(name, seen.words()))]
}

/// What nodes must see, too.
pub(super) fn shared(scene: &Scene) -> Vec<Check> {
    if !scene.slurm {
        return vec![Check::not_here(
            "shared folders",
            "without Slurm nobody else needs to see them",
        )];
    }
    let shell = &scene.shell;
    let mut places: Vec<(&str, PathBuf)> = vec![
        ("project", shell.home.clone()),
        ("registry", shell.registry_folder()),
        ("results", shell.results_folder()),
    ];
    places.extend(project::candidate(scene).map(|path| ("aif", path)));
    let images = scene.variables().get("CONTAINER_DIR").map(PathBuf::from);
    places.extend(images.map(|path| ("images", path)));
    let kinds = places
        .into_iter()
        .filter_map(|(what, path)| Some((what, Kind::of(&disk::nearest(&path)).ok()?)));
    vec![shared_check(&kinds.collect::<Vec<_>>())]
}

fn shared_check(places: &[(&str, Kind)]) -> Check {
    let name = "shared folders";
    let told = |own: &[&(&str, Kind)]| {
        let mut by_kind: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (what, kind) in own {
            by_kind.entry(kind.name).or_default().push(what);
        }
        let each = by_kind.into_iter();
        listed(each.map(|(kind, names)| format!("{} on {kind}", listed(names))))
    };
    let is_shared = |place: &&(&str, Kind)| place.1.medium == Medium::Network;
    let (good, bad): (Vec<_>, Vec<_>) = places.iter().partition(is_shared);
    if bad.is_empty() {
        Check::ok(name, told(&good))
    } else {
        Check::warning(
            name,
            format!(
                "{}: this may be this machine's alone, so that nodes do not see it",
                told(&bad)
            ),
            "see whether they do: srun -n1 ls, and the folder; else move it to a shared file system",
        )
    }
}

/// The node's own disk.
pub(super) fn local(scene: &Scene) -> Vec<Check> {
    let site = scene.site();
    let folder = site.local_folder(&scene.shell.env);
    let seen = Seen::of(scene, &folder);
    // on a login node the nodes' disk need not be there
    let elsewhere = site.local_dir.is_some() && !seen.exists && scene.slurm && scene.job.is_none();
    vec![local_check(&seen, elsewhere)]
}

fn local_check(seen: &Seen, elsewhere: bool) -> Check {
    let name = "node's disk";
    let mend = "set local_dir in the site file, or TMPDIR, to a folder on the node's own disk";
    match seen.kind {
        _ if elsewhere => Check::not_here(
            name,
            format!("{} is not on this machine; nodes may have it", seen.shown),
        ),
        Some(kind) if kind.medium == Medium::Network => Check::failed(
            name,
            format!(
                "{} is on {}, where Prometheus's database breaks",
                seen.shown, kind.name
            ),
            mend,
        ),
        Some(kind) if kind.medium == Medium::Memory => seen
            .fault(name, mend)
            .filter(|check| check.state == State::Failed)
            .unwrap_or_else(|| {
                let found = format!(
                    "{}: what is written there takes the job's memory",
                    seen.words()
                );
                Check::warning(name, found, mend)
            }),
        _ => seen
            .fault(name, mend)
            .unwrap_or_else(|| Check::ok(name, seen.words())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXT4: i64 = 0xEF53;
    const NFS: i64 = 0x6969;
    const TMPFS: i64 = 0x0102_1994;

    fn seen(magic: i64) -> Seen {
        Seen {
            shown: "~/f".to_owned(),
            exists: true,
            kind: Some(Kind::of_magic(magic)),
            room: Some(50_000_000_000),
            trial: Ok(0),
        }
    }

    fn states(checks: &[Check]) -> Vec<State> {
        checks.iter().map(|check| check.state).collect()
    }

    #[test]
    fn a_registry_is_ours_writable_and_private() {
        let judged = |modes| registry_checks(&Ok(modes), &seen(NFS));
        assert_eq!(states(&judged((None, None))), [State::Ok, State::Ok]);
        let good = judged((Some(0o700), Some(0o600)));
        assert_eq!(good[0].found, "~/f, on NFS, 50 GB free");
        assert_eq!(states(&good), [State::Ok, State::Ok]);
        let loose = judged((Some(0o755), Some(0o644)));
        assert_eq!(states(&loose), [State::Warning, State::Warning]);
        assert!(loose[1].found.contains("0644"));
        let foreign = store::Error::Foreign {
            path: "/r".into(),
            owner: 7,
        };
        let foreign = registry_checks(&Err(foreign), &seen(NFS));
        assert_eq!(states(&foreign), [State::Failed]);
        assert!(foreign[0].mend.as_ref().unwrap().contains("AIF_REGISTRY"));
        let full = Seen {
            trial: Err(io::ErrorKind::StorageFull.into()),
            ..seen(NFS)
        };
        assert_eq!(
            registry_checks(&Ok((None, None)), &full)[0].state,
            State::Failed
        );
        let low = Seen {
            room: Some(5),
            ..seen(NFS)
        };
        assert_eq!(
            registry_checks(&Ok((None, None)), &low)[0].state,
            State::Warning
        );
    }

    #[test]
    fn clocks_more_than_a_second_apart_are_warned_of() {
        assert_eq!(stamps(-3, "NFS").state, State::Ok);
        assert_eq!(stamps(1000, "NFS").state, State::Ok);
        let behind = stamps(-61_000, "NFS");
        assert_eq!(behind.state, State::Warning);
        assert_eq!(
            behind.found,
            "files on NFS are stamped 61000 ms behind this node's clock"
        );
    }

    #[test]
    fn folders_on_a_disk_may_be_this_machines_alone() {
        let kind = Kind::of_magic;
        let good = shared_check(&[("project", kind(NFS)), ("registry", kind(NFS))]);
        assert_eq!(good.state, State::Ok);
        let mixed = shared_check(&[("project", kind(NFS)), ("registry", kind(TMPFS))]);
        assert_eq!(mixed.state, State::Warning);
        assert!(
            mixed.found.starts_with("registry on tmpfs:"),
            "{}",
            mixed.found
        );
    }

    #[test]
    fn the_nodes_disk_is_no_network_file_system_and_better_no_memory() {
        assert_eq!(local_check(&seen(EXT4), false).state, State::Ok);
        assert_eq!(local_check(&seen(TMPFS), false).state, State::Warning);
        assert_eq!(local_check(&seen(NFS), false).state, State::Failed);
        assert_eq!(local_check(&seen(NFS), true).state, State::NotHere);
        let closed = Seen {
            trial: Err(io::ErrorKind::PermissionDenied.into()),
            ..seen(TMPFS)
        };
        assert_eq!(local_check(&closed, false).state, State::Failed);
    }
}
