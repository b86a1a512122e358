//! Prompts of a file: a line each, JSON objects, or conversations in the form of `ShareGPT`.
//!
//! They are sent as they are, whatever their length. Of a `ShareGPT` file the first question of each conversation is taken;
//! the answer that follows it tells how many tokens are asked for, where the recipe does not: one for each four
//! characters, for only the engine knows its tokens. As in vLLM's benchmark, conversations are passed over that do not
//! begin with a question and its answer, or of which one has fewer than four tokens, the question more than 1024, or both
//! together more than 2048.
//!
//! In a conversation the questions that follow are sent, too, each with its own length of an answer.
//!
//! Pure. What can fail is told by the line.

use serde::Deserialize;
use serde_json::{Value, json};

use super::material::{LineFault, lines_of, plainly};
use crate::recipe::{Api, DatasetKind, client::MOST_TOKENS};

/// Characters that make a token, about.
const CHARACTERS: usize = 4;
/// Least tokens of a question or an answer of `ShareGPT`.
const LEAST: u32 = 4;
/// Most tokens of a question.
const LONGEST: u32 = 1024;
/// Most tokens of a question and its answer.
const LONGEST_PAIR: u32 = 2048;

/// What one request says.
#[derive(Debug, Clone, PartialEq)]
pub enum Said {
    /// A prompt; the only message of a chat.
    Prompt(String),
    /// The messages of a chat, as they stand.
    Messages(Vec<Value>),
}

/// One request of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Text {
    /// What it says.
    pub said: Said,
    /// Tokens of its answer at the most, where the file tells.
    pub max_tokens: Option<u32>,
    /// What its user says after that, in a conversation.
    pub further: Vec<Further>,
}

/// A further message of a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Further {
    /// The message.
    pub message: Value,
    /// Tokens of its answer at the most, where the file tells.
    pub max_tokens: Option<u32>,
}

/// The requests of a file, and how many were passed over.
pub type Read = (Vec<Text>, usize);

/// Reads a file.
pub fn parse(
    kind: DatasetKind,
    api: Api,
    own_lengths: bool,
    text: &str,
) -> Result<Read, Vec<LineFault>> {
    match kind {
        DatasetKind::Prompts => {
            let prompts: Vec<Text> = text
                .lines()
                .filter(|line| !line.trim().is_empty())
                .map(|line| Text {
                    said: Said::Prompt(line.to_owned()),
                    max_tokens: None,
                    further: Vec::new(),
                })
                .collect();
            if prompts.is_empty() {
                return Err(vec![LineFault::new(1, "holds no prompt")]);
            }
            Ok((prompts, 0))
        }
        DatasetKind::Jsonl => lines_of(text, |line| object(line, api)).map(|texts| (texts, 0)),
        DatasetKind::ShareGpt => conversations(text, own_lengths),
    }
}

#[derive(Deserialize)]
struct Line {
    prompt: Option<String>,
    messages: Option<Vec<Value>>,
    #[serde(alias = "output_length")]
    max_tokens: Option<u64>,
}

fn object(line: Line, api: Api) -> Result<Text, String> {
    let said = match (line.prompt, line.messages) {
        (Some(prompt), None) => Said::Prompt(prompt),
        (None, Some(_)) if !api.is_chat() => {
            return Err("messages need `workload: {api: chat}`".to_owned());
        }
        (None, Some(messages)) => {
            let is_message = |message: &Value| message["role"].is_string();
            if messages.is_empty() || !messages.iter().all(is_message) {
                return Err("messages wants a list of {role, content}".to_owned());
            }
            Said::Messages(messages)
        }
        _ => return Err("wants a prompt or messages, one of the two".to_owned()),
    };
    let max_tokens = match line.max_tokens {
        None => None,
        Some(tokens) => Some(
            u32::try_from(tokens)
                .ok()
                .filter(|_| (1..=MOST_TOKENS).contains(&tokens))
                .ok_or_else(|| format!("max_tokens wants 1 to {MOST_TOKENS}, found {tokens}"))?,
        ),
    };
    Ok(Text {
        said,
        max_tokens,
        further: Vec::new(),
    })
}

impl Text {
    /// The same as a conversation: of given messages, all up to the first of the user are the first turn, and each
    /// further one of the user is a turn. Given answers fall away: the engine's own take their place.
    #[must_use]
    pub fn turn_by_turn(mut self) -> Self {
        let Said::Messages(messages) = &mut self.said else {
            return self;
        };
        let is_user = |message: &Value| message["role"] == "user";
        let first = messages.iter().position(is_user);
        let rest = messages.split_off(first.map_or(messages.len(), |at| at + 1));
        let further = rest.into_iter().filter(is_user);
        self.further = further
            .map(|message| Further {
                message,
                max_tokens: self.max_tokens,
            })
            .collect();
        self
    }
}

#[derive(Deserialize)]
struct Conversation {
    #[serde(default)]
    conversations: Vec<Turn>,
}

#[derive(Deserialize)]
struct Turn {
    #[serde(default)]
    from: String,
    #[serde(default)]
    value: String,
}

fn conversations(text: &str, own_lengths: bool) -> Result<Read, Vec<LineFault>> {
    let all: Vec<Conversation> = serde_json::from_str(text)
        .map_err(|error| vec![LineFault::new(error.line(), plainly(&error))])?;
    let count = all.len();
    let texts: Vec<Text> = all
        .into_iter()
        .filter_map(|conversation| question(conversation, own_lengths))
        .collect();
    if texts.is_empty() {
        let message = format!(
            "none of {count} conversations begins with a question and its answer, of 4 to 1024 tokens and 2048 together"
        );
        return Err(vec![LineFault::new(1, message)]);
    }
    let passed_over = count - texts.len();
    Ok((texts, passed_over))
}

fn question(conversation: Conversation, own_lengths: bool) -> Option<Text> {
    let mut turns = conversation.conversations.into_iter();
    let (question, answer) = (turns.next()?, turns.next()?);
    if !is_question(&question) || !is_answer(&answer) {
        return None;
    }
    let (asked, answered) = (tokens(&question.value), tokens(&answer.value));
    let fits = asked >= LEAST
        && answered >= LEAST
        && asked <= LONGEST
        && asked.saturating_add(answered) <= LONGEST_PAIR;
    fits.then_some(Text {
        said: Said::Prompt(question.value),
        max_tokens: own_lengths.then_some(answered),
        further: further(turns, own_lengths),
    })
}

/// The questions that follow, each with an answer behind it.
fn further(mut turns: impl Iterator<Item = Turn>, own_lengths: bool) -> Vec<Further> {
    let mut further = Vec::new();
    while let (Some(question), Some(answer)) = (turns.next(), turns.next()) {
        if !is_question(&question) || !is_answer(&answer) || question.value.is_empty() {
            break;
        }
        further.push(Further {
            message: json!({"role": "user", "content": question.value}),
            max_tokens: own_lengths.then(|| tokens(&answer.value).max(1)),
        });
    }
    further
}

fn is_question(turn: &Turn) -> bool {
    ["human", "user"].contains(&turn.from.as_str())
}

fn is_answer(turn: &Turn) -> bool {
    ["gpt", "assistant", "chatgpt", "bing", "bard"].contains(&turn.from.as_str())
}

fn tokens(text: &str) -> u32 {
    u32::try_from(text.chars().count().div_ceil(CHARACTERS)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(kind: DatasetKind, text: &str) -> String {
        let faults = parse(kind, Api::Completions, true, text).expect_err("faults");
        let lines = faults
            .iter()
            .map(|fault| format!("{}: {}", fault.line, fault.message));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn prompts(texts: &[Text]) -> Vec<(&str, Option<u32>)> {
        texts
            .iter()
            .filter_map(|text| match &text.said {
                Said::Prompt(prompt) => Some((prompt.as_str(), text.max_tokens)),
                Said::Messages(_) => None,
            })
            .collect()
    }

    #[test]
    fn a_prompt_a_line() {
        let (texts, _) = parse(
            DatasetKind::Prompts,
            Api::Chat,
            true,
            "one two\r\n\n  three\n",
        )
        .expect("prompts");
        assert_eq!(prompts(&texts), [("one two", None), ("  three", None)]);
        insta::assert_snapshot!(told(DatasetKind::Prompts, "\n\n"), @r##"1: holds no prompt"##);
    }

    #[test]
    fn an_object_a_line() {
        let text = "{\"prompt\": \"a\", \"max_tokens\": 5, \"id\": 1}\n{\"prompt\": \"b\", \"output_length\": 6}\n{\"prompt\": \"c\"}\n";
        let (texts, _) = parse(DatasetKind::Jsonl, Api::Completions, true, text).expect("objects");
        assert_eq!(
            prompts(&texts),
            [("a", Some(5)), ("b", Some(6)), ("c", None)]
        );
        let messages = "{\"messages\": [{\"role\": \"system\", \"content\": \"x\"}, {\"role\": \"user\", \"content\": \"y\"}]}";
        let (texts, _) = parse(DatasetKind::Jsonl, Api::Chat, true, messages).expect("messages");
        let Said::Messages(found) = &texts[0].said else {
            panic!("{texts:?}")
        };
        assert_eq!(found[1]["content"], "y");
        assert_eq!(texts[0].clone().turn_by_turn(), texts[0]);
        let given = r#"{"messages": [{"role": "system", "content": "x"}, {"role": "user", "content": "a"},
            {"role": "assistant", "content": "A"}, {"role": "user", "content": "b"}], "max_tokens": 7}"#;
        let given = given.replace('\n', "");
        let (texts, _) = parse(DatasetKind::Jsonl, Api::Chat, true, &given).expect("messages");
        let turns = texts[0].clone().turn_by_turn();
        let Said::Messages(first) = &turns.said else {
            panic!("{turns:?}")
        };
        assert_eq!((first.len(), turns.further.len()), (2, 1));
        assert_eq!(turns.further[0].message["content"], "b");
        assert_eq!(turns.further[0].max_tokens, Some(7));
        insta::assert_snapshot!(told(DatasetKind::Jsonl, &format!("{{}}\n{messages}\n{{\"prompt\": 5}}\n{{\"prompt\": \"a\", \"max_tokens\": 0}}\n[")), @r##"
1: wants a prompt or messages, one of the two
2: messages need `workload: {api: chat}`
3: invalid type: integer `5`, expected a string
4: max_tokens wants 1 to 10000000, found 0
5: is no JSON: EOF while parsing a list at column 1
"##);
    }

    #[test]
    fn the_first_question_of_a_conversation_and_the_length_of_its_answer() {
        let turn = |from: &str, characters: usize| {
            format!(
                "{{\"from\": \"{from}\", \"value\": \"{}\"}}",
                "x".repeat(characters)
            )
        };
        let conversation = |turns: &[String]| {
            format!(
                "{{\"id\": \"a\", \"conversations\": [{}]}}",
                turns.join(", ")
            )
        };
        let all = [
            conversation(&[turn("human", 40), turn("gpt", 101), turn("human", 9)]),
            conversation(&[turn("gpt", 40), turn("human", 40)]),
            conversation(&[turn("human", 40)]),
            conversation(&[turn("human", 8), turn("gpt", 80)]),
            conversation(&[turn("human", 5000), turn("gpt", 80)]),
            conversation(&[turn("human", 4000), turn("gpt", 5000)]),
            "{}".to_owned(),
        ];
        let text = format!("[{}]", all.join(",\n"));
        let (texts, passed_over) =
            parse(DatasetKind::ShareGpt, Api::Chat, true, &text).expect("one");
        assert_eq!((texts.len(), passed_over), (1, 6));
        assert_eq!(texts[0].max_tokens, Some(26));
        let (texts, _) = parse(DatasetKind::ShareGpt, Api::Chat, false, &text).expect("one");
        assert_eq!(texts[0].max_tokens, None, "the recipe tells");
        assert_eq!(texts[0].further, [], "a question without an answer");
        let long = conversation(&[
            turn("human", 40),
            turn("gpt", 40),
            turn("human", 8),
            turn("gpt", 9),
            turn("system", 8),
            turn("gpt", 9),
        ]);
        let (texts, _) =
            parse(DatasetKind::ShareGpt, Api::Chat, true, &format!("[{long}]")).expect("one");
        let [further] = &texts[0].further[..] else {
            panic!("{texts:?}")
        };
        assert_eq!(further.message["content"], "xxxxxxxx");
        assert_eq!(further.max_tokens, Some(3));
        insta::assert_snapshot!(told(DatasetKind::ShareGpt, "[\n{\"conversations\": 5}]"), @r##"2: invalid type: integer `5`, expected a sequence"##);
        insta::assert_snapshot!(told(DatasetKind::ShareGpt, "[\n{}"), @r##"2: is no JSON: EOF while parsing a list at column 2"##);
        insta::assert_snapshot!(told(DatasetKind::ShareGpt, "[{}]"), @r##"1: none of 1 conversations begins with a question and its answer, of 4 to 1024 tokens and 2048 together"##);
    }
}
