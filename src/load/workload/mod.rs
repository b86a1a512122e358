//! What requests hold: of each number, its own, told by a seed.
//!
//! [`words`] makes prompts that no two requests share, [`length`] draws their lengths, and [`scale`] turns tokens into
//! words as the engine counts them. [`stimulus`] tells two loads apart, or shows that they asked the same.

pub mod length;
pub mod scale;
mod stimulus;
pub mod words;

use rand::SeedableRng as _;
use rand_chacha::ChaCha12Rng;

pub use self::{scale::Scale, stimulus::stimulus, words::Prompts};
use crate::{
    api::openai::{self, RequestSpec},
    recipe::{Api, ClientPlan, Length, Workload},
};

/// Sets the draws of lengths apart from those of words.
const LENGTHS: u64 = 0x6c65_6e67_7468_7300;
/// Requests by whose lengths the scale is sought.
const LOOKED_AT: u64 = 1000;
/// Lengths that differ by no more than this are one length to the search.
const SPREAD: u32 = 2;

/// What is asked of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Tokens of its prompt.
    pub prompt_tokens: u32,
    /// Tokens of its answer at the most.
    pub max_tokens: u32,
}

/// What the requests of a load hold.
#[derive(Debug, Clone)]
pub struct Content {
    api: Api,
    model: String,
    workload: Workload,
    prompts: Prompts,
    /// At the first request's lengths.
    lengths: ChaCha12Rng,
    scale: Scale,
}

impl Content {
    /// Of a plan, for the model of this name. A word is taken for a token until a scale is set.
    pub fn new(plan: &ClientPlan, model: &str) -> Self {
        let workload = plan.workload.clone();
        Self {
            api: plan.api,
            model: model.to_owned(),
            prompts: Prompts::new(workload.seed, workload.num_prompts),
            lengths: ChaCha12Rng::seed_from_u64(workload.seed ^ LENGTHS),
            workload,
            scale: Scale::default(),
        }
    }

    /// The same with another scale of words and tokens.
    #[must_use]
    pub fn with_scale(self, scale: Scale) -> Self {
        Self { scale, ..self }
    }

    /// The API.
    pub const fn api(&self) -> Api {
        self.api
    }

    /// Are answers streamed?
    pub const fn streams(&self) -> bool {
        self.workload.stream
    }

    /// What is asked of a request.
    pub fn asked(&self, index: u64) -> Asked {
        let mut random = self.lengths.clone();
        random.set_stream(self.prompts.item(index));
        Asked {
            prompt_tokens: length::draw(&self.workload.prompt_length, &mut random),
            max_tokens: length::draw(&self.workload.max_tokens, &mut random),
        }
    }

    /// Do requests ask for lengths of their own?
    pub const fn varies(&self) -> bool {
        !matches!(
            (self.workload.prompt_length, self.workload.max_tokens),
            (Length::Fixed(_), Length::Fixed(_))
        )
    }

    /// Lengths of prompts by which the scale is best sought: one, or a short and a long one where they differ.
    pub fn typical_lengths(&self) -> Vec<u32> {
        let mut lengths: Vec<u32> = (0..LOOKED_AT)
            .map(|index| self.asked(index).prompt_tokens)
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

    /// The text of a request's prompt.
    pub fn prompt(&self, index: u64) -> String {
        let tokens = self.asked(index).prompt_tokens;
        self.prompts.prompt(index, self.scale.words(tokens))
    }

    /// The body of a request.
    pub fn body(&self, index: u64) -> Vec<u8> {
        self.write(&self.prompt(index), self.asked(index).max_tokens)
    }

    /// The body of a request for one token, with a prompt of so many words.
    pub fn probe(&self, index: u64, words: usize) -> Vec<u8> {
        self.write(&self.prompts.prompt(index, words), 1)
    }

    fn write(&self, prompt: &str, max_tokens: u32) -> Vec<u8> {
        openai::body(&RequestSpec {
            api: self.api,
            model: &self.model,
            prompt,
            max_tokens,
            temperature: self.workload.temperature,
            top_p: self.workload.top_p,
            ignore_eos: self.workload.ignore_eos,
            stream: self.workload.stream,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(params: &str) -> Content {
        Content::new(&ClientPlan::of("total_requests: 1", params), "m")
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
        assert!((0..200).all(|index| fixed.asked(index).prompt_tokens == 10));

        let pooled = content(&format!("num_prompts: 3, {params}"));
        assert_eq!(pooled.asked(1), pooled.asked(4));
        assert_eq!(pooled.body(1), pooled.body(4));
        assert_ne!(pooled.body(1), pooled.body(2));
    }

    #[test]
    fn a_prompt_has_the_words_that_its_length_takes() {
        let content = content("prompt_length: {uniform: [20, 400]}");
        let count = |content: &Content, index| content.prompt(index).split(' ').count();
        for index in 0..50 {
            let tokens = content.asked(index).prompt_tokens as usize;
            assert_eq!(count(&content, index), tokens, "a word a token");
        }
        // two tokens a word, ten of a template
        let scale = Scale::of(&[30, 210], &[(10, 30), (100, 210)]);
        let scaled = content.clone().with_scale(scale);
        for index in 0..50 {
            let tokens = content.asked(index).prompt_tokens;
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
}
