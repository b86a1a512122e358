//! What requests hold: of each number, its own, told by a seed.
//!
//! [`words`] makes prompts that no two requests share, [`length`] draws their lengths, and [`scale`] turns tokens into
//! words as the engine counts them. [`turns`] makes conversations of them. [`material`] is what comes from a file instead: a [`trace`] or [`texts`].
//! [`written`] is what is more than a prompt, [`vectors`] are those of a collection with the queries of it. [`stimulus`] tells two loads apart, or shows that they asked the same.

pub mod length;
pub mod material;
pub mod scale;
mod stimulus;
pub mod texts;
pub mod trace;
mod turns;
pub mod vectors;
pub mod words;
mod written;

use std::{sync::Arc, time::Duration};

use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha12Rng;

pub use self::{
    material::{Material, hex},
    scale::Scale,
    stimulus::{stimulus, stimulus_of_all},
    words::Prompts,
};
use self::{
    texts::{Said, Text},
    trace::{BLOCK, Row},
    words::NONCE_WORDS,
};
use crate::{
    api::{
        http::Held,
        judge::Judge,
        openai::{self, Input, RequestSpec},
        vectors::{self as vectors_api, Recall},
    },
    load::arrival::Schedule,
    recipe::{Api, ClientPlan, Length, SharedPart, Workload},
};

/// Sets the draws of lengths apart from those of words.
const LENGTHS: u64 = 0x6c65_6e67_7468_7300;
/// Sets the order of texts apart from other draws.
const ORDER: u64 = 0x6f72_6465_7200_0000;
/// Sets the pauses of users apart from other draws.
const PAUSES: u64 = 0x7061_7573_6573_0000;
/// Tokens of a prompt that is tried where none will be made.
const SOME_LENGTH: u32 = 64;
/// Requests by whose lengths the scale is sought.
const LOOKED_AT: u64 = 1000;
/// Lengths that differ by no more than this are one length to the search.
const SPREAD: u32 = 2;

/// What is asked of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Tokens of its prompt, where it is made to have them.
    pub prompt_tokens: Option<u32>,
    /// Tokens of its answer at the most.
    pub max_tokens: u32,
}

/// What the requests of a load hold.
#[derive(Debug, Clone)]
pub struct Content {
    api: Api,
    model: String,
    workload: Workload,
    material: Material,
    /// In which texts of a file are taken.
    order: Arc<[usize]>,
    schedule: Option<Schedule>,
    prompts: Prompts,
    /// At the first request's lengths.
    lengths: ChaCha12Rng,
    scale: Scale,
    /// Who judges answers, where requests are written out.
    judge: Option<Arc<dyn Judge>>,
    /// Does each body end with its request's number?
    numbered: bool,
}

/// The field of a body that holds the number of its request, where bodies are numbered.
const NUMBER: &str = ",\"aif_request\":";

impl Content {
    /// Of a plan and the file that it names, for the model of this name. A word is taken for a token until a scale is set.
    pub fn new(plan: &ClientPlan, material: Material, model: &str) -> Self {
        let workload = plan.workload.clone();
        let traced = match &material {
            Material::Trace(rows, _) => rows.iter().map(|row| row.at).collect(),
            _ => Arc::default(),
        };
        let material = match material {
            Material::Texts(texts, facts) if workload.conversation.is_some() => {
                let turns = texts.iter().cloned().map(Text::turn_by_turn).collect();
                Material::Texts(Arc::new(turns), facts)
            }
            other => other,
        };
        let mut pool = workload.num_prompts;
        let mut order = Vec::new();
        if let Material::Texts(texts, _) = &material {
            order = (0..texts.len()).collect();
            order.shuffle(&mut ChaCha12Rng::seed_from_u64(workload.seed ^ ORDER));
            let all = u32::try_from(texts.len()).unwrap_or(u32::MAX);
            pool = Some(pool.map_or(all, |pool| pool.min(all)));
        }
        let judge = judge(plan, &material);
        let prompts = Prompts::new(workload.seed, pool);
        let prompts = if workload.corpus {
            prompts.of_corpus()
        } else {
            prompts
        };
        Self {
            material,
            order: order.into(),
            schedule: Schedule::of(plan, traced),
            api: plan.api,
            model: model.to_owned(),
            prompts,
            lengths: ChaCha12Rng::seed_from_u64(workload.seed ^ LENGTHS),
            judge,
            workload,
            scale: Scale::default(),
            numbered: false,
        }
    }

    /// The same with the number of the request at the end of each body: for an engine of our own, which remembers by it
    /// what it did.
    #[must_use]
    pub fn numbered(self) -> Self {
        Self {
            numbered: true,
            ..self
        }
    }

    /// What a request is called: by its number in the load, and its turn.
    pub const fn number(index: u64, turn: u32) -> u64 {
        (index << 16) | (turn & 0xffff) as u64
    }

    /// A body with that at its end, where bodies are numbered.
    pub(in crate::load) fn signed(&self, mut body: Vec<u8>, index: u64, turn: u32) -> Vec<u8> {
        if self.numbered && body.pop().is_some() {
            let number = Self::number(index, turn);
            body.extend(format!("{NUMBER}{number}}}").into_bytes());
        }
        body
    }

    /// The number at the end of a body.
    pub fn number_of(body: &[u8]) -> Option<u64> {
        let at = memchr::memmem::rfind(body, NUMBER.as_bytes())?;
        let digits = body[at + NUMBER.len()..].strip_suffix(b"}")?;
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// The same with another scale of words and tokens.
    #[must_use]
    pub fn with_scale(self, scale: Scale) -> Self {
        Self { scale, ..self }
    }

    /// The same for a model of another name.
    #[must_use]
    fn for_model(self, model: &str) -> Self {
        Self {
            model: model.to_owned(),
            ..self
        }
    }

    /// The name of the model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// How words and tokens go together.
    pub const fn scale(&self) -> Scale {
        self.scale
    }

    /// The API.
    pub const fn api(&self) -> Api {
        self.api
    }

    /// Are answers streamed?
    pub const fn streams(&self) -> bool {
        self.workload.stream
    }

    /// What a user draws pauses from.
    pub fn pauses(&self, user: u64) -> ChaCha12Rng {
        let mut random = ChaCha12Rng::seed_from_u64(self.workload.seed ^ PAUSES);
        random.set_stream(user);
        random
    }

    /// When requests are sent; `None` for a closed loop.
    pub const fn schedule(&self) -> Option<&Schedule> {
        self.schedule.as_ref()
    }

    /// Those times; none for a closed loop.
    pub fn times(&self) -> impl Iterator<Item = Duration> + Send + use<> {
        self.schedule
            .clone()
            .into_iter()
            .flat_map(|schedule| schedule.times())
    }

    /// What a file gives.
    pub const fn material(&self) -> &Material {
        &self.material
    }

    /// The line of the trace that a request replays.
    fn row(&self, index: u64) -> Option<&Row> {
        let Material::Trace(rows, _) = &self.material else {
            return None;
        };
        rows.get(usize::try_from(index).ok()?)
    }

    /// The text of a file that a request sends.
    fn text(&self, index: u64) -> Option<&Text> {
        let Material::Texts(texts, _) = &self.material else {
            return None;
        };
        let place = usize::try_from(self.prompts.item(index)).ok()?;
        texts.get(*self.order.get(place)?)
    }

    /// What is asked of a request.
    pub fn asked(&self, index: u64) -> Asked {
        if let Some(row) = self.row(index) {
            return Asked {
                prompt_tokens: Some(row.input),
                max_tokens: row.output,
            };
        }
        let text = self.text(index);
        let mut random = self.lengths.clone();
        random.set_stream(self.prompts.item(index));
        let prompt_tokens = length::draw(&self.workload.prompt_length, &mut random);
        let max_tokens = length::draw(&self.workload.max_tokens, &mut random);
        Asked {
            prompt_tokens: text.is_none().then_some(prompt_tokens),
            max_tokens: text.and_then(|text| text.max_tokens).unwrap_or(max_tokens),
        }
    }

    /// Do requests ask for lengths of their own?
    pub const fn varies(&self) -> bool {
        let lengths = (self.workload.prompt_length, self.workload.max_tokens);
        let fixed = matches!(lengths, (Length::Fixed(_), Length::Fixed(_)));
        match self.material {
            Material::None => !fixed,
            Material::Vectors(_) => false,
            _ => true,
        }
    }

    /// Lengths of prompts by which the scale is best sought: one, or a short and a long one where they differ.
    pub fn typical_lengths(&self) -> Vec<u32> {
        let most = match &self.material {
            Material::Trace(rows, _) => rows.len() as u64,
            // any will do: no prompt is made
            Material::Texts(..) => return vec![SOME_LENGTH],
            Material::None | Material::Vectors(_) => LOOKED_AT,
        };
        let mut lengths: Vec<u32> = (0..most.min(LOOKED_AT))
            .filter_map(|index| self.asked(index).prompt_tokens)
            .collect();
        lengths.sort_unstable();
        // not the very ends: a rare prompt of great length would cost more than it tells
        let (short, long) = (lengths[lengths.len() / 10], lengths[lengths.len() * 9 / 10]);
        if long - short <= SPREAD {
            vec![short]
        } else {
            vec![short, long]
        }
    }

    /// The prompt that is made for a request.
    fn prompt(&self, index: u64) -> String {
        let tokens = self.asked(index).prompt_tokens.unwrap_or_default();
        match self.row(index) {
            Some(row) if !row.blocks.is_empty() => self.blocks(row),
            _ => self.own(index, tokens),
        }
    }

    /// A prompt of so many tokens: what its group shares, if anything, and then its own.
    fn own(&self, index: u64, tokens: u32) -> String {
        let words = self.scale.words(tokens);
        let Some(shared) = &self.workload.shared_prefix else {
            return self.prompts.prompt(index, words);
        };
        let part = match shared.part {
            SharedPart::Length(length) => self.scale.words_of_text(length),
            SharedPart::Ratio(ratio) => share(words, ratio),
        };
        let part = part.min(words.saturating_sub(NONCE_WORDS as usize));
        let group = self.prompts.item(index) % u64::from(shared.groups);
        let mut text = String::new();
        self.prompts.shared(group, part, &mut text);
        if !text.is_empty() {
            text.push(' ');
        }
        text + &self.prompts.prompt(index, words - part)
    }

    /// The blocks of a trace's prompt, one after another. Where one ends depends on the tokens before it alone, so what
    /// two prompts share they share word for word.
    fn blocks(&self, row: &Row) -> String {
        let mut text = String::new();
        let (mut tokens, mut words) = (0_u32, 0);
        for block in &row.blocks {
            tokens = (tokens + BLOCK).min(row.input);
            let end = self.scale.words(tokens);
            self.prompts
                .shared(*block, end.saturating_sub(words), &mut text);
            words = end.max(words);
        }
        text
    }

    /// The body of a request.
    pub fn body(&self, index: u64) -> Vec<u8> {
        if let Some(query) = self.queried(index) {
            return query;
        }
        let max_tokens = self.asked(index).max_tokens;
        let body = match self.text(index).map(|text| &text.said) {
            Some(Said::Prompt(prompt)) => self.of_prompt(index, prompt, max_tokens),
            Some(Said::Messages(messages)) => self.write(Input::Messages(messages), max_tokens),
            None => self.of_prompt(index, &self.prompt(index), max_tokens),
        };
        self.signed(body, index, 0)
    }

    /// The prompt of a request, wherever it comes from.
    fn said(&self, index: u64) -> String {
        match self.text(index).map(|text| &text.said) {
            Some(Said::Prompt(prompt)) => prompt.clone(),
            _ => self.prompt(index),
        }
    }

    fn of_prompt(&self, index: u64, prompt: &str, max_tokens: u32) -> Vec<u8> {
        match (&self.workload.request, self.workload.documents) {
            (Some(request), _) => self.written(request, index, prompt),
            (None, Some(documents)) => self.reranked(documents, index, prompt, max_tokens),
            (None, None) => self.write(Input::Prompt(prompt), max_tokens),
        }
    }

    /// The body of a request for one token, with a prompt of so many words.
    pub fn probe(&self, index: u64, words: usize) -> Vec<u8> {
        self.of_prompt(index, &self.prompts.prompt(index, words), 1)
    }

    /// The prompt of that request, where it holds nothing else.
    pub fn tried(&self, index: u64, words: usize) -> Option<String> {
        let is_plain = self.workload.request.is_none() && self.workload.documents.is_none();
        is_plain.then(|| self.prompts.prompt(index, words))
    }

    fn write(&self, input: Input<'_>, max_tokens: u32) -> Vec<u8> {
        openai::body(&RequestSpec {
            api: self.api,
            model: &self.model,
            input,
            max_tokens,
            temperature: self.workload.temperature,
            top_p: self.workload.top_p,
            ignore_eos: self.workload.ignore_eos,
            stream: self.workload.stream,
            extra: &self.workload.extra_body,
        })
    }
}

/// Who judges the answers, where their API does not.
fn judge(plan: &ClientPlan, material: &Material) -> Option<Arc<dyn Judge>> {
    if let (Material::Vectors(set), Some(dialect)) = (material, vectors_api::dialect(plan.api)) {
        return Some(Arc::new(Recall::new(Arc::clone(set), dialect)));
    }
    let request = plan.workload.request.as_ref()?;
    Some(Arc::new(Held::against(&request.expect)))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a number of words"
)]
fn share(words: usize, ratio: f64) -> usize {
    (words as f64 * ratio).ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{Dataset, DatasetKind};

    fn content(params: &str) -> Content {
        Content::new(
            &ClientPlan::of("total_requests: 1", params),
            Material::None,
            "m",
        )
    }

    #[test]
    fn each_request_has_its_own_lengths_and_a_seed_repeats_them() {
        let params = "prompt_length: {uniform: [10, 500]}, max_tokens: {lognormal: {median: 50, sigma: 1, max: 400}}";
        let all: Vec<_> = (0..200).map(|index| content(params).asked(index)).collect();
        let again: Vec<_> = (0..200).map(|index| content(params).asked(index)).collect();
        assert_eq!(all, again);
        let prompts = |all: &[Asked]| {
            all.iter()
                .map(|asked| asked.prompt_tokens)
                .collect::<Vec<_>>()
        };
        let mut different = prompts(&all);
        different.sort_unstable();
        different.dedup();
        assert!(different.len() > 100, "{}", different.len());
        // a length of the prompt says nothing about that of the answer
        let fixed = content(&params.replace("{uniform: [10, 500]}", "10"));
        assert!((0..200).all(|index| fixed.asked(index).prompt_tokens == Some(10)));

        let pooled = content(&format!("num_prompts: 3, {params}"));
        assert_eq!(pooled.asked(1), pooled.asked(4));
        assert_eq!(pooled.body(1), pooled.body(4));
        assert_ne!(pooled.body(1), pooled.body(2));
    }

    #[test]
    fn a_numbered_body_is_the_same_with_its_number() {
        let plain = content("prompt_length: 9");
        let numbered = plain.clone().numbered();
        for index in [0, 7, 10_000_000] {
            let (body, with) = (plain.body(index), numbered.body(index));
            let number = Content::number(index, 0);
            assert_eq!(Content::number_of(&with), Some(number));
            let turn = numbered.signed(body.clone(), index, 3);
            assert_eq!(Content::number_of(&turn), Some(number + 3));
            assert_eq!(Content::number_of(&body), None);
            let mut read: serde_json::Value = serde_json::from_slice(&with).expect("JSON");
            read.as_object_mut()
                .expect("an object")
                .remove("aif_request");
            assert_eq!(
                read,
                serde_json::from_slice::<serde_json::Value>(&body).expect("JSON")
            );
        }
    }

    #[test]
    fn a_prompt_has_the_words_that_its_length_takes() {
        let content = content("prompt_length: {uniform: [20, 400]}");
        let count = |content: &Content, index| content.prompt(index).split(' ').count();
        for index in 0..50 {
            let tokens = content.asked(index).prompt_tokens.unwrap() as usize;
            assert_eq!(count(&content, index), tokens, "a word a token");
        }
        // two tokens a word, ten of a template
        let scale = Scale::of(&[30, 210], &[(10, 30), (100, 210)]);
        let scaled = content.clone().with_scale(scale);
        for index in 0..50 {
            let tokens = content.asked(index).prompt_tokens.unwrap();
            let got = 10 + 2 * count(&scaled, index);
            assert!(got.abs_diff(tokens as usize) <= 1, "{got} for {tokens}");
        }
    }

    #[test]
    fn the_scale_is_sought_at_one_length_or_at_two() {
        assert_eq!(content("prompt_length: 64").typical_lengths(), [64]);
        let typical = content("prompt_length: {uniform: [100, 1100]}").typical_lengths();
        let [short, long] = typical[..] else {
            panic!("{typical:?}")
        };
        assert!(
            (150..250).contains(&short) && (950..1050).contains(&long),
            "{typical:?}"
        );
    }

    /// Words that two prompts begin with alike.
    fn alike(one: &str, other: &str) -> usize {
        one.split(' ')
            .zip(other.split(' '))
            .take_while(|(one, other)| one == other)
            .count()
    }

    #[test]
    fn a_group_begins_alike_and_no_other() {
        let lengths = "prompt_length: {uniform: [150, 300]}";
        let by_length = content(&format!(
            "{lengths}, shared_prefix: {{groups: 3, length: 100}}"
        ));
        let by_ratio = content("prompt_length: 200, shared_prefix: {groups: 3, ratio: 0.5}");
        // 1.25 tokens a word, 20 of a template: of the text alone 80 words are 100 tokens
        let scale = Scale::of(&[145, 1270], &[(100, 145), (1000, 1270)]);
        let scaled = by_length.clone().with_scale(scale);
        for (content, shared) in [(by_length, 100), (by_ratio, 100), (scaled, 80)] {
            let prompts: Vec<_> = (0..30).map(|index| content.prompt(index)).collect();
            for (index, prompt) in (0_u64..).zip(&prompts) {
                let words = content
                    .scale
                    .words(content.asked(index).prompt_tokens.unwrap());
                assert_eq!(prompt.split(' ').count(), words);
                for (other_index, other) in (0_u64..).zip(&prompts) {
                    let wanted = match (index == other_index, index % 3 == other_index % 3) {
                        (true, _) => continue,
                        (false, true) => shared,
                        (false, false) => 0,
                    };
                    let found = alike(prompt, other);
                    // a word or two may be the same by chance, a nonce never
                    assert!(
                        (wanted..wanted + 4).contains(&found),
                        "{found}, not {wanted}"
                    );
                }
            }
        }
    }

    const TRACE: &str = "\
{\"timestamp\": 0, \"input_length\": 1100, \"output_length\": 5, \"hash_ids\": [0, 1, 2]}
{\"timestamp\": 300, \"input_length\": 1400, \"output_length\": 6, \"hash_ids\": [0, 1, 3]}
{\"timestamp\": 900, \"input_length\": 40, \"output_length\": 7}
";

    #[test]
    fn a_trace_gives_times_lengths_and_what_prompts_share() {
        let plan = ClientPlan::of("arrival: {process: trace, file: t.jsonl}", "");
        let material = Material::of(&plan, TRACE).expect("a trace");
        let content = Content::new(&plan, material, "m");
        let times: Vec<_> = content.schedule().expect("an open loop").times().collect();
        assert_eq!(times, [0, 300, 900].map(Duration::from_millis));
        // 1.25 tokens a word, 20 of a template
        let scale = Scale::of(&[145, 1270], &[(100, 145), (1000, 1270)]);
        for (content, shared) in [(content.clone(), 1024), (content.with_scale(scale), 803)] {
            let prompts: Vec<String> = (0..3).map(|index| content.prompt(index)).collect();
            let words = |index: usize| prompts[index].split(' ').count();
            assert_eq!(alike(&prompts[0], &prompts[1]), shared);
            assert!(alike(&prompts[0], &prompts[2]) < 4);
            for (index, max_tokens) in [(0, 5), (1, 6), (2, 7)] {
                let asked = content.asked(index);
                assert_eq!(asked.max_tokens, max_tokens);
                let wanted = content.scale.words(asked.prompt_tokens.unwrap());
                assert_eq!(words(usize::try_from(index).unwrap()), wanted);
            }
        }
    }

    #[test]
    fn texts_of_a_file_come_in_an_order_of_the_seed_and_come_round() {
        let order = |seed: u64, pool: &str| {
            let mut plan = ClientPlan::of(&format!("total_requests: 1, seed: {seed}"), pool);
            plan.workload.dataset = Some(Dataset {
                kind: DatasetKind::Prompts,
                file: "p.txt".into(),
                own_lengths: true,
            });
            let material = Material::of(&plan, "a\nb\nc\nd\ne\nf\n").expect("prompts");
            let content = Content::new(&plan, material, "m");
            let said = |index| match &content.text(index).expect("a text").said {
                Said::Prompt(prompt) => prompt.clone(),
                Said::Messages(_) => String::new(),
            };
            (0..12).map(said).collect::<Vec<_>>()
        };
        let first = order(1, "");
        assert_eq!(first[..6], first[6..]);
        let mut sorted = first[..6].to_vec();
        sorted.sort();
        assert_eq!(sorted, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(order(1, ""), first);
        assert!((2..9).any(|seed| order(seed, "") != first));
        let pooled = order(1, "num_prompts: 2");
        assert_eq!(pooled[..2], pooled[2..4]);
        assert_eq!(pooled[..2], first[..2]);
    }
}
