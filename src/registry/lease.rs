//! Who is alive: a record whose sequence rises within its lease, on the reader's own clock.
//!
//! Clocks of two nodes are never compared: a node that is a minute off would be dead for all others. So a reader needs a
//! history, and one that has none yet asks the record's agent. A record of an earlier incarnation of a requeued job is
//! dead whatever it says. Before a lease that ran out is believed, the agent is asked once more: a writer whose quota is
//! full cannot renew its record, but it lives.

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    record::{Kind, Record},
    store::Store,
};
use crate::api::client::{self, Access};

/// How long an agent may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a reader knows of an instance's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// It renewed its record within the lease, or its agent answers.
    Alive,
    /// Its lease ran out, or its agent is gone.
    Dead,
    /// Not known yet: neither seen to renew nor answered.
    Unknown,
}

impl Liveness {
    /// Its name, as tables show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Unknown => "unknown",
        }
    }
}

/// A record and what is known of its life.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The record.
    pub record: Record,
    /// Is it alive?
    pub liveness: Liveness,
}

/// What an agent had to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// It is that instance.
    Same,
    /// Nobody listens there, or somebody else does.
    Gone,
    /// No answer in time, or none that tells.
    Silent,
}

type Ask = Arc<dyn Fn(Record) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync>;

/// What is remembered of an instance.
#[derive(Debug, Clone, Copy)]
struct History {
    restart: u32,
    sequence: u64,
    /// When the last sign of life came, or, without any, when it was first seen.
    since: Instant,
    liveness: Liveness,
}

/// A reader with a history.
pub struct Watch {
    store: Store,
    history: HashMap<(String, String), History>,
    ask: Ask,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch")
            .field("store", &self.store)
            .field("history", &self.history)
            .finish_non_exhaustive()
    }
}

impl Watch {
    /// A reader that has seen nothing yet.
    pub fn new(store: &Store) -> Self {
        // without a key nobody can be asked, and leases decide
        let key: Option<Arc<str>> = store.scrape_key().ok().map(Into::into);
        let ask: Ask = Arc::new(move |record| Box::pin(ask_agent(record, key.clone())));
        Self {
            store: store.clone(),
            history: HashMap::new(),
            ask,
        }
    }

    /// Reads the registry again. Records without history are asked at their agent (1 s, all at once).
    pub async fn refresh(&mut self) -> Vec<Seen> {
        let store = self.store.clone();
        let records = tokio::task::spawn_blocking(move || store.records())
            .await
            .unwrap_or_default();
        self.judge(records).await
    }

    async fn judge(&mut self, records: Vec<Record>) -> Vec<Seen> {
        let newest = newest_incarnations(&records);
        let now = Instant::now();
        let mut history = HashMap::new();
        let mut doubtful = Vec::new();
        for record in &records {
            let key = key_of(record);
            let old = self.history.get(&key).copied();
            let mut entry = old.unwrap_or(History {
                restart: record.restart_count,
                sequence: record.sequence,
                since: now,
                liveness: Liveness::Unknown,
            });
            let outdated = newest[&job_of(record)] > record.restart_count;
            if record.kind == Kind::Static {
                entry.liveness = Liveness::Alive;
            } else if outdated {
                entry.liveness = Liveness::Dead;
            } else if (entry.restart, entry.sequence) != (record.restart_count, record.sequence) {
                entry = History {
                    restart: record.restart_count,
                    sequence: record.sequence,
                    since: now,
                    liveness: Liveness::Alive,
                };
            } else {
                let ran_out = entry.liveness != Liveness::Dead
                    && now.duration_since(entry.since) > record.lease();
                if ran_out {
                    entry.liveness = Liveness::Dead;
                }
                if old.is_none() || ran_out {
                    doubtful.push(record.clone());
                }
            }
            history.insert(key, entry);
        }
        for (key, answer) in self.ask_all(doubtful).await {
            if let Some(entry) = history.get_mut(&key) {
                match answer {
                    Answer::Same => {
                        entry.since = Instant::now();
                        entry.liveness = Liveness::Alive;
                    }
                    Answer::Gone => entry.liveness = Liveness::Dead,
                    Answer::Silent => {}
                }
            }
        }
        self.history = history;
        records
            .into_iter()
            .map(|record| Seen {
                liveness: self.history[&key_of(&record)].liveness,
                record,
            })
            .collect()
    }

    async fn ask_all(&self, records: Vec<Record>) -> Vec<((String, String), Answer)> {
        let mut asked = tokio::task::JoinSet::new();
        for record in records {
            let key = key_of(&record);
            let answer = (self.ask)(record);
            asked.spawn(async move { (key, answer.await) });
        }
        asked.join_all().await
    }
}

fn key_of(record: &Record) -> (String, String) {
    (record.service_name.clone(), record.instance_id.clone())
}

fn job_of(record: &Record) -> (String, String) {
    (record.cluster.clone(), record.job_id.clone())
}

fn newest_incarnations(records: &[Record]) -> HashMap<(String, String), u32> {
    let mut newest = HashMap::new();
    for record in records {
        let known = newest.entry(job_of(record)).or_insert(0);
        *known = record.restart_count.max(*known);
    }
    newest
}

async fn ask_agent(record: Record, key: Option<Arc<str>>) -> Answer {
    let (Some(agent), Some(key)) = (&record.endpoints.agent, key) else {
        return Answer::Silent;
    };
    if record.is_out_of_reach() {
        return Answer::Silent;
    }
    let url = format!("{}/instance", agent.trim_end_matches('/'));
    match client::get(&url, &Access::Bearer(key.to_string()), PATIENCE).await {
        Ok(answer) if answer.status.is_success() => {
            let there: Result<serde_json::Value, _> = answer.json();
            let same = there.is_ok_and(|there| {
                there["instance_id"] == record.instance_id.as_str()
                    && there["restart_count"] == record.restart_count
            });
            if same { Answer::Same } else { Answer::Gone }
        }
        Err(error) if error.is_refused() => Answer::Gone,
        Ok(_) | Err(_) => Answer::Silent,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::{super::record::tests::ready, *};

    struct Bench {
        watch: Watch,
        asked: Arc<AtomicU32>,
        _folder: tempfile::TempDir,
    }

    fn watch(answer: Answer) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let asked = Arc::new(AtomicU32::new(0));
        let count = asked.clone();
        let mut watch = Watch::new(&Store::open(folder.path()).unwrap());
        watch.ask = Arc::new(move |_| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async move {
                if answer == Answer::Silent {
                    tokio::time::sleep(PATIENCE).await;
                }
                answer
            })
        });
        Bench {
            watch,
            asked,
            _folder: folder,
        }
    }

    async fn one(bench: &mut Bench, record: &Record) -> Liveness {
        bench.watch.judge(vec![record.clone()]).await[0].liveness
    }

    async fn pass(seconds: u64) {
        tokio::time::advance(Duration::from_secs(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn without_history_the_agent_decides() {
        for (answer, expected) in [
            (Answer::Same, Liveness::Alive),
            (Answer::Gone, Liveness::Dead),
            (Answer::Silent, Liveness::Unknown),
        ] {
            let mut bench = watch(answer);
            let record = ready("s", "7", "i");
            assert_eq!(one(&mut bench, &record).await, expected, "{answer:?}");
            assert_eq!(one(&mut bench, &record).await, expected, "{answer:?}");
            assert_eq!(bench.asked.load(Ordering::Relaxed), 1, "asked once");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_is_watched_for_one_lease() {
        let mut bench = watch(Answer::Silent);
        let mut record = ready("s", "7", "i");
        assert_eq!(one(&mut bench, &record).await, Liveness::Unknown);
        pass(29).await;
        assert_eq!(one(&mut bench, &record).await, Liveness::Unknown);
        pass(3).await;
        assert_eq!(one(&mut bench, &record).await, Liveness::Dead);
        record.sequence += 1;
        assert_eq!(
            one(&mut bench, &record).await,
            Liveness::Alive,
            "it came back"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_rising_sequence_is_life_and_a_standing_one_is_death() {
        let mut bench = watch(Answer::Silent);
        let mut record = ready("s", "7", "i");
        one(&mut bench, &record).await;
        for _ in 0..20 {
            pass(25).await;
            record.sequence += 1;
            assert_eq!(one(&mut bench, &record).await, Liveness::Alive);
        }
        pass(31).await;
        assert_eq!(one(&mut bench, &record).await, Liveness::Dead);
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_write_but_answers_lives() {
        let mut bench = watch(Answer::Same);
        let record = ready("s", "7", "i");
        for _ in 0..5 {
            assert_eq!(one(&mut bench, &record).await, Liveness::Alive);
            pass(31).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_lease_is_the_records_own() {
        let mut bench = watch(Answer::Silent);
        let mut record = ready("s", "7", "i");
        record.lease_seconds = 90.0;
        one(&mut bench, &record).await;
        pass(80).await;
        assert_eq!(one(&mut bench, &record).await, Liveness::Unknown);
        pass(20).await;
        assert_eq!(one(&mut bench, &record).await, Liveness::Dead);
    }

    #[tokio::test(start_paused = true)]
    async fn an_earlier_incarnation_is_dead_whatever_answers() {
        let mut bench = watch(Answer::Same);
        let old = ready("s", "7", "old");
        let mut new = ready("s", "7", "new");
        new.restart_count = 1;
        let seen = bench.watch.judge(vec![old, new]).await;
        assert_eq!(seen[0].liveness, Liveness::Dead);
        assert_eq!(seen[1].liveness, Liveness::Alive);
    }

    #[tokio::test(start_paused = true)]
    async fn all_are_asked_at_once_and_static_ones_never() {
        let mut bench = watch(Answer::Silent);
        let mut records: Vec<Record> = (0..50).map(|i| ready("s", "7", &format!("i{i}"))).collect();
        records[0].kind = Kind::Static;
        let start = Instant::now();
        let seen = bench.watch.judge(records).await;
        assert_eq!(start.elapsed(), PATIENCE);
        assert_eq!(seen[0].liveness, Liveness::Alive);
        assert_eq!(bench.asked.load(Ordering::Relaxed), 49);
    }

    #[tokio::test]
    async fn a_refused_agent_is_a_dead_instance() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut record = ready("s", "7", "i");
        let agent = format!("http://{}", listener.local_addr().unwrap());
        record.endpoints.agent = Some(agent);
        drop(listener);
        store
            .write(&record, crate::files::Durability::Fast)
            .unwrap();
        let seen = Watch::new(&store).refresh().await;
        assert_eq!(seen[0].liveness, Liveness::Dead);
        record.node = "another-machine".to_owned();
        store
            .write(&record, crate::files::Durability::Fast)
            .unwrap();
        let seen = Watch::new(&store).refresh().await;
        assert_eq!(
            seen[0].liveness,
            Liveness::Unknown,
            "its loopback is not ours"
        );
    }
}
