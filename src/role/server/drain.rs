//! The end of a server that served: clients first, then the engine.
//!
//! When a whole job is told to end, all of its roles are, at once, and each keeps its place by watching the others'
//! records: a bench that still measures and a monitor that still archives need the engine. It goes when they are done,
//! when nothing is in flight, or when seven tenths of the grace are over; what is left is the engine's.

use std::time::Duration;

use tokio::time::sleep;

use crate::{
    api::client,
    registry::{Kind, Liveness, Seen, State, Watch},
    shutdown::Cause,
};

use super::{engine::Engine, setup::Parts};

/// Between two looks at the others.
const INTERVAL: Duration = Duration::from_millis(250);

/// Share of the grace after which nobody is waited for, and after which the engine is killed.
const CLIENTS: f64 = 0.7;
const ENGINE: f64 = 0.85;

/// Ends the engine in order.
pub(super) async fn drain(parts: &Parts<'_>, engine: &Engine) {
    parts.state(State::Draining);
    let shutdown = &parts.context.shutdown;
    let left = |share: f64| {
        let told = shutdown.told_ago().unwrap_or_default();
        parts.context.grace().mul_f64(share).saturating_sub(told)
    };
    tokio::select! {
        () = clients_gone(parts) => {}
        () = sleep(left(CLIENTS)) => tracing::warn!("Clients were still there when the time was up"),
        _ = engine.child.ended() => {}
        () = shutdown.stop.cancelled() => {}
    }
    let grace = left(ENGINE).max(Duration::from_secs(1));
    let how = engine.child.stop(grace, shutdown.stop.cancelled()).await;
    tracing::info!(%how, "The engine ended");
}

/// Comes when no bench measures, no monitor archives, and nothing is in flight.
async fn clients_gone(parts: &Parts<'_>) {
    let mut watch = Watch::new(&parts.context.store);
    let released = parts.context.shutdown.cause() == Some(Cause::Released);
    loop {
        let seen = watch.refresh().await;
        let waited_for = seen
            .iter()
            .any(|seen| parts.context.owns(&seen.record) && needs_engine(seen, released));
        if !waited_for && in_flight(parts).await == 0.0 {
            return;
        }
        sleep(INTERVAL).await;
    }
}

/// Is this role of our run not done? The stack releases the server after all others.
fn needs_engine(seen: &Seen, released: bool) -> bool {
    let record = &seen.record;
    let done = match record.kind {
        Kind::Bench => record.state == State::Done,
        Kind::Monitor => released || record.state == State::Archived,
        _ => true,
    };
    seen.liveness != Liveness::Dead && !done
}

/// Requests in flight, by the engine's own metrics; none where it does not tell.
async fn in_flight(parts: &Parts<'_>) -> f64 {
    let Some(upstream) = parts.shared.upstream() else {
        return 0.0;
    };
    match client::get(&upstream.url, &upstream.access, Duration::from_secs(1)).await {
        Ok(answer) => parts.profile.in_flight(&answer.text()).unwrap_or(0.0),
        Err(_) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use Liveness::{Alive, Dead};

    use super::*;
    use crate::registry::Record;

    #[test]
    fn roles_of_the_run_are_waited_for_until_they_are_done() {
        let needs = |kind, state, liveness, released| {
            let mut record = Record::new(kind, "s", "r", None, None);
            record.state = state;
            needs_engine(&Seen { record, liveness }, released)
        };

        let cases = [
            (needs(Kind::Bench, State::Ready, Alive, false), true),
            (needs(Kind::Bench, State::Draining, Alive, true), true),
            (needs(Kind::Bench, State::Done, Alive, false), false),
            (needs(Kind::Bench, State::Ready, Dead, false), false),
            (needs(Kind::Monitor, State::Draining, Alive, false), true),
            (needs(Kind::Monitor, State::Archived, Alive, false), false),
            (needs(Kind::Monitor, State::Ready, Alive, true), false),
            (needs(Kind::Server, State::Ready, Alive, false), false),
        ];
        for (index, (got, expected)) in cases.into_iter().enumerate() {
            assert_eq!(got, expected, "case {index}");
        }
    }
}
