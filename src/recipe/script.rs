//! Which image a script starts its engine from, where that can be read without a doubt.
//!
//! The original's recipes hold a script that ends in `apptainer exec X.sif …`. A missing X is then told by a shell on
//! the node, in the log of an engine that died; told before the start it is one clear error. But a script is a program,
//! and to run a good one wrongly refused is worse than a late error. So this reads only straight ones: variables that are
//! set once, the forms `$NAME`, `${NAME}`, `${NAME:-other}`, and no word that looks like an image besides the one that is
//! run. With conditions, loops, `source` or a copy of the image it says nothing.

use std::collections::BTreeMap;

use super::{Launch, infer::words};

/// Words after which nobody can say which command is run, or with which variables.
const TURNS: [&str; 13] = [
    "if", "case", "for", "while", "until", "select", "function", "source", ".", "eval", "unset",
    "read", "alias",
];
/// Words after which a relative path is another.
const MOVES: [&str; 3] = ["cd", "pushd", "popd"];
const PROGRAMS: [&str; 2] = ["apptainer", "singularity"];
/// What starts something from an image.
const STARTS: [&str; 3] = ["exec", "run", "start"];
const SUFFIXES: [&str; 3] = [".sif", ".simg", ".sqsh"];

/// The image that a script or a program runs; `variables` are those that it will find in its environment.
pub fn image(launch: &Launch, variables: &BTreeMap<String, String>) -> Option<String> {
    let words = match launch {
        Launch::Command(script) => words(script),
        Launch::Program(words) => words.clone(),
        Launch::Container(_) => return None,
    };
    let is_any = |list: &[&str]| words.iter().any(|word| list.contains(&word.as_str()));
    if is_any(&TURNS) {
        return None;
    }
    let mut known = variables.clone();
    let mut assigned: Vec<&str> = Vec::new();
    // since the last `apptainer`: was there none, or no `exec` yet, or no image yet?
    let (mut runs, mut starts) = (false, false);
    let mut found: Option<String> = None;
    for word in &words {
        if let Some((name, value)) = assignment(word) {
            match expand(value, &known) {
                Some(value) if !assigned.contains(&name) => known.insert(name.to_owned(), value),
                _ => known.remove(name),
            };
            assigned.push(name);
            continue;
        }
        let Some(value) = expand(word, &known) else {
            if is_image(word) {
                return None;
            }
            continue;
        };
        let name = value.rsplit('/').next().unwrap_or_default();
        if PROGRAMS.contains(&name) {
            (runs, starts) = (true, false);
        } else if runs && STARTS.contains(&name) {
            starts = true;
        } else if is_image(&value) {
            let same = found.as_ref().is_none_or(|found| *found == value);
            if !starts || !same {
                return None;
            }
            (runs, starts) = (false, false);
            found = Some(value);
        }
    }
    found.filter(|path| path.starts_with('/') || !is_any(&MOVES))
}

fn is_image(word: &str) -> bool {
    SUFFIXES.iter().any(|suffix| word.contains(suffix))
}

fn assignment(word: &str) -> Option<(&str, &str)> {
    let (name, value) = word.split_once('=')?;
    let starts_well = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let is_name = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (starts_well && is_name(name)).then_some((name, value))
}

/// The word as the shell would read it; `None` where that is not sure.
fn expand(word: &str, known: &BTreeMap<String, String>) -> Option<String> {
    let mut text = String::new();
    let mut rest = word;
    if let Some(below) = word.strip_prefix("~/") {
        text = format!("{}/", known.get("HOME")?);
        rest = below;
    }
    while let Some(at) = rest.find('$') {
        text.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(inner) = rest.strip_prefix('{') {
            let end = closing(inner)?;
            text.push_str(&braced(&inner[..end], known)?);
            rest = &inner[end + 1..];
        } else {
            let end = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            text.push_str(known.get(&rest[..end])?);
            rest = &rest[end..];
        }
    }
    text.push_str(rest);
    let is_plain = !text.contains(['*', '?', '[', '`', '<', '>']);
    is_plain.then_some(text)
}

fn braced(inner: &str, known: &BTreeMap<String, String>) -> Option<String> {
    let Some((name, other)) = inner.split_once(":-") else {
        return known.get(inner).cloned();
    };
    match known.get(name) {
        Some(value) if !value.is_empty() => Some(value.clone()),
        _ => expand(other, known),
    }
}

/// Where the brace closes that was opened before.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0;
    text.char_indices().find_map(|(at, c)| {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => return Some(at),
            '}' => depth -= 1,
            _ => {}
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(script: &str) -> Option<String> {
        let variables = [("CONTAINER_DIR", "/images"), ("HOME", "/home/a")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        image(&Launch::Command(script.to_owned()), &variables.into())
    }

    #[test]
    fn a_straight_script_tells_its_image() {
        for (script, image) in [
            (
                "#!/bin/bash\nmodule load Apptainer/1.3.6\nIMAGE=$CONTAINER_DIR/vllm_v1.sif\napptainer exec --nv $IMAGE \\\n  python -m x --port 8000\n",
                "/images/vllm_v1.sif",
            ),
            ("singularity run a.sif", "a.sif"),
            (
                "exec apptainer exec --bind /a:/b \"${CONTAINER_DIR}/v.sif\" sh",
                "/images/v.sif",
            ),
            (
                "export I=\"${MY_IMAGE:-$CONTAINER_DIR/${NAME:-v}.sif}\"\n/opt/bin/apptainer exec $I x",
                "/images/v.sif",
            ),
            (
                "apptainer exec ~/v.sif get; apptainer exec ~/v.sif serve",
                "/home/a/v.sif",
            ),
            (
                "cd /work && apptainer exec /i/v.sif serve & wait",
                "/i/v.sif",
            ),
        ] {
            assert_eq!(of(script).as_deref(), Some(image), "{script}");
        }
    }

    #[test]
    fn where_there_is_a_doubt_nothing_is_said() {
        for script in [
            "vllm serve x",
            "apptainer exec $IMAGE x",
            "apptainer exec $(ls *.sif | head -1) x",
            "apptainer exec docker://vllm/vllm-openai x",
            "apptainer exec a.sif x; apptainer exec b.sif x",
            "I=a.sif; I=b.sif; apptainer exec $I x",
            "if [ -n \"$G\" ]; then apptainer exec a.sif x; else vllm serve x; fi",
            "[ -f /i/a.sif ] || exit 3; apptainer exec /i/a.sif x",
            "apptainer pull /i/a.sif docker://a; apptainer exec /i/a.sif x",
            "cp $UNKNOWN/a.sif /tmp; apptainer exec /tmp/a.sif x",
            "cp /i/a.sif /tmp; apptainer exec /tmp/a.sif x",
            "source env.sh; apptainer exec $CONTAINER_DIR/a.sif x",
            "cd /i; apptainer exec a.sif x",
            "curl -o /i/a.sif https://h/a; apptainer exec /i/a.sif x",
        ] {
            assert_eq!(of(script), None, "{script}");
        }
    }

    #[test]
    fn a_program_may_be_apptainer_itself() {
        let words = ["apptainer", "exec", "/i/a.sif", "vllm"].map(str::to_owned);
        let launch = Launch::Program(words.to_vec());
        assert_eq!(
            image(&launch, &BTreeMap::new()).as_deref(),
            Some("/i/a.sif")
        );
    }

    proptest::proptest! {
        #[test]
        fn no_script_panics(script in "\\PC*") {
            let _ = of(&script);
        }
    }
}
