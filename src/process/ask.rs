//! A question to another program: run to its end, its answer kept, and given up after a while.
//!
//! For programs whose words are wanted and nothing else (`--version`). The program leads a group of its own, which is
//! killed as a whole when time is up: what hangs is often a child of the shell that was started. What can fail: it is
//! not there, or it does not end.

use std::{path::PathBuf, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::process::Command;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// What was started.
        program: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// Time was up.
    #[error("no answer within {} s", limit.as_secs())]
    Deadline {
        /// Time that it had.
        limit: Duration,
    },
}

/// What it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Did it end with 0?
    pub success: bool,
    /// Its standard output.
    pub out: String,
    /// Its standard error.
    pub err: String,
}

/// Ends the group unless it was told that nothing is left to end.
struct Group(Option<Pid>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// Runs a command line to its end.
///
/// # Panics
/// Where the command line is empty, or outside of a tokio runtime.
pub async fn ask(argv: &[String], limit: Duration) -> Result<Answer, Error> {
    let failed = |source| Error::Start {
        program: PathBuf::from(&argv[0]).display().to_string(),
        source,
    };
    let child = Command::new(&argv[0])
        .args(&argv[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let mut group = Group(pid.map(Pid::from_raw));
    let output = tokio::time::timeout(limit, child.wait_with_output())
        .await
        .map_err(|_| Error::Deadline { limit })?
        .map_err(failed)?;
    group.0 = None;
    Ok(Answer {
        success: output.status.success(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Vec<String> {
        ["sh", "-c", script].map(str::to_owned).to_vec()
    }

    #[tokio::test]
    async fn words_and_success_come_back() {
        let limit = Duration::from_secs(30);
        let answer = ask(&shell("echo out; echo err >&2; exit 3"), limit).await;
        assert_eq!(
            answer.unwrap(),
            Answer {
                success: false,
                out: "out\n".to_owned(),
                err: "err\n".to_owned()
            }
        );
        let error = ask(&["/nowhere/at/all".to_owned()], limit)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "cannot start /nowhere/at/all");
    }

    #[tokio::test]
    async fn what_hangs_is_given_up() {
        let error = ask(&shell("sleep 1000"), Duration::from_millis(50)).await;
        let error = error.unwrap_err();
        assert!(matches!(error, Error::Deadline { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_is_given_up_ends_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! >{}; wait", file.display());
        let read = || std::fs::read_to_string(&file).unwrap_or_default();
        let started = async {
            while !read().ends_with('\n') {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let argv = shell(&script);
        tokio::select! {
            answer = ask(&argv, Duration::from_mins(1)) => panic!("{answer:?}"),
            () = started => {}
        }
        let stat = format!("/proc/{}/stat", read().trim());
        // whoever adopted it takes it away at its own pace
        let ended = async {
            while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z")) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let limit = Duration::from_secs(30);
        assert!(tokio::time::timeout(limit, ended).await.is_ok(), "{stat}");
    }
}
