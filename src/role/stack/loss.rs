//! What a stack makes of a role that ended too soon: one sentence for people, its code, and who goes on.
//!
//! A loss is told once, where it began: the bench of a server that was lost fails too, and what it says of that is no news.

use std::time::Duration;

use tokio::time::Instant;

use super::{Stack, wait::Event};
use crate::{exit::Exit, files};

/// A bench sees a lost server at once; Slurm tells of the end of its step a little later.
const SERVER_END: Duration = Duration::from_secs(5);
/// Lines of a log that may hold the last words of a role.
const TAIL: usize = 10;

impl Stack<'_> {
    pub(super) async fn bench_ended(&mut self, name: &str, code: i32) {
        self.codes.benches.push(code);
        if code == i32::from(Exit::Unavailable.code()) {
            self.look_for_server().await;
        }
        // what a lost server makes of a bench is no second problem, nor that it was killed when it had not ended in time
        let follows = matches!(
            Exit::from_code(code),
            None | Some(Exit::Terminated | Exit::Unavailable)
        );
        let server_lost = self.config.server.is_some() && self.server.is_none();
        if server_lost && follows {
            self.sweep(name);
        } else {
            self.told(name, code);
        }
    }

    /// Was it the server that a bench has lost?
    async fn look_for_server(&mut self) {
        let deadline = Instant::now() + SERVER_END;
        while self.server.is_some()
            && Instant::now() < deadline
            && !self.context.shutdown.drain.is_cancelled()
        {
            match self.next(None).await {
                Event::ServerEnded(code) => self.server_lost(code, "while a bench was running"),
                Event::MonitorEnded(code) => self.monitor_lost(code),
                Event::BenchEnded(_) | Event::Told | Event::Tick => {}
            }
        }
    }

    pub(super) fn server_lost(&mut self, code: i32, when: &str) {
        self.server = None;
        self.codes.server = Some(lost(code));
        self.sweep("server");
        if self.context.shutdown.drain.is_cancelled() {
            return;
        }
        let detail = self.error_of("server");
        self.problem(format!("the server ended {when} (exit {code}){detail}"));
    }

    pub(super) fn monitor_lost(&mut self, code: i32) {
        self.monitor = None;
        self.sweep("monitor");
        if self.context.shutdown.drain.is_cancelled() {
            self.codes.monitor = Some(code);
            return;
        }
        let detail = self.error_of("monitor");
        // a monitor that ends by a code of ours has tried again itself, and has archived what it had: another one would
        // write over that
        let again = Exit::from_code(code).is_none() && !self.monitor_restarted;
        let outlook = if again { ", it is started again" } else { "" };
        self.problem(format!(
            "the monitor ended by itself (exit {code}){outlook}{detail}"
        ));
        if again {
            self.monitor_restarted = true;
            match self.start_monitor() {
                Ok(monitor) => self.monitor = monitor,
                Err(failure) => self.problem(failure.to_string()),
            }
        }
        if self.monitor.is_none() {
            self.codes.monitor = Some(lost(code));
        }
    }

    /// Tells of a role that ended with an error, once it is known.
    pub(super) fn told(&mut self, name: &str, code: i32) {
        if code != 0 && !self.context.shutdown.drain.is_cancelled() {
            let detail = self.error_of(name);
            self.problem(format!("{name} ended with exit {code}{detail}"));
        }
        self.sweep(name);
    }

    /// What a role said of its end: its step file, else the end of its log.
    fn error_of(&self, name: &str) -> String {
        let run = &self.context.run;
        if let Some(said) = run.steps().remove(name).and_then(|step| step.error) {
            return format!(": {said}");
        }
        let log = run.log(name);
        let words = last_words(&files::tail(&log, TAIL));
        if words.is_empty() {
            format!(", and said no more: see {}", log.display())
        } else {
            format!(": {words}")
        }
    }
}

/// What the end of a log says of an end: the role's own last word, else what Slurm says of its step, else what others have
/// written into it (the headline of a result, a panic).
fn last_words(tail: &[String]) -> String {
    if let Some(own) = tail
        .iter()
        .rev()
        .filter_map(|line| line.strip_prefix("aif: "))
        // it is no word of an end
        .find(|line| !line.starts_with("warning: "))
    {
        return own.to_owned();
    }
    let of_slurm: Vec<&str> = tail
        .iter()
        .filter_map(|line| line.strip_prefix("srun: ").or(Some(line)))
        .filter_map(|line| line.split_once("error: "))
        .filter(|(who, _)| who.is_empty() || who.starts_with("slurmstepd"))
        .map(|(_, what)| what)
        .collect();
    if of_slurm.is_empty() {
        let of_others = tail.iter().filter(|line| !line.starts_with('{'));
        of_others.map(String::as_str).collect::<Vec<_>>().join("\n")
    } else {
        of_slurm.join("; ")
    }
}

/// The code of a role that ended by itself: it is lost whatever it says.
fn lost(code: i32) -> i32 {
    if code == 0 {
        i32::from(Exit::Unavailable.code())
    } else {
        code
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_log_is_the_roles_own_else_slurms() {
        let words = |lines: &[&str]| {
            let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
            last_words(&lines)
        };
        let event = r#"{"level":"ERROR","message":"error: x"}"#;
        assert_eq!(
            words(&[
                event,
                "aif: no port",
                "srun: error: node1: task 0: Exited with exit code 69"
            ]),
            "no port"
        );
        assert_eq!(
            words(&[
                event,
                "srun: Job step aborted: Waiting up to 32 seconds for job step to finish.",
                "slurmstepd-node3: error: *** STEP 7.0 ON node3 CANCELLED AT 2026-01-01T00:00:00 ***",
                "srun: error: node3: task 0: Killed",
            ]),
            "*** STEP 7.0 ON node3 CANCELLED AT 2026-01-01T00:00:00 ***; node3: task 0: Killed"
        );
        assert_eq!(words(&[event, "thread panicked"]), "thread panicked");
        assert_eq!(words(&[]), "");
    }
}
