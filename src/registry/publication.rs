//! The writer's side of one record: it is written by one process only, and renewed until it is withdrawn.
//!
//! A change of state is synced to disk, a heartbeat is not: its loss costs nothing, its `fsync` would cost a round trip
//! every five seconds. A heartbeat that cannot be written (a full quota, a server that hangs) is told and tried again;
//! the instance lives on, and readers ask its agent. Whoever drops the last handle withdraws the record, so a role that
//! ends by an error leaves none behind.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use nix::sys::statfs::{NFS_SUPER_MAGIC, statfs};
use tokio_util::sync::CancellationToken;

use super::{
    record::{Kind, Record, State},
    store::{Error, Store},
};
use crate::{clock, files::Durability, shutdown::Shutdown};

/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// How long a record counts without one; NFS shows news late (`acdirmax` is 60 s).
const LEASE_SECONDS: f64 = 30.0;
const LEASE_SECONDS_NFS: f64 = 90.0;

/// The writer's side of one record. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Publication {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    store: Store,
    record: Mutex<Record>,
    /// Held while a file is written, so that writes keep their order; `true` once the record is withdrawn.
    /// Apart from `record`, so that the agent answers while a file system hangs.
    withdrawn: Mutex<bool>,
    ended: CancellationToken,
}

impl Publication {
    /// Writes the record and starts its heartbeat on the tracker of `shutdown`; sets sequence, heartbeat and lease.
    pub fn publish(store: &Store, mut record: Record, shutdown: &Shutdown) -> Result<Self, Error> {
        record.heartbeat_seconds = HEARTBEAT.as_secs_f64();
        record.lease_seconds = lease_on(store.root());
        let inner = Arc::new(Inner {
            store: store.clone(),
            record: Mutex::new(record),
            withdrawn: Mutex::new(false),
            ended: CancellationToken::new(),
        });
        inner.forget_older_incarnations();
        inner.write(Durability::Synced)?;

        let weak = Arc::downgrade(&inner);
        let ended = inner.ended.clone();
        shutdown.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = ended.cancelled() => return,
                    () = tokio::time::sleep(HEARTBEAT) => {}
                }
                let Some(inner) = weak.upgrade() else { return };
                // beside the runtime: a shared file system may hang for minutes
                let written =
                    tokio::task::spawn_blocking(move || inner.write(Durability::Fast)).await;
                if let Ok(Err(error)) = written {
                    tracing::warn!(%error, "Cannot renew the record; trying again");
                }
            }
        });
        Ok(Self { inner })
    }

    /// Changes the record and writes it at once, synced.
    pub fn update(&self, change: impl FnOnce(&mut Record)) -> Result<(), Error> {
        let (before, after) = {
            let mut record = lock(&self.inner.record);
            let before = record.state;
            change(&mut record);
            (before, record.state)
        };
        self.inner.write(Durability::Synced)?;
        let record = self.record();
        let listed = matches!(record.kind, Kind::Server | Kind::Monitor);
        if listed && before != after && !*lock(&self.inner.withdrawn) {
            if after == State::Ready {
                self.inner.store.write_newest(&record)?;
            } else {
                self.inner.store.repoint(&record);
            }
        }
        Ok(())
    }

    /// The record as it stands.
    pub fn record(&self) -> Record {
        lock(&self.inner.record).clone()
    }

    /// Ends the heartbeat and removes the record, its key and (where it names this instance) `<service>.json`.
    pub fn withdraw(&self) {
        self.inner.withdraw();
    }
}

impl Inner {
    fn write(&self, durability: Durability) -> Result<(), Error> {
        let withdrawn = lock(&self.withdrawn);
        if *withdrawn {
            return Ok(());
        }
        let record = {
            let mut record = lock(&self.record);
            record.sequence += 1;
            record.heartbeat_at = Some(clock::now());
            record.clone()
        };
        self.store.write(&record, durability)
    }

    fn withdraw(&self) {
        self.ended.cancel();
        let mut withdrawn = lock(&self.withdrawn);
        if !*withdrawn {
            *withdrawn = true;
            let record = lock(&self.record).clone();
            self.store.remove(&record);
        }
    }

    /// A requeued job starts again under the same id: what its earlier incarnation left is nobody's any more.
    fn forget_older_incarnations(&self) {
        let own = lock(&self.record).clone();
        let older = |record: &Record| {
            record.kind == own.kind
                && record.cluster == own.cluster
                && record.job_id == own.job_id
                && record.restart_count < own.restart_count
        };
        for record in self.store.records_of(&own.service_name) {
            if older(&record) {
                self.store.remove(&record);
            }
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// A thread that panicked leaves the data as it was before or after its change, which is all that is needed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lease_on(folder: &Path) -> f64 {
    match statfs(folder) {
        Ok(facts) if facts.filesystem_type() == NFS_SUPER_MAGIC => LEASE_SECONDS_NFS,
        _ => LEASE_SECONDS,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{super::record::tests::ready, *};
    use crate::files;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        (folder, store)
    }

    fn starting(instance: &str) -> Record {
        let mut record = ready("s", "7", instance);
        record.state = State::Starting;
        record.ready_at = None;
        record
    }

    fn become_ready(publication: &Publication) {
        publication
            .update(|record| {
                record.state = State::Ready;
                record.ready_at = Some(clock::now());
            })
            .unwrap();
    }

    fn named(store: &Store) -> Option<String> {
        let value: serde_json::Value = files::read_json(&store.newest_file("s")).ok()?;
        Some(value["instance_id"].as_str()?.to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn heartbeats_raise_the_sequence_until_the_record_is_withdrawn() {
        let (_folder, store) = store();
        let shutdown = Shutdown::new();
        let publication = Publication::publish(&store, starting("i"), &shutdown).unwrap();
        let first = store.records()[0].sequence;
        tokio::time::sleep(Duration::from_secs(21)).await;
        assert_eq!(store.records()[0].sequence, first + 4);
        publication.withdraw();
        shutdown.tasks.close();
        shutdown.tasks.wait().await;
        assert!(store.records().is_empty());
        assert!(!store.root().join("s").exists());
    }

    #[tokio::test(start_paused = true)]
    async fn a_heartbeat_that_fails_is_tried_again() {
        let (folder, store) = store();
        let shutdown = Shutdown::new();
        let _publication = Publication::publish(&store, starting("i"), &shutdown).unwrap();
        fs::remove_dir_all(folder.path().join("s")).unwrap();
        // a file in the place of the folder: nothing can be written below it
        files::write_atomic(&folder.path().join("s"), b"", 0o600, Durability::Fast).unwrap();
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(store.records().is_empty());
        fs::remove_file(folder.path().join("s")).unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(store.records().len(), 1);
    }

    #[tokio::test]
    async fn what_watches_is_found_as_the_service_prometheus() {
        let (_folder, store) = store();
        let shutdown = Shutdown::new();
        let monitor = |instance: &str, service: &str| {
            let mut record = starting(instance);
            record.kind = Kind::Monitor;
            service.clone_into(&mut record.service_name);
            let publication = Publication::publish(&store, record, &shutdown).unwrap();
            become_ready(&publication);
            publication
        };
        let seen = || {
            let value: serde_json::Value =
                files::read_json(&store.newest_file("prometheus")).ok()?;
            Some(value["instance_id"].as_str()?.to_owned())
        };
        let one = monitor("one", "s");
        let two = monitor("two", "other");
        assert_eq!(seen().as_deref(), Some("two"));
        assert_eq!(named(&store), None, "it is no server of the service");
        two.withdraw();
        assert_eq!(seen().as_deref(), Some("one"), "of another service");
        one.update(|record| record.state = State::Draining).unwrap();
        assert_eq!(seen(), None);
    }

    #[tokio::test]
    async fn the_original_layout_names_the_newest_ready_server() {
        let (_folder, store) = store();
        let shutdown = Shutdown::new();
        let one = Publication::publish(&store, starting("one"), &shutdown).unwrap();
        let two = Publication::publish(&store, starting("two"), &shutdown).unwrap();
        assert_eq!(named(&store), None);
        become_ready(&one);
        become_ready(&two);
        assert_eq!(named(&store).as_deref(), Some("two"));
        one.withdraw();
        assert_eq!(named(&store).as_deref(), Some("two"), "not ours to touch");
        let three = Publication::publish(&store, starting("three"), &shutdown).unwrap();
        become_ready(&three);
        three
            .update(|record| record.state = State::Draining)
            .unwrap();
        assert_eq!(named(&store).as_deref(), Some("two"), "it points back");
        two.withdraw();
        assert_eq!(named(&store), None);
    }

    #[tokio::test]
    async fn who_ends_by_an_error_leaves_no_record_and_no_key() {
        let (folder, store) = store();
        let (key_file, _) = store.create_key("i").unwrap();
        drop(Publication::publish(&store, starting("i"), &Shutdown::new()).unwrap());
        assert!(store.records().is_empty());
        assert!(!key_file.exists());
        assert!(!folder.path().join("s").exists());
    }

    #[tokio::test]
    async fn a_new_incarnation_replaces_the_old() {
        let (_folder, store) = store();
        store.write(&starting("old"), Durability::Fast).unwrap();
        let mut record = starting("new");
        record.restart_count = 1;
        let _publication = Publication::publish(&store, record, &Shutdown::new()).unwrap();
        let left: Vec<String> = store.records().into_iter().map(|r| r.instance_id).collect();
        assert_eq!(left, ["new"]);
    }

    #[tokio::test]
    async fn a_reader_beside_a_writer_sees_whole_records_only() {
        let (_folder, store) = store();
        let publication = Publication::publish(&store, starting("i"), &Shutdown::new()).unwrap();
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut last = 0;
                while last < 200 {
                    let records = store.records();
                    assert_eq!(records.len(), 1);
                    assert!(records[0].sequence >= last, "never back in time");
                    last = records[0].sequence;
                }
            });
            for port in 0..200 {
                publication
                    .update(|record| record.ports = vec![port])
                    .unwrap();
            }
            reader.join().unwrap();
        });
    }

    proptest::proptest! {
        // a write is: make a temporary file, fill it, rename it; the power goes after any number of bytes
        #[test]
        fn a_crash_at_any_point_leaves_the_old_or_the_new_record(bytes in 0_usize..4000, renamed: bool) {
            let (_folder, store) = store();
            let old = starting("i");
            store.write(&old, Durability::Fast).unwrap();
            let mut new = old.clone();
            new.state = State::Ready;
            new.sequence = 9;
            let content = serde_json::to_vec_pretty(&new).unwrap();
            let file = store.record_file(&old);
            let temporary = file.with_file_name(".i.json.77.0");
            let written = if renamed { content.len() } else { bytes.min(content.len()) };
            #[expect(clippy::disallowed_methods, reason = "the crash is in the middle of writing")]
            fs::write(&temporary, &content[..written]).unwrap();
            if renamed {
                fs::rename(&temporary, &file).unwrap();
            }
            let expected = if renamed { new } else { old };
            proptest::prop_assert_eq!(store.records(), [expected]);
        }
    }
}
