//! A collection of vectors: made and filled before the load, deleted after it.
//!
//! Its name is the run's own, and a database that has one of that name already refuses: what somebody else made is neither
//! filled nor deleted. Inserts are requests as those of the load, by several users, and are told beside it. A collection
//! that could not be filled is deleted, and nothing is measured: queries of half a collection say nothing.
//!
//! What can fail: a database that refuses (69), the end of the run on the way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{exporter::Exporter, service::Service};
use crate::{
    api::{
        judge::{Judge, Judged},
        openai::error_message,
        vectors::{Asked, Dialect},
    },
    exit::{Exit, Failure},
    load::{
        connection::Tcp,
        exchange::{Call, Target, exchange},
        sample::{Outcome, Sample},
        way::Way,
        workload::vectors::Set,
    },
    recipe::ClientPlan,
    role::Context,
    stats::{
        histogram::Distribution,
        results::{Collection, Metric},
    },
};

/// An index may take this long to be built.
const INDEXED: Duration = Duration::from_mins(10);
/// It is looked at as often.
const LOOK: Duration = Duration::from_millis(200);
/// A collection is deleted within this, also when the run was told to end.
const DELETE: Duration = Duration::from_secs(10);

/// Keeps an answer, whatever it says.
#[derive(Debug, Default)]
struct Kept(std::sync::Mutex<Vec<u8>>);

impl Judge for Kept {
    fn judge(&self, _index: u64, status: u16, body: &[u8]) -> Judged {
        *crate::load::dispatch::lock(&self.0) = body.to_vec();
        if (200..300).contains(&status) {
            return Judged::default();
        }
        Judged::error(format!("http_{status}"), error_message(body))
    }
}

/// The collections of a bench: one on each instance.
pub(super) struct Store<'a> {
    targets: Vec<Target<Tcp>>,
    plan: &'a ClientPlan,
    dialect: &'static Dialect,
    set: Arc<Set>,
    name: String,
    /// Those that were made here.
    made: usize,
    start: Instant,
}

impl<'a> Store<'a> {
    /// Makes and fills them. The service is told where they are, and the results what it took.
    pub(super) async fn fill(
        service: &mut Service,
        plan: &'a ClientPlan,
        (dialect, set): (&'static Dialect, Arc<Set>),
        context: &Context,
        exporter: &Arc<Exporter>,
    ) -> Result<Self, Failure> {
        let own = uuid::Uuid::new_v4().simple().to_string();
        let run: String = format!("aif-{}-{}", context.run.id, plan.name)
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "._-".contains(*c))
            .take(200)
            .collect();
        let mut store = Self {
            targets: service.targets(plan),
            plan,
            dialect,
            set,
            name: format!("{run}-{}", &own[..8]),
            made: 0,
            start: Instant::now(),
        };
        let drain = &context.shutdown.drain;
        match store.make(drain, exporter).await {
            Ok((places, collection)) => {
                service.store_at(places, collection);
                Ok(store)
            }
            Err(failure) => {
                store.delete().await;
                Err(failure)
            }
        }
    }

    async fn make(
        &mut self,
        drain: &CancellationToken,
        exporter: &Arc<Exporter>,
    ) -> Result<(Vec<String>, Collection), Failure> {
        let vectors = *self.set.plan();
        let mut places = Vec::new();
        let (mut latency, mut took) = (Distribution::new(), Duration::ZERO);
        for number in 0..self.targets.len() {
            let target = &self.targets[number];
            let asked = (self.dialect.create)(&self.name, &self.set);
            let (sample, answer) = self.ask(target, asked, drain).await;
            self.succeed(target, &sample, "make the collection")?;
            self.made = number + 1;
            let Some(place) = (self.dialect.place)(&self.name, &answer) else {
                return Err(self.refused(target, "make the collection", &error_message(&answer)));
            };
            tracing::info!(collection = self.name, vectors = vectors.count, "Inserting");
            let began = Instant::now();
            latency.merge(&self.insert(target, &place, drain, exporter).await?);
            took += began.elapsed();
            self.wait_indexed(target, &place, drain).await?;
            places.push(place);
        }
        let instances = u32::try_from(places.len()).unwrap_or(u32::MAX);
        let all = f64::from(vectors.count) * f64::from(instances);
        let rate = Metric {
            unit: "vectors/s".to_owned(),
            avg: all / took.as_secs_f64().max(f64::MIN_POSITIVE),
            ..Metric::default()
        };
        let mut collection = Collection {
            name: self.name.clone(),
            kept: vectors.keep,
            vectors: u64::from(vectors.count) * u64::from(instances),
            insert_seconds: took.as_secs_f64(),
            ..Collection::default()
        };
        (collection.metrics).insert("insert_throughput".to_owned(), rate);
        let latency = latency.to_metric("ms");
        let latency = latency.map(|metric| ("insert_latency".to_owned(), metric));
        collection.metrics.extend(latency);
        tracing::info!(
            collection = self.name,
            seconds = took.as_secs_f64(),
            "Inserted"
        );
        Ok((places, collection))
    }

    /// Inserts all vectors by several users; gives the latencies of their requests.
    async fn insert(
        &self,
        target: &Target<Tcp>,
        place: &str,
        drain: &CancellationToken,
        exporter: &Arc<Exporter>,
    ) -> Result<Distribution, Failure> {
        let vectors = *self.set.plan();
        let next = AtomicU32::new(0);
        let one = async || {
            let mut latency = Distribution::new();
            loop {
                let batch = next.fetch_add(1, Ordering::Relaxed);
                let from = batch.saturating_mul(vectors.batch);
                if from >= vectors.count {
                    return Ok(latency);
                }
                let to = from.saturating_add(vectors.batch).min(vectors.count);
                let asked = (self.dialect.insert)(place, &self.set, from..to);
                let (sample, _) = self.ask(target, asked, drain).await;
                self.succeed(target, &sample, "insert vectors")?;
                latency.record(
                    sample
                        .end
                        .saturating_sub(sample.sent.unwrap_or(sample.intended)),
                );
                exporter.inserted(u64::from(to - from));
            }
        };
        let mut users = Vec::new();
        for _ in 0..vectors.inserters {
            users.push(Box::pin(one()));
        }
        let mut all = Distribution::new();
        for latency in join(users).await {
            all.merge(&latency?);
        }
        Ok(all)
    }

    /// Waits until queries use the index that they will have.
    async fn wait_indexed(
        &self,
        target: &Target<Tcp>,
        place: &str,
        drain: &CancellationToken,
    ) -> Result<(), Failure> {
        let Some(indexed) = self.dialect.indexed else {
            return Ok(());
        };
        let deadline = Instant::now() + INDEXED;
        loop {
            let (asked, pointer, wanted) = indexed(place);
            let (sample, answer) = self.ask(target, asked, drain).await;
            self.succeed(target, &sample, "ask for the state of the collection")?;
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap_or_default();
            if answer.pointer(pointer).and_then(|state| state.as_str()) == Some(wanted) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let what = format!("within {} s", INDEXED.as_secs());
                return Err(self.refused(target, "index the collection", &what));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Deletes what was made here, unless it is to stay.
    pub(super) async fn remove(self) {
        if self.set.plan().keep {
            tracing::info!(collection = self.name, "Keeping the collection, as asked");
        } else {
            self.delete().await;
        }
    }

    async fn delete(&self) {
        let never = CancellationToken::new();
        for target in &self.targets[..self.made] {
            let asked = (self.dialect.delete)(&self.name);
            let gone = tokio::time::timeout(DELETE, self.ask(target, asked, &never)).await;
            if !gone.is_ok_and(|(sample, _)| sample.is_success()) {
                tracing::warn!(
                    collection = self.name,
                    service = target.pool.authority(),
                    "The collection could not be deleted: it is still there"
                );
            }
        }
    }

    async fn ask(
        &self,
        target: &Target<Tcp>,
        asked: Asked,
        drain: &CancellationToken,
    ) -> (Sample, Vec<u8>) {
        let kept = Arc::new(Kept::default());
        let judge: Arc<dyn Judge> = Arc::<Kept>::clone(&kept);
        let call = Call {
            index: 0,
            turn: None,
            intended: self.start.elapsed(),
            api: self.plan.api,
            stream: false,
            chunks: 0,
            body: asked.body,
            timeout: self.plan.timeout,
            way: Some(Way {
                method: asked.method,
                path: asked.path,
                judge,
            }),
        };
        let sample = exchange(target, &call, self.start, drain).await;
        let answer = std::mem::take(&mut *crate::load::dispatch::lock(&kept.0));
        (sample, answer)
    }

    fn succeed(&self, target: &Target<Tcp>, sample: &Sample, what: &str) -> Result<(), Failure> {
        let why = match &sample.outcome {
            Outcome::Success => return Ok(()),
            Outcome::Cancelled => {
                return Err(Failure::new(
                    Exit::Terminated,
                    "told to end before the load began",
                ));
            }
            Outcome::Error(class, message) => format!("({class}: {message})"),
            other => format!("({})", other.class().unwrap_or_default()),
        };
        Err(self.refused(target, what, &why))
    }

    fn refused(&self, target: &Target<Tcp>, what: &str, why: &str) -> Failure {
        let message = format!(
            "{} did not {what} {:?} {why}",
            target.pool.authority(),
            self.name
        );
        Failure::new(Exit::Unavailable, message)
    }
}

/// What each of several futures gives, run together on this event loop.
async fn join<T>(mut futures: Vec<std::pin::Pin<Box<impl Future<Output = T>>>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, done) in futures.iter_mut().zip(&mut done) {
            if done.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *done = Some(value);
            }
        }
        if done.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    done.into_iter().flatten().collect()
}
