//! Waiting until something answers: a probe, again and again, as long as the process behind it lives.
//!
//! The end of the process is an event of its own, so that an engine that dies while it loads is told within the second
//! and not when the time is up.

use std::time::Duration;

use tokio::time::Instant;

use super::child::Ended;

/// Between two probes.
const INTERVAL: Duration = Duration::from_millis(200);

/// Why it did not become ready.
#[derive(Debug, PartialEq, Eq)]
pub enum NotReady {
    /// The process ended.
    Ended(Ended),
    /// Time is up; with what the last probe said.
    TimedOut(String),
}

/// Asks `probe` until it gives `Ok`; its error says what is missing still.
pub async fn wait_until_ready<T>(
    mut probe: impl AsyncFnMut() -> Result<T, String>,
    ended: impl Future<Output = Ended>,
    timeout: Duration,
) -> Result<T, NotReady> {
    let deadline = Instant::now() + timeout;
    let mut last = "it was not asked yet".to_owned();
    let answered = async {
        loop {
            match probe().await {
                Ok(answer) => return answer,
                Err(missing) => last = missing,
            }
            tokio::time::sleep(INTERVAL).await;
        }
    };
    tokio::select! {
        biased;
        how = ended => return Err(NotReady::Ended(how)),
        answer = answered => return Ok(answer),
        () = tokio::time::sleep_until(deadline) => {}
    }
    Err(NotReady::TimedOut(last))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_good_answer_counts() {
        let start = Instant::now();
        let mut asked = 0;
        let probe = async || {
            asked += 1;
            if start.elapsed() < Duration::from_secs(30) {
                Err("503".to_owned())
            } else {
                Ok(asked)
            }
        };
        let ready = wait_until_ready(probe, pending(), Duration::from_mins(1)).await;
        assert_eq!(ready, Ok(151));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_is_told_at_once() {
        let start = Instant::now();
        let ended = async {
            tokio::time::sleep(Duration::from_millis(4321)).await;
            Ended::Code(1)
        };
        let probe = async || Err::<(), _>("refused".to_owned());
        let ready = wait_until_ready(probe, ended, Duration::from_mins(1)).await;
        assert_eq!(ready, Err(NotReady::Ended(Ended::Code(1))));
        assert_eq!(start.elapsed(), Duration::from_millis(4321));
    }

    #[tokio::test(start_paused = true)]
    async fn time_up_tells_what_was_missing_also_when_a_probe_hangs() {
        let start = Instant::now();
        let mut first = true;
        let probe = async || {
            if std::mem::take(&mut first) {
                return Err::<(), _>("503 Loading model".to_owned());
            }
            pending().await
        };
        let ready = wait_until_ready(probe, pending(), Duration::from_mins(1)).await;
        assert_eq!(
            ready,
            Err(NotReady::TimedOut("503 Loading model".to_owned()))
        );
        assert_eq!(start.elapsed(), Duration::from_mins(1));
    }
}
