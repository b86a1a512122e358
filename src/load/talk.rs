//! A conversation as it goes: what was said so far, by its user as planned and by the engine as it answered.
//!
//! Each request carries all of it, so the context grows turn by turn, as it does in life. Reasoning is not said again:
//! templates of chats leave it out, too. A turn that fails ends its conversation, for there is no answer to go on from.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    connection::Connect,
    dispatch::{Load, Observer},
    exchange::Call,
    sample::{Sample, Turn},
};

/// A conversation between two of its turns.
#[derive(Debug)]
pub(super) struct Talk {
    /// Its number.
    index: u64,
    /// The turn that comes next, from 0.
    turn: u32,
    /// Turns that are planned.
    turns: u32,
    messages: Vec<Value>,
}

impl<C: Connect, O: Observer> Load<C, O> {
    /// What a user or an arrival begins: a request, and the conversation that may go on from it.
    pub(super) fn begin(&self, index: u64, intended: Duration) -> (Call, Option<Talk>) {
        if !self.content.is_conversation() {
            return (self.call(index, intended), None);
        }
        let talk = Talk {
            index,
            turn: 0,
            turns: self.content.turns(index),
            messages: self.content.messages(index, 0),
        };
        (self.turn(&talk, intended), Some(talk))
    }

    /// The next request of a conversation.
    pub(super) fn turn(&self, talk: &Talk, intended: Duration) -> Call {
        let max_tokens = self.content.answer_length(talk.index, talk.turn);
        Call {
            turn: Some(Turn {
                number: talk.turn,
                last: talk.turn + 1 >= talk.turns,
            }),
            chunks: max_tokens as usize,
            body: self.content.signed(
                self.content.body_of(&talk.messages, max_tokens),
                talk.index,
                talk.turn,
            ),
            ..self.empty_call(talk.index, intended)
        }
    }

    /// The conversation after an answer, with what its user says next; `None` where it has come to its end.
    pub(super) fn go_on(&self, talk: Option<Talk>, sample: &mut Sample) -> Option<Talk> {
        let mut talk = talk.filter(|talk| sample.is_success() && talk.turn + 1 < talk.turns)?;
        talk.turn += 1;
        let answer = std::mem::take(&mut sample.said);
        talk.messages
            .push(json!({"role": "assistant", "content": answer}));
        let next = self.content.messages(talk.index, talk.turn);
        talk.messages.extend(next);
        Some(talk)
    }

    /// How long the user thinks before the next turn.
    pub(super) fn pause_before(&self, talk: &Talk) -> Duration {
        self.content.pause_before(talk.index, talk.turn)
    }
}
