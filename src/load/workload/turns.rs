//! Conversations: what their users say turn by turn, and how long they think in between.
//!
//! All of it is told by the seed and the number of the conversation, whatever was answered; the answers of the engine
//! stand between, as they come. The first turn is what a single request of that number would be, with its nonce, so no
//! two conversations share a prefix, and within one each turn begins with all of the turn before: what a prefix cache
//! finds is what it would find in life. Pure; nothing can fail.

use std::time::Duration;

use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::{Content, length, texts::Said};
use crate::{
    api::openai::Input,
    recipe::{Conversation, ThinkTime},
};

/// Sets the draws of turns apart from others.
const TURNS: u64 = 0x7475_726e_7300_0000;
/// Draws between two turns, as a power of two.
const TURN: u32 = 16;

impl Content {
    /// Do requests follow from each other?
    pub const fn is_conversation(&self) -> bool {
        self.workload.conversation.is_some()
    }

    /// How many requests a conversation has, as planned.
    pub fn turns(&self, index: u64) -> u32 {
        let Some(conversation) = &self.workload.conversation else {
            return 1;
        };
        let held = self.text(index).map(|text| {
            let further = u32::try_from(text.further.len()).unwrap_or(u32::MAX);
            further.saturating_add(1)
        });
        let mut random = self.at_turn(index, 0);
        let wanted = conversation
            .turns
            .map(|turns| length::draw(&turns, &mut random));
        wanted.unwrap_or(u32::MAX).min(held.unwrap_or(u32::MAX))
    }

    /// The messages of a turn, from 0: those before the first answer, or what the user says after one.
    pub fn messages(&self, index: u64, turn: u32) -> Vec<Value> {
        let user = |content: String| vec![json!({"role": "user", "content": content})];
        match (self.text(index), turn.checked_sub(1)) {
            (None, None) => user(self.prompt(index)),
            (None, Some(_)) => {
                let words = self.scale.words_of_text(self.message_length(index, turn));
                user(self.prompts.further(index, turn, words))
            }
            (Some(text), None) => match &text.said {
                Said::Prompt(prompt) => user(prompt.clone()),
                Said::Messages(messages) => messages.clone(),
            },
            (Some(text), Some(place)) => {
                let further = text.further.get(place as usize);
                further.map(|one| one.message.clone()).into_iter().collect()
            }
        }
    }

    /// Most tokens of the answer of a turn.
    pub fn answer_length(&self, index: u64, turn: u32) -> u32 {
        let Some(place) = turn.checked_sub(1) else {
            return self.asked(index).max_tokens;
        };
        let further = self
            .text(index)
            .and_then(|text| text.further.get(place as usize));
        if let Some(tokens) = further.and_then(|further| further.max_tokens) {
            return tokens;
        }
        let mut random = self.at_turn(index, turn);
        random.set_word_pos(random.get_word_pos() + (1 << (TURN - 1)));
        length::draw(&self.workload.max_tokens, &mut random)
    }

    /// How long the user thinks before a turn.
    pub fn pause_before(&self, index: u64, turn: u32) -> Duration {
        let think_time = self.conversation().map(|talk| talk.think_time);
        let mut random = self.at_turn(index, turn);
        random.set_word_pos(random.get_word_pos() + (1 << (TURN - 2)));
        length::pause(
            &think_time.unwrap_or(ThinkTime::Fixed(Duration::ZERO)),
            &mut random,
        )
    }

    /// The body of a request with these messages.
    pub fn body_of(&self, messages: &[Value], max_tokens: u32) -> Vec<u8> {
        self.write(Input::Messages(messages), max_tokens)
    }

    const fn conversation(&self) -> Option<&Conversation> {
        self.workload.conversation.as_ref()
    }

    fn message_length(&self, index: u64, turn: u32) -> u32 {
        let length = self.conversation().map(|talk| talk.message_length);
        length.map_or(1, |length| {
            length::draw(&length, &mut self.at_turn(index, turn))
        })
    }

    /// What a turn is drawn from.
    fn at_turn(&self, index: u64, turn: u32) -> ChaCha12Rng {
        let mut random = ChaCha12Rng::seed_from_u64(self.workload.seed ^ TURNS);
        random.set_stream(self.prompts.item(index));
        random.set_word_pos(u128::from(turn) << TURN);
        random
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        load::workload::{Material, Scale},
        recipe::{ClientPlan, Dataset, DatasetKind},
    };

    fn plan(conversation: &str, params: &str) -> ClientPlan {
        ClientPlan::of(
            &format!("api: chat, duration_seconds: 1, conversation: {{{conversation}}}"),
            params,
        )
    }

    fn content(conversation: &str, params: &str) -> Content {
        Content::new(&plan(conversation, params), Material::None, "m")
    }

    fn said(messages: &[Value]) -> &str {
        messages[0]["content"].as_str().expect("a text")
    }

    #[test]
    fn turns_lengths_and_pauses_are_drawn_by_the_seed() {
        let conversation = "turns: {uniform: [2, 8]}, message_length: {uniform: [10, 60]}, think_time_ms: {uniform: [100, 900]}";
        let params = "prompt_length: 100, max_tokens: {uniform: [4, 40]}";
        let (one, same) = (content(conversation, params), content(conversation, params));
        let mut turns = std::collections::BTreeSet::new();
        let mut texts = std::collections::HashSet::new();
        for index in 0..100 {
            turns.insert(one.turns(index));
            assert_eq!(one.turns(index), same.turns(index));
            for turn in 0..one.turns(index) {
                let messages = one.messages(index, turn);
                assert_eq!(messages, same.messages(index, turn));
                let words = said(&messages).split(' ').count();
                let range = if turn == 0 { 100..=100 } else { 10..=60 };
                assert!(range.contains(&words), "{words} in turn {turn}");
                assert!((4..=40).contains(&one.answer_length(index, turn)));
                let pause = one.pause_before(index, turn).as_millis();
                assert!((100..=900).contains(&pause), "{pause}");
                assert!(texts.insert(said(&messages).to_owned()), "said twice");
            }
        }
        assert_eq!(turns, (2..=8).collect());
        let lengths: std::collections::BTreeSet<_> =
            (1..100).map(|turn| one.answer_length(3, turn)).collect();
        assert!(lengths.len() > 20, "each turn has its own: {lengths:?}");
        // two tokens a word, ten of a template, which is there once
        let scaled = one.with_scale(Scale::of(&[30, 210], &[(10, 30), (100, 210)]));
        let asked = scaled.message_length(5, 1).div_ceil(2) as usize;
        assert_eq!(said(&scaled.messages(5, 1)).split(' ').count(), asked);
    }

    #[test]
    fn users_think_and_talk_as_the_workload_says_where_nothing_else_is() {
        let mut plan = plan("turns: 3", "prompt_length: 30");
        let talk = plan.workload.conversation.expect("a conversation");
        assert_eq!(talk.message_length, crate::recipe::Length::Fixed(30));
        assert_eq!(talk.think_time, ThinkTime::Fixed(Duration::ZERO));
        plan = ClientPlan::of(
            "api: chat, think_time_ms: 250, duration_seconds: 1, conversation: {turns: 2}",
            "",
        );
        let content = Content::new(&plan, Material::None, "m");
        assert_eq!(content.pause_before(0, 1), Duration::from_millis(250));
    }

    #[test]
    fn a_file_gives_its_own_turns() {
        let mut plan = plan("turns: 2", "");
        plan.workload.dataset = Some(Dataset {
            kind: DatasetKind::Jsonl,
            file: "t.jsonl".into(),
            own_lengths: true,
        });
        let user = |text: &str| format!(r#"{{"role": "user", "content": "{text}"}}"#);
        let line = |users: &[&str]| {
            let users: Vec<_> = users.iter().map(|text| user(text)).collect();
            format!(r#"{{"messages": [{}], "max_tokens": 5}}"#, users.join(", "))
        };
        let text = [line(&["a", "b", "c"]), line(&["d"])].join("\n");
        let material = Material::of(&plan, &text).expect("conversations");
        let two = Content::new(&plan, material.clone(), "m");
        let mut turns = [two.turns(0), two.turns(1)];
        turns.sort_unstable();
        assert_eq!(turns, [1, 2], "as many as asked, where there are so many");
        plan.workload.conversation.as_mut().expect("one").turns = None;
        let all = Content::new(&plan, material, "m");
        let long = u64::from(all.turns(0) == 1);
        assert_eq!((all.turns(long), all.turns(1 - long)), (3, 1));
        let heard: Vec<_> = (0..3)
            .map(|turn| said(&all.messages(long, turn)).to_owned())
            .collect();
        assert_eq!(heard, ["a", "b", "c"]);
        assert_eq!(all.answer_length(long, 2), 5);
    }
}
