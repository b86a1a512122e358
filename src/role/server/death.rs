//! How an engine's end is told: from its log, with the mend where it is known. Nothing can fail.
//!
//! What stands in a log is not always why it ended: an engine may have lived with a complaint for hours. So one that ended
//! by a signal is asked for its last lines only, and of a taken port an older line must name that port.

use std::sync::atomic::Ordering;

use super::{last_words, setup::Parts};
use crate::{
    exit::{Exit, Failure},
    files,
    process::child::Ended,
};

/// What the kernel's killer does says nothing in any log.
const OUT_OF_MEMORY: &str = "the job's cgroup counted an out-of-memory kill meanwhile: ask for more memory (--mem, or orchestration.resources.memory_gb)";

impl Parts<'_> {
    /// The failure that an engine's end is.
    pub(super) fn death(&self, what: &str, how: Ended) -> Failure {
        // whom a signal ended did not end of what it complained of long before
        self.told(&format!("{what}: {how}"), how.signal().is_some())
    }

    /// What this start of the engine wrote to its log, as far back as is kept.
    pub(super) fn said(&self) -> Vec<String> {
        files::tail_after(&self.log, self.log_before.load(Ordering::Relaxed))
    }

    /// A failure of the engine, with the mend where it is known, the line that tells why, and the last lines of its log.
    pub(super) fn failure(&self, what: &str) -> Failure {
        self.told(what, false)
    }

    fn told(&self, what: &str, lately: bool) -> Failure {
        let killed = self.kills() > self.kills_before.load(Ordering::Relaxed);
        let said = self.said();
        let (line, mend) = if killed {
            (None, Some(OUT_OF_MEMORY))
        } else {
            self.profile
                .cause(last_words::looked_at(&said, lately))
                .unzip()
        };
        let log = self.log.display().to_string();
        Failure::new(
            Exit::Unavailable,
            last_words::told(what, mend, line, &log, &said),
        )
    }

    /// Did it say that its port was taken? A line from far above the end must name the port: an engine may live without others.
    pub(super) fn said_in_use(&self, port: u16) -> bool {
        let complains = |line: &&String| {
            let line = line.to_ascii_lowercase();
            let of_port = ["address", "socket", "port "]
                .iter()
                .any(|word| line.contains(word));
            (of_port && line.contains("already in use")) || line.contains("couldn't bind")
        };
        let (said, named) = (self.said(), port.to_string());
        let lately = last_words::looked_at(&said, true);
        let mut complaints = said.iter().filter(complains);
        lately.iter().any(|line| complains(&line)) || complaints.any(|line| line.contains(&named))
    }
}
