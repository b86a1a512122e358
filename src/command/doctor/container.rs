//! What runs containers: there or not, how it was installed, and where it keeps what it unpacks.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    LIMIT,
    check::{Check, State, version},
    scene::{Scene, listed},
};
use crate::{
    apptainer::{
        command,
        installation::{self, Installation, Node, Way},
    },
    disk::{self, Kind, Medium},
    process::ask::{self, Answer},
};

const NAME: &str = "container runtime";
/// The oldest versions of either branch that were tried.
const OLDEST: [(&str, (u32, u32)); 2] = [("apptainer", (1, 1)), ("singularity", (3, 8))];

pub(super) async fn probe(scene: Arc<Scene>) -> Vec<Check> {
    let program = command::find_program(&scene.shell.env);
    let question = installation::question(program.as_deref());
    let argv = command::with_modules(question, scene.site());
    let answer = ask::ask(&argv, LIMIT).await;
    let found = match installed(&answer, &scene.site().modules) {
        Ok(found) => found,
        Err(check) => return vec![check],
    };
    let by_module = program.is_none() && !scene.site().modules.is_empty();
    let way = found.way(Node::here());
    vec![
        runtime(&found, &scene.shown(&found.program), by_module),
        mounting(way, found.setuid && !found.starter_has_its_bit()),
    ]
}

/// The installation, or the line that says why there is none.
fn installed(
    answer: &Result<Answer, ask::Error>,
    modules: &[String],
) -> Result<Installation, Check> {
    let loaded = listed(modules);
    match answer {
        Err(ask::Error::Start { program, .. }) => Err(Check::failed(
            NAME,
            format!("cannot start {program}, by which it is looked for"),
            "put a shell on the PATH",
        )),
        Err(error) => Err(Check::warning(
            NAME,
            format!("{error}: whether it is there cannot be told"),
            "try again; where modules are slow, load them before",
        )),
        Ok(answer) if !answer.success => {
            let said = answer.err.lines().rfind(|line| !line.trim().is_empty());
            let said = said.unwrap_or("the shell ended with an error").trim();
            Err(Check::failed(
                NAME,
                format!("the site's modules ({loaded}) cannot be loaded: {said}"),
                "correct modules (and login_shell) in the site file; module avail lists what there is",
            ))
        }
        Ok(answer) => installation::parse(&answer.out).ok_or_else(|| {
            if modules.is_empty() {
                Check::failed(
                    NAME,
                    "neither apptainer nor singularity is on the PATH: recipes with containers cannot run",
                    "load its module, and name it in the site file (modules: [Apptainer/…]); where there is none, ask the site for apptainer",
                )
            } else {
                Check::failed(
                    NAME,
                    format!("the site's modules ({loaded}) bring neither apptainer nor singularity"),
                    "name its module in the site file; module avail lists what there is",
                )
            }
        }),
    }
}

fn runtime(found: &Installation, path: &str, by_module: bool) -> Check {
    let said = &found.version;
    let how = if by_module {
        ", by the site's modules"
    } else {
        ""
    };
    let text = format!("{said} ({path}{how})");
    let oldest = OLDEST.iter().find(|(name, _)| said.contains(name));
    match (version(said), oldest) {
        (Some(own), Some((_, oldest))) if own >= *oldest => Check::ok(NAME, text),
        (Some(_), Some((name, (major, minor)))) => Check::warning(
            NAME,
            format!("{text} is older than what was tried, {name} {major}.{minor}"),
            "ask the site for a newer one",
        ),
        _ => Check::warning(
            NAME,
            format!("{path} does not say which version it is: {said:?}"),
            "see for yourself: apptainer --version",
        ),
    }
}

fn mounting(way: Way, starter_lost_its_bit: bool) -> Check {
    let name = "image mounts";
    let note = if starter_lost_its_bit {
        "; its starter-suid has lost root's s-bit and is not used"
    } else {
        ""
    };
    match way {
        Way::Root => Check::ok(name, "by the kernel, as root"),
        Way::Setuid => Check::ok(name, "by the kernel (setuid starter)"),
        Way::Fuse => Check::ok(name, format!("by squashfuse in a user namespace{note}")),
        Way::Unpacked(missing) => Check::warning(
            name,
            format!(
                "no {missing}: every start unpacks the whole image, which takes minutes and its room in TMPDIR{note}"
            ),
            match missing {
                "/dev/fuse" => "ask the site to let users open /dev/fuse (mode 0666) on the nodes",
                _ => "ask the site for squashfuse on the nodes",
            },
        ),
        Way::None(why) => Check::failed(
            name,
            format!("no container can start: {why}, and there is no setuid starter{note}"),
            "ask the site to allow user namespaces on the nodes, or for apptainer-suid",
        ),
    }
}

/// Where it keeps what it pulls, and where it unpacks.
pub(super) fn folders(scene: &Scene) -> Vec<Check> {
    let env = &scene.shell.env;
    let of = |end: &str| {
        let names = ["APPTAINER", "SINGULARITY"].map(|start| format!("{start}_{end}"));
        names.iter().find_map(|name| env.path(name))
    };
    let cache = of("CACHEDIR").unwrap_or_else(|| env.home().join(".apptainer/cache"));
    let temporary = of("TMPDIR")
        .or_else(|| env.path("TMPDIR"))
        .unwrap_or_else(|| PathBuf::from("/tmp"));
    let seen = |path: &Path| Kind::of(&disk::nearest(path)).ok();
    let (cache_kind, temporary_kind) = (seen(&cache), seen(&temporary));
    vec![
        cache_check(&scene.shown(&cache), cache_kind),
        temporary_check(&scene.shown(&temporary), temporary_kind),
    ]
}

fn cache_check(path: &str, kind: Option<Kind>) -> Check {
    let name = "apptainer's cache";
    match kind {
        Some(Kind { name: "NFS", .. }) => Check::warning(
            name,
            format!("{path} is on NFS, where pulls are slow and fill the home's quota"),
            "export APPTAINER_CACHEDIR= a folder on scratch",
        ),
        Some(kind) => Check::ok(name, format!("{path}, on {}", kind.name)),
        None => unreadable(name, path),
    }
}

fn temporary_check(path: &str, kind: Option<Kind>) -> Check {
    let name = "apptainer's tmp";
    let mend = "export APPTAINER_TMPDIR= a folder on the node's own disk";
    match kind {
        Some(kind) if kind.medium == Medium::Network => Check::warning(
            name,
            format!(
                "{path} is on {}, where images are packed and unpacked slowly, if at all",
                kind.name
            ),
            mend,
        ),
        Some(kind) if kind.medium == Medium::Memory => Check::warning(
            name,
            format!(
                "{path} is on {}: what is unpacked there takes the job's memory",
                kind.name
            ),
            mend,
        ),
        Some(kind) => Check::ok(name, format!("{path}, on {}", kind.name)),
        None => unreadable(name, path),
    }
}

fn unreadable(name: &str, path: &str) -> Check {
    Check::bad(
        name,
        State::Warning,
        format!("{path} cannot be looked at"),
        "export APPTAINER_CACHEDIR and APPTAINER_TMPDIR to folders of your own",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(success: bool, out: &str, err: &str) -> Answer {
        Answer {
            success,
            out: out.to_owned(),
            err: err.to_owned(),
        }
    }

    #[test]
    fn why_there_is_no_runtime_is_told_with_its_mend() {
        let module = ["Apptainer/1.3".to_owned()];
        let none = installed(&Ok(answer(true, "", "")), &[]).unwrap_err();
        assert_eq!(none.state, State::Failed);
        assert!(none.mend.unwrap().contains("modules: [Apptainer/"));
        let empty = installed(&Ok(answer(true, "Welcome\n", "")), &module).unwrap_err();
        assert_eq!(
            empty.found,
            "the site's modules (Apptainer/1.3) bring neither apptainer nor singularity"
        );
        let refused = answer(false, "", "bash: line 1: module: command not found\n\n");
        let refused = installed(&Ok(refused), &module).unwrap_err();
        assert!(
            refused.found.ends_with("module: command not found"),
            "{}",
            refused.found
        );
        let silent = installed(&Err(ask::Error::Deadline { limit: LIMIT }), &module);
        assert_eq!(silent.unwrap_err().state, State::Warning);
    }

    #[test]
    fn old_and_unknown_versions_are_warned_of() {
        let state = |said: &str| {
            let found =
                installation::parse(&format!("aif-program=/usr/bin/x\naif-version={said}\n"));
            let found = found.unwrap();
            runtime(&found, "/usr/bin/x", false).state
        };
        assert_eq!(state("apptainer version 1.4.5"), State::Ok);
        assert_eq!(state("singularity-ce version 4.1.2"), State::Ok);
        assert_eq!(state("apptainer version 1.0.3"), State::Warning);
        assert_eq!(state("singularity version 2.6.1"), State::Warning);
        assert_eq!(state(""), State::Warning);
    }

    #[test]
    fn unpacking_is_a_warning_and_no_way_at_all_a_failure() {
        assert_eq!(mounting(Way::Fuse, false).state, State::Ok);
        assert!(mounting(Way::Fuse, true).found.contains("s-bit"));
        let unpacked = mounting(Way::Unpacked("squashfuse"), false);
        assert_eq!(unpacked.state, State::Warning);
        assert!(unpacked.mend.unwrap().contains("squashfuse"));
        let none = mounting(Way::None("user.max_user_namespaces is 0"), false);
        assert_eq!(none.state, State::Failed);
        assert!(none.found.contains("user.max_user_namespaces is 0"));
    }

    #[test]
    fn a_cache_on_nfs_and_a_tmp_off_the_disk_are_warned_of() {
        let (nfs, lustre) = (Kind::of_magic(0x6969), Kind::of_magic(0x0BD0_0BD0));
        let (tmpfs, ext4) = (Kind::of_magic(0x0102_1994), Kind::of_magic(0xEF53));
        assert_eq!(cache_check("~/c", Some(nfs)).state, State::Warning);
        assert_eq!(cache_check("/scratch/c", Some(lustre)).state, State::Ok);
        for kind in [nfs, lustre, tmpfs] {
            assert_eq!(temporary_check("/t", Some(kind)).state, State::Warning);
        }
        assert_eq!(temporary_check("/tmp", Some(ext4)).state, State::Ok);
    }
}
