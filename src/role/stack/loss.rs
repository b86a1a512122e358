//! What a stack makes of a role that ended too soon: one sentence for people, its code, and who goes on.
//!
//! A loss is told once, where it began: the bench of a server that was lost fails too, and what it says of that is no news.

use std::time::Duration;

use super::Stack;
use crate::{exit::Exit, files};

/// A bench sees a lost server at once; Slurm tells of the end of its step a little later.
const SERVER_END: Duration = Duration::from_secs(5);
/// Lines of a log that may hold the last words of a role.
const TAIL: usize = 10;

impl Stack<'_> {
    pub(super) async fn bench_ended(&mut self, name: &str, code: i32) {
        self.codes.benches.push(code);
        let lost_its_service = code == i32::from(Exit::Unavailable.code());
        if let Some(server) = self.server.as_mut().filter(|_| lost_its_service)
            && let Ok(code) = tokio::time::timeout(SERVER_END, server.wait()).await
        {
            self.server_lost(code, "while a bench was running");
        }
        if self.config.server.is_none() || self.server.is_some() {
            self.told(name, code);
        }
    }

    pub(super) fn server_lost(&mut self, code: i32, when: &str) {
        self.server = None;
        self.codes.server = Some(lost(code));
        if self.context.shutdown.drain.is_cancelled() {
            return;
        }
        let detail = self.error_of("server");
        self.problem(format!("the server ended {when} (exit {code}){detail}"));
    }

    pub(super) fn monitor_lost(&mut self, code: i32) {
        self.monitor = None;
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
    }

    /// What a role said of its end: its step file, else its log.
    fn error_of(&self, name: &str) -> String {
        let run = &self.context.run;
        let said = run.steps().remove(name).and_then(|step| step.error);
        let text = said.unwrap_or_else(|| last_words(&files::tail(&run.log(name), TAIL)));
        if text.is_empty() {
            String::new()
        } else {
            format!(": {text}")
        }
    }
}

/// What the end of a log says of an end: the role's own last word, else what Slurm says of its step, else all of it.
fn last_words(tail: &[String]) -> String {
    if let Some(own) = tail
        .iter()
        .rev()
        .find_map(|line| line.strip_prefix("aif: "))
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
        tail.join("\n")
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
        assert_eq!(
            words(&[event, "thread panicked"]),
            format!("{event}\nthread panicked")
        );
        assert_eq!(words(&[]), "");
    }
}
