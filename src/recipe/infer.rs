//! What a command tells of its engine: which one it is, and which model it serves.
//!
//! Guesses only from words that leave no doubt; a value that the shell would fill in (`$MODEL`) is no model. The server
//! asks the running engine anyway; what is told here is for plans, records and reports before that.

use std::collections::BTreeMap;

use super::{EngineKind, Launch};

/// The engine that a launch starts; `http` where no word tells.
pub fn engine(launch: &Launch) -> EngineKind {
    let words = words_of(launch);
    let image = match launch {
        Launch::Container(container) => format!(
            "{} {}",
            container.image.display(),
            container.source.as_deref().unwrap_or_default()
        ),
        _ => String::new(),
    }
    .to_lowercase();
    let program = |name: &str| {
        words
            .iter()
            .any(|word| word.rsplit('/').next() == Some(name))
    };
    let module = |prefix: &str| words.iter().any(|word| word.starts_with(prefix));
    if program("vllm") || module("vllm.entrypoints") {
        EngineKind::Vllm
    } else if program("llama-server") {
        EngineKind::LlamaCpp
    } else if program("ollama") && words.iter().any(|word| word == "serve") {
        EngineKind::Ollama
    } else if program("text-generation-launcher") {
        EngineKind::Tgi
    } else if module("sglang.launch_server") {
        EngineKind::Sglang
    } else if program("trtllm-serve") {
        EngineKind::Trtllm
    } else if words
        .windows(2)
        .any(|pair| pair[0].rsplit('/').next() == Some("chroma") && pair[1] == "run")
    {
        EngineKind::Chroma
    } else if program("qdrant") || image.contains("qdrant") {
        EngineKind::Qdrant
    } else if image.contains("vllm") {
        EngineKind::Vllm
    } else if ["llamacpp", "llama.cpp", "llama-cpp"]
        .iter()
        .any(|name| image.contains(name))
    {
        EngineKind::LlamaCpp
    } else {
        EngineKind::Http
    }
}

/// The model that requests name, where the words of the launch tell it.
pub fn model(launch: &Launch, engine: EngineKind) -> Option<String> {
    let words = words_of(launch);
    let option = |names: &[&str]| {
        names.iter().find_map(|name| {
            words.iter().enumerate().find_map(|(index, word)| {
                let value = match word.strip_prefix(name)? {
                    "" => words.get(index + 1)?.as_str(),
                    rest => rest.strip_prefix('=')?,
                };
                (!value.is_empty() && !value.starts_with('-') && !value.contains('$'))
                    .then(|| value.to_owned())
            })
        })
    };
    match engine {
        EngineKind::Vllm => option(&["--served-model-name"])
            .or_else(|| option(&["--model"]))
            .or_else(|| {
                let serve = words.iter().position(|word| word == "serve")?;
                words
                    .get(serve + 1)
                    .filter(|word| !word.starts_with('-') && !word.contains('$'))
                    .cloned()
            }),
        EngineKind::LlamaCpp => option(&["--alias", "-a"]).or_else(|| option(&["--model", "-m"])),
        // it serves whatever it has; the words of a pull tell which
        EngineKind::Ollama => words
            .windows(2)
            .find(|pair| pair[0] == "pull" && !pair[1].starts_with('-') && !pair[1].contains('$'))
            .map(|pair| pair[1].clone()),
        EngineKind::Tgi => option(&["--served-model-name"]).or_else(|| option(&["--model-id"])),
        EngineKind::Sglang => {
            option(&["--served-model-name"]).or_else(|| option(&["--model-path", "--model"]))
        }
        EngineKind::Trtllm => option(&["--served_model_name"]).or_else(|| {
            let first = |word: &String| word.rsplit('/').next() == Some("trtllm-serve");
            let after = words.iter().position(first)? + 1;
            let named = usize::from(words.get(after).is_some_and(|word| word == "serve"));
            words
                .get(after + named)
                .filter(|word| !word.starts_with('-') && !word.contains('$'))
                .cloned()
        }),
        EngineKind::Qdrant | EngineKind::Chroma => None,
        EngineKind::Http => option(&["--served-model-name", "--alias", "--model"]),
    }
}

/// Is this option among the words of the launch?
pub fn mentions(launch: &Launch, option: &str) -> bool {
    let is_option = |word: &String| word.split('=').next() == Some(option);
    words_of(launch).iter().any(is_option)
}

/// The value of this option, where it is among the words of the launch.
pub fn value(launch: &Launch, option: &str) -> Option<String> {
    let words = words_of(launch);
    words
        .iter()
        .enumerate()
        .find_map(|(index, word)| match word.strip_prefix(option)? {
            "" => words.get(index + 1).cloned().or(Some(String::new())),
            rest => rest.strip_prefix('=').map(str::to_owned),
        })
}

/// Does an argument have this placeholder?
pub fn fills_in(launch: &Launch, placeholder: &str) -> bool {
    words_of(launch)
        .iter()
        .any(|word| word.contains(placeholder))
}

fn words_of(launch: &Launch) -> Vec<String> {
    match launch {
        Launch::Command(script) => assigned(&words(script)),
        Launch::Program(args) => told(args),
        Launch::Container(container) => told(&container.args),
    }
}

/// The words of arguments. `sh -c SCRIPT`: the script is what tells.
fn told(args: &[String]) -> Vec<String> {
    // `-c` of other programs is none of a script
    let is_shell = |word: &String| {
        word.rsplit('/')
            .next()
            .is_some_and(|name| name.ends_with("sh"))
    };
    let shell = args.iter().position(is_shell).unwrap_or(args.len());
    let by_shell = args[shell..].iter().any(|word| word == "-c");
    let is_script = |index: usize| args[index].contains('\n') || (by_shell && index > shell);
    let cut = |(index, arg): (usize, &String)| {
        if is_script(index) {
            words(arg)
        } else {
            vec![arg.clone()]
        }
    };
    args.iter().enumerate().flat_map(cut).collect()
}

/// The words with the script's own plain assignments filled in: `MODEL=x` … `--model $MODEL`.
fn assigned(words: &[String]) -> Vec<String> {
    let mut known: BTreeMap<&str, &str> = BTreeMap::new();
    words
        .iter()
        .map(|word| {
            if let Some((name, value)) = word.split_once('=')
                && !name.is_empty()
                && !value.contains('$')
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            {
                known.insert(name, value);
            }
            let name = word
                .strip_prefix("${")
                .and_then(|rest| rest.strip_suffix('}'))
                .or_else(|| word.strip_prefix('$'));
            name.and_then(|name| known.get(name))
                .map_or_else(|| word.clone(), |value| (*value).to_owned())
        })
        .collect()
}

/// A script cut into words: quotes and line continuations taken away, comments dropped, nothing expanded.
pub fn words(script: &str) -> Vec<String> {
    let mut list = Vec::new();
    let mut word = String::new();
    let mut inside = false;
    let mut quote = None;
    let mut chars = script.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                inside = true;
            }
            (None | Some('"'), '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(next) => {
                    word.push(next);
                    inside = true;
                }
            },
            (None, '#') if !inside => while chars.next_if(|next| *next != '\n').is_some() {},
            (None, c) if c.is_whitespace() || matches!(c, ';' | '&' | '|' | '(' | ')') => {
                if inside {
                    list.push(std::mem::take(&mut word));
                    inside = false;
                }
            }
            (_, c) => {
                word.push(c);
                inside = true;
            }
        }
    }
    if inside {
        list.push(word);
    }
    list
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_tell_engine_and_model() {
        let cases = [
            (
                "python -m vllm.entrypoints.openai.api_server \\\n --model facebook/opt-125m \\\n --port 8000",
                EngineKind::Vllm,
                Some("facebook/opt-125m"),
            ),
            (
                "vllm serve a/b --served-model-name=small",
                EngineKind::Vllm,
                Some("small"),
            ),
            ("vllm serve a/b --port 1", EngineKind::Vllm, Some("a/b")),
            (
                "M=\"a/b\"\nexport M\nvllm serve \"$M\"",
                EngineKind::Vllm,
                Some("a/b"),
            ),
            ("vllm serve $MODEL", EngineKind::Vllm, None),
            (
                "/opt/bin/llama-server -m x.gguf # --alias no",
                EngineKind::LlamaCpp,
                Some("x.gguf"),
            ),
            (
                "llama-server -m x.gguf --alias small",
                EngineKind::LlamaCpp,
                Some("small"),
            ),
            ("python -m http.server", EngineKind::Http, None),
            ("echo vllm-like; cat --model", EngineKind::Http, None),
            (
                "ollama serve &\nollama pull qwen2.5:0.5b\nwait",
                EngineKind::Ollama,
                Some("qwen2.5:0.5b"),
            ),
            ("ollama pull a", EngineKind::Http, None),
            (
                "folder=$(mktemp -d)\nchroma run --path \"$folder\" --port 1 &\nchroma=$!",
                EngineKind::Chroma,
                None,
            ),
            ("chroma copy; run chroma", EngineKind::Http, None),
            (
                "text-generation-launcher --model-id a/b --num-shard 2",
                EngineKind::Tgi,
                Some("a/b"),
            ),
            (
                "python3 -m sglang.launch_server --model-path a/b --tp 2",
                EngineKind::Sglang,
                Some("a/b"),
            ),
            (
                "trtllm-serve a/b --tp_size 2",
                EngineKind::Trtllm,
                Some("a/b"),
            ),
            (
                "trtllm-llmapi-launch trtllm-serve serve a/b",
                EngineKind::Trtllm,
                Some("a/b"),
            ),
        ];
        for (script, kind, name) in cases {
            let launch = Launch::Command(script.to_owned());
            assert_eq!(engine(&launch), kind, "{script}");
            assert_eq!(model(&launch, kind).as_deref(), name, "{script}");
        }
    }

    proptest! {
        #[test]
        fn no_script_panics(script in "\\PC*") {
            let launch = Launch::Command(script);
            let _ = model(&launch, engine(&launch));
        }
    }
}
