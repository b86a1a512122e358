//! Prometheus and promtool.
//!
//! The monitor takes the image that its recipe names where it is there, else `prometheus` on the PATH. Everything keeps
//! to what Prometheus 2.42 to 3 have in common. promtool is no need: it only tells a fault earlier.

use std::{path::PathBuf, sync::Arc};

use super::{
    LIMIT,
    check::{Check, version},
    scene::{Scene, listed},
};
use crate::process::ask::{self, Answer};

const NAME: &str = "Prometheus";
const OLDEST: (u32, u32) = (2, 42);
/// What comes after the last version that was tried.
const NEXT: u32 = 4;

pub(super) async fn probe(scene: Arc<Scene>) -> Vec<Check> {
    let env = &scene.shell.env;
    let program = env.find_program("prometheus");
    let own = match &program {
        Some(path) => {
            let argv = [path.display().to_string(), "--version".to_owned()];
            let answer = ask::ask(&argv, LIMIT).await;
            version_check(&scene.shown(path), &answer)
        }
        None => without_program(&scene, scene.has_apptainer()),
    };
    let promtool = match env.find_program("promtool") {
        Some(path) => Check::ok("promtool", scene.shown(&path)),
        None => Check::not_here(
            "promtool",
            "not on the PATH: Prometheus checks its configuration itself, later",
        ),
    };
    vec![own, promtool]
}

fn without_program(scene: &Scene, has_apptainer: bool) -> Check {
    let images = scene
        .monitor_images
        .iter()
        .map(|image: &PathBuf| scene.shown(image));
    let images = listed(images);
    if !images.is_empty() && has_apptainer {
        return Check::ok(NAME, format!("image {images}"));
    }
    Check::failed(
        NAME,
        "neither on the PATH nor an image that a monitor recipe names and that is there",
        "put prometheus on the PATH (a module loaded before, or the release from prometheus.io), or name an image in prometheus.image",
    )
}

fn version_check(path: &str, answer: &Result<Answer, ask::Error>) -> Check {
    let said = match answer {
        // old ones say it on standard error
        Ok(answer) => [answer.out.as_str(), answer.err.as_str()].join("\n"),
        Err(error) => {
            let mend = "see for yourself: prometheus --version";
            return Check::warning(NAME, format!("{path}: {error}"), mend);
        }
    };
    let first = said.lines().find(|line| line.contains("version"));
    let number =
        first.and_then(|line| line.split_whitespace().find(|word| version(word).is_some()));
    let newer = "take a release of 2.42 to 3 from prometheus.io";
    match (number, number.and_then(version)) {
        (Some(text), Some(own)) if own >= OLDEST && own.0 < NEXT => {
            Check::ok(NAME, format!("{text} ({path})"))
        }
        (Some(text), Some((1, _))) => Check::failed(
            NAME,
            format!("{text} ({path}) lacks what is needed, which came with 2"),
            newer,
        ),
        (Some(text), Some(_)) => Check::warning(
            NAME,
            format!("{text} ({path}) is not among what was tried, 2.42 to 3"),
            newer,
        ),
        _ => Check::warning(
            NAME,
            format!("{path} does not say which version it is"),
            newer,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::check::State, *};

    fn state(out: &str, err: &str) -> State {
        let answer = Answer {
            success: true,
            out: out.to_owned(),
            err: err.to_owned(),
        };
        version_check("/usr/bin/prometheus", &Ok(answer)).state
    }

    #[test]
    fn versions_are_judged() {
        let debian = "prometheus, version 2.42.0+ds (branch: debian/sid, revision: 2.42.0+ds-5)\n  go version: go1.19.8\n";
        assert_eq!(state(debian, ""), State::Ok);
        assert_eq!(
            state("", "prometheus, version 3.5.0 (branch: HEAD)\n"),
            State::Ok
        );
        assert_eq!(
            state("prometheus, version 2.31.2+ds1 (x)\n", ""),
            State::Warning
        );
        assert_eq!(state("prometheus, version 4.0.0 (x)\n", ""), State::Warning);
        assert_eq!(state("prometheus, version 1.8.2 (x)\n", ""), State::Failed);
        assert_eq!(state("", ""), State::Warning);
        let silent = Err(ask::Error::Deadline { limit: LIMIT });
        assert_eq!(version_check("/p", &silent).state, State::Warning);
    }
}
