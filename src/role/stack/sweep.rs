//! What a role that was killed has left is cleared away: its record with its key, and its files on the node's own disk.
//!
//! Every role clears up behind itself, and a heartbeat that stopped tells readers that it is dead. But `kill -9`, a crash
//! or the kernel's killer leave a key in the registry and perhaps gigabytes in `/tmp`. The stack knows that such a role
//! has ended: the last words are missing in its step file. On another node (in a heterogeneous job) the files are out of
//! reach, and what Slurm does at the job's end has to do.

use super::Stack;
use crate::{
    registry::{Kind, Record},
    run::StepFile,
};

impl Stack<'_> {
    /// Clears away what this role has left, if it came to no end of its own; of an engine over several nodes, each rank.
    pub(super) fn sweep(&self, name: &str) {
        let context = self.context;
        let ranks = format!("{name}-");
        let steps = context
            .run
            .steps()
            .into_iter()
            .filter(|(step, _)| step == name || (name == "server" && step.starts_with(&ranks)));
        for (_, step) in steps.filter(|(_, step)| step.exit.is_none()) {
            context.sweep(|record| context.owns(record) && is_of(record, &step));
        }
    }
}

fn is_of(record: &Record, step: &StepFile) -> bool {
    match record.kind {
        Kind::Server => step.role == "server",
        Kind::Monitor | Kind::Grafana => step.role == "monitor",
        Kind::Bench => step.role.starts_with("bench-") && record.recipe_name == step.recipe,
        Kind::Rank => step.role == format!("server-{}", record.rank),
        Kind::Gateway | Kind::Static => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_belongs_to_the_role_that_wrote_it() {
        let step: StepFile = serde_json::from_value(serde_json::json!({
            "schema": 1, "role": "bench-quick", "recipe": "quick", "pid": 1, "node": "node1",
            "started_at": "2026-01-01T00:00:00Z", "facts": {},
        }))
        .unwrap();
        let is = |kind, recipe| is_of(&Record::new(kind, "s", recipe, None, None), &step);
        assert!(is(Kind::Bench, "quick"));
        assert!(!is(Kind::Bench, "other"));
        assert!(!is(Kind::Server, "quick"));
    }
}
