//! Samplers beside a load: looked at by a thread of their own, once a second, and served as they were last seen.
//!
//! Other roles look when they are scraped, on the thread that answers. In a bench that thread also minds the load, and a
//! look reads some dozens of files, or asks a driver that takes its time: so neither it nor a worker ever waits for one.
//! The thread takes turns with the workers as any other does; a look costs them less than a hundredth of a core.
//!
//! A look that is older than [`STALE`] is not served: a gap is true, an old value is not. What can fail: the thread cannot be
//! started, which is told in the log; then there are no series of the node.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    thread,
    time::Duration,
};

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, registry::Registry};

use super::{host::Samplers, sample::Family};
use crate::{clock, env::Env};

/// Between two looks.
const PERIOD: Duration = Duration::from_secs(1);
/// An older look is none.
const STALE: Duration = Duration::from_secs(5);

/// Registers the samplers of node, job and step, which look at their own pace.
pub fn register(registry: &mut Registry, env: &Env) -> Samplers {
    let samplers = Samplers::of(env);
    let latest = Latest::default();
    registry.register_collector(Box::new(Served(Arc::clone(&latest))));
    let (watched, seen_by) = (Arc::downgrade(&latest), samplers.clone());
    let started = thread::Builder::new()
        .name("samplers".to_owned())
        .spawn(move || watch(&watched, &seen_by, PERIOD));
    if let Err(error) = started {
        tracing::warn!(%error, "No thread to look at the node: its load is not measured here");
    }
    samplers
}

/// What was seen, and when by the monotonic clock; nothing yet.
type Look = Mutex<Option<(u64, Vec<Family>)>>;
type Latest = Arc<Look>;

/// Looks until nobody can ask any more.
fn watch(latest: &Weak<Look>, samplers: &Samplers, period: Duration) {
    while latest.strong_count() > 0 {
        // not under the lock: who serves the last look must not wait for the next
        let seen = samplers.look();
        let Some(latest) = latest.upgrade() else {
            return;
        };
        *latest.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((clock::monotonic_nanoseconds(), seen));
        drop(latest);
        thread::sleep(period);
    }
}

/// The last look.
#[derive(Debug)]
struct Served(Latest);

impl Collector for Served {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let latest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((at, families)) = &*latest else {
            return Ok(());
        };
        let age = clock::monotonic_nanoseconds().saturating_sub(*at);
        if u128::from(age) > STALE.as_nanos() {
            return Ok(());
        }
        families
            .iter()
            .try_for_each(|family| family.encode(&mut encoder))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::{
        super::sample::{Absent, Reading, Sampler},
        *,
    };

    fn text(latest: &Latest) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Served(Arc::clone(latest))));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    /// Counts its looks up to three, says that it looks, and takes its time.
    #[derive(Debug)]
    struct Slow(f64, Duration, Sender<()>);

    impl Sampler for Slow {
        fn sample(&mut self) -> Vec<(&'static str, Reading)> {
            self.2.send(()).ok();
            thread::sleep(self.1);
            self.0 = (self.0 + 1.0).min(3.0);
            let looks = Family::counter("aif_looks", "Looks", None).alone(self.0);
            vec![
                ("looks", Ok(vec![looks].into())),
                (
                    "cakes",
                    Err(Absent::Unsupported("there is no oven".to_owned())),
                ),
            ]
        }
    }

    fn wait_for(latest: &Latest, word: &str) -> String {
        let start = clock::monotonic_nanoseconds();
        loop {
            let text = text(latest);
            if text.contains(word) {
                return text;
            }
            let waited = clock::monotonic_nanoseconds() - start;
            assert!(waited < 10_000_000_000, "{word} is not in\n{text}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn it_is_looked_again_and_again_until_nobody_can_ask() {
        let latest = Latest::default();
        assert_eq!(text(&latest), "# EOF\n", "nothing was seen yet");
        let samplers = Samplers::new(vec![Box::new(Slow(0.0, Duration::ZERO, channel().0))]);
        let (watched, theirs) = (Arc::downgrade(&latest), samplers.clone());
        let watching = thread::spawn(move || watch(&watched, &theirs, Duration::from_millis(1)));
        let told = wait_for(&latest, "aif_looks_total 3.0");
        for state in [
            "aif_sampler_state{sampler=\"cakes\",state=\"unsupported\"} 1.0",
            "aif_sampler_state{sampler=\"looks\",state=\"healthy\"} 1.0",
        ] {
            assert!(told.contains(state), "{state} is not in\n{told}");
        }
        drop(latest);
        watching.join().unwrap();
        assert_eq!(
            samplers.facts()["cakes"],
            "unsupported: there is no oven",
            "the states outlive it"
        );
    }

    #[test]
    fn who_asks_does_not_wait_for_a_look() {
        let latest = Latest::default();
        let (looks, looking) = channel();
        let slow = Slow(0.0, Duration::from_secs(2), looks);
        let samplers = Samplers::new(vec![Box::new(slow)]);
        let watched = Arc::downgrade(&latest);
        let watching = thread::spawn(move || watch(&watched, &samplers, Duration::ZERO));
        looking.recv().unwrap();
        let start = clock::monotonic_nanoseconds();
        for _ in 0..10 {
            text(&latest);
        }
        let took = clock::monotonic_nanoseconds() - start;
        assert!(took < 1_000_000_000, "{took} ns");
        drop(latest);
        watching.join().unwrap();
    }

    #[test]
    fn an_old_look_is_not_served() {
        let now = clock::monotonic_nanoseconds();
        let seen = |seconds: u64| {
            let looks = Family::counter("aif_looks", "Looks", None).alone(1.0);
            let at = now.saturating_sub(seconds * 1_000_000_000);
            text(&Arc::new(Mutex::new(Some((at, vec![looks])))))
        };
        assert!(seen(1).contains("aif_looks_total 1.0"));
        assert_eq!(seen(60), "# EOF\n");
    }
}
