//! Recognises an event that says the same as the one before, but for its text.
//!
//! The events of a stream differ in a few bytes, and of an answer of 256 tokens 255 say nothing but "here is text". So what
//! stands before and behind the text of an event that was read by the book is kept, and an event with the same
//! bytes around another text is known without being read: a comparison in place of a parser.
//!
//! It is never wrong, because nothing is guessed. A text begins behind `"key":"`, which no JSON string can hold, and ends
//! at the next quote. That it alone makes the event one with content, or one with reasoning, is proven by reading the
//! event once more without it; where reasoning ends, the bytes around the text are others, and are learnt anew. And a
//! text with a quote, a backslash or a control character is left to the parser, as is everything unlike.
//! Calls of tools are parsed, too: each is one whatever its text says.

use std::ops::Range;

use memchr::memmem;

use super::openai::{self, Event};
use crate::recipe::Api;

/// What a text stands behind.
const KEYS: [&[u8]; 4] = [
    b"\"text\":\"",
    b"\"content\":\"",
    b"\"reasoning_content\":\"",
    b"\"reasoning\":\"",
];

/// Events that may be learnt in vain before it is left.
const TRIES: u32 = 3;

/// What stands around the text of the events of a stream.
#[derive(Debug, Default)]
pub struct Repeat {
    before: Vec<u8>,
    behind: Vec<u8>,
    /// Is the text between them reasoning?
    reasoning: bool,
    learnt: u32,
    known: u32,
}

impl Repeat {
    /// Forgets the stream, keeps the memory.
    pub fn reset(&mut self) {
        self.before.clear();
        self.behind.clear();
        (self.learnt, self.known) = (0, 0);
    }

    /// Reads the data of an event, as [`openai::event`] does.
    ///
    /// # Errors
    /// As there.
    pub fn event(&mut self, api: Api, data: &[u8]) -> Result<Event, serde_json::Error> {
        if self.knows(data) {
            self.known = self.known.saturating_add(1);
            return Ok(of_text(self.reasoning));
        }
        let event = openai::event(api, data)?;
        // where no event is like another, learning must not cost more than it brings
        if event == of_text(event.reasoning) && self.learnt < TRIES.saturating_add(self.known) {
            self.learn(api, data, event.reasoning);
        }
        Ok(event)
    }

    /// Adds the text of an event that was read, without reasoning, as [`openai::said`] does.
    pub fn said(&self, data: &[u8], said: &mut String) {
        if !self.knows(data) {
            openai::said(data, said);
        } else if !self.reasoning {
            let text = &data[self.before.len()..data.len() - self.behind.len()];
            said.push_str(&String::from_utf8_lossy(text));
        }
    }

    fn knows(&self, data: &[u8]) -> bool {
        let around = self.before.len() + self.behind.len();
        if self.before.is_empty() || data.len() <= around {
            return false;
        }
        let (before, rest) = data.split_at(self.before.len());
        let (text, behind) = rest.split_at(data.len() - around);
        before == self.before
            && behind == self.behind
            && text
                .iter()
                .all(|byte| *byte >= b' ' && !matches!(byte, b'"' | b'\\'))
    }

    fn learn(&mut self, api: Api, data: &[u8], reasoning: bool) {
        self.learnt += 1;
        for text in texts(data) {
            let without = [&data[..text.start], &data[text.end..]].concat();
            let silent = openai::event(api, &without);
            let part = Event {
                part: true,
                ..Event::default()
            };
            if silent.is_ok_and(|event| event == part) {
                self.before.clear();
                self.behind.clear();
                self.reasoning = reasoning;
                self.before.extend_from_slice(&data[..text.start]);
                self.behind.extend_from_slice(&data[text.end..]);
                return;
            }
        }
    }
}

/// An event that has text of one kind, and nothing else to tell.
fn of_text(reasoning: bool) -> Event {
    Event {
        content: !reasoning,
        reasoning,
        part: true,
        ..Event::default()
    }
}

/// Where a text without escapes stands.
fn texts(data: &[u8]) -> impl Iterator<Item = Range<usize>> {
    KEYS.iter().filter_map(|key| {
        let start = memmem::find(data, key)? + key.len();
        let length = memchr::memchr2(b'"', b'\\', &data[start..])?;
        (data[start + length] == b'"').then_some(start..start + length)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Events as engines send them, with the texts in the place of `@`.
    const FORMS: [(Api, &str); 10] = [
        (
            Api::Completions,
            r#"{"id":"cmpl-9","choices":[{"index":0,"text":"@","logprobs":null,"finish_reason":null}]}"#,
        ),
        (
            Api::Completions,
            r#"{"choices":[{"text":"@","index":0}],"usage":{"prompt_tokens":6,"completion_tokens":5}}"#,
        ),
        (
            Api::Chat,
            r#"{"choices":[{"finish_reason":null,"index":0,"delta":{"content":"@"}}],"created":1}"#,
        ),
        (
            Api::Chat,
            r#"{"choices":[{"delta":{"content":"","reasoning_content":"@"}}],"note":"\"text\":\"a"}"#,
        ),
        (
            Api::Chat,
            r#"{"choices":[{"logprobs":{"content":[{"text":"a","content":"b"}]},"delta":{"reasoning":"@"}}]}"#,
        ),
        (
            Api::Chat,
            r#"{"choices":[{"delta":{"role":"x","content":"@"},"finish_reason":"stop"}]}"#,
        ),
        (
            Api::Chat,
            r#"{"error":{"message":"@"},"choices":[{"delta":{"content":"@"}}]}"#,
        ),
        (
            Api::Chat,
            r#"{"choices":[{"delta":{"reasoning":"a","content":"@"}}]}"#,
        ),
        (
            Api::Chat,
            r#"{"choices":[{"delta":{"content":"@","tool_calls":[{"index":0,"function":{"arguments":"a"}}]}}]}"#,
        ),
        (
            Api::Chat,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"@"}}]},"finish_reason":null}]}"#,
        ),
    ];

    #[test]
    fn a_text_like_the_last_one_is_known() {
        let mut repeat = Repeat::default();
        let (api, form) = FORMS[0];
        for (text, known) in [("a", 0), (" b", 1), ("", 1), ("é", 2), ("\\n", 2), ("c", 3)] {
            let event = repeat.event(api, form.replace('@', text).as_bytes());
            assert_eq!(event.expect("an event").content, !text.is_empty(), "{text}");
            assert_eq!(repeat.known, known, "{text}");
        }
        let elsewhere = form.replace("cmpl-9", "cmpl-8").replace('@', "a");
        assert!(!repeat.knows(elsewhere.as_bytes()), "another stream");
    }

    #[test]
    fn reasoning_and_the_answer_behind_it_are_learnt_each() {
        let mut repeat = Repeat::default();
        let form = |key: &str, text: &str| {
            format!(r#"{{"choices":[{{"delta":{{"{key}":"{text}"}},"finish_reason":null}}]}}"#)
        };
        for key in ["reasoning", "reasoning_content", "content"] {
            for text in ["a", "b", "c"] {
                let event = repeat
                    .event(Api::Chat, form(key, text).as_bytes())
                    .expect("an event");
                assert_eq!(
                    (event.reasoning, event.content),
                    (key != "content", key == "content"),
                    "{key}"
                );
            }
        }
        assert_eq!((repeat.learnt, repeat.known), (3, 6));
    }

    #[test]
    fn what_tells_more_than_a_text_is_always_read() {
        for (api, form) in [FORMS[1], FORMS[5], FORMS[6]] {
            let mut repeat = Repeat::default();
            for text in ["a", "b", "c"] {
                let data = form.replace('@', text);
                let event = repeat.event(api, data.as_bytes()).expect("an event");
                assert_eq!(
                    event,
                    openai::event(api, data.as_bytes()).expect("an event")
                );
            }
            assert_eq!(repeat.known, 0, "{form}");
        }
    }

    #[test]
    fn where_no_event_is_like_another_it_is_left() {
        let mut repeat = Repeat::default();
        for number in 0..100 {
            let data = FORMS[0].1.replace("cmpl-9", &number.to_string());
            repeat.event(FORMS[0].0, data.as_bytes()).expect("an event");
        }
        assert_eq!(repeat.learnt, TRIES);
    }

    proptest! {
        #[test]
        fn it_says_what_the_parser_says(
            events in prop::collection::vec(
                (0..FORMS.len(), r#"[a-c"\\\\n@é{}:,\u{0}\u{1f}]{0,4}"#, any::<prop::sample::Index>(), 0..8_u8),
                0..60,
            ),
        ) {
            let mut repeat = Repeat::default();
            for (form, text, place, damage) in events {
                let (api, form) = FORMS[form];
                let mut data = form.replace('@', &text).into_bytes();
                // sometimes a byte is not what it was
                if damage == 0 {
                    let place = place.index(data.len());
                    data[place] = b"\"\\:x{\xff"[usize::from(data[place]) % 6];
                }
                let (found, wanted) = (repeat.event(api, &data), openai::event(api, &data));
                prop_assert_eq!(found.ok(), wanted.ok(), "{}", String::from_utf8_lossy(&data));
                let (mut found, mut wanted) = (String::new(), String::new());
                if api == Api::Chat {
                    repeat.said(&data, &mut found);
                    openai::said(&data, &mut wanted);
                }
                prop_assert_eq!(found, wanted, "{}", String::from_utf8_lossy(&data));
            }
        }
    }
}
