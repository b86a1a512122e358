//! What an answer tells, read as it comes: chunks with their stamps, token counts, and how it ended.
//!
//! A stream is scanned where it lies; any other body is kept and read at its end. All that was read at once has one
//! stamp: when it came, which is never before the request left, nor before what came earlier. Pure.

use std::{io, time::Duration};

use super::{
    counted::Counted,
    observer::Live,
    sample::{Chunk, Outcome, Sample, Times},
    wire::{Fault, Head, Reader},
};
use crate::{
    api::{
        judge::{Judge, Judged},
        lines, openai,
        repeat::Repeat,
        sse::Scanner,
    },
    recipe::Api,
};

/// Most bytes kept of a body that is no stream.
const BODY: usize = 64 << 20;

/// What the reading of an answer needs; a connection keeps it from one to the next, so that nothing is made anew.
#[derive(Debug, Default)]
pub(super) struct Memory {
    reader: Reader,
    scanner: Scanner,
    lines: lines::Scanner,
    repeat: Repeat,
    /// A body that is no stream.
    body: Vec<u8>,
}

impl Memory {
    /// Forgets the answer that was read.
    pub(super) fn reset(&mut self) {
        self.reader.reset();
        self.scanner.reset();
        self.lines.reset();
        self.repeat.reset();
        self.body.clear();
    }

    /// May the connection carry another request?
    pub(super) fn is_reusable(&self) -> bool {
        self.reader.is_reusable()
    }
}

/// An answer that is being read.
pub(super) struct Answer<'a> {
    api: Api,
    /// Who says what a whole answer is worth, where its API is none that is known.
    judge: Option<&'a dyn Judge>,
    sample: &'a mut Sample,
    /// Where tokens are counted as they come, and how many it was told of.
    live: Option<&'a Live>,
    told: u64,
    counted: Counted,
    /// Is the text kept? Only where a further turn carries it.
    keeps: bool,
    finished: bool,
    done: bool,
    /// The first thing that went wrong within the stream: class and message.
    failed: Option<(&'static str, String)>,
    fault: Option<Fault>,
    /// When the last bytes came; `None` before the first.
    came_at: Option<Duration>,
}

impl<'a> Answer<'a> {
    pub(super) fn new(api: Api, sample: &'a mut Sample) -> Self {
        Self {
            api,
            judge: None,
            keeps: sample.turn.is_some_and(|turn| !turn.last),
            sample,
            live: None,
            told: 0,
            counted: Counted::default(),
            finished: false,
            done: false,
            failed: None,
            fault: None,
            came_at: None,
        }
    }

    /// The same, judged by somebody else.
    pub(super) fn judged_by(self, judge: Option<&'a dyn Judge>) -> Self {
        Self { judge, ..self }
    }

    /// The same, with its tokens counted as they come.
    pub(super) fn counted_by(self, live: &'a Live) -> Self {
        let live = Some(live);
        Self { live, ..self }
    }

    /// Takes when the last byte of the request left.
    pub(super) fn written(&mut self, at: Duration) {
        self.sample.written = Some(at);
    }

    /// Takes bytes that were read now, and lay there for so long before.
    pub(super) fn take(
        &mut self,
        memory: &mut Memory,
        bytes: &[u8],
        now: Duration,
        lay: Option<Duration>,
    ) {
        let at = self.stamp(now, lay);
        self.sample.first_byte.get_or_insert(at);
        let Memory {
            reader,
            scanner,
            lines,
            repeat,
            body,
        } = memory;
        let read = reader.push(bytes, |head, piece| {
            if head.is_stream && head.status == 200 && self.judge.is_none() {
                let each = |data: &[u8]| {
                    self.read(repeat.event(self.api, data), at);
                    if self.keeps {
                        repeat.said(data, &mut self.sample.said);
                    }
                };
                if head.is_lines {
                    lines.push(piece, each);
                } else {
                    scanner.push(piece, each);
                }
            } else {
                let room = BODY - body.len().min(BODY);
                body.extend_from_slice(&piece[..piece.len().min(room)]);
            }
        });
        self.fault = read.err();
        self.tell();
        if self.sample.status.is_none() {
            self.sample.status = reader.head().map(|head| head.status);
        }
    }

    /// Tells of the tokens that came since it was last told.
    fn tell(&mut self) {
        let more = self.sample.live - self.told;
        if let Some(live) = self.live.filter(|_| more > 0) {
            live.add(more);
            self.told = self.sample.live;
        }
    }

    /// When bytes came that were read now.
    fn stamp(&mut self, now: Duration, lay: Option<Duration>) -> Duration {
        let earliest = self.came_at.or(self.sample.sent).unwrap_or_default();
        let at = match lay {
            Some(lay) => now.saturating_sub(lay).max(earliest.min(now)),
            None => now,
        };
        if lay.is_some() {
            let lay = now.saturating_sub(at).as_nanos();
            self.sample.lay.push(u32::try_from(lay).unwrap_or(u32::MAX));
        }
        self.came_at = Some(at);
        at
    }

    /// Takes an event of the stream.
    fn read(&mut self, event: Result<openai::Event, serde_json::Error>, at: Duration) {
        match event {
            Ok(event) => {
                if event.has_text() {
                    self.came(&event, at);
                } else if event.part {
                    self.sample.silent.push(at);
                }
                self.sample.live += self.counted.take(&event, self.sample);
                self.count(event.usage);
                self.timed(event.times);
                self.finished |= event.finish.is_some();
                self.done |= event.done;
                if let Some(message) = event.error {
                    self.fail("stream_error", message);
                }
            }
            Err(error) => self.fail("bad_event", error.to_string()),
        }
    }

    /// Text came.
    fn came(&mut self, event: &openai::Event, at: Duration) {
        self.sample.chunks.push(Chunk { at });
        self.sample.reasons |= event.reasoning;
        if event.content {
            self.sample.first_output.get_or_insert(at);
        }
    }

    fn count(&mut self, usage: Option<openai::Usage>) {
        if let Some(usage) = usage {
            self.sample.prompt_tokens = Some(usage.prompt_tokens);
            self.sample.output_tokens = Some(usage.completion_tokens);
            // told with the last count, also where each event has one
            let (cached, reasoning) = (usage.cached_tokens, usage.reasoning_tokens);
            self.sample.cached_tokens = cached.or(self.sample.cached_tokens);
            self.sample.reasoning_tokens = reasoning.or(self.sample.reasoning_tokens);
        }
    }

    /// Takes what the engine says of its own times: with the last event, also where others tell.
    fn timed(&mut self, times: Times) {
        if times != Times::default() {
            self.sample.engine = times;
        }
    }

    fn fail(&mut self, class: &'static str, message: String) {
        self.failed.get_or_insert((class, message));
    }

    /// How it ended, where it has.
    pub(super) fn outcome(&mut self, memory: &Memory) -> Option<Outcome> {
        if let Some(fault) = self.fault.take() {
            return Some(self.broken(&memory.reader, &memory.body, fault.to_string()));
        }
        let head = memory.reader.head()?;
        memory
            .reader
            .is_whole()
            .then(|| self.whole(head, &memory.body))
    }

    /// How it ended, now that the connection has.
    pub(super) fn closed(&mut self, memory: &mut Memory, error: Option<io::Error>) -> Outcome {
        let whole = error.is_none() && memory.reader.ends_when_closed();
        let head = memory.reader.head();
        if let Some(head) = head.filter(|_| whole) {
            return self.whole(head, &memory.body);
        }
        let what = if head.is_some() {
            "the connection was closed in the middle of the answer"
        } else {
            "the connection was closed before an answer came"
        };
        let message = error.map_or_else(|| what.to_owned(), |error| error.to_string());
        self.broken(&memory.reader, &memory.body, message)
    }

    /// An answer that has come whole.
    fn whole(&mut self, head: Head, body: &[u8]) -> Outcome {
        if let Some(judge) = self.judge {
            return self.take_judged(judge.judge(self.sample.index, head.status, body));
        }
        if head.status != 200 {
            return rejected(head, body);
        }
        if head.is_stream {
            return match self.failed.take() {
                Some((class, message)) => error(class, message),
                None if !self.done => {
                    let last = if head.is_lines { "done" } else { "[DONE]" };
                    error("broken_stream", format!("the stream ended without {last}"))
                }
                None if !self.finished => {
                    error("broken_stream", "the stream ended without a finish reason")
                }
                None => Outcome::Success,
            };
        }
        let answer = match openai::answer(self.api, body) {
            Ok(answer) => answer,
            Err(fault) => return error("bad_answer", fault.to_string()),
        };
        if let Some(message) = answer.error {
            return error("answer_error", message);
        }
        if !self.api.generates() && !answer.content {
            let what = self.api.name();
            return error("bad_answer", format!("the answer holds no {what} result"));
        }
        let came = self.came_at.filter(|_| self.api.generates());
        if let Some(at) = came.filter(|_| answer.has_text()) {
            self.came(&answer, at);
            self.sample.live += 1;
            self.tell();
        }
        if self.keeps {
            openai::said(body, &mut self.sample.said);
        }
        self.count(answer.usage);
        self.timed(answer.times);
        Outcome::Success
    }

    fn take_judged(&mut self, judged: Judged) -> Outcome {
        self.sample.prompt_tokens = judged.prompt_tokens;
        self.sample.output_tokens = judged.output_tokens;
        self.sample.recall = judged.recall;
        match judged.error {
            None => Outcome::Success,
            Some((class, message)) => Outcome::Error(class, message),
        }
    }

    /// An answer of which no more will come.
    fn broken(&mut self, reader: &Reader, body: &[u8], message: String) -> Outcome {
        match reader.head() {
            None => error("connection", message),
            Some(head) if head.status != 200 && self.judge.is_none() => rejected(head, body),
            // what the engine said before it closed tells more than that it did
            Some(head) if head.is_stream && self.judge.is_none() => match self.failed.take() {
                Some((class, message)) => error(class, message),
                None => error("broken_stream", message),
            },
            Some(_) => error("broken_answer", message),
        }
    }
}

fn rejected(head: Head, body: &[u8]) -> Outcome {
    error(
        &format!("http_{}", head.status),
        openai::error_message(body),
    )
}

fn error(class: &str, message: impl Into<String>) -> Outcome {
    Outcome::Error(class.to_owned(), message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_keep_their_order_whatever_the_wall_clock_does() {
        let ms = Duration::from_millis;
        let mut sample = Sample::planned(0, ms(0));
        sample.sent = Some(ms(5));
        let mut answer = Answer::new(Api::Completions, &mut sample);
        let table = [
            // read, lay there, came
            (10, Some(20), 5),
            (12, Some(1), 11),
            (13, Some(5), 11),
            (14, None, 14),
            (15, Some(0), 15),
            (20, Some(2), 18),
        ];
        for (now, lay, came) in table {
            assert_eq!(
                answer.stamp(ms(now), lay.map(ms)),
                ms(came),
                "{now} {lay:?}"
            );
        }
        assert_eq!(sample.lay, [5, 1, 2, 0, 2].map(|lay| lay * 1_000_000));
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod ollama_tests;
