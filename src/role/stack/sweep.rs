//! What a role that was killed has left is cleared away: its record with its key, and its files on the node's own disk.
//!
//! Every role clears up behind itself, and a heartbeat that stopped tells readers that it is dead. But `kill -9`, a crash
//! or the kernel's killer leave a key in the registry and perhaps gigabytes in `/tmp`. The stack knows that such a role
//! has ended, and which files it had, from its step file: its last words are missing there. On another node (in a
//! heterogeneous job) the files are out of reach, and what Slurm does at the job's end has to do.

use std::{fs, path::Path};

use super::Stack;
use crate::{
    registry::{Kind, Record},
    role::LOCAL_FILES,
    run::StepFile,
};

impl Stack<'_> {
    /// Clears away what this role has left, if it came to no end of its own.
    pub(super) fn sweep(&self, name: &str) {
        let context = self.context;
        let Some(step) = context.run.steps().remove(name) else {
            return;
        };
        if step.exit.is_some() {
            return;
        }
        for record in context.store.records() {
            if record.run.as_deref() == Some(&context.run.id) && is_of(&record, &step) {
                context.store.remove(&record);
                tracing::info!(instance = record.instance_id, "Removed what a role left");
            }
        }
        if step.node == context.node() {
            local_files(&step).for_each(remove);
        }
    }
}

fn is_of(record: &Record, step: &StepFile) -> bool {
    match record.kind {
        Kind::Server => step.role == "server",
        Kind::Monitor => step.role == "monitor",
        Kind::Bench => step.role.starts_with("bench-") && record.recipe_name == step.recipe,
        Kind::Rank | Kind::Gateway | Kind::Static => false,
    }
}

fn local_files(step: &StepFile) -> impl Iterator<Item = &Path> {
    let files = step
        .facts
        .get(LOCAL_FILES)
        .and_then(|files| files.as_array());
    let paths = files.into_iter().flatten().filter_map(|file| file.as_str());
    paths.map(Path::new).filter(|path| {
        // whatever stands in that file: these are called so
        let name = path.file_name().and_then(|name| name.to_str());
        path.is_absolute() && name.is_some_and(|name| name.starts_with("aif-"))
    })
}

fn remove(path: &Path) {
    let gone = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return,
    };
    match gone {
        Ok(()) => tracing::info!(path = %path.display(), "Removed what a role left"),
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "Cannot remove what a role left");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(files: &serde_json::Value) -> StepFile {
        serde_json::from_value(serde_json::json!({
            "schema": 1, "role": "bench-quick", "recipe": "quick", "pid": 1, "node": "node1",
            "started_at": "2026-01-01T00:00:00Z", "facts": {LOCAL_FILES: files},
        }))
        .unwrap()
    }

    #[test]
    fn only_files_of_ours_are_taken() {
        let step = step(&serde_json::json!([
            "/tmp/aif-7",
            "/home/me",
            "aif-7",
            "/tmp/aif-7/..",
            7
        ]));
        let taken: Vec<&Path> = local_files(&step).collect();
        assert_eq!(taken, [Path::new("/tmp/aif-7")]);
        assert_eq!(
            local_files(&self::step(&serde_json::json!(null))).count(),
            0
        );
    }

    #[test]
    fn a_record_belongs_to_the_role_that_wrote_it() {
        let step = step(&serde_json::json!(null));
        let is = |kind, recipe| is_of(&Record::new(kind, "s", recipe, None, None), &step);
        assert!(is(Kind::Bench, "quick"));
        assert!(!is(Kind::Bench, "other"));
        assert!(!is(Kind::Server, "quick"));
    }

    #[test]
    fn files_and_folders_go() {
        let root = tempfile::tempdir().unwrap();
        let (folder, file) = (root.path().join("aif-1"), root.path().join("aif-2"));
        fs::create_dir_all(folder.join("data")).unwrap();
        fs::File::create(&file).unwrap();
        for path in [&folder, &file, &file] {
            remove(path);
            assert!(!path.exists());
        }
    }
}
