//! Images wanted, with an Apptainer that does what a script says.

use tempfile::TempDir;

use super::*;
use crate::{apptainer::sif::sample, files::Durability, recipe::Kind};

/// A folder with a program that takes `--debug pull --force FILE URI` and does what the script says.
struct Place {
    folder: TempDir,
    env: Env,
    site: Site,
    shutdown: Shutdown,
    said: std::sync::Mutex<Vec<String>>,
}

impl Place {
    fn new(script: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().display().to_string();
        let program = folder.path().join("bin/apptainer");
        files::create_folder(&folder.path().join("bin"), 0o755).unwrap();
        let text = format!("#!/bin/sh\nP={path}\n{script}\n");
        files::write_atomic(&program, text.as_bytes(), 0o755, Durability::Fast).unwrap();
        files::write_atomic(
            &folder.path().join("whole"),
            &sample(9000),
            0o644,
            Durability::Fast,
        )
        .unwrap();
        Self {
            env: [
                ("PATH", &*format!("{path}/bin:/usr/bin:/bin")),
                ("HOME", &path),
                ("TMPDIR", &path),
            ]
            .into_iter()
            .collect(),
            site: Site::default(),
            shutdown: Shutdown::new(),
            said: std::sync::Mutex::default(),
            folder,
        }
    }

    fn image(&self, source: Option<&str>) -> Image {
        Image {
            path: self.folder.path().join("x/a.sif"),
            source: source.map(str::to_owned),
            key: Some("service.container.source"),
        }
    }

    async fn get(&self, image: &Image, by_role: bool, force: bool) -> Result<Got, Failure> {
        let tell = |line: &str| self.said.lock().unwrap().push(self.shown(line));
        Wanted {
            image,
            recipe: "my-server",
            by_role,
            force,
            env: &self.env,
            site: &self.site,
            home: self.folder.path(),
            tell: &tell,
            shutdown: &self.shutdown,
        }
        .get()
        .await
    }

    fn shown(&self, text: &str) -> String {
        text.replace(&self.folder.path().display().to_string(), "DIR")
    }

    fn put(&self, content: &[u8]) {
        let path = self.folder.path().join("x/a.sif");
        files::create_folder(path.parent().unwrap(), 0o755).unwrap();
        files::write_atomic(&path, content, 0o644, Durability::Fast).unwrap();
    }

    /// What is in the image's folder, and what is left of temporary folders.
    fn left(&self) -> Vec<String> {
        let names = |folder: &Path| {
            let entries = fs::read_dir(folder).into_iter().flatten().flatten();
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect::<Vec<_>>()
        };
        let mut all = names(&self.folder.path().join("x"));
        all.extend(
            names(self.folder.path())
                .into_iter()
                .filter(|name| name.starts_with("aif-pull")),
        );
        all.sort();
        all
    }

    fn pulls(&self) -> usize {
        files::read_text(&self.folder.path().join("pulls")).map_or(0, |text| text.lines().count())
    }
}

/// Slow enough that all who start together find it under way.
const PULLS: &str =
    "echo pull >>$P/pulls; mkdir -p $APPTAINER_TMPDIR/build-temp; sleep 0.3; cp $P/whole $4";

#[tokio::test]
async fn many_start_together_and_one_pulls() {
    let place = Place::new(PULLS);
    let image = place.image(Some("docker://a"));
    let one = || place.get(&image, true, false);
    let (a, b, c) = tokio::join!(one(), one(), one());
    let all = [a.unwrap(), b.unwrap(), c.unwrap()];
    assert_eq!(place.pulls(), 1);
    assert_eq!(all.iter().filter(|got| got.pulled).count(), 1);
    assert!(all.iter().all(|got| got.facts == all[0].facts), "{all:?}");
    assert_eq!(all[0].facts.size, 9000);
    assert_eq!(all[0].facts.source.as_deref(), Some("docker://a"));
    assert!(all[0].facts.digest.is_some());
    assert_eq!(place.left(), ["a.sif", "a.sif.sha256"]);
    let said = place.said.lock().unwrap().join("\n");
    assert!(
        said.contains("waiting for image DIR/x/a.sif, which "),
        "{said}"
    );
    assert!(
        said.contains("docker://a is unpinned; resolved to sha256:"),
        "{said}"
    );
}

#[tokio::test]
async fn an_image_that_is_there_is_pulled_again_only_by_force_and_then_once() {
    let place = Place::new(PULLS);
    let image = place.image(Some("docker://a:1"));
    place.put(&sample(8000));
    assert!(!place.get(&image, false, false).await.unwrap().pulled);
    assert_eq!(place.pulls(), 0);
    let one = || place.get(&image, false, true);
    let (a, b) = tokio::join!(one(), one());
    assert_eq!(a.unwrap().facts, b.unwrap().facts);
    assert_eq!(place.pulls(), 1);
    assert_eq!(fs::metadata(&image.path).unwrap().len(), 9000);
}

#[tokio::test]
async fn an_image_from_elsewhere_is_told_and_one_of_another_digest_refused() {
    let place = Place::new(PULLS);
    let first = place.image(Some("docker://a/b:v1"));
    assert!(place.get(&first, true, false).await.unwrap().pulled);
    place.said.lock().unwrap().clear();
    assert!(!place.get(&first, true, false).await.unwrap().pulled);
    assert_eq!(place.said.lock().unwrap().len(), 0, "it is the recipe's");

    let other = place.image(Some("docker://a/b:v2"));
    let got = place.get(&other, true, false).await.unwrap();
    assert_eq!(got.facts.source.as_deref(), Some("docker://a/b:v1"));
    assert_eq!(
        *place.said.lock().unwrap(),
        [
            "warning: image DIR/x/a.sif came from docker://a/b:v1, and the recipe says docker://a/b:v2: it is used as it is; \
             to get the recipe's: aif images pull my-server --force"
        ]
    );

    let pinned = place.image(Some("docker://a/b@sha256:11"));
    let failure = place.get(&pinned, true, false).await.unwrap_err();
    assert_eq!(failure.exit, Exit::NoInput);
    assert_eq!(
        place.shown(&failure.to_string()),
        "image DIR/x/a.sif is not the one that the recipe is pinned to: it came from docker://a/b:v1, and the recipe says \
         docker://a/b@sha256:11; get that one: aif images pull my-server --force"
    );
    assert!(place.get(&pinned, false, true).await.unwrap().pulled);
    assert!(!place.get(&pinned, true, false).await.unwrap().pulled);
    // the same digest by another name is the same image
    let same = place.image(Some("docker://mirror/b:v1@sha256:11"));
    assert!(!place.get(&same, true, false).await.unwrap().pulled);

    // nothing is known of an image that somebody put there
    fs::remove_file(digest::sidecar(&first.path)).unwrap();
    assert!(!place.get(&pinned, true, false).await.unwrap().pulled);
}

#[tokio::test]
async fn a_source_of_no_known_kind_says_which_there_are() {
    let place = Place::new("echo 'FATAL: Unsupported transport type: dokcer' >&2; exit 255");
    let image = place.image(Some("dokcer://a/b:1"));
    let error = place.get(&image, false, false).await.unwrap_err();
    assert_eq!(error.exit, Exit::NoInput);
    let told = error.to_string();
    for words in [
        "dokcer://a/b:1",
        "docker://, oras://, library://",
        "the path of an image file",
    ] {
        assert!(told.contains(words), "no {words}: {told}");
    }
}

#[tokio::test]
async fn a_pull_that_fails_tells_why_and_leaves_nothing() {
    let place = Place::new(
        "echo half >$4; mkdir -p $APPTAINER_TMPDIR/b; echo 'FATAL:   While making image from oci registry: error fetching image to cache: lookup x: no such host' >&2; exit 255",
    );
    let image = place.image(Some("docker://a"));
    let error = place.get(&image, true, false).await.unwrap_err();
    assert_eq!(error.exit, Exit::NoInput);
    insta::assert_snapshot!(place.shown(&error.to_string()), @"image DIR/x/a.sif cannot be pulled from docker://a: lookup x: no such host; this node has no way there; on one that has, a login node, run: aif images pull my-server");
    assert!(place.left().is_empty(), "{:?}", place.left());
    let error = place.get(&image, false, false).await.unwrap_err();
    insta::assert_snapshot!(place.shown(&error.to_string()), @"image DIR/x/a.sif cannot be pulled from docker://a: lookup x: no such host; this machine has no way there: run it on one that has, set https_proxy, or copy the file to its place");
}

#[tokio::test]
async fn what_comes_torn_never_gets_its_name() {
    let place = Place::new("head -c 5000 $P/whole >$4");
    let image = place.image(Some("docker://a"));
    let error = place.get(&image, true, false).await.unwrap_err();
    insta::assert_snapshot!(place.shown(&error.to_string()), @"image DIR/x/a.sif cannot be pulled from docker://a: what came is truncated: it has 5000 bytes, and by its header 9000 at the least; check the source, and try again: aif images pull my-server");
    assert!(place.left().is_empty(), "{:?}", place.left());
}

#[tokio::test]
async fn a_broken_image_is_told_to_a_role_and_replaced_for_who_asks_for_it() {
    let place = Place::new(PULLS);
    place.put(&sample(9000)[..6000]);
    let error = place
        .get(&place.image(None), true, false)
        .await
        .unwrap_err();
    assert_eq!(error.exit, Exit::NoInput);
    insta::assert_snapshot!(place.shown(&error.to_string()), @"image DIR/x/a.sif is truncated: it has 6000 bytes, and by its header 9000 at the least; put a whole one in its place, or say in the recipe where it comes from (service.container.source: docker://…) and run: aif images pull my-server");
    let image = place.image(Some("docker://a:1"));
    let error = place.get(&image, true, false).await.unwrap_err();
    insta::assert_snapshot!(place.shown(&error.to_string()), @"image DIR/x/a.sif is truncated: it has 6000 bytes, and by its header 9000 at the least; get it again: aif images pull my-server");
    assert!(place.get(&image, false, false).await.unwrap().pulled);
    assert_eq!(image.state().unwrap(), State::Whole);
}

#[tokio::test]
async fn a_file_is_copied_and_a_missing_one_told() {
    let place = Place::new("exit 9");
    let image = place.image(Some("whole"));
    let got = place.get(&image, true, false).await.unwrap();
    assert_eq!((got.facts.size, got.pulled), (9000, true));
    let image = Image {
        path: place.folder.path().join("x/b.sif"),
        ..place.image(Some("/nowhere/b.sif"))
    };
    let error = place.get(&image, true, false).await.unwrap_err();
    insta::assert_snapshot!(place.shown(&error.to_string()), @"image DIR/x/b.sif cannot be pulled from /nowhere/b.sif: /nowhere/b.sif: No such file or directory (os error 2); check its name and tag");
}

#[tokio::test]
async fn a_missing_image_names_the_mend() {
    let place = Place::new("exit 9");
    let mut told = Vec::new();
    for (name, key) in [
        ("llamacpp.sif", Some("service.container.source")),
        ("vllm-openai_v0.5.4.sif", None),
        ("other.sif", Some("prometheus.source")),
        ("other.sif", None),
    ] {
        let image = Image {
            path: Path::new("/nowhere").join(name),
            source: None,
            key,
        };
        let error = place.get(&image, true, false).await.unwrap_err();
        assert_eq!(error.exit, Exit::NoInput);
        told.push(error.to_string());
    }
    insta::assert_snapshot!(told.join("\n"), @r"
    image /nowhere/llamacpp.sif is missing; make it with: sbatch/image-llamacpp.sh /nowhere
    image /nowhere/vllm-openai_v0.5.4.sif is missing; put it there, on a node with a way out: apptainer pull --force /nowhere/vllm-openai_v0.5.4.sif docker://vllm/vllm-openai:v0.5.4
    image /nowhere/other.sif is missing; put it there, or say in the recipe where it comes from (prometheus.source: docker://…) and run: aif images pull my-server
    image /nowhere/other.sif is missing; put it there, on a node with a way out: apptainer pull --force /nowhere/other.sif docker://…
    ");
}

#[tokio::test]
async fn without_apptainer_nothing_is_pulled() {
    let mut place = Place::new("exit 9");
    place.env = place.env.clone().with("PATH", "/nowhere");
    let image = place.image(Some("docker://a"));
    let error = place.get(&image, true, false).await.unwrap_err();
    assert_eq!(error.exit, Exit::Unavailable);
    assert!(place.left().is_empty(), "{:?}", place.left());
}

#[tokio::test]
async fn who_is_told_to_end_leaves_nothing() {
    let place = Place::new("echo pull >>$P/pulls; echo half >$4; sleep 60 & wait");
    let image = place.image(Some("docker://a"));
    let telling = async {
        while place.pulls() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        place.shutdown.tell(Cause::Terminated);
    };
    let (got, ()) = tokio::join!(place.get(&image, true, false), telling);
    assert_eq!(got.unwrap_err().exit, Exit::Terminated);
    assert!(place.left().is_empty(), "{:?}", place.left());
}

#[tokio::test]
async fn a_lease_that_nobody_holds_any_more_is_taken_and_what_its_holder_left_goes() {
    let place = Place::new(PULLS);
    let image = place.image(Some("docker://a:1"));
    let mut gone = std::process::Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let holder = serde_json::to_value(Holder::own(&place.env)).unwrap();
    let dead = holder.as_object().map(|holder| {
        let mut dead = holder.clone();
        dead.insert("pid".to_owned(), gone.id().into());
        dead
    });
    let left = place.folder.path().join("x/.a.sif.dead.partial");
    files::create_folder(&left, 0o755).unwrap();
    files::write_json(&place.folder.path().join("x/.a.sif.lease"), &dead).unwrap();
    assert!(place.get(&image, true, false).await.unwrap().pulled);
    assert_eq!(place.left(), ["a.sif", "a.sif.sha256"]);
    let said = place.said.lock().unwrap().join("\n");
    assert!(
        said.contains("nobody pulls image DIR/x/a.sif any more"),
        "{said}"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_more_than_an_hour() {
    let place = Place::new("exit 9");
    let image = place.image(Some("docker://a:1"));
    files::create_folder(&place.folder.path().join("x"), 0o755).unwrap();
    let lease = place.folder.path().join("x/.a.sif.lease");
    let lease = Lease::take(&lease, Holder::own(&place.env))
        .unwrap()
        .unwrap();
    let error = tokio::select! {
        got = place.get(&image, true, false) => got.unwrap_err(),
        () = lease.renew() => panic!("nobody else took it"),
    };
    assert_eq!(error.exit, Exit::TryAgain);
    let said = place.said.lock().unwrap().join("\n");
    let words = said.matches("waiting for image DIR/x/a.sif").count();
    assert!((100..=121).contains(&words), "{words}, one each 30 s");
}

fn planned(kind: Kind, text: &str) -> Plan {
    let variables = Variables::from([("CONTAINER_DIR".to_owned(), "/c".to_owned())]);
    library::resolve_text("r.yaml", text, kind, &[], &variables)
        .unwrap()
        .plan
}

#[test]
fn each_recipe_names_its_image() {
    let env: Env = [("CONTAINER_DIR", "/c")].into_iter().collect();
    let of = |kind, text: &str| {
        let plan = planned(kind, text);
        Image::of(&plan, &env, &Site::default(), Path::new("/home"))
            .map(|image| (image.path.display().to_string(), image.source))
    };
    let docker = "docker://prom/prometheus:latest".to_owned();
    let server =
        |service: &str| format!("name: s\nservice_name: s\nservice:\n  {service}\n  ports: [1]\n");
    let container =
        server("container: {image: \"${CONTAINER_DIR}/a.sif\", source: \"docker://a\", args: [x]}");
    assert_eq!(
        of(Kind::Server, &container),
        Some(("/c/a.sif".to_owned(), Some("docker://a".to_owned())))
    );
    let script = server("command: apptainer exec $CONTAINER_DIR/b.sif x");
    assert_eq!(
        of(Kind::Server, &script),
        Some(("/c/b.sif".to_owned(), None))
    );
    assert_eq!(of(Kind::Server, &server("program: [vllm, serve]")), None);
    let monitor =
        |prometheus: &str| format!("name: m\nservice_name: s\nprometheus: {{{prometheus}}}\n");
    assert_eq!(
        of(
            Kind::Monitor,
            &monitor("image: \"docker://prom/prometheus:latest\"")
        ),
        Some(("/c/prometheus_latest.sif".to_owned(), Some(docker)))
    );
    assert_eq!(
        of(Kind::Monitor, &monitor("image: p.sif, source: q.sif")),
        Some(("/home/p.sif".to_owned(), Some("q.sif".to_owned())))
    );
    assert_eq!(of(Kind::Monitor, &monitor("port: auto")), None);
    // the original's own
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/servers/vllm-server.yaml");
    assert_eq!(
        of(Kind::Server, &files::read_text(&original).unwrap()),
        Some(("/c/vllm-openai_v0.5.4.sif".to_owned(), None))
    );
}
