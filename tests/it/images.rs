//! Images: pulled once, whole or not at all, and told before anything is started from them.
//!
//! What the real Apptainer does with real registries is tested on the cluster (`tests/slurm/cases-images.sh`). Here a
//! script takes its place where it must be slow, be killed in the middle, or bring half a file.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::lab::{Ended, Lab, wait_until};

/// A laboratory with an Apptainer that takes `--debug pull --force FILE URI` and does what the script says.
pub(crate) struct Place(Lab);

impl Place {
    pub(crate) fn new(script: &str) -> Self {
        use std::os::unix::fs::PermissionsExt as _;
        let lab = Lab::new();
        let text = format!("#!/bin/sh\nP={}\n{script}\n", lab.path().display());
        let program = lab.file("bin/apptainer", &text);
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        whole(&lab.path().join("whole.sqsh"));
        Self(lab)
    }

    fn aif(&self, arguments: &[&str]) -> Command {
        let mut command = self.0.aif(arguments);
        let path = format!("{}/bin:/usr/bin:/bin", self.0.path().display());
        command
            .env("PATH", path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        Ended::of(&self.aif(arguments).output().expect("aif starts"))
    }

    /// A server recipe with a container.
    pub(crate) fn recipe(&self, name: &str, source: &str) -> String {
        let text = format!(
            "name: {name}\nservice_name: toy\nengine: http\nservice:\n  container: {{image: \"${{CONTAINER_DIR}}/a.sif\", {source} args: [x]}}\n  ports: [auto]\n"
        );
        self.0
            .file(&format!("{name}.yaml"), &text)
            .display()
            .to_string()
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.0.path().join("containers/a.sif")
    }

    fn pulls(&self) -> usize {
        std::fs::read_to_string(self.0.path().join("pulls")).map_or(0, |text| text.lines().count())
    }

    /// What is in the folder of images, and temporary folders.
    fn left(&self) -> Vec<String> {
        let names = |folder: &Path| {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let mut all = names(&self.0.path().join("containers"));
        let temporary = names(self.0.path());
        all.extend(
            temporary
                .into_iter()
                .filter(|name| name.starts_with("aif-pull")),
        );
        all.sort();
        all
    }
}

/// The smallest image that is whole: an empty squashfs says how long it is.
fn whole(path: &Path) {
    let mut bytes = b"hsqs".to_vec();
    bytes.resize(4096, 0);
    bytes[40..48].copy_from_slice(&4096_u64.to_le_bytes());
    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    std::fs::write(path, bytes).expect("a file");
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

const SLOW: &str =
    "echo pull >>$P/pulls; mkdir -p $APPTAINER_TMPDIR/build-temp; sleep 1; cp $P/whole.sqsh $4";
const SOURCE: &str = "source: \"docker://a/b\",";

#[test]
fn four_processes_that_want_one_image_pull_it_once() {
    let place = Place::new(SLOW);
    let recipe = place.recipe("a-server", SOURCE);
    let started: Vec<_> = (0..4)
        .map(|_| {
            let mut command = place.aif(&["images", "pull", &recipe, "--json"]);
            command.spawn().expect("aif starts")
        })
        .collect();
    let ended: Vec<Ended> = started
        .into_iter()
        .map(|child| Ended::of(&child.wait_with_output().expect("its end")))
        .collect();
    let rows: Vec<Value> = ended
        .iter()
        .map(|ended| json(ended.assert_exit(0))[0].clone())
        .collect();
    assert_eq!(place.pulls(), 1);
    assert_eq!(
        rows.iter().filter(|row| row["state"] == "pulled").count(),
        1
    );
    assert!(
        rows.iter()
            .all(|row| row["digest"] == rows[0]["digest"] && row["size"] == 4096)
    );
    let waited = ended
        .iter()
        .filter(|ended| ended.stderr.contains("waiting for image"));
    assert!(waited.count() >= 1, "{ended:?}");
    assert_eq!(place.left(), ["a.sif", "a.sif.sha256"]);
}

#[test]
fn recipes_that_name_one_image_pull_it_once_and_list_it() {
    let place = Place::new(SLOW);
    let (one, two) = (
        place.recipe("a-server", SOURCE),
        place.recipe("b-server", ""),
    );
    let list = |state: &str| {
        let rows = json(
            place
                .run(&["images", "list", &one, &two, "--json"])
                .assert_exit(0),
        );
        assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
        assert_eq!(rows[0]["state"], state);
        assert_eq!(rows[0]["source"], "docker://a/b");
        rows[0].clone()
    };
    list("missing");
    let ended = place.run(&["images", "pull", &one, &two]);
    ended.assert_exit(0);
    assert!(
        ended
            .stderr
            .contains("docker://a/b is unpinned; resolved to sha256:"),
        "{}",
        ended.stderr
    );
    assert!(
        ended.stdout.contains("pulled, 0.0 MB, sha256:"),
        "{}",
        ended.stdout
    );
    assert_eq!(list("present")["size"], 4096);
    place.run(&["images", "pull", &one]).assert_exit(0);
    assert_eq!(place.pulls(), 1, "what is there is left alone");
    place
        .run(&["images", "pull", &one, "--force"])
        .assert_exit(0);
    assert_eq!(place.pulls(), 2);
    std::fs::File::options()
        .write(true)
        .open(place.image())
        .and_then(|file| file.set_len(1000))
        .expect("cut");
    list("broken");
    let ended = place.run(&["images", "pull", &one]);
    ended.assert_exit(0);
    assert!(
        ended.stderr.contains("is truncated: it has 1000 bytes"),
        "{}",
        ended.stderr
    );
    list("present");
}

#[test]
fn an_image_from_elsewhere_is_listed_as_what_it_is() {
    let place = Place::new(SLOW);
    place
        .run(&["images", "pull", &place.recipe("a-server", SOURCE)])
        .assert_exit(0);
    let listed = |source: &str| {
        let recipe = place.recipe("a-server", &format!("source: \"{source}\","));
        let ended = place.run(&["images", "list", &recipe]);
        ended.assert_exit(0);
        ended.stdout
    };
    assert!(
        listed("docker://a/b:v2")
            .contains("from docker://a/b, where the recipe says docker://a/b:v2")
    );
    let pinned = format!("docker://a/b@sha256:{}", "1".repeat(64));
    let other = listed(&pinned);
    for said in [
        ": other, ",
        "which is not the docker://a/b@sha256:11",
        "aif images pull --force ",
    ] {
        assert!(other.contains(said), "{other}");
    }
}

#[test]
fn without_a_source_it_says_what_to_do() {
    let place = Place::new(SLOW);
    let recipe = place.recipe("a-server", "");
    let ended = place.run(&["images", "pull", &recipe]);
    ended.assert_exit(66);
    assert!(
        ended
            .stderr
            .contains("service.container.source: docker://…"),
        "{}",
        ended.stderr
    );
    // a source given on the command line is one
    let set = "service.container.source=docker://a/b:1";
    place
        .run(&["images", "pull", &recipe, "--set", set])
        .assert_exit(0);
    // one error does not keep others from being pulled
    std::fs::remove_file(place.image()).expect("removed");
    let other = place.0.file(
        "m.yaml",
        "name: m\nservice_name: toy\nprometheus: {image: docker://prom/prometheus}\n",
    );
    let ended = place.run(&["images", "pull", &recipe, &other.display().to_string()]);
    ended.assert_exit(66);
    assert!(
        place
            .0
            .path()
            .join("containers/prometheus_latest.sif")
            .exists()
    );
}

#[test]
fn who_is_told_to_end_leaves_nothing_and_who_is_killed_leaves_what_the_next_takes_away() {
    let place = Place::new(
        "echo pull >>$P/pulls; mkdir -p $APPTAINER_TMPDIR/build-temp; echo half >$4\n[ -e $P/quick ] || sleep 60\ncp $P/whole.sqsh $4",
    );
    let recipe = place.recipe("a-server", SOURCE);
    let start = |pulls: usize| {
        let child = place
            .aif(&["images", "pull", &recipe])
            .spawn()
            .expect("aif starts");
        wait_until(Duration::from_secs(10), "the pull", || {
            place.pulls() == pulls
        });
        child
    };
    let signal = |child: &std::process::Child, signal| {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, signal).expect("a signal");
    };
    let end = |child: std::process::Child| Ended::of(&child.wait_with_output().expect("its end"));
    let gone = || {
        wait_until(Duration::from_secs(15), "no process", || {
            place.0.leftovers().is_empty()
        });
    };

    let told = start(1);
    signal(&told, Signal::SIGTERM);
    end(told).assert_exit(143);
    gone();
    assert!(place.left().is_empty(), "{:?}", place.left());

    let killed = start(2);
    signal(&killed, Signal::SIGKILL);
    end(killed).assert_exit(137);
    gone();
    assert!(
        place.left().iter().any(|name| name == ".a.sif.lease"),
        "{:?}",
        place.left()
    );
    place.0.file("quick", "");
    let next = place.run(&["images", "pull", &recipe]);
    next.assert_exit(0);
    assert!(
        next.stderr.contains("nobody pulls image"),
        "{}",
        next.stderr
    );
    assert_eq!(place.left(), ["a.sif", "a.sif.sha256"]);
}

#[test]
fn a_role_tells_what_is_wrong_with_its_image_before_it_starts_anything() {
    let place = Place::new("echo 'FATAL:   dial tcp: lookup x: no such host' >&2; exit 255");
    let recipe = place.recipe("a-server", SOURCE);
    let ended = place.run(&["server", &recipe]);
    ended.assert_exit(66);
    assert!(
        ended
            .stderr
            .contains(&format!("a login node, run: aif images pull {recipe}")),
        "{}",
        ended.stderr
    );

    // a script that straight runs an image, as the original's recipes do
    let script = "name: s-server\nservice_name: toy\nengine: http\nservice:\n  command: |\n    touch started\n    apptainer exec $CONTAINER_DIR/a.sif serve\n  ports: [auto]\n";
    let script = place.0.file("s.yaml", script).display().to_string();
    let ended = place.run(&["server", &script]);
    ended.assert_exit(66);
    assert!(
        ended
            .stderr
            .contains("containers/a.sif is missing; put it there"),
        "{}",
        ended.stderr
    );

    whole(&place.image());
    std::fs::File::options()
        .write(true)
        .open(place.image())
        .and_then(|file| file.set_len(3000))
        .expect("cut");
    for recipe in [&recipe, &script] {
        let ended = place.run(&["server", recipe]);
        ended.assert_exit(66);
        assert!(
            ended
                .stderr
                .contains("a.sif is truncated: it has 3000 bytes, and by its header 4096"),
            "{}",
            ended.stderr
        );
    }
    assert!(!place.0.path().join("started").exists());
    place.0.assert_nothing_left();
}

#[test]
fn a_monitor_without_prometheus_on_the_path_gets_the_image_that_its_recipe_names() {
    let place = Place::new(
        "PATH=/usr/bin:/bin\n[ \"$1\" = exec ] || { [ -e $P/reachable ] && cp $P/whole.sqsh $4 && exit; echo 'FATAL:   no such host' >&2; exit 255; }\nwhile [ \"$1\" != prometheus ]; do shift; done\nexec \"$@\"",
    );
    // the original's form: a URI where ours has a path
    let recipe = place.0.file(
        "m.yaml",
        "name: m-monitor\nservice_name: toy\nprometheus: {image: \"docker://prom/prometheus:latest\"}\n",
    );
    let recipe = recipe.display().to_string();
    let monitor = || {
        let mut command = place.aif(&["monitor", &recipe]);
        command.env("PATH", place.0.path().join("bin"));
        command
    };
    let failed = Ended::of(&monitor().output().expect("aif starts"));
    failed.assert_exit(66);
    assert!(
        failed.stderr.contains("a login node, run: aif images pull"),
        "{}",
        failed.stderr
    );
    std::fs::remove_dir_all(place.0.path().join("results")).expect("removed");

    place.0.file("reachable", "");
    let started = monitor().spawn().expect("aif starts");
    let step = || {
        let folders = std::fs::read_dir(place.0.path().join("results")).ok()?;
        let run = folders.flatten().next()?.path();
        let text = std::fs::read(run.join("steps/monitor.json")).ok()?;
        serde_json::from_slice::<Value>(&text).ok()
    };
    wait_until(Duration::from_secs(30), "Prometheus is ready", || {
        step().is_some_and(|step| step["ready_at"].is_string())
    });
    let pid = nix::unistd::Pid::from_raw(i32::try_from(started.id()).expect("a pid"));
    nix::sys::signal::kill(pid, Signal::SIGTERM).expect("a signal");
    // there is no service to be watched: that is told when it ends
    Ended::of(&started.wait_with_output().expect("its end")).assert_exit(69);
    let image = place.0.json("manifest.json")["steps"]["monitor"]["facts"]["image"].clone();
    let path = place.0.path().join("containers/prometheus_latest.sif");
    assert_eq!(image["path"], path.display().to_string());
    assert_eq!(image["source"], "docker://prom/prometheus:latest");
    assert_eq!(image["size"], 4096);
    assert!(
        image["digest"]
            .as_str()
            .is_some_and(|sum| sum.starts_with("sha256:")),
        "{image}"
    );
    place.0.assert_nothing_left();
}
