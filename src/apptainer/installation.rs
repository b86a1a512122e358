//! How Apptainer is installed on this node, and what that means for its images.
//!
//! An image file (SIF) is mounted by the kernel where a starter with root's s-bit may ask for it, else by `squashfuse`
//! inside a user namespace, else it is unpacked into a temporary folder at every start: an engine's image has 10 GB, so
//! the last is hardly usable. Without starter and without user namespaces nothing runs. It says by `buildcfg` where its
//! parts are; whether the starter still has its s-bit after an installation by hand, nobody but the file says.
//!
//! What can fail: it is not there, or a module that should bring it is not.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use nix::unistd::AccessFlags;

/// Asks a shell (with the site's modules) for program, version, parts and helpers; `$1` is the program where it is known.
const QUESTION: &str = r#"
p=${1:-$(command -v apptainer || command -v singularity)}
[ -n "$p" ] || exit 0
printf 'aif-program=%s\naif-version=%s\n' "$p" "$("$p" --version 2>/dev/null)"
"$p" buildcfg 2>/dev/null | sed 's/^/aif-/'
for h in squashfuse_ll squashfuse; do if command -v $h >/dev/null; then printf 'aif-helper=%s\n' $h; fi; done
"#;

/// What a node has of Apptainer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installation {
    /// The program.
    pub program: PathBuf,
    /// Its own words about its version.
    pub version: String,
    /// Does it mean to use a starter with the s-bit?
    pub setuid: bool,
    /// Folder of its parts.
    parts: Option<PathBuf>,
    configuration: Option<PathBuf>,
    /// Is a `squashfuse` on the PATH?
    squashfuse: bool,
}

/// What a node lets an ordinary user do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node {
    /// Are we root?
    pub root: bool,
    /// Why there are no user namespaces; `None` where there are.
    pub no_namespaces: Option<&'static str>,
    /// Can `/dev/fuse` be used?
    pub fuse: bool,
}

/// How images come to their contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The kernel mounts them, for root.
    Root,
    /// The kernel mounts them, asked by the starter with the s-bit.
    Setuid,
    /// `squashfuse` mounts them in a user namespace.
    Fuse,
    /// They are unpacked at every start: this is missing.
    Unpacked(&'static str),
    /// No container starts at all, for this reason.
    None(&'static str),
}

/// The command line whose output [`parse`] reads; `program` where it is known already.
pub fn question(program: Option<&Path>) -> Vec<String> {
    let known = program.map(|path| path.display().to_string());
    let words = ["sh", "-c", QUESTION, "aif"].map(str::to_owned);
    words.into_iter().chain(known).collect()
}

/// Reads the answer; `None` where there is no program. What a login shell says besides is passed over.
pub fn parse(answer: &str) -> Option<Installation> {
    let mut found = Installation::default();
    let mut folder = None;
    let lines = answer.lines().filter_map(|line| line.strip_prefix("aif-"));
    for (key, value) in lines.filter_map(|line| line.split_once('=')) {
        match key {
            "program" => found.program = value.into(),
            "version" => value.clone_into(&mut found.version),
            "helper" => found.squashfuse = true,
            "LIBEXECDIR" => folder = Some(PathBuf::from(value)),
            _ if key.ends_with("_SUID_INSTALL") => found.setuid = value == "1",
            _ if key.ends_with("_CONF_FILE") => found.configuration = Some(value.into()),
            _ => {}
        }
    }
    let name = found.program.file_name()?.to_owned();
    found.parts = folder.map(|folder| folder.join(name).join("bin"));
    Some(found)
}

impl Installation {
    /// How images come to their contents on such a node.
    pub fn way(&self, node: Node) -> Way {
        if node.root {
            return Way::Root;
        }
        if self.setuid && self.starter_has_its_bit() && self.setuid_is_allowed() {
            return Way::Setuid;
        }
        if let Some(why) = node.no_namespaces {
            return Way::None(why);
        }
        let own = |name: &str| {
            let parts = self.parts.as_deref();
            parts.is_some_and(|parts| parts.join(name).is_file())
        };
        if !self.squashfuse && !own("squashfuse_ll") && !own("squashfuse") {
            Way::Unpacked("squashfuse")
        } else if !node.fuse {
            Way::Unpacked("/dev/fuse")
        } else {
            Way::Fuse
        }
    }

    /// Is the starter root's, with the s-bit?
    pub fn starter_has_its_bit(&self) -> bool {
        let starter = self.parts.as_ref().map(|parts| parts.join("starter-suid"));
        let meta = starter.and_then(|path| fs::metadata(path).ok());
        meta.is_some_and(|meta| meta.uid() == 0 && meta.permissions().mode() & 0o4000 != 0)
    }

    fn setuid_is_allowed(&self) -> bool {
        let text = self.configuration.as_ref().map(fs::read_to_string);
        let text = text.and_then(Result::ok).unwrap_or_default();
        !text.lines().any(|line| {
            let mut sides = line.split('=').map(str::trim);
            sides.next() == Some("allow setuid") && sides.next() == Some("no")
        })
    }
}

impl Node {
    /// The node that this process runs on.
    pub fn here() -> Self {
        let rules = fs::read_dir("/etc/apparmor.d").into_iter().flatten();
        let named = |entry: fs::DirEntry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            ["apptainer", "singularity"]
                .iter()
                .any(|own| name.contains(own))
        };
        Self {
            root: nix::unistd::geteuid().is_root(),
            no_namespaces: no_namespaces(Path::new("/proc"), rules.flatten().any(named)),
            fuse: nix::unistd::access("/dev/fuse", AccessFlags::R_OK | AccessFlags::W_OK).is_ok(),
        }
    }
}

/// Why an ordinary user gets no user namespace. `AppArmor` gives them to programs that a rule names.
fn no_namespaces(proc: &Path, has_rule: bool) -> Option<&'static str> {
    let number = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(proc.join("sys").join(name)).ok()?;
        text.trim().parse().ok()
    };
    if !proc.join("self/ns/user").exists() {
        Some("the kernel has no user namespaces")
    } else if number("kernel/unprivileged_userns_clone") == Some(0) {
        Some("kernel.unprivileged_userns_clone is 0")
    } else if number("user/max_user_namespaces") == Some(0) {
        Some("user.max_user_namespaces is 0")
    } else if number("kernel/apparmor_restrict_unprivileged_userns") == Some(1) && !has_rule {
        Some("AppArmor keeps user namespaces from programs that no rule in /etc/apparmor.d names")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{self, Durability};

    const FREE: Node = Node {
        root: false,
        no_namespaces: None,
        fuse: true,
    };

    fn write(path: &Path, text: &str) {
        files::create_folder(path.parent().unwrap(), 0o755).unwrap();
        files::write_atomic(path, text.as_bytes(), 0o644, Durability::Fast).unwrap();
    }

    #[test]
    fn debians_apptainer_mounts_by_squashfuse() {
        let found = parse(include_str!("../../tests/data/apptainer/debian-1.4.5")).unwrap();
        assert_eq!(found.program, Path::new("/usr/bin/apptainer"));
        assert_eq!(found.version, "apptainer version 1.4.5");
        assert_eq!(found.way(FREE), Way::Fuse);
        let fuse = Node {
            fuse: false,
            ..FREE
        };
        assert_eq!(found.way(fuse), Way::Unpacked("/dev/fuse"));
        let root = Node { root: true, ..FREE };
        assert_eq!(found.way(root), Way::Root);
        let off = Node {
            no_namespaces: Some("off"),
            ..FREE
        };
        assert_eq!(found.way(off), Way::None("off"));
        let bare = Installation {
            squashfuse: false,
            parts: None,
            ..found
        };
        assert_eq!(bare.way(FREE), Way::Unpacked("squashfuse"));
        assert_eq!(parse("Welcome to the cluster\n"), None);
    }

    #[test]
    fn a_starter_counts_with_roots_bit_alone() {
        let folder = tempfile::tempdir().unwrap();
        let parts = folder.path().join("libexec/apptainer/bin");
        write(&parts.join("starter-suid"), "");
        write(&parts.join("squashfuse_ll"), "");
        let answer = format!(
            "motd\naif-program=/opt/bin/apptainer\naif-version=apptainer version 1.3.6-1.el8\n\
             aif-APPTAINER_SUID_INSTALL=1\naif-LIBEXECDIR={}\n",
            folder.path().join("libexec").display()
        );
        let found = parse(&answer).unwrap();
        assert!(found.setuid && !found.starter_has_its_bit());
        assert_eq!(found.way(FREE), Way::Fuse, "by its own squashfuse");
        if !nix::unistd::geteuid().is_root() {
            return; // only root can give the bit
        }
        let mode = fs::Permissions::from_mode(0o4755);
        fs::set_permissions(parts.join("starter-suid"), mode).unwrap();
        assert_eq!(found.way(FREE), Way::Setuid);
        let file = folder.path().join("apptainer.conf");
        write(&file, "# allow setuid = no\nallow setuid = no\n");
        let barred = Installation {
            configuration: Some(file),
            ..found
        };
        assert_eq!(barred.way(FREE), Way::Fuse);
    }

    #[test]
    fn what_bars_user_namespaces_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let proc = folder.path();
        assert!(no_namespaces(proc, true).is_some_and(|why| why.contains("the kernel")));
        write(&proc.join("self/ns/user"), "");
        assert_eq!(no_namespaces(proc, false), None);
        let apparmor = proc.join("sys/kernel/apparmor_restrict_unprivileged_userns");
        write(&apparmor, "1\n");
        assert!(no_namespaces(proc, false).is_some_and(|why| why.contains("AppArmor")));
        assert_eq!(no_namespaces(proc, true), None);
        write(&proc.join("sys/user/max_user_namespaces"), "0\n");
        assert!(no_namespaces(proc, true).is_some_and(|why| why.contains("max_user")));
    }
}
